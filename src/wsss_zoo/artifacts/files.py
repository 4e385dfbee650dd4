"""Writing files so that a killed run, a crash or a full disk leaves whole files only."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from wsss_zoo.errors import ArtifactError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: What the temporary files of `atomic_write` end with; a run that was killed can leave some behind.
TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it appears complete or not at all.

    The bytes go to ``.<name>.<process id>.tmp`` in the same folder, are flushed to the disk and then
    renamed to `path`, which replaces an older file. Missing folders are made. On any exception the
    temporary file is removed and an older `path` stays as it was.

    Args:
        path: the file to write.

    Yields:
        A seekable file opened for binary writing.

    Raises:
        ArtifactError: the file could not be written (disk full, quota, permission, a folder in the way).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    in_callers_hands = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            in_callers_hands = True
            yield file
            in_callers_hands = False
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # nothing to remove, or the folder is a file: tell the first error
            temporary.unlink()
        # An OSError of the caller's own work, such as reading another file, keeps its own name.
        if isinstance(error, OSError) and (not in_callers_hands or error.errno in _DISK_FULL):
            raise ArtifactError(_write_failure(path, error)) from error
        raise


def _write_failure(path: Path, error: OSError) -> str:
    if error.errno in _DISK_FULL:
        return (
            f"{path}: no space left to write this file ({error.strerror}). "
            "Finished files are kept: make room and run the same command again, it continues from here."
        )
    return f"{path}: cannot be written ({error}). Check that the folder exists and that you may write there."


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically.

    Args:
        path: the file to write.
        obj: dictionaries, lists, text, numbers, booleans and None; not a number (NaN) and infinity
            are refused, because other readers of JSON fail on them.

    Raises:
        ArtifactError: the file could not be written.
        ValueError: `obj` holds NaN or infinity.
        TypeError: `obj` holds something that JSON has no form for.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: the file is missing, unreadable or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{path}: expected a JSON file here, found none. Run the stage that writes it first."
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:
        raise ArtifactError(
            f"{path}: expected JSON, but it cannot be parsed ({error}). Delete it and run again."
        ) from error
