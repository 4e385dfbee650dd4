"""What a saliency network learns from: the mask, and maps derived from it or predicted by another network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.artifacts.folder import finished_ids
from wsss_zoo.data.images import read_grey
from wsss_zoo.data.label_decoupling import decouple, edge_map
from wsss_zoo.data.record import Record
from wsss_zoo.data.saliency_transforms import resize
from wsss_zoo.errors import DataError, suggest

Grey = npt.NDArray[np.uint8]

#: Maps that can be derived from a mask.
DERIVED = ("body", "detail", "edge")
#: What `inputs` may name: maps in place of derived ones, and saliency maps in place of masks.
ROLES = ("body", "detail", "saliency")


def derive(mask: Grey, names: Sequence[str]) -> dict[str, Grey]:
    """Maps of a mask.

    Args:
        mask: uint8 `(H, W)`.
        names: some of `DERIVED`.

    Returns:
        uint8 `(H, W)` by name; see `decouple` and `edge_map`.
    """
    maps: dict[str, Grey] = {}
    if "body" in names or "detail" in names:
        maps["body"], maps["detail"] = decouple(mask)
    if "edge" in names:
        maps["edge"] = edge_map(mask)
    return {name: maps[name] for name in names}


class SaliencyTargets:
    """Reads or derives the targets of training images.

    Args:
        names: targets besides the mask, some of `DERIVED`.
        inputs: role -> folder of grey PNG named by image id (`ecssd/0360.png`), or by the last part of
            it (`0360.png`); `body` and `detail` stand for the derived maps, `saliency` for the mask.
        cache: folder where derived maps are kept as `<name>-origin/<image id>.png` once they are made; None
            derives them for every sample. The maps are the same. Delete it when masks have changed.

    Raises:
        DataError: an unknown target or role, a folder that is missing, or a cache for predicted masks.
    """

    def __init__(
        self, names: Sequence[str] = (), inputs: Mapping[str, str] | None = None, cache: str | None = None
    ) -> None:
        for name in names:
            if name not in DERIVED:
                raise DataError(f"targets: there is no target '{name}'; {suggest(name, DERIVED)}")
        for role in inputs or {}:
            if role not in ROLES:
                raise DataError(f"inputs: there is no role '{role}'; {suggest(role, ROLES)}")
        self.names = tuple(dict.fromkeys(names))
        self.inputs = {role: Path(folder).expanduser() for role, folder in (inputs or {}).items()}
        self.cache = None if cache is None else Path(cache).expanduser()
        if self.cache is not None and "saliency" in self.inputs:
            raise DataError(
                f"target_cache ({cache}) is for maps that are derived from ground truth, but inputs.saliency "
                f"({self.inputs['saliency']}) takes the place of the masks. Remove one of them."
            )

    def require(self, records: Sequence[Record]) -> None:
        """Check that every image has a mask and a file of every input.

        Raises:
            DataError: folders or files are missing; the message counts them.
        """
        missing: list[tuple[str, str, list[str]]] = []
        if "saliency" not in self.inputs:
            lacking = [record.image_id for record in records if record.mask is None]
            missing.append(("mask", "the data set", lacking))
        for role, folder in self.inputs.items():
            if not folder.is_dir():
                raise DataError(
                    f"inputs.{role}: there is no folder {folder}. Give a folder of <image id>.png."
                )
            have = finished_ids(folder, ".png")
            lacking = [record.image_id for record in records if not have.intersection(_names(record))]
            missing.append((f"{role} map (<image id>.png)", str(folder), lacking))
        for kind, where, lacking in missing:
            if lacking:
                raise DataError(
                    f"{where}: {len(lacking):,} of {len(records):,} images have no {kind}, first "
                    f"{lacking[0]}. Add the missing files or choose another split."
                )

    def read(
        self, record: Record, read_mask: Callable[[Record], Grey], size: tuple[int, int]
    ) -> dict[str, Grey]:
        """The targets of an image.

        Files of another size are resized to the image (linearly), masks before anything is derived from
        them: otherwise image and mask would be cut with windows that do not fit each other.

        Args:
            record: the image.
            read_mask: reads its ground truth.
            size: `(H, W)` of the image.

        Returns:
            uint8 `(H, W)` by name: `mask` and the targets.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        given = "saliency" in self.inputs
        mask = resize(self._read_input("saliency", record) if given else read_mask(record), size)
        maps = {
            name: resize(self._read_input(name, record), size) for name in self.names if name in self.inputs
        }
        maps |= self._derived(record, mask, [name for name in self.names if name not in self.inputs])
        return {"mask": mask, **{name: maps[name] for name in self.names}}

    def _read_input(self, role: str, record: Record) -> Grey:
        paths = [self.inputs[role] / f"{name}.png" for name in _names(record)]
        return read_grey(next((path for path in paths if path.is_file()), paths[0]))

    def _derived(self, record: Record, mask: Grey, names: Sequence[str]) -> dict[str, Grey]:
        if self.cache is None or not names:
            return derive(mask, names)
        paths = {name: self.cache / f"{name}-origin" / f"{record.image_id}.png" for name in names}
        if all(path.is_file() for path in paths.values()):
            maps = {name: read_grey(path) for name, path in paths.items()}
            if all(values.shape == mask.shape for values in maps.values()):
                return maps
        maps = derive(mask, names)
        for name, path in paths.items():
            with atomic_write(path) as file:
                Image.fromarray(maps[name]).save(file, format="PNG")
        return maps


def _names(record: Record) -> tuple[str, ...]:
    """How files of an image may be called: by its id, or as the authors' release, without the set."""
    return tuple(dict.fromkeys((record.image_id, record.image_id.rpartition("/")[2])))
