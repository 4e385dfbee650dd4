"""Distinct class-specific saliency maps by guided back-propagation."""
