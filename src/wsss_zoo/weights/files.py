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
from wsss_zoo.weights.matconvnet import read_matconvnet
from wsss_zoo.weights.mxnet import MAGIC as MXNET_MAGIC
from wsss_zoo.weights.mxnet import read_mxnet

#: Format by extension. A file that starts like another format is read as what it is.
_FORMATS = {
    ".pth": "torch",
    ".pt": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
    ".safetensors": "safetensors",
    ".params": "mxnet",
    ".caffemodel": "caffe",
    ".mat": "matconvnet",
}
#: How files start that PyTorch wrote before 1.6, not yet as zip archives. LDF's have no extension.
_OLD_TORCH_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
#: Keys under which checkpoints keep their state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by key, on the CPU.

    Args:
        path: .pth, .pt, .ckpt, .bin (PyTorch), .safetensors, .params (MXNet), .caffemodel (Caffe) or .mat
            (MatConvNet). A state dict inside a checkpoint is found; a `module.` prefix of DataParallel is
            dropped.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or would run code when loaded.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "mxnet":
        return read_mxnet(path)
    if kind == "caffe":
        return read_caffe(path)
    if kind == "matconvnet":
        return read_matconvnet(path)
    if kind == "safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    return unwrap(_load_torch(path), str(path))


def unwrap(content: Any, source: str) -> dict[str, Tensor]:
    """The state dict inside a loaded checkpoint, without `module.` prefixes.

    Args:
        content: what `torch.load` returned.
        source: the file, for the messages.

    Raises:
        WeightsError: there are no tensors in it.
    """
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{source} holds {type(content).__name__}, expected a mapping of tensors")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise WeightsError(f"{source} holds no tensors; expected a state dict, found the keys {keys}")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _format(path: Path) -> str:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise WeightsError(f"{path} is empty; download it again")
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    if text.startswith((b"<!doctype", b"<html")):
        raise WeightsError(f"{path} is a web page, not weights; download it again, with a browser if need be")
    if head.startswith(MXNET_MAGIC):
        return "mxnet"
    if head.startswith((b"PK\x03\x04", _OLD_TORCH_MAGIC)):
        return "torch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    extension = path.suffix.lower()
    if extension not in _FORMATS:
        raise WeightsError(f"{path}: unknown kind of weights {extension!r}; expected {', '.join(_FORMATS)}")
    return _FORMATS[extension]


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if "Unsupported global" in reason or "Unsupported class" in reason:
            raise WeightsError(
                f"{path} holds more than tensors and is not loaded, because that could run code; where you "
                "trust it, save its state dict alone: torch.save(model.state_dict(), ...)"
            ) from error
        raise WeightsError(
            f"{path} cannot be read as PyTorch weights: it is damaged or of another kind; download it again"
        ) from error
    except Exception as error:  # arbitrary bytes make the unpickler fail in any way, as with an empty stack
        raise WeightsError(f"{path} cannot be read as PyTorch weights: {error}; download it again") from error
