"""What stages hand each other on disk: localization maps, masks, saliency maps. No torch needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.artifacts.cluster_table import ClusterTable
    from wsss_zoo.artifacts.differences import Differences
    from wsss_zoo.artifacts.features import load_features, save_features
    from wsss_zoo.artifacts.files import atomic_write, read_json, write_json
    from wsss_zoo.artifacts.folder import finished_ids
    from wsss_zoo.artifacts.label_scores import LabelScores
    from wsss_zoo.artifacts.localization_maps import LocalizationMaps
    from wsss_zoo.artifacts.masks import VOC_PALETTE, heatmap_overlay, load_mask, overlay, save_mask
    from wsss_zoo.artifacts.saliency import load_saliency, save_saliency
    from wsss_zoo.artifacts.seeds import Seeds
    from wsss_zoo.artifacts.subcategories import Subcategories

_LOCATIONS = {
    "ClusterTable": "cluster_table",
    "Differences": "differences",
    "load_features": "features",
    "save_features": "features",
    "atomic_write": "files",
    "read_json": "files",
    "write_json": "files",
    "finished_ids": "folder",
    "LabelScores": "label_scores",
    "LocalizationMaps": "localization_maps",
    "VOC_PALETTE": "masks",
    "heatmap_overlay": "masks",
    "load_mask": "masks",
    "overlay": "masks",
    "save_mask": "masks",
    "load_saliency": "saliency",
    "save_saliency": "saliency",
    "Seeds": "seeds",
    "Subcategories": "subcategories",
}

__all__ = [
    "VOC_PALETTE",
    "ClusterTable",
    "Differences",
    "LabelScores",
    "LocalizationMaps",
    "Seeds",
    "Subcategories",
    "atomic_write",
    "finished_ids",
    "heatmap_overlay",
    "load_features",
    "load_mask",
    "load_saliency",
    "overlay",
    "read_json",
    "save_features",
    "save_mask",
    "save_saliency",
    "write_json",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.artifacts.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.artifacts' has no attribute '{name}'")
