"""Key layouts of published files, converted to the keys of this package's backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.torchvision_weights import VGG_FEATURES

_MXNET = re.compile(r"^(?:arg|aux):(?:(res|bn)(\d)(a|b\d+)_branch(\w+?)|(conv1a|bn7))_(\w+)$")
_MXNET_KINDS = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
_RESNET38_NAMES = ("conv1a.", "bn7.", "b2", "b3", "b4", "b5", "b6", "b7")
_VGG_NAMES = ("conv1_", "conv2_", "conv3_", "conv4_", "conv5_", "fc6.", "fc7.")
#: Caffe's names of DeepLab v2's ResNet-101: res2a_branch2b, bn3b1_branch2a, scale5c_branch2c, ...
_CAFFE_RESNET = re.compile(r"^(res|bn|scale)(\d)([a-z])(\d*)_branch(1|2a|2b|2c)\.(\w+)$")
_CAFFE_BRANCHES = {"1": "shortcut", "2a": "reduce", "2b": "conv3x3", "2c": "increase"}
#: VGG16 in MatConvNet, ReLUs and pools counted as layers: DCSM's, and the ImageNet network it starts from.
_MATCONVNET_LAYERS = dict(
    zip((1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29), VGG_FEATURES.values(), strict=True)
) | {32: "fc6", 34: "fc7", 36: "fc8"}
_MATCONVNET = re.compile(r"layers\.(\d+)\.(filters|biases)")
_CAFFE_STEM = {"conv1": "conv", "bn_conv1": "bn", "scale_conv1": "bn"}


class Published(NamedTuple):
    """A published state dict, sorted.

    Attributes:
        backbone: name of the backbone, a key of `wsss_zoo.backbones.BACKBONES`.
        tensors: the backbone's, with the keys that it has here.
        rest: everything else (the heads), with the keys of the publication.
    """

    backbone: str
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]


def recognise(state_dict: Mapping[str, Tensor]) -> Published | None:
    """Tell whose layout a state dict has.

    Known: ResNet38d (MXNet names, PSA/SEAM/SC-CAM keys, `backbone.` of SEAM's retraining, `encoder.` of
    SSDD), VGG16 (Caffe names, also with the four branches of DSRG; torchvision's or ports' `features.N`),
    DeepLab v2 ResNet-101 (deeplab-pytorch, with or without `base.`, and Caffe names), DCSM's VGG16 (Caffe
    names and MatConvNet's numbers), IRN's ResNet-50, LDF (`bkbone.`) and torchvision's ResNets. Counters of
    batch norm (`num_batches_tracked`) may be absent, as in files written before PyTorch 0.4.1.

    Returns:
        The sorted tensors with the keys of `wsss_zoo.backbones`, or None where the layout is unknown.
    """
    keys = set(state_dict)
    if "arg:conv1a_weight" in keys:
        return _from_mxnet(state_dict)
    for prefix in ("", "backbone.", "encoder."):
        if f"{prefix}b7.conv_branch2b2.weight" in keys:
            return _split(state_dict, "resnet38d", prefix, _RESNET38_NAMES)
    if "resnet50.conv1.weight" in keys:
        published = _split(state_dict, "resnet50_irn", "resnet50.", ("",))
        copies = ("stage", "backbone.", "newly_added.", "edge_layers.", "dp_layers.")
        rest = {key: value for key, value in published.rest.items() if not key.startswith(copies)}
        tensors = {key: value for key, value in published.tensors.items() if not key.startswith("fc.")}
        return Published("resnet50_irn", tensors, rest)
    if "bkbone.layer4.2.conv3.weight" in keys:
        return _split(state_dict, "resnet50", "bkbone.", ("",))
    for prefix in ("base.", ""):
        if f"{prefix}layer1.conv1.conv.weight" in keys:
            published = _split(state_dict, "resnet101_msra", prefix, ("layer",))
            rest = {key.removeprefix(prefix): value for key, value in published.rest.items()}
            return published._replace(rest=rest)
    if "res2a_branch2a.weight" in keys:
        return _from_caffe_resnet(state_dict)
    if "fc6of.weight" in keys:
        return _from_dcsm(state_dict)
    if {"layers.29.filters", "layers.36.filters"} <= keys:
        return _from_matconvnet(state_dict)
    if "conv5_3.weight" in keys and "fc6_1.weight" in keys:
        return _split(state_dict, "vgg16_aspp", "", ("conv", "fc6_", "fc7_"))
    if "conv5_3.weight" in keys:
        return _split(state_dict, _vgg_kind(state_dict), "", _VGG_NAMES)
    if "features.28.weight" in keys:
        renamed = {}
        for key, value in state_dict.items():
            parts = key.split(".")
            if parts[0] == "features" and parts[1].isdigit() and int(parts[1]) in VGG_FEATURES:
                key = f"{VGG_FEATURES[int(parts[1])]}.{parts[2]}"
            renamed[key] = value
        return _split(renamed, _vgg_kind(renamed), "", _VGG_NAMES)
    if "layer4.2.conv3.weight" in keys:
        depth = 101 if "layer3.22.conv1.weight" in keys else 50
        return _split(state_dict, f"resnet{depth}", "", ("conv1.", "bn1.", "layer"))
    return None


def load_strictly(module: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must cover a module; batch counters may be absent.

    Raises:
        WeightsError: names the first keys that are missing, unknown or of another shape.
    """
    own = module.state_dict()
    shapes = [
        f"{key}: expected {tuple(own[key].shape)}, got {tuple(value.shape)}"
        for key, value in state_dict.items()
        if key in own and own[key].shape != value.shape
    ]
    missing = [key for key in own if key not in state_dict and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state_dict if key not in own]
    problems = []
    for what, keys in (("missing", missing), ("not in the network", unknown), ("other shape", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            problems.append(f"{what}: {', '.join(keys[:3])}{more}")
    if problems:
        # nothing in common: it helps more to see what is there
        if unknown and len(missing) > len(own) / 2:
            problems = [f"expected keys like {', '.join(missing[:3])}, found {', '.join(unknown[:3])}"]
        raise WeightsError(f"{source}: the weights do not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict(dict(state_dict), strict=False)


def _split(state_dict: Mapping[str, Tensor], backbone: str, prefix: str, names: tuple[str, ...]) -> Published:
    tensors, rest = {}, {}
    for key, value in state_dict.items():
        inner = key.removeprefix(prefix)
        if key.startswith(prefix) and inner.startswith(names):
            tensors[inner] = value
        else:
            rest[key] = value
    return Published(backbone, tensors, rest)


def _from_dcsm(state_dict: Mapping[str, Tensor]) -> Published:
    """DCSM's fully convolutional VGG16 calls its layers fc6of and fc7of, and stores them as convolutions."""
    tensors, rest = {}, {}
    for key, value in state_dict.items():
        layer, _, kind = key.rpartition(".")
        if layer in ("fc6of", "fc7of"):
            tensors[f"{layer.removesuffix('of')}.{kind}"] = value.flatten(1) if kind == "weight" else value
        elif key.startswith(_VGG_NAMES):
            tensors[key] = value
        else:
            rest[key] = value
    return Published("vgg16_fcn", tensors, rest)


def _from_matconvnet(state_dict: Mapping[str, Tensor]) -> Published:
    """MatConvNet numbers the layers and stores filters as height x width x inputs x outputs."""
    tensors, rest = {}, {}
    for key, value in state_dict.items():
        match = _MATCONVNET.fullmatch(key)
        name = None if match is None else _MATCONVNET_LAYERS.get(int(match[1]))
        if match is None or name is None:
            rest[key] = value
            continue
        if match[2] == "biases":
            renamed, values = f"{name}.bias", value.flatten()
        else:
            renamed, values = f"{name}.weight", value.permute(3, 2, 0, 1).contiguous()
        if name == "fc8":
            rest[renamed] = values
        else:
            tensors[renamed] = values.flatten(1) if renamed in ("fc6.weight", "fc7.weight") else values
    return Published("vgg16_fcn", tensors, rest)


def _vgg_kind(state_dict: Mapping[str, Tensor]) -> str:
    """PSA's classifier and DeepLab-LargeFOV share their keys; 20 outputs without a bias are PSA's."""
    return "vgg16" if "fc8.weight" in state_dict and "fc8.bias" not in state_dict else "vgg16_largefov"


def _from_mxnet(state_dict: Mapping[str, Tensor]) -> Published:
    tensors, rest = {}, {}
    for key, value in state_dict.items():
        match = _MXNET.match(key)
        if match is None:
            if not key.startswith("arg:linear1000"):  # the ImageNet classifier
                rest[key] = value
            continue
        kind, level, block, branch, single, parameter = match.groups()
        if single:
            tensors[f"{single}.{_MXNET_KINDS[parameter]}"] = value
            continue
        name = f"b{level}" if block == "a" else f"b{level}_{block[1:]}"
        layer = "conv" if kind == "res" else "bn"
        tensors[f"{name}.{layer}_branch{branch}.{_MXNET_KINDS[parameter]}"] = value
    return Published("resnet38d", tensors, rest)


def _from_caffe_resnet(state_dict: Mapping[str, Tensor]) -> Published:
    """Caffe splits batch norm into `bn...` (statistics) and `scale...` (weight and bias)."""
    tensors, rest = {}, {}
    for key, value in state_dict.items():
        layer, _, parameter = key.rpartition(".")
        match = _CAFFE_RESNET.match(key)
        if "res05" in key or "res075" in key:
            continue  # the same layers again, for the smaller scales of the input pyramid
        if layer in _CAFFE_STEM:
            tensors[f"layer1.conv1.{_CAFFE_STEM[layer]}.{parameter}"] = value
        elif match is not None:
            kind, level, letter, number, branch, _ = match.groups()
            # blocks are a, b, c, or in long levels a, b1, b2, ...
            block = int(number) + 1 if number else "abc".index(letter) + 1
            inner = "conv" if kind == "res" else "bn"
            tensors[f"layer{level}.block{block}.{_CAFFE_BRANCHES[branch]}.{inner}.{parameter}"] = value
        else:
            rest[key.replace("fc1_voc12_c", "aspp.c")] = value
    return Published("resnet101_msra", tensors, rest)
