"""Read weights from a file of any format, without pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.caffe import read_caffe
from wsss_zoo.weights.mxnet import read_mxnet

_EXTENSIONS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".params", ".caffemodel")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by key.

    Args:
        path: .pth, .pt, .ckpt, .bin (PyTorch), .safetensors, .params (MXNet) or .caffemodel (Caffe). A
            state dict inside a checkpoint is found; a `module.` prefix of DataParallel is dropped.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or would run code when loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    extension = path.suffix.lower()
    if extension == ".params":
        return read_mxnet(path)
    if extension == ".caffemodel":
        return read_caffe(path)
    if extension == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    if extension not in _EXTENSIONS:
        raise WeightsError(
            f"{path}: unknown kind of weights {extension!r}; expected {', '.join(_EXTENSIONS)}"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a plain file of tensors and is not loaded, because it could run code "
            f"({str(error).splitlines()[0]}); save its state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} cannot be read as PyTorch weights: {error}") from error
    return unwrap(content, str(path))


def unwrap(content: Any, source: str) -> dict[str, Tensor]:
    """The state dict inside a loaded checkpoint, without `module.` prefixes."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{source} holds {type(content).__name__}, expected a mapping of tensors")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{source} holds no tensors")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
