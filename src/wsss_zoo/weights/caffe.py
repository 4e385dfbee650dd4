"""Read Caffe `.caffemodel` files without Caffe: the few protobuf fields that hold weights.

NetParameter has `layer` (field 100; name 1, type 2 as text, blobs 7) or, in older files, `layers` (field 2;
name 4, type 5 as a number, blobs 6). BlobProto has `data` (field 5, packed or single floats), `double_data`
(8), `shape` (7), or in older files num, channels, height and width (1 to 4).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.protobuf import Kind, fields, packed_integers


class _LayerFields(NamedTuple):
    name: int
    type: int
    blobs: int


#: Field of NetParameter -> fields of the layer.
_LAYERS = {100: _LayerFields(name=1, type=2, blobs=7), 2: _LayerFields(name=4, type=5, blobs=6)}
#: Fully connected layers, as text and as the number of the older format.
_INNER_PRODUCT = ("InnerProduct", 14)


def read_caffe(path: Path) -> dict[str, Tensor]:
    """Weights by key.

    Blob 0 of a layer is `NAME.weight`, blob 1 `NAME.bias`, further ones `NAME.blobN`. The three blobs of a
    BatchNorm layer are sums and their scale: they become `NAME.running_mean` and `NAME.running_var`.

    Raises:
        WeightsError: the file is no Caffe model, is cut short, or has no layer with weights.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for number, _, layer in fields(memoryview(path.read_bytes())):
            if number in _LAYERS and isinstance(layer, memoryview):
                tensors.update(_layer(layer, _LAYERS[number]))
    except ValueError as error:
        raise WeightsError(f"{path} cannot be read as a Caffe model: {error}; download it again") from error
    if not tensors:
        raise WeightsError(f"{path} holds no layer with weights; expected a .caffemodel, not a .prototxt")
    return tensors


def _layer(message: memoryview, numbers: _LayerFields) -> dict[str, Tensor]:
    name = ""
    layer_type: str | int = ""
    messages: list[memoryview] = []
    for number, _, value in fields(message):
        if number == numbers.name and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8")
        elif number == numbers.type:
            layer_type = value if isinstance(value, int) else bytes(value).decode("utf-8")
        elif number == numbers.blobs and isinstance(value, memoryview):
            messages.append(value)
    blobs = [_blob(blob, fully_connected=layer_type in _INNER_PRODUCT) for blob in messages]
    if layer_type == "BatchNorm" and len(blobs) == 3:
        scale = float(blobs[2].flatten()[0])
        factor = 1 / scale if scale else 0.0  # Caffe's own rule for a layer that saw no batch
        return {f"{name}.running_mean": blobs[0] * factor, f"{name}.running_var": blobs[1] * factor}
    endings = ("weight", "bias", *(f"blob{index}" for index in range(2, len(blobs))))
    return {f"{name}.{ending}": blob for ending, blob in zip(endings, blobs, strict=False)}


def _blob(message: memoryview, fully_connected: bool) -> Tensor:
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    parts: list[np.ndarray] = []
    for number, kind, value in fields(message):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            legacy[number] = value
        elif number in (5, 8) and isinstance(value, memoryview):
            dtype = np.dtype("<f4" if number == 5 else "<f8")
            if kind is Kind.BYTES and len(value) % dtype.itemsize:
                raise ValueError("a blob ends in the middle of a number")
            parts.append(np.frombuffer(value, dtype))
        elif number == 7 and isinstance(value, memoryview):
            shape = packed_integers(value, 1)
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if shape is None:
        shape = [legacy.get(index, 1) for index in (1, 2, 3, 4)] if legacy else [len(values)]
        # the older format always has four sizes: 1 x 1 x 1 x N for a bias, 1 x 1 x N x K if fully connected
        if shape[:3] == [1, 1, 1]:
            shape = shape[3:]
        elif fully_connected and shape[:2] == [1, 1]:
            shape = shape[2:]
    if math.prod(shape) != len(values):
        raise ValueError(f"a blob of shape {tuple(shape)} holds {len(values)} values")
    return torch.from_numpy(values.reshape(shape).astype(values.dtype.newbyteorder("=")))
