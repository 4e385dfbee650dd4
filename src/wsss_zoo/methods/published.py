"""Weights into methods: our own files, and the key layouts of published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from wsss_zoo.errors import WeightsError
from wsss_zoo.methods import build_from_class_path
from wsss_zoo.weights.files import read_state_dict, unwrap
from wsss_zoo.weights.layouts import load_strictly, recognise
from wsss_zoo.weights.pretrained import read_metadata


def load_published(
    name: str, class_path: str, weights: str | Path | Mapping[str, Tensor], hparams: Mapping[str, Any]
) -> LightningModule:
    """Build a method and fill it.

    Each method's `published.py` states in `PUBLISHED_HEADS` how the head keys of published files are called
    here, and in `published_hparams` which hyper-parameters follow from a published state dict.
    """
    if isinstance(weights, Mapping):
        source, state_dict = "the state dict", unwrap(weights, "the state dict")
    else:
        path = download_from_hub(str(weights)) if str(weights).startswith("hf://") else Path(weights)
        description = read_metadata(path) if path.suffix == ".safetensors" else None
        source, state_dict = str(path), read_state_dict(path)
        if description is not None:
            known = {**description["hparams"], "backbone_weights": None, **hparams}
            module = build_from_class_path(class_path, known)
            load_strictly(module.network, state_dict, source)
            return module.eval()
        if path.suffix == ".ckpt":
            state_dict = {key.removeprefix("network."): value for key, value in state_dict.items()}
    # methods/<name>/published.py stands beside methods/<name>/module.py
    package = import_module(class_path.rsplit(".", 2)[0] + ".published")
    published = recognise(state_dict)
    if published is None:
        module = build_from_class_path(class_path, hparams)
        load_strictly(module.network, state_dict, source)
        return module.eval()
    inferred = package.published_hparams(published)
    module = build_from_class_path(class_path, {**inferred, **hparams})
    keys = package.PUBLISHED_HEADS[inferred.get("variant", "")]
    renamed = {f"backbone.{key}": value for key, value in published.tensors.items()}
    for key, value in published.rest.items():
        target = _rename(key, keys)
        if target is None:
            raise WeightsError(f"{source}: the key {key!r} belongs to no part of the model {name!r}")
        renamed[target] = value
    load_strictly(module.network, renamed, source)
    return module.eval()


def download_from_hub(address: str) -> Path:
    """`hf://owner/repository/file` -> the local file.

    Raises:
        WeightsError: the address is malformed, the client is not installed, or the download fails.
    """
    parts = address.removeprefix("hf://").split("/", 2)
    if len(parts) != 3:
        raise WeightsError(f"a hub address is hf://owner/repository/file, got {address!r}")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsError(f"{address}: pip install huggingface_hub to load weights from the hub") from error
    try:
        return Path(hf_hub_download(f"{parts[0]}/{parts[1]}", parts[2]))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{address} cannot be downloaded: {error}") from error


def _rename(key: str, prefixes: Mapping[str, str]) -> str | None:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key[len(old) :]
    return None
