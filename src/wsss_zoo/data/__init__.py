"""Data sets as Lightning data modules: PASCAL VOC 2012 with SBD, saliency sets, own folders, MiniVOC.

Importing this package costs nothing: torch is loaded with the first data module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.data.datamodule import SegmentationDataModule
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.data.image_folder import ImageFolderDataModule
    from wsss_zoo.data.minivoc.datamodule import MiniVOCDataModule
    from wsss_zoo.data.minivoc.saliency import MiniVOCSaliencyDataModule
    from wsss_zoo.data.record import Record
    from wsss_zoo.data.saliency import SaliencyDataModule
    from wsss_zoo.data.voc import VOC2012DataModule

_LOCATIONS = {
    "ImageDataModule": "image_datamodule",
    "ImageFolderDataModule": "image_folder",
    "MiniVOCDataModule": "minivoc.datamodule",
    "MiniVOCSaliencyDataModule": "minivoc.saliency",
    "Record": "record",
    "SaliencyDataModule": "saliency",
    "SegmentationDataModule": "datamodule",
    "VOC2012DataModule": "voc",
}

#: Name on the command line -> class path for recipes.
DATASETS = {
    "image_folder": "wsss_zoo.data.ImageFolderDataModule",
    "minivoc": "wsss_zoo.data.MiniVOCDataModule",
    "minivoc_saliency": "wsss_zoo.data.MiniVOCSaliencyDataModule",
    "saliency": "wsss_zoo.data.SaliencyDataModule",
    "voc2012": "wsss_zoo.data.VOC2012DataModule",
}

__all__ = [
    "DATASETS",
    "ImageDataModule",
    "ImageFolderDataModule",
    "MiniVOCDataModule",
    "MiniVOCSaliencyDataModule",
    "Record",
    "SaliencyDataModule",
    "SegmentationDataModule",
    "VOC2012DataModule",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.data.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.data' has no attribute '{name}'")
