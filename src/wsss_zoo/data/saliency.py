"""Salient object detection: the public sets, any pair of folders, one root for several of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch.utils.data import DataLoader

from wsss_zoo.data.image_datamodule import ImageDataModule
from wsss_zoo.data.images import read_grey
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.saliency_dataset import SaliencyDataset
from wsss_zoo.data.saliency_description import described_sets
from wsss_zoo.data.saliency_layout import SaliencySet
from wsss_zoo.data.saliency_sets import PUBLISHED_SETS, find_sets
from wsss_zoo.data.saliency_targets import SaliencyTargets
from wsss_zoo.data.saliency_transforms import RandomWindow, ResizeBatch
from wsss_zoo.errors import DataError, suggest
from wsss_zoo.normalization import DUTS, Normalization

_log = logging.getLogger(__name__)
_NO_LABELS = np.zeros(0, dtype=np.float32)


class SaliencyDataModule(ImageDataModule):
    """DUTS-TR, DUTS-TE, ECSSD, PASCAL-S, HKU-IS, DUT-OMRON, THUR15K, and sets of one's own.

    **Sets** are found at, in or two folders below `root`, as they are distributed or as LDF's release lays
    them out (`image/`, `mask/`, list files); see `find_sets`. They are called `duts_tr`, `duts_te`, `ecssd`,
    `pascal_s`, `hku_is`, `dut_omron`, `thur15k`; others have the name of their folder. `sets` names folders
    that are elsewhere or laid out differently, see `described_sets`.

    **Splits** are sets (`ecssd`) and list files of a set (`ecssd/small_train` reads `small_train.txt` in its
    folder). A set is what its list says (`train.txt` of `duts_tr`, `test.txt` of the others), without one
    all images that have a mask: THUR15K has many without, and old copies of DUT-OMRON four. Image ids are
    `<set>/<stem>`, so that several sets can be predicted and scored in one run.

    **Training samples** (LDF, Wei et al., CVPR 2020): a random window and mirror image by image, then one of
    `sizes` for the whole batch; the incomplete last batch is kept. `image` float32 `(3, S, S)`; `mask` and
    `targets`, float32 `(S, S)` in [0, 1], are grey levels / 255, not thresholded; `image_id`; `size`.
    Validation samples are whole images with their masks at `test_size`.

    **Masks** are read as one grey channel. Those of another size than their image (three pairs of DUTS-TR)
    are resized to it before image and mask are cut with one window; the release cuts them as they are, so
    that they do not fit.

    Args:
        root: folder of one set or of several.
        train_split: see above.
        val_split: see above.
        sets: name -> folder, or images and masks, of sets that are not found by themselves; or a JSON file.
            They go before sets of the same name that are found.
        inputs: role -> folder of grey PNG: `body` and `detail` for maps that a network predicted in place of
            those derived from the masks (LDF's fine stage), `saliency` for predicted maps in place of the
            masks in training. See `SaliencyTargets`.
        targets: maps in training samples besides the mask: `body`, `detail` (see `decouple`), `edge`
            (see `edge_map`).
        target_cache: folder to keep derived maps in; None derives them anew for every sample, which takes
            less time than reading them.
        size_mismatch: training images whose mask has another size: `resize` the mask, or `drop` the image.
        batch_size: see `ImageDataModule`.
        num_workers: see `ImageDataModule`.
        seed: see `ImageDataModule`.
        normalization: see `ImageDataModule`; None: mean and standard deviation of DUTS-TR.
        sizes: sides of training batches in pixels.
        test_size: side of validation samples in pixels.
        crop: see `RandomWindow`.
        flip: see `RandomWindow`.

    Raises:
        DataError: a value is out of range, or a target or role is unknown.
    """

    roles = ("body", "detail", "saliency")

    def __init__(
        self,
        root: str | Path,
        train_split: str = "duts_tr",
        val_split: str = "ecssd",
        sets: dict[str, Any] | str | None = None,
        inputs: dict[str, str] | None = None,
        targets: Sequence[Literal["body", "detail", "edge"]] = ("body", "detail"),
        target_cache: str | None = None,
        size_mismatch: Literal["resize", "drop"] = "resize",
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        normalization: Normalization | None = None,
        sizes: Sequence[int] = (224, 256, 288, 320, 352),
        test_size: int = 352,
        crop: float = 0.125,
        flip: float = 0.5,
    ) -> None:
        super().__init__(
            root, train_split, val_split, inputs, batch_size, num_workers, seed, normalization or DUTS
        )
        if size_mismatch not in ("resize", "drop"):
            raise DataError(f"size_mismatch must be resize or drop, got '{size_mismatch}'.")
        self.size_mismatch = size_mismatch
        self.targets = SaliencyTargets(targets, inputs, target_cache)
        self.window = RandomWindow(crop, flip)
        self.train_collate = ResizeBatch(sizes)
        self.val_collate = ResizeBatch((test_size,))
        self._given_sets = sets

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: saliency knows no classes."""
        return ()

    @cached_property
    def sets(self) -> dict[str, SaliencySet]:
        """The data sets by name.

        Raises:
            DataError: there is none, or one cannot be told.
        """
        given = {} if self._given_sets is None else described_sets(self._given_sets, self.root)
        found = {**find_sets(self.root, ignore=given), **given}
        if not found:
            raise DataError(
                f"{self.root}: no saliency set here; looked for pairs of an image folder and a mask folder "
                "such as ECSSD/images and ECSSD/ground_truth_mask, or DUTS/image and DUTS/mask. Give the "
                "folder that holds the sets, or name the folders: sets: {mine: {image: DIR, mask: DIR}}."
            )
        return found

    @property
    def split_names(self) -> tuple[str, ...]:
        """Sets, and lists of sets."""
        return tuple(name for item in self.sets.values() for name in item.split_names)

    def prepare_data(self) -> None:
        """Check that there is a data set.

        Raises:
            DataError: there is none.
        """
        self.sets  # noqa: B018  # finding them is the check

    def load_split(self, name: str) -> Split:
        """Read a list, or take a whole set.

        Raises:
            DataError: no such set or list, or the list cannot be read.
        """
        set_name, _, list_name = name.partition("/")
        if set_name not in self.sets:
            raise DataError(
                f"{self.root}: there is no set '{set_name}'; {suggest(set_name, self.sets)} "
                "Sets that are elsewhere are named with `sets`."
            )
        return self.split_of(self.sets[set_name], list_name, name, before=f"{set_name}/")

    def split_of(self, item: SaliencySet, list_name: str, name: str, before: str) -> Split:
        """The images of a list.

        Args:
            item: the set.
            list_name: see `SaliencySet.stems`.
            name: what the split is called.
            before: image ids are this and the stem.

        Raises:
            DataError: no such list, or it cannot be read.
        """
        stems, images, masks = item.stems(list_name), item.image_files, item.mask_files
        records = tuple(
            Record(before + stem, images[stem], masks.get(stem), _NO_LABELS)
            for stem in stems
            if stem in images
        )
        missing = tuple(before + stem for stem in stems if stem not in images)
        truth = "saliency masks" if masks else "none"
        return Split(name, records, missing, "none", truth, labelled=False)

    def describe(self, split: str) -> str:
        """One line on a split: images found of images listed, and what is special about it."""
        content = self.split(split)
        found = f"{len(content.records):,} of {content.listed:,} images of {split} are in {self.root}"
        return f"{found} ({'; '.join([f'ground truth: {content.ground_truth}', *self.split_remarks(split)])})"

    def split_remarks(self, name: str) -> list[str]:
        """Images without mask, left out or listed, and how many images the published set has."""
        content = self.split(name)
        set_name, _, list_name = name.partition("/")
        remarks = []
        lacking = sum(record.mask is None for record in content.records)
        if lacking and content.ground_truth != "none":
            remarks.append(f"{lacking:,} have no mask and are not scored")
        item = self.sets.get(set_name)
        if item is not None and not list_name:
            alone = len(item.image_files.keys() - item.mask_files.keys())
            if alone and item.index is None and item.masks is not None:
                remarks.append(f"{alone:,} more images have no mask and are left out")
            remarks += _compare_with_published(set_name, content)
        return remarks

    def mask_remarks(self, mask: npt.NDArray[np.uint8]) -> list[str]:
        """Whether a mask is empty, or is not made of 0 and 255 alone."""
        if not mask.any():
            return ["masks without any object (all 0)"]
        grey = ((mask > 0) & (mask < 255)).any() and mask.max() > 1
        return ["masks with grey levels (values besides 0 and 255)"] if grey else []

    def mask_problem(self, mask: npt.NDArray[np.uint8]) -> str | None:
        """Masks stored as 0 and 1: metrics recognise them, but as training targets they are all but black."""
        return "masks of 0 and 1 (multiply by 255 to train on them)" if mask.max() == 1 else None

    def masks_without_image(self) -> list[Path]:
        """Masks whose stem has no image."""
        return [
            path
            for item in self.sets.values()
            for stem, path in item.mask_files.items()
            if stem not in item.image_files
        ]

    def read_mask(self, record: Record) -> npt.NDArray[np.uint8]:
        """Read the mask of an image: uint8 `(H, W)`, grey levels as in the file, in the mask's own size.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        if record.mask is None:
            raise DataError(f"{record.image}: this image has no ground-truth mask.")
        return read_grey(record.mask)

    def setup(self, stage: str | None = None) -> None:
        """Check before training that every training image has a mask and what `inputs` name.

        Raises:
            DataError: files are missing.
        """
        if stage == "fit":
            self.targets.require(self.records(self.train_split))

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented batches of one size each; the last one may be smaller.

        Raises:
            DataError: masks or inputs are missing.
        """
        records = self.records(self.train_split)
        self.targets.require(records)
        if self.size_mismatch == "drop":
            records = self._fitting(records)
        dataset = SaliencyDataset(self, records, self.targets, self.window, self.seed)
        return self.train_loader(dataset, drop_last=False, collate=self.train_collate)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of whole images and masks in the order of the list.

        Raises:
            DataError: masks are missing.
        """
        records, masks = self.records(self.val_split), SaliencyTargets()
        masks.require(records)
        return self.loader(SaliencyDataset(self, records, masks), collate=self.val_collate)

    def _fitting(self, records: list[Record]) -> list[Record]:
        fitting = [record for record in records if _size(record.image) == _size(record.mask)]
        rank_zero_only(_log.info)(
            "%d of %d training images are dropped: their mask has another size",
            len(records) - len(fitting),
            len(records),
        )
        return fitting


def _compare_with_published(set_name: str, split: Split) -> list[str]:
    published = PUBLISHED_SETS.get(set_name)
    if published is None:
        return []
    if published.images != split.listed:
        return [f"the published set has {published.images:,}"]
    ids = (*(record.image_id for record in split.records), *split.missing)
    difference = published.other_images([image_id.rpartition("/")[2] for image_id in ids])
    return [] if difference is None else [difference]


def _size(path: Path | None) -> tuple[int, int] | None:
    """Width and height from the head of a file; None without one."""
    if path is None:
        return None
    with Image.open(path) as image:
        return image.size
