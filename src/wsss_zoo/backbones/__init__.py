"""Feature extractors. Importing this package does not import torch."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wsss_zoo.errors import WsssZooError, suggest

if TYPE_CHECKING:
    from wsss_zoo.backbones.backbone import Backbone, Stage

__all__ = ["BACKBONES", "Backbone", "Stage", "create_backbone"]

#: Name -> (module, class, fixed arguments). Besides these, `timm/<model>` names any timm model.
BACKBONES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "resnet38d": ("resnet38d", "ResNet38d", {}),
    "vgg16": ("vgg16", "VGG16d", {}),
    "vgg16_conv5": ("vgg16", "VGG16Conv5", {}),
    "vgg16_largefov": ("vgg16", "VGG16LargeFOV", {}),
    "vgg16_aspp": ("vgg16", "VGG16ASPP", {}),
    "vgg16_fcn": ("vgg16_fcn", "VGG16FCN", {}),
    "resnet50": ("resnet", "ResNet", {"depth": 50}),
    "resnet101": ("resnet", "ResNet", {"depth": 101}),
    "resnet50_irn": ("resnet", "IRNResNet50", {}),
    "resnet101_msra": ("resnet_msra", "MSRAResNet101", {}),
}


def create_backbone(name: str, weights: str | None = None, **arguments: Any) -> Backbone:
    """Build a feature extractor.

    Example:
        >>> backbone = create_backbone("resnet101", output_stride=8)
        >>> backbone.stages[-1]
        Stage(name='layer4', channels=2048, stride=8)

    Args:
        name: a key of `BACKBONES`, or `timm/<model>`.
        weights: None (random), `"imagenet"`, or a file (.pth, .safetensors, .params, .caffemodel, .mat).
        **arguments: arguments of the backbone's class.

    Raises:
        WsssZooError: unknown name or argument.
        WeightsError: the weights cannot be found or do not fit.
    """
    if name.startswith("timm/"):
        module, class_name, fixed = "timm_backbone", "TimmBackbone", {"model": name.removeprefix("timm/")}
    elif name in BACKBONES:
        module, class_name, fixed = BACKBONES[name]
    else:
        raise WsssZooError(f"there is no backbone {name!r}; {suggest(name, BACKBONES)} or timm/<model>")
    cls = getattr(import_module(f"wsss_zoo.backbones.{module}"), class_name)
    known = [parameter for parameter in inspect.signature(cls).parameters if parameter not in fixed]
    for argument in arguments:
        if argument not in known:
            hint = suggest(argument, known) or "it takes none"
            raise WsssZooError(f"backbone {name} has no argument {argument!r}; {hint}")
    backbone: Backbone = cls(**fixed, **arguments)
    if weights is not None:
        from wsss_zoo.weights.initial import load_initial_weights

        load_initial_weights(backbone, name, weights)
    return backbone


def __getattr__(name: str) -> Any:
    if name in ("Backbone", "Stage"):
        return getattr(import_module("wsss_zoo.backbones.backbone"), name)
    raise AttributeError(f"module 'wsss_zoo.backbones' has no attribute {name!r}")
