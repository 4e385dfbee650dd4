"""Read Caffe `.caffemodel` files without Caffe: the few protobuf fields that hold weights.

NetParameter: `layer` (field 100: name 1, blobs 7) and the older `layers` (field 2: name 4, blobs 6).
BlobProto: `data` (field 5, packed or single floats), `double_data` (8), `shape` (7), and the older num,
channels, height, width (1 to 4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}


def read_caffe(path: Path) -> dict[str, Tensor]:
    """Weights by key: blob 0 of a layer is `NAME.weight`, blob 1 `NAME.bias`, further ones `NAME.blobN`.

    Raises:
        WeightsError: the file is no Caffe model, is cut short, or has no layer with weights.
    """
    try:
        tensors = dict(_layers(memoryview(path.read_bytes())))
    except (IndexError, struct.error, ValueError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a Caffe model: {error}; download it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no layer with weights; expected a .caffemodel, not a .prototxt")
    return tensors


def _layers(network: memoryview) -> Iterator[tuple[str, Tensor]]:
    for field, _, layer in _fields(network):
        if field not in _LAYER_FIELDS or not isinstance(layer, memoryview):
            continue
        name_field, blob_field = _LAYER_FIELDS[field]
        name, blobs = "", []
        for inner, _, value in _fields(layer):
            if inner == name_field and isinstance(value, memoryview):
                name = bytes(value).decode("utf-8")
            elif inner == blob_field and isinstance(value, memoryview):
                blobs.append(_blob(value))
        for index, blob in enumerate(blobs):
            yield f"{name}.{('weight', 'bias')[index] if index < 2 else f'blob{index}'}", blob


def _blob(message: memoryview) -> Tensor:
    legacy = {}
    shape: list[int] | None = None
    parts: list[np.ndarray] = []
    for field, kind, value in _fields(message):
        if field in (1, 2, 3, 4) and isinstance(value, int):
            legacy[field] = value
        elif field in (5, 8) and isinstance(value, memoryview):
            double = field == 8
            size = 8 if double else 4
            if kind == _BYTES and len(value) % size:
                raise ValueError("a blob ends in the middle of a number")
            parts.append(np.frombuffer(value, "<f8" if double else "<f4"))
        elif field == 7 and isinstance(value, memoryview):
            shape = _dimensions(value)
    values = np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
    if shape is None:
        shape = [legacy.get(index, 1) for index in (1, 2, 3, 4)] if legacy else [len(values)]
        if shape[:3] == [1, 1, 1]:
            shape = shape[3:]  # biases of the older layout are 1 x 1 x 1 x C
    if int(np.prod(shape)) != len(values):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} values")
    return torch.from_numpy(values.reshape(shape).copy())


def _dimensions(message: memoryview) -> list[int]:
    dimensions: list[int] = []
    for field, _, value in _fields(message):
        if field != 1:
            continue
        if isinstance(value, int):
            dimensions.append(value)
        else:
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                dimensions.append(number)
    return dimensions


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, position = _varint(message, position)
            yield field, kind, number
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown protobuf wire type {kind}")
        if position + length > len(message):
            raise ValueError("the file ends in the middle of a field")
        yield field, kind, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("a protobuf number is too long")
