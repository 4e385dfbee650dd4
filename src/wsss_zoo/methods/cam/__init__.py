"""Multi-label classification and class activation maps."""
