"""Which images of a stage folder are finished: what resuming is built on."""

from __future__ import annotations

import os
from pathlib import Path


def finished_ids(folder: str | os.PathLike[str], extension: str) -> set[str]:
    """List the image ids that have a file in `folder`.

    Files of this project appear whole or not at all (`atomic_write`), so a file that exists is
    finished. Ids may hold slashes (`ecssd/0360`): their files are in folders of `folder`. Temporary
    files of a killed run and other hidden files are left out.

    Args:
        folder: such as ``maps`` or ``masks`` of a stage; a folder that does not exist holds no ids.
        extension: with the dot, such as ``".npz"`` or ``".png"``.

    Returns:
        File names without the extension, with the folders that they are in: `0360`, `ecssd/0360`.
    """
    folder = Path(folder)
    found = set()
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        above = "" if where == str(folder) else Path(where).relative_to(folder).as_posix() + "/"
        found |= {
            above + name.removesuffix(extension)
            for name in names
            if name.endswith(extension) and not name.startswith(".")
        }
    return found


def folder_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of the files of a folder and of the folders in it."""
    return sum(
        os.stat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names
    )
