"""DeepLab segmentation networks, trained on pseudo labels or on masks."""
