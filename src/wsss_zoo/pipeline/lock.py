"""One run at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsss_zoo.errors import RecipeError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is free again when the process ends, however it ends.

    Raises:
        RecipeError: another run holds it; names its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown process"
            raise RecipeError(
                f"{folder} is in use by another run ({owner}); wait for it, stop it, or give another --output"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
