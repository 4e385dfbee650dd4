"""Which images of a stage folder are finished: what resuming is built on."""

from __future__ import annotations

import os
from pathlib import Path


def finished_ids(folder: str | os.PathLike[str], extension: str) -> set[str]:
    """List the image ids that have a file in `folder`.

    Files of this project appear whole or not at all (`atomic_write`), so a file that exists is
    finished. Temporary files of a killed run and other hidden files are left out.

    Args:
        folder: such as ``maps`` or ``masks`` of a stage; a folder that does not exist holds no ids.
        extension: with the dot, such as ``".npz"`` or ``".png"``.

    Returns:
        File names without the extension.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {
            entry.name.removesuffix(extension)
            for entry in entries
            if entry.name.endswith(extension) and not entry.name.startswith(".") and entry.is_file()
        }


def folder_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of the files of a folder (not of folders in it)."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())
