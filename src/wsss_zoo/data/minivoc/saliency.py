"""MiniVOC for salient object detection: the generated pictures with their saliency masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wsss_zoo.data.minivoc.files import DEVKIT, generate_minivoc
from wsss_zoo.data.record import Split
from wsss_zoo.data.saliency import SaliencyDataModule
from wsss_zoo.data.saliency_layout import MASK_ENDINGS, FilePattern, SaliencySet
from wsss_zoo.errors import DataError


class MiniVOCSaliencyDataModule(SaliencyDataModule):
    """The pictures of `MiniVOCDataModule`; every object of any class is salient.

    Splits are `train`, `val` and `trainval`, image ids those of `MiniVOCDataModule`: maps that are predicted
    here are maps of the images there. `prepare_data` draws the set where it is not there yet.

    Args:
        root: see `MiniVOCDataModule`.
        n_train: see `MiniVOCDataModule`.
        n_val: see `MiniVOCDataModule`.
        image_size: see `MiniVOCDataModule`.
        generator_seed: see `MiniVOCDataModule`.
        train_split: see `SaliencyDataModule`.
        val_split: see `SaliencyDataModule`.
        sizes: see `SaliencyDataModule`; the defaults suit `image_size` 112.
        test_size: see `SaliencyDataModule`.
        **kwargs: further arguments of `SaliencyDataModule`.

    Raises:
        DataError: an argument is out of range, or `root` holds a set generated with other arguments.
    """

    def __init__(
        self,
        root: str | Path = "data/minivoc",
        n_train: int = 400,
        n_val: int = 100,
        image_size: int = 112,
        generator_seed: int = 0,
        train_split: str = "train",
        val_split: str = "val",
        sizes: Sequence[int] = (96, 128),
        test_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root, train_split=train_split, val_split=val_split, sizes=sizes, test_size=test_size, **kwargs
        )
        self.n_train = n_train
        self.n_val = n_val
        self.image_size = image_size
        self.generator_seed = generator_seed

    @cached_property
    def sets(self) -> dict[str, SaliencySet]:
        """The one set.

        Raises:
            DataError: it is not generated yet.
        """
        devkit = self.root / DEVKIT
        if not devkit.is_dir():
            raise DataError(
                f"{self.root}: no MiniVOC here. Draw it with `wsss-zoo data prepare minivoc_saliency --root "
                f"{self.root}`, or call prepare_data()."
            )
        images = FilePattern((("", devkit / "JPEGImages"),))
        masks = FilePattern((("", devkit / "Saliency"),), endings=MASK_ENDINGS)
        return {"minivoc": SaliencySet("minivoc", devkit / "ImageSets" / "Segmentation", images, masks)}

    @property
    def split_names(self) -> tuple[str, ...]:
        """The lists of the set."""
        return tuple(self.sets["minivoc"].lists)

    def prepare_data(self) -> None:
        """Draw the set where it is not there yet.

        Raises:
            DataError: an argument is out of range, or `root` holds another set.
            ArtifactError: a file could not be written.
        """
        generate_minivoc(self.root, self.n_train, self.n_val, self.image_size, self.generator_seed)

    def load_split(self, name: str) -> Split:
        """Read a list.

        Raises:
            DataError: no such list, or it cannot be read.
        """
        return self.split_of(self.sets["minivoc"], name, name, before="")
