"""Which saliency sets are below a folder, in their own layouts or in LDF's. Needs no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss_zoo.data.saliency_layout import IMAGE_ENDINGS, MASK_ENDINGS, FilePattern, SaliencySet
from wsss_zoo.errors import DataError


@dataclass(frozen=True)
class PublishedSet:
    """A public data set.

    Attributes:
        images: how many images it has; results of papers are over all of them.
        folder_names: names of its folder, lower case, letters and digits only.
        stems: what its stems look like (a regular expression), and how many are like that.
        index: the list file in LDF's layout.
    """

    images: int
    folder_names: tuple[str, ...]
    stems: tuple[tuple[str, int], ...]
    index: str = "test.txt"

    def other_images(self, stems: Sequence[str]) -> str | None:
        """How a list differs from the published one in what its stems look like; None where it does not."""
        for pattern, expected in self.stems:
            count = sum(re.fullmatch(pattern, stem) is not None for stem in stems)
            if count != expected:
                return f"{count:,} stems like {pattern}, the published set has {expected:,}"
        return None


#: Counts of images as in table 2 of LDF (Wei et al., CVPR 2020), those of stems as in its list files.
PUBLISHED_SETS = {
    "duts_tr": PublishedSet(
        10_553,
        ("dutstr",),
        (
            (r"n\d{8}_\d+", 7_436),
            (r"ILSVRC\d{4}_test_\d+", 1_912),
            (r"ILSVRC\d{4}_train_\d+", 600),
            (r"ILSVRC\d{4}_val_\d+", 284),
            (r"sun_.*", 321),
        ),
        "train.txt",
    ),
    "duts_te": PublishedSet(5_019, ("dutste",), ((r"ILSVRC2012_test_\d+", 3_202), (r"sun_.*", 1_817))),
    "ecssd": PublishedSet(1_000, ("ecssd",), ((r"\d{4}", 1_000),)),
    "pascal_s": PublishedSet(850, ("pascals",), ((r"[1-9]\d{0,2}", 850),)),
    "hku_is": PublishedSet(4_447, ("hkuis",), ((r"\d{4}", 4_447),)),
    "dut_omron": PublishedSet(5_168, ("dutomron",), ((r"sun_.*", 5_151), (r"im\d{3}", 15), (r"img_.*", 2))),
    "thur15k": PublishedSet(
        6_232,
        ("thur15k", "thur15000"),
        (
            (r"Butterfly\d+", 1_241),
            (r"CoffeeMug\d+", 1_884),
            (r"DogJump\d+", 1_614),
            (r"Giraffe\d+", 461),
            (r"Plane\d+", 1_032),
        ),
    ),
}
#: Folder of DUTS in LDF's layout: training and test images together, told apart by the lists.
_DUTS = "duts"
#: Image folder, mask folder, and the set that alone is laid out like this.
_LAYOUTS: tuple[tuple[str, str, str | None], ...] = (
    ("image", "mask", None),  # LDF
    ("DUTS-TR-Image", "DUTS-TR-Mask", "duts_tr"),
    ("DUTS-TE-Image", "DUTS-TE-Mask", "duts_te"),
    ("images", "ground_truth_mask", "ecssd"),
    ("datasets/imgs/pascal", "datasets/masks/pascal", "pascal_s"),
    ("DUT-OMRON-image/DUT-OMRON-image", "pixelwiseGT-new-PNG", "dut_omron"),
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG", "dut_omron"),
    ("imgs", "gt", None),
    ("Img", "GT", None),
    ("Imgs", "GT", None),
    ("Image", "GT", None),
    ("images", "masks", None),
    ("Imgs", "Imgs", None),  # photos as jpg, masks as png beside them
)
_THUR_CLASSES = ("Butterfly", "CoffeeMug", "DogJump", "Giraffe", "Plane")


def find_sets(root: Path, ignore: Container[str] = ()) -> dict[str, SaliencySet]:
    """The sets at, in, or two folders below `root`.

    A set is a pair of an image folder and a mask folder in one of the layouts in use: as the sets are
    distributed (also in a doubled folder, as some archives unpack), as LDF's `image/` and `mask/`, or as
    repackaged copies. It has the name of its folder, `HKU-IS` becomes `hku_is`; LDF's folder `DUTS` holds
    the two sets `duts_tr` and `duts_te`.

    Args:
        root: a folder.
        ignore: names of sets that are not wanted.

    Raises:
        DataError: two folders hold a set of the same name.
    """
    found: dict[str, SaliencySet] = {}
    for folder in _candidates(root):
        for item in sets_in(folder):
            if item.name in ignore:
                continue
            if item.name in found:
                raise DataError(
                    f"{root}: the set '{item.name}' is there twice, in {found[item.name].folder} and in "
                    f"{item.folder}. Say which is meant: sets: {{{item.name}: {item.folder}}}."
                )
            found[item.name] = item
    return found


def sets_in(folder: Path, name: str | None = None) -> list[SaliencySet]:
    """The sets whose image and mask folders are in `folder`.

    Args:
        folder: a folder.
        name: what to call the set, whatever the folder is called.
    """
    key = re.sub("[^a-z0-9]", "", folder.name.lower())
    known = next((known for known, of in PUBLISHED_SETS.items() if key in of.folder_names), None)
    sets: list[SaliencySet] = []
    classes = _thur_folders(folder)
    if classes:
        images = tuple((label, sources) for label, sources, _ in classes)
        masks = tuple((label, truth) for label, _, truth in classes)
        sets.append(_set(name or "thur15k", folder, images, masks))
    taken: set[str] = set()
    for image_folder, mask_folder, owner in _LAYOUTS:
        pair = {image_folder, mask_folder}
        if taken & pair or not all((folder / part).is_dir() for part in pair):
            continue
        taken |= pair
        names: tuple[str, ...] = (name or known or owner or _slug(folder),)
        if key == _DUTS and owner is None and name is None:
            names = ("duts_tr", "duts_te")
        images_at, masks_at = (("", folder / image_folder),), (("", folder / mask_folder),)
        sets += [_set(each, folder, images_at, masks_at, needs_index=len(names) > 1) for each in names]
    return sets


def _set(
    name: str,
    folder: Path,
    images: tuple[tuple[str, Path], ...],
    masks: tuple[tuple[str, Path], ...],
    needs_index: bool = False,
) -> SaliencySet:
    published = PUBLISHED_SETS.get(name)
    index = None if published is None else folder / published.index
    if index is not None and not (needs_index or index.is_file()):
        index = None
    beside = set(images) & set(masks)
    endings = tuple(end for end in IMAGE_ENDINGS if not (beside and end in MASK_ENDINGS))
    return SaliencySet(
        name, folder, FilePattern(images, endings=endings), FilePattern(masks, endings=MASK_ENDINGS), index
    )


def _thur_folders(folder: Path) -> list[tuple[str, Path, Path]]:
    """Class name, image folder and mask folder of every class of THUR15K; none where it is another set."""
    found = []
    for path in subfolders(folder):
        # the class is part of the stem (Butterfly1), but copies spell it in small letters
        label = next((label for label in _THUR_CLASSES if label.lower() == path.name.lower()), None)
        if label is not None and (path / "Src").is_dir():
            truth = path / "GT"
            found.append((label, path / "Src", truth if truth.is_dir() else path / "Src"))
    return found


def _candidates(root: Path) -> Iterator[Path]:
    yield root
    for folder in subfolders(root):
        yield folder
        yield from subfolders(folder)


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted; none where it is missing."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and entry.name[0] != ".")


def _slug(folder: Path) -> str:
    return re.sub("[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "data"
