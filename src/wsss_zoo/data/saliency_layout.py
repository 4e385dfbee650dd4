"""How saliency sets lie on disk: pairs of folders, their file names and their list files. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from wsss_zoo.data.images import image_id_of
from wsss_zoo.data.voc_layout import repeated
from wsss_zoo.errors import DataError, suggest

#: Endings of image files; where a name has several, the first of these is taken.
IMAGE_ENDINGS = (".jpg", ".png", ".jpeg", ".bmp", ".webp")
MASK_ENDINGS = (".png",)
LIST_ENDINGS = (".txt", ".lst")


@dataclass(frozen=True)
class FilePattern:
    """Where the images or the masks of a set are, and which part of a file name is the stem.

    Attributes:
        folders: folders with the text to put before the stems of each (`""` for a single folder).
        prefix: what file names begin with before the stem.
        endings: what they end with after the stem, compared without regard to case.
    """

    folders: tuple[tuple[str, Path], ...]
    prefix: str = ""
    endings: tuple[str, ...] = IMAGE_ENDINGS

    def find(self) -> dict[str, Path]:
        """Files by stem, sorted; of several with one stem, that with the earliest of `endings`."""
        found: dict[str, tuple[int, Path]] = {}
        for before, folder in self.folders:
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                rank = next(
                    (i for i, end in enumerate(self.endings) if name.lower().endswith(end.lower())), None
                )
                if rank is None or name.startswith(".") or not name.startswith(self.prefix):
                    continue
                stem = before + name[len(self.prefix) : -len(self.endings[rank])]
                if stem and (stem not in found or rank < found[stem][0]):
                    found[stem] = (rank, folder / name)
        return {stem: found[stem][1] for stem in sorted(found)}


@dataclass(frozen=True, eq=False)
class SaliencySet:
    """One data set: images, masks, and the lists that name parts of it.

    Attributes:
        name: such as `ecssd`.
        folder: where its list files are.
        images: the images.
        masks: the masks; None for images to predict only.
        index: the list of the whole set; None takes every image that has a mask.
    """

    name: str
    folder: Path
    images: FilePattern
    masks: FilePattern | None
    index: Path | None = None

    @cached_property
    def image_files(self) -> dict[str, Path]:
        """Images by stem."""
        return self.images.find()

    @cached_property
    def mask_files(self) -> dict[str, Path]:
        """Masks by stem."""
        return {} if self.masks is None else self.masks.find()

    @cached_property
    def lists(self) -> dict[str, Path]:
        """List files in the folder of the set, by name without extension."""
        return FilePattern((("", self.folder),), endings=LIST_ENDINGS).find()

    @property
    def split_names(self) -> tuple[str, ...]:
        """`<name>` and `<name>/<list>`."""
        return (self.name, *(f"{self.name}/{name}" for name in self.lists))

    def stems(self, list_name: str = "") -> list[str]:
        """The stems of the set, or of one of its lists, in order.

        Args:
            list_name: a list in the folder of the set, a path from there, or an absolute path.

        Raises:
            DataError: there is no such list, it is empty, or names an image twice.
        """
        path = self._list_path(list_name) if list_name else self.index
        if path is not None:
            if not path.is_file():
                raise DataError(
                    f"{path}: this list of the set '{self.name}' is missing. Add it (one stem a line): "
                    "without it nothing tells which images of the folder belong to the set."
                )
            return read_stems(path, self.image_files)
        if self.masks is None:
            return list(self.image_files)
        return [stem for stem in self.image_files if stem in self.mask_files]

    def _list_path(self, name: str) -> Path:
        for path in (self.lists.get(name), self.folder / name):
            if path is not None and path.is_file():
                return path
        raise DataError(
            f"{self.folder}: there is no list {name}.txt for the split '{self.name}/{name}'; "
            f"{suggest(f'{self.name}/{name}', self.split_names)}"
        )


def read_stems(path: Path, images: Mapping[str, Path]) -> list[str]:
    """The stems that a list file names, in its order.

    A line is a stem (`0360`), a file name (`0360.jpg`), a path, or a pair of an image path and a mask path
    with a space between (of which the image counts). Empty lines are skipped.

    Args:
        path: the list file.
        images: the images of the set by stem; tells stems with dots or spaces from names and pairs.

    Raises:
        DataError: the file is missing, not text or empty, or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this list of images cannot be read ({error}).") from error
    # the last three parts of a path tell two images of one name apart: Butterfly/Src/1.jpg, Plane/Src/1.jpg
    by_path = {"/".join(file.parts[-3:]): stem for stem, file in images.items()}
    stems = [_stem_of(line.strip(), images, by_path) for line in lines if line.strip()]
    if not stems:
        raise DataError(f"{path}: this list of images is empty. Expected one stem a line.")
    twice = repeated(stems)
    if twice is not None:
        raise DataError(f"{path}: {twice} is listed more than once. Remove the repeated lines.")
    return stems


def _stem_of(line: str, images: Mapping[str, Path], by_path: Mapping[str, str]) -> str:
    for entry in (line, line.split()[0]):
        last = "/".join(PurePosixPath(entry).parts[-3:])
        for stem in (entry, by_path.get(last, ""), image_id_of(entry)):
            if stem in images:
                return stem
    return image_id_of(line.split()[0])
