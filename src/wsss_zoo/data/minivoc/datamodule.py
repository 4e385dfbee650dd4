"""MiniVOC: a generated data set in VOC's layout, for trying a whole recipe in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from wsss_zoo.data.minivoc.files import DEVKIT, generate_minivoc
from wsss_zoo.data.minivoc.scene import CLASS_NAMES
from wsss_zoo.data.voc import VOC2012DataModule

__all__ = ["CLASS_NAMES", "MiniVOCDataModule", "generate_minivoc"]


class MiniVOCDataModule(VOC2012DataModule):
    """Drawn pictures of eight classes, hard in the way weakly supervised segmentation is hard.

    * **One part tells the class, the rest is plain.** Cat, dog and cow share one body, bus and train one
      carriage; the telling part (head, front, sail, tail fin, face) is a quarter of the object. A
      classifier's localization maps find that part; the ground truth is the whole object. The plain rest
      can be labelled only because it hangs on the telling part, which a segmentation network with some
      context learns.
    * **Context is correlated.** Three in five boats are on water and trains on rails, so a classifier looks
      there, too; but there are boats on meadows and water without boats.
    * **Clutter, company, occlusion.** Headless benches, huts like carriages and hulls without sails share
      colours and shapes with the classes; one to three objects hide each other; sizes differ three times.
    * **Light.** Exposure, contrast, colour cast, blur, noise and JPEG (quality 92).

    `prepare_data` draws the set below `root` (about 15 s for 500 images on one core), goes on after a stop,
    and does nothing when it is there. Labels are the box names of the XML files, as on VOC.

    Args:
        root: folder of the set; made when missing.
        n_train: images of the split `train`.
        n_val: images of the split `val`.
        image_size: longer side in pixels; the shorter is 0.7 to 1 of it.
        generator_seed: seed of the pictures; `seed` is the one of shuffling and augmentation.
        train_split: see `VOC2012DataModule`.
        val_split: see `VOC2012DataModule`.
        label_source: see `VOC2012DataModule`.
        crop_size: see `SegmentationDataModule`; the default suits `image_size` 112.
        scale: see `SegmentationDataModule`.
        **kwargs: further arguments of `VOC2012DataModule`.

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
        label_source: Literal["auto", "xml", "table", "masks"] = "xml",
        crop_size: int = 112,
        scale: tuple[float, float] | None = (0.75, 1.4),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root,
            train_split=train_split,
            val_split=val_split,
            label_source=label_source,
            crop_size=crop_size,
            scale=scale,
            **kwargs,
        )
        self.n_train = n_train
        self.n_val = n_val
        self.image_size = image_size
        self.generator_seed = generator_seed

    @property
    def class_names(self) -> tuple[str, ...]:
        """The eight classes of MiniVOC."""
        return CLASS_NAMES

    def prepare_data(self) -> None:
        """Draw the set where it is not there yet.

        Raises:
            DataError: an argument is out of range, or `root` holds another set.
            ArtifactError: a file could not be written.
        """
        generate_minivoc(self.root, self.n_train, self.n_val, self.image_size, self.generator_seed)

    def saliency_path(self, image_id: str) -> Path:
        """The saliency ground truth of an image: 8-bit grey PNG, 255 on objects."""
        return self.root / DEVKIT / "Saliency" / f"{image_id}.png"
