"""Read MXNet `.params` files without MXNet.

A file is a list of arrays and a list of their names, little-endian::

    uint64 0x112, uint64 reserved
    uint64 number of arrays, the arrays
    uint64 number of names, for each name: uint64 length, UTF-8 bytes

An array starts with its layout and shape, of which four kinds are in use::

    oldest        uint32 dimensions, a uint32 size for each
    0xF993FAC8    uint32 dimensions, an int64 size for each
    0xF993FAC9    int32 storage kind (0 = dense), then as above
    0xF993FACA    the same, but no dimension means a single number, and -1 an absent array

and goes on with int32 device kind, int32 device number, int32 number type and the values in C order. An
absent array (no dimension, or -1 in the newest kind) ends after its shape.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError

MAGIC = struct.pack("<Q", 0x112)
_WITH_INT64_SIZES = 0xF993FAC8
_WITH_STORAGE_KIND = 0xF993FAC9
_WITH_SCALARS = 0xF993FACA
#: MXNet's limit; a larger number in the oldest layout means that the file is damaged.
_MAX_DIMENSIONS = 32
#: Number type by code. 12 is bfloat16, which NumPy does not know.
_TYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8")
_BFLOAT16 = 12


def read_mxnet(path: Path) -> dict[str, Tensor]:
    """Arrays by name, `arg:` and `aux:` prefixes kept; numbered from "0" where the file has no names.

    Raises:
        WeightsError: the file is no MXNet parameter file, is cut short, or holds sparse arrays.
    """
    reader = _Reader(path)
    if reader.take(8) != MAGIC:
        raise WeightsError(f"{path} is not an MXNet parameter file: expected it to start with 0x112")
    reader.number("Q")
    arrays = [_read_array(reader) for _ in range(reader.number("Q"))]
    names = [_read_name(reader) for _ in range(reader.number("Q"))]
    if not names:
        names = [str(index) for index in range(len(arrays))]
    if len(names) != len(arrays):
        raise WeightsError(f"{path} holds {len(arrays)} arrays but {len(names)} names; the file is damaged")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Takes values from the front of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = memoryview(path.read_bytes())
        self.position = 0

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise WeightsError(
                f"{self.path} ends too early or is damaged: {count} bytes expected at {self.position}, "
                f"{len(self.data) - self.position} left; download it again"
            )
        part = self.data[self.position : end]
        self.position = end
        return part

    def number(self, form: str) -> int:
        value: int = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]
        return value

    def shape(self, dimensions: int, form: str) -> tuple[int, ...]:
        if not 0 <= dimensions <= _MAX_DIMENSIONS:
            raise WeightsError(f"{self.path}: an array claims {dimensions} dimensions; the file is damaged")
        return tuple(self.number(form) for _ in range(dimensions))


def _read_name(reader: _Reader) -> str:
    try:
        return bytes(reader.take(reader.number("Q"))).decode("utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{reader.path}: a name is not UTF-8 ({error}); the file is damaged") from error


def _read_array(reader: _Reader) -> Tensor:
    layout = reader.number("I")
    if layout in (_WITH_STORAGE_KIND, _WITH_SCALARS):
        storage = reader.number("i")
        if storage > 0:
            raise WeightsError(f"{reader.path} holds a sparse array; only dense ones can be read")
        dimensions = reader.number("i")
        absent = dimensions == (-1 if layout == _WITH_SCALARS else 0)
        shape = () if absent else reader.shape(dimensions, "q")
    else:
        with_int64 = layout == _WITH_INT64_SIZES
        dimensions = reader.number("I") if with_int64 else layout
        absent = dimensions == 0
        shape = reader.shape(dimensions, "q" if with_int64 else "I")
    if absent:
        return torch.empty(0)
    reader.take(8)  # device kind and number
    code = reader.number("i")
    if code == _BFLOAT16:
        return torch.from_numpy(_values(reader, shape, "i2")).view(torch.bfloat16)
    if not 0 <= code < len(_TYPES):
        raise WeightsError(f"{reader.path}: unknown number type {code}; the file is damaged")
    return torch.from_numpy(_values(reader, shape, _TYPES[code]))


def _values(reader: _Reader, shape: tuple[int, ...], kind: str) -> np.ndarray:
    dtype = np.dtype(kind).newbyteorder("<")
    raw = reader.take(math.prod(shape) * dtype.itemsize)
    # astype also copies: the tensor must own writable, aligned memory
    return np.frombuffer(raw, dtype).reshape(shape).astype(np.dtype(kind))
