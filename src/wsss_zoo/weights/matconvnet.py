"""Read the weights of MatConvNet's `.mat` files (its first releases, as DCSM's)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError

_KINDS = ("filters", "biases")


def read_matconvnet(path: Path) -> dict[str, Tensor]:
    """Weights by key: `layers.1.filters`, `layers.1.biases`, ..., layers counted from 1 as in MATLAB.

    Args:
        path: a file with `net.layers` or `layers`, where some have `filters` `(h, w, in, out)` and `biases`.

    Raises:
        WeightsError: the file is no MATLAB file, of MATLAB's version 7.3, or has no layer with weights.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise WeightsError(
            f"{path} is a MATLAB file of version 7.3, which is not read; save it in MATLAB with -v7"
        ) from error
    # scipy tells a broken file by whatever its parser ran into (zlib, KeyError, its own exceptions)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as a MATLAB file: {error}; download it again") from error
    tensors = {
        f"layers.{number}.{kind}": _tensor(layer[kind], kind)
        for number, layer in _layers(content)
        for kind in _KINDS
        if kind in layer.dtype.names
    }
    if not tensors:
        raise WeightsError(f"{path} holds no net.layers with filters and biases; it is no MatConvNet network")
    return tensors


def _layers(content: dict[str, Any]) -> list[tuple[int, Any]]:
    """The structures in the cell array `net.layers`, each with its number."""
    net = content.get("net")
    if isinstance(net, np.ndarray) and net.size == 1 and "layers" in (net.dtype.names or ()):
        cells = net.flat[0]["layers"]
    else:
        cells = content.get("layers", np.empty(0, object))
    # MATLAB has no scalars: a structure is an array of one
    return [
        (number, cell.flat[0])
        for number, cell in enumerate(cells.flat, 1)
        if isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.names
    ]


def _tensor(values: np.ndarray, kind: str) -> Tensor:
    values = np.ascontiguousarray(values, dtype=np.float32)
    # MATLAB drops sizes of 1 at the end
    shape = (*values.shape, *(1,) * (4 - values.ndim)) if kind == "filters" else (values.size,)
    return torch.from_numpy(values.reshape(shape))
