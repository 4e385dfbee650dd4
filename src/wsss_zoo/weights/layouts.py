"""Key layouts of published files, converted to the keys of this package's backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from wsss_zoo.backbones.resnet_msra import key_from_torchvision
from wsss_zoo.errors import WeightsError

_MXNET = re.compile(r"^(?:arg|aux):(?:(res|bn)(\d)(a|b\d+)_branch(\w+?)|(conv1a|bn7))_(\w+)$")
_MXNET_KINDS = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
_VGG_NAMES = ("conv1_", "conv2_", "conv3_", "conv4_", "conv5_", "fc6.", "fc7.")
#: Position of the convolutions in torchvision's `vgg16().features`.
VGG_FEATURES = dict(
    zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (f"conv{g}_{i}" for g, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)),
        strict=True,
    )
)


class Published(NamedTuple):
    """A published state dict, sorted: which backbone, its tensors, and everything else (the heads)."""

    backbone: str
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]


def recognise(state_dict: Mapping[str, Tensor]) -> Published | None:
    """Tell whose layout a state dict has.

    Known: ResNet38d (MXNet names, PSA/SEAM/SC-CAM keys, `backbone.` of SEAM's retraining, `encoder.` of
    SSDD), VGG16 (Caffe names, torchvision's or ports' `features.N`), DeepLab v2 ResNet-101 (deeplab-pytorch,
    with or without `base.`), IRN's ResNet-50 and torchvision's ResNets.

    Returns:
        The sorted tensors with the keys of `wsss_zoo.backbones`, or None where the layout is unknown.
    """
    keys = set(state_dict)
    if "arg:conv1a_weight" in keys:
        return Published("resnet38d", _from_mxnet(state_dict), {})
    for prefix in ("", "backbone.", "encoder."):
        if f"{prefix}b7.conv_branch2b2.weight" in keys:
            names = ("conv1a.", "bn7.", "b2", "b3", "b4", "b5", "b6", "b7")
            return _split(state_dict, "resnet38d", prefix, names)
    if "resnet50.conv1.weight" in keys:
        published = _split(state_dict, "resnet50_irn", "resnet50.", ("",))
        copies = ("stage", "backbone.", "newly_added.", "edge_layers.", "dp_layers.")
        rest = {key: value for key, value in published.rest.items() if not key.startswith(copies)}
        tensors = {key: value for key, value in published.tensors.items() if not key.startswith("fc.")}
        return Published("resnet50_irn", tensors, rest)
    for prefix in ("base.", ""):
        if f"{prefix}layer1.conv1.conv.weight" in keys:
            names = ("layer1.", "layer2.", "layer3.", "layer4.", "layer5.")
            published = _split(state_dict, "resnet101_msra", prefix, names)
            rest = {key.removeprefix(prefix): value for key, value in published.rest.items()}
            return published._replace(rest=rest)
    if "conv5_3.weight" in keys:
        return _split(state_dict, _vgg_kind(state_dict), "", _VGG_NAMES)
    if "features.28.weight" in keys:
        renamed = {}
        for key, value in state_dict.items():
            parts = key.split(".")
            if parts[0] == "features" and int(parts[1]) in VGG_FEATURES:
                key = f"{VGG_FEATURES[int(parts[1])]}.{parts[2]}"
            renamed[key] = value
        return _split(renamed, _vgg_kind(renamed), "", _VGG_NAMES)
    if "layer4.2.conv3.weight" in keys:
        depth = 101 if "layer3.22.conv1.weight" in keys else 50
        return _split(state_dict, f"resnet{depth}", "", ("conv1.", "bn1.", "layer"))
    return None


def to_msra(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's ResNet-101 with the keys of `MSRAResNet101`."""
    renamed = {key_from_torchvision(key): value for key, value in state_dict.items()}
    return {key: value for key, value in renamed.items() if key is not None}


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
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}")
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


def _vgg_kind(state_dict: Mapping[str, Tensor]) -> str:
    """PSA's classifier and DeepLab-LargeFOV share their keys; 20 outputs without a bias are PSA's."""
    return "vgg16" if "fc8.weight" in state_dict and "fc8.bias" not in state_dict else "vgg16_largefov"


def _from_mxnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for key, value in state_dict.items():
        match = _MXNET.match(key)
        if match is None:
            if not key.startswith("arg:linear1000"):
                raise WeightsError(f"unexpected array {key!r} among the MXNet ResNet38 weights")
            continue
        kind, level, block, branch, single, parameter = match.groups()
        if single:
            tensors[f"{single}.{_MXNET_KINDS[parameter]}"] = value
            continue
        name = f"b{level}" if block == "a" else f"b{level}_{block[1:]}"
        layer = "conv" if kind == "res" else "bn"
        tensors[f"{name}.{layer}_branch{branch}.{_MXNET_KINDS[parameter]}"] = value
    return tensors
