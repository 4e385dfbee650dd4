"""Weights into methods: our own files, and the key layouts of published checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from wsss_zoo.errors import WeightsError
from wsss_zoo.methods import build_from_class_path
from wsss_zoo.weights.files import read_state_dict, unwrap
from wsss_zoo.weights.layouts import Published, load_strictly, recognise
from wsss_zoo.weights.pretrained import load_weights, read_metadata

_HUB = "hf://"
#: Top-level names of every network here: exported state dicts have these and nothing else.
_OWN_PARTS = ("backbone.", "head.", "classifier.", "sub_head.", "detectors.")


def load_published(
    name: str,
    class_path: str,
    weights: str | Path | Mapping[str, Tensor] | Sequence[str | Path],
    hparams: Mapping[str, Any],
) -> LightningModule:
    """Build a method and fill it.

    A file of this package (.safetensors, .ckpt) tells its hyper-parameters. For published files,
    `methods/<name>/published.py` states which hyper-parameters follow from the tensors
    (`published_hparams`) and how the keys of their heads are called here (`published_heads`).

    Args:
        name: name of the model, for messages.
        class_path: its class.
        weights: a file, a hub address or a state dict; or several files of one network.
        hparams: hyper-parameters that the user gave; they win.

    Returns:
        The module in evaluation mode.

    Raises:
        WeightsError: the weights cannot be read, are of another model, or do not fit.
        WsssZooError: unknown hyper-parameter.
    """
    if isinstance(weights, Sequence) and not isinstance(weights, str):
        weights = _merged(weights)
    if isinstance(weights, Mapping):
        source = "the state dict"
        state_dict, known = unwrap(weights, source), {}
    else:
        path = download_from_hub(str(weights)) if str(weights).startswith(_HUB) else Path(weights)
        source, state_dict = str(path), read_state_dict(path)
        known = _hparams_of_file(path, name, class_path)
    state_dict = _without_prefix(state_dict, "network.")
    published = None if _is_own(state_dict) else recognise(state_dict)
    if published is None:
        module = build_from_class_path(class_path, {**known, **hparams})
        load_strictly(_network(module), state_dict, source)
        return module.eval()
    # methods/<name>/published.py stands beside methods/<name>/module.py
    layout = import_module(class_path.rsplit(".", 2)[0] + ".published")
    settings = {**layout.published_hparams(published), **hparams}
    renamed = _renamed(published, layout.published_heads(settings), f"{source} for the model {name!r}")
    module = build_from_class_path(class_path, settings)
    load_strictly(_network(module), renamed, source)
    return module.eval()


def load_pretrained(path: str | Path, **changes: Any) -> LightningModule:
    """Build the module a file describes and fill it.

    Args:
        path: a `.safetensors` file of this package.
        **changes: hyper-parameters that replace the file's.

    Raises:
        WeightsError: the file does not describe a module (it was not written by this package).
    """
    description = read_metadata(path)
    if description is None:
        raise WeightsError(
            f"{path} does not tell which model it is for; name it: "
            'wsss_zoo.create_model("cam", weights=...) or wsss-zoo predict --model cam'
        )
    hparams = {**description["hparams"], **changes}
    if "backbone_weights" in hparams:
        hparams["backbone_weights"] = None
    module = build_from_class_path(description["class_path"], hparams)
    load_weights(module, path)
    module.class_names = description.get("class_names")  # type: ignore[assignment]
    return module.eval()


def download_from_hub(address: str) -> Path:
    """`hf://owner/repository/file` -> the local file.

    Raises:
        WeightsError: the address is malformed, the client is not installed, or the download fails.
    """
    parts = address.removeprefix(_HUB).split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise WeightsError(f"a hub address is hf://owner/repository/file, got {address!r}")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsError(f"{address}: pip install huggingface_hub to load weights from the hub") from error
    try:
        return Path(hf_hub_download(f"{parts[0]}/{parts[1]}", parts[2]))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{address} cannot be downloaded: {error}") from error


def _network(module: LightningModule) -> nn.Module:
    network = module.network
    assert isinstance(network, nn.Module)  # the convention of methods/
    return network


def _merged(files: Sequence[str | Path]) -> dict[str, Tensor]:
    """Tensors of several files, of which any may have the prefix `module.`."""
    merged: dict[str, Tensor] = {}
    for file in files:
        path = download_from_hub(str(file)) if str(file).startswith(_HUB) else Path(file)
        tensors = read_state_dict(path)
        doubled = merged.keys() & tensors.keys()
        if doubled:
            raise WeightsError(f"{path}: {min(doubled)} is in another of the files, too; give each part once")
        merged |= tensors
    return merged


def _hparams_of_file(path: Path, name: str, class_path: str) -> dict[str, Any]:
    """Hyper-parameters that a file of this package states; empty for other files."""
    hparams: dict[str, Any] = {}
    description = read_metadata(path) if path.suffix == ".safetensors" else None
    if description is not None:
        if description["class_path"] != class_path:
            raise WeightsError(
                f"{path} holds a {description['class_path']}, not the model {name!r} ({class_path}); "
                "wsss_zoo.methods.published.load_pretrained builds what a file holds"
            )
        hparams = dict(description["hparams"])
    elif path.suffix == ".ckpt":
        # read_state_dict has read the file without pickle already, so this cannot fail on its format
        content = torch.load(path, map_location="cpu", weights_only=True)
        hparams = dict(content.get("hyper_parameters", {}))
    if "backbone_weights" in hparams:
        hparams["backbone_weights"] = None  # everything comes from this file
    return hparams


def _is_own(state_dict: Mapping[str, Tensor]) -> bool:
    """Keys of a network of this package, as `export_state_dict` writes them.

    SEAM's retraining files have `backbone.` too, but other names beside it; IRN's have `resnet50.`.
    """
    parts = {part for part in _OWN_PARTS for key in state_dict if key.startswith(part)}
    return len(parts) > 1 and "backbone." in parts and all(key.startswith(_OWN_PARTS) for key in state_dict)


def _without_prefix(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not any(key.startswith(prefix) for key in state_dict):
        return state_dict
    return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}


def _renamed(published: Published, patterns: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Tensors with the keys of the network; patterns that leave out act on the backbone, too."""
    unused = [old for old, new in patterns.items() if not new]
    renamed = {
        f"backbone.{key}": value
        for key, value in published.tensors.items()
        if not any(re.fullmatch(pattern, key) for pattern in unused)
    }
    heads = 0
    for key, value in published.rest.items():
        targets = [re.sub(old, new, key) for old, new in patterns.items() if re.fullmatch(old, key)]
        if not targets:
            raise WeightsError(
                f"{what}: the key {key!r} of this {published.backbone} file belongs to no part of the "
                "network; to start training from its backbone alone, pass it as backbone_weights"
            )
        if targets[0]:
            renamed[targets[0]] = value
            heads += 1
    if heads == 0:
        raise WeightsError(
            f"{what}: the file holds a {published.backbone} backbone without a head; to start training from "
            "it, pass it as backbone_weights"
        )
    return renamed
