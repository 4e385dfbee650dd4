"""SC-CAM: a classifier of sub-categories beside the classifier of classes; importing this needs no torch."""

from wsss_zoo.methods.sccam.labels import AssembledLabels, assemble_labels, rows_of_classes

__all__ = ["AssembledLabels", "assemble_labels", "rows_of_classes"]
