"""Trained modules out and in: safetensors files that know their model, settings and class names."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from lightning import LightningModule
from torch import nn

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.errors import WeightsError
from wsss_zoo.version import __version__
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.layouts import load_strictly

_KEY = "wsss_zoo"


def save_pretrained(
    module: LightningModule, path: str | Path, class_names: Sequence[str] | None = None
) -> None:
    """Write `module.network` with what is needed to build it again.

    Args:
        module: a method of the zoo, or a module of one's own with a `network`.
        path: the .safetensors file, written atomically.
        class_names: foreground class names.

    Raises:
        WeightsError: a hyper-parameter cannot be written down as JSON.
        ArtifactError: the file could not be written.
    """
    cls = type(module)
    description = {
        "class_path": f"{cls.__module__}.{cls.__qualname__}",
        "hparams": dict(module.hparams),
        "class_names": list(class_names) if class_names else None,
        "version": __version__,
    }
    network = cast(nn.Module, module.network)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    try:
        metadata = {_KEY: json.dumps(description, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: the hyper-parameters of {cls.__qualname__} cannot be written down ({error}); "
            "use numbers, text, lists and dictionaries of these"
        ) from error
    content = safetensors.torch.save(tensors, metadata=metadata)
    with atomic_write(path) as file:
        file.write(content)


def export_state_dict(module: LightningModule, path: str | Path) -> None:
    """Write the plain state dict of `module.network` for use outside the zoo (`torch.save`)."""
    buffer = io.BytesIO()
    torch.save(cast(nn.Module, module.network).state_dict(), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """What `save_pretrained` wrote beside the tensors: class_path, hparams, class_names; None if nothing.

    Raises:
        WeightsError: the file is missing, is no safetensors file, or its description is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    if _KEY not in metadata:
        return None
    try:
        description = json.loads(metadata[_KEY])
        complete = isinstance(description["hparams"], dict) and isinstance(description["class_path"], str)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: its description of the model cannot be read ({error!r})") from error
    if not complete:
        raise WeightsError(f"{path}: its description of the model lacks hparams or class_path")
    return description


def load_weights(module: LightningModule, path: str | Path) -> None:
    """Load a file of `save_pretrained` into a module that is built already.

    Raises:
        WeightsError: names the keys that do not fit.
    """
    load_strictly(cast(nn.Module, module.network), read_state_dict(path), str(path))
