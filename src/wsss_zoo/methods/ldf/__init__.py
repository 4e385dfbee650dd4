"""Salient object detection with decoupled labels: LDF."""
