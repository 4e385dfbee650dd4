"""Read MXNet `.params` files without MXNet.

A file is a list of arrays and a list of names, little-endian: magic 0x112, reserved, array count, arrays,
name count, names. Three layouts of an array exist: the oldest starts with the number of dimensions, the newer
ones with a magic number.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError

_MAGIC = 0x112
_ARRAY_V1 = 0xF993FAC8
_ARRAY_V2 = 0xF993FAC9
_ARRAY_V3 = 0xF993FACA
_TYPES = (np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64)


class _Reader:
    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.position = data, path, 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise WeightsError(f"{self.path} ends in the middle of an array; download it again")
        part = self.data[self.position : end]
        self.position = end
        return part

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def one(self, form: str) -> int:
        return self.unpack(form)[0]


def read_mxnet(path: Path) -> dict[str, Tensor]:
    """Arrays by name, `arg:` and `aux:` prefixes kept.

    Raises:
        WeightsError: the file is no MXNet parameter file, is cut short, or holds sparse arrays.
    """
    reader = _Reader(path.read_bytes(), path)
    if len(reader.data) < 24 or reader.one("Q") != _MAGIC:
        raise WeightsError(f"{path} is not an MXNet parameter file (it does not start with 0x112)")
    reader.one("Q")
    arrays = [_read_array(reader) for _ in range(reader.one("Q"))]
    names = [reader.take(reader.one("Q")).decode("utf-8") for _ in range(reader.one("Q"))]
    if len(names) != len(arrays):
        raise WeightsError(f"{path} holds {len(arrays)} arrays but {len(names)} names")
    return dict(zip(names, arrays, strict=True))


def _read_array(reader: _Reader) -> Tensor:
    first = reader.one("I")
    if first in (_ARRAY_V2, _ARRAY_V3):
        storage = reader.one("i")
        if storage != 0:
            raise WeightsError(f"{reader.path} holds a sparse array; only dense ones can be read")
        shape = reader.unpack(f"{reader.one('I')}q")
    elif first == _ARRAY_V1:
        shape = reader.unpack(f"{reader.one('I')}q")
    else:
        if first > 32:
            raise WeightsError(f"{reader.path}: an array claims {first} dimensions; the file is damaged")
        shape = reader.unpack(f"{first}I")
    if len(shape) == 0:
        return torch.empty(0)  # a placeholder: MXNet writes no data for it
    reader.unpack("ii")  # device type and id
    code = reader.one("i")
    if not 0 <= code < len(_TYPES):
        raise WeightsError(f"{reader.path}: unknown number type {code}")
    dtype = np.dtype(_TYPES[code]).newbyteorder("<")
    raw = reader.take(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    values = np.frombuffer(raw, dtype).reshape(shape).astype(_TYPES[code])
    return torch.from_numpy(values)
