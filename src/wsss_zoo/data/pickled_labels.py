"""Reading the field's pickled label dictionary (`cls_labels.npy`) without running what is in it.

PSA, SEAM, IRN and others store image-level labels as a NumPy object array around a dictionary
id -> float32 `(20,)`. Unpickling calls whatever functions the file names, so a file from the internet can
run any program. Here every name in the file is answered with a class of this module that only writes
down what it is given, or refused: no function named by the file is ever called, not even one of NumPy's.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError

_PLAIN_KINDS = "biufSU"


class _ScalarType:
    """Stands in for `numpy.dtype`."""

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        self.name = str(name)
        self.byte_order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = str(state[1])

    def to_numpy(self) -> np.dtype[Any]:
        order = self.byte_order if self.byte_order in "<>" else ""
        scalar_type = np.dtype(order + self.name)
        if scalar_type.kind not in _PLAIN_KINDS:
            raise ValueError(f"arrays of {self.name} are not read")
        return scalar_type


class _ArrayMark:
    """Stands in for the class `numpy.ndarray`, which pickles only name."""


class _Array:
    """Stands in for an array under construction."""

    def __init__(self, *_arguments: object) -> None:
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def content(self) -> Any:
        """The array's numbers, or the only object of a zero-dimensional object array."""
        if self.state is None:
            raise ValueError("an array has no content")
        _, shape, scalar_type, fortran_order, data = self.state
        if scalar_type.name.startswith("O"):
            if tuple(shape) != () or len(data) != 1:
                raise ValueError(f"expected one dictionary, found an object array of shape {shape}")
            return data[0]
        return _array(data, scalar_type, tuple(shape), "F" if fortran_order else "C")


class _Scalar:
    """Stands in for a NumPy scalar, such as an id of type `numpy.str_`; compared by content."""

    def __init__(self, scalar_type: _ScalarType, data: bytes | str) -> None:
        self.value = _array(data, scalar_type, (), "C").item()

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, _Scalar) else other)


def _array(data: bytes | str, scalar_type: _ScalarType, shape: tuple[int, ...], order: Any) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, scalar_type.to_numpy()).reshape(shape, order=order)


def _frombuffer(data: bytes, scalar_type: _ScalarType, shape: tuple[int, ...], order: str) -> Any:
    """Stands in for `numpy._core.numeric._frombuffer` (protocol 5)."""
    return _array(bytes(data), scalar_type, tuple(shape), order)


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, the form of bytes in protocol 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding} are not read")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _ScalarType,
    ("numpy", "ndarray"): _ArrayMark,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 2 renamed the module
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _Scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Refused(Exception):
    """The file names something that is not part of a label dictionary."""


class _LabelUnpickler(pickle.Unpickler):
    """Builds text, numbers, lists, dictionaries and stand-ins for arrays; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Answer a name in the file with its stand-in."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> Any:
        """Refuse references to objects outside the file."""
        raise _Refused(f"the external object {pid!r}")


def read_pickled_labels(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read `cls_labels.npy`: a pickled dictionary id -> labels.

    Args:
        path: a `.npy` file with one dictionary.

    Returns:
        id -> float32 `(C,)`.

    Raises:
        DataError: the file is broken, is no such dictionary, or names anything but arrays (in which case
            it may be an attack and nothing of it was run).
    """
    with open(path, "rb") as file:
        try:
            _skip_header(file)
            # latin1: bytes written by Python 2 come as text of the same values
            content = _LabelUnpickler(file, encoding="latin1").load()
            if isinstance(content, _Array):
                content = content.content()
            if not isinstance(content, dict):
                raise ValueError(f"expected a dictionary, found {type(content).__name__}")
            return {_text(key): _vector(value) for key, value in content.items()}
        except _Refused as refused:
            raise DataError(
                f"{path}: refused: this file asks to load {refused}, but a label table holds only arrays, "
                "text and numbers. It may be harmful; nothing of it was run. "
                "Use labels from XML or a table in .npz or .csv."
            ) from None
        # A broken pickle fails in any way its opcodes allow: each means the same to the reader.
        except Exception as error:
            raise DataError(
                f"{path}: expected a NumPy file with a pickled dictionary id -> labels ({error}). "
                "Is it truncated? Save labels as .npz with `ids` and `labels` instead."
            ) from error


def _skip_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, scalar_type = np.lib.format.read_array_header_1_0(file)
    else:
        _, _, scalar_type = np.lib.format.read_array_header_2_0(file)
    if scalar_type.kind != "O":
        raise ValueError(f"found an array of {scalar_type} without ids")


def _text(key: Any) -> str:
    value = key.value if isinstance(key, _Scalar) else key
    if not isinstance(value, str):
        raise ValueError(f"the key {value!r} is not an image id")
    return value


def _vector(value: Any) -> npt.NDArray[np.float32]:
    content = value.content() if isinstance(value, _Array) else value
    vector = np.asarray(content, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"labels of shape {vector.shape}, expected one number a class")
    return vector
