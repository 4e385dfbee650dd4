"""Saliency sets as a person describes them: folders of images and masks, in a recipe or a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsss_zoo.data.saliency_layout import IMAGE_ENDINGS, MASK_ENDINGS, FilePattern, SaliencySet
from wsss_zoo.data.saliency_sets import sets_in
from wsss_zoo.errors import DataError, suggest


def described_sets(given: Mapping[str, Any] | str, root: Path) -> dict[str, SaliencySet]:
    """Sets as a person describes them.

    The form is PySODEvalToolkit's: name -> `{image: {path, prefix, suffix}, mask: {path, prefix, suffix},
    index_file}`, where the stem is what is between prefix and suffix in a file name. All but the image path
    may be left out. In place of `{path: P}` one may write `P`; in place of everything a folder, whose layout
    is then recognised. Paths start at `root`.

    Args:
        given: the description, or a JSON file that holds it.
        root: of the data set.

    Raises:
        DataError: the file or a folder is missing, or a key is unknown or of another type.
    """
    if isinstance(given, str):
        path = root / Path(given).expanduser()
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"sets: {path} cannot be read as JSON ({error}).") from error
    if not isinstance(given, Mapping):
        raise DataError(f"sets: expected names of sets with their folders, got {given!r}.")
    return {name: _described(name, entry, root) for name, entry in given.items()}


def _described(name: str, entry: Any, root: Path) -> SaliencySet:
    where = f"sets.{name}"
    if isinstance(entry, str):
        folder = _folder(where, entry, root)
        sets = sets_in(folder, name)
        if len(sets) != 1:
            raise DataError(
                f"{where}: {folder} holds {len(sets)} pairs of an image and a mask folder in a known layout, "
                "such as image/ and mask/; expected one. Give image and mask: {image: DIR, mask: DIR}."
            )
        return sets[0]
    if not isinstance(entry, Mapping) or "image" not in entry:
        raise DataError(f"{where}: expected a folder, or image, mask and index_file; got {entry!r}.")
    _require_keys(where, entry, ("image", "mask", "index_file"))
    images = _pattern(f"{where}.image", entry["image"], root, IMAGE_ENDINGS)
    mask = entry.get("mask")
    masks = None if mask is None else _pattern(f"{where}.mask", mask, root, MASK_ENDINGS)
    index = entry.get("index_file")
    folder = images.folders[0][1].parent
    return SaliencySet(
        name, folder, images, masks, None if index is None else root / Path(index).expanduser()
    )


def _pattern(where: str, entry: Any, root: Path, endings: tuple[str, ...]) -> FilePattern:
    entry = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise DataError(f"{where}: expected a folder or path, prefix and suffix; got {entry!r}.")
    _require_keys(where, entry, ("path", "prefix", "suffix"))
    suffix = entry.get("suffix")
    endings = endings if suffix is None else (suffix,)
    return FilePattern((("", _folder(where, entry["path"], root)),), entry.get("prefix", ""), endings)


def _require_keys(where: str, entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            raise DataError(f"{where}: unknown key '{key}'; {suggest(key, known)}")


def _folder(where: str, given: str, root: Path) -> Path:
    folder = root / Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"{where}: there is no folder {folder}.")
    return folder
