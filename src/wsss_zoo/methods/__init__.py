"""The methods, and `create_model`. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.errors import WsssZooError, suggest

if TYPE_CHECKING:
    from lightning import LightningModule
    from torch import Tensor

    from wsss_zoo.methods.affinitynet.module import AffinityNet
    from wsss_zoo.methods.cam.module import CAM
    from wsss_zoo.methods.dcsm.module import DCSM
    from wsss_zoo.methods.deeplab.module import DeepLab
    from wsss_zoo.methods.dsrg.module import DSRG
    from wsss_zoo.methods.ficklenet.module import FickleNet
    from wsss_zoo.methods.ldf.module import LDF
    from wsss_zoo.methods.sccam.module import SCCAM
    from wsss_zoo.methods.seam.module import SEAM
    from wsss_zoo.methods.ssdd.module import SSDD
    from wsss_zoo.methods.ssdd.static.module import SSDDStatic

__all__ = [
    "CAM",
    "DCSM",
    "DSRG",
    "LDF",
    "MODELS",
    "SCCAM",
    "SEAM",
    "SSDD",
    "AffinityNet",
    "DeepLab",
    "FickleNet",
    "SSDDStatic",
    "create_model",
    "list_models",
]

#: Model name -> class.
MODELS: dict[str, str] = {
    "affinitynet": "wsss_zoo.methods.affinitynet.module.AffinityNet",
    "cam": "wsss_zoo.methods.cam.module.CAM",
    "dcsm": "wsss_zoo.methods.dcsm.module.DCSM",
    "deeplab": "wsss_zoo.methods.deeplab.module.DeepLab",
    "dsrg": "wsss_zoo.methods.dsrg.module.DSRG",
    "ficklenet": "wsss_zoo.methods.ficklenet.module.FickleNet",
    "ldf": "wsss_zoo.methods.ldf.module.LDF",
    "sccam": "wsss_zoo.methods.sccam.module.SCCAM",
    "seam": "wsss_zoo.methods.seam.module.SEAM",
    "ssdd": "wsss_zoo.methods.ssdd.module.SSDD",
    "ssdd_static": "wsss_zoo.methods.ssdd.static.module.SSDDStatic",
}


def list_models() -> list[str]:
    """Names that `create_model` understands."""
    return sorted(MODELS)


def create_model(
    name: str,
    weights: str | Path | Mapping[str, Tensor] | Sequence[str | Path] | None = None,
    **hparams: Any,
) -> LightningModule:
    """Build a method's LightningModule.

    Args:
        name: see `list_models`.
        weights: a file (.safetensors of this package, .ckpt, .pth, .params, .caffemodel, .mat), a state dict,
            or a Hugging Face Hub id (`hf://owner/repository/file`); or a list of files that make one network
            together (SSDD's heads and detectors). Published checkpoints' key layouts are recognised; the
            backbone, the variant and the number of classes follow from the weights where they are not given.
        **hparams: hyper-parameters of the method's class.

    Returns:
        The module; in evaluation mode when weights were given.

    Raises:
        WsssZooError: unknown name or hyper-parameter.
        WeightsError: the weights cannot be read or do not fit.
    """
    if name not in MODELS:
        raise WsssZooError(f"there is no model {name!r}; {suggest(name, MODELS)}")
    if weights is None:
        return build_from_class_path(MODELS[name], hparams)
    from wsss_zoo.methods.published import load_published

    return load_published(name, MODELS[name], weights, hparams)


def build_from_class_path(class_path: str, hparams: Mapping[str, Any]) -> LightningModule:
    """Build a LightningModule from its dotted path.

    Raises:
        WsssZooError: it does not import, is no LightningModule, or does not know a hyper-parameter.
    """
    import inspect

    from lightning import LightningModule

    module_name, _, class_name = class_path.rpartition(".")
    try:
        cls = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise WsssZooError(f"cannot import {class_path}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, LightningModule)):
        raise WsssZooError(f"{class_path} is not a LightningModule")
    known = inspect.signature(cls).parameters
    for key in hparams:
        if key not in known:
            raise WsssZooError(f"{class_name} has no hyper-parameter {key!r}; {suggest(key, known)}")
    return cls(**hparams)


def __getattr__(name: str) -> Any:
    locations = {
        "AffinityNet": "wsss_zoo.methods.affinitynet.module",
        "CAM": "wsss_zoo.methods.cam.module",
        "DCSM": "wsss_zoo.methods.dcsm.module",
        "DSRG": "wsss_zoo.methods.dsrg.module",
        "DeepLab": "wsss_zoo.methods.deeplab.module",
        "FickleNet": "wsss_zoo.methods.ficklenet.module",
        "LDF": "wsss_zoo.methods.ldf.module",
        "SCCAM": "wsss_zoo.methods.sccam.module",
        "SEAM": "wsss_zoo.methods.seam.module",
        "SSDD": "wsss_zoo.methods.ssdd.module",
        "SSDDStatic": "wsss_zoo.methods.ssdd.static.module",
    }
    if name in locations:
        return getattr(import_module(locations[name]), name)
    raise AttributeError(f"module 'wsss_zoo.methods' has no attribute {name!r}")
