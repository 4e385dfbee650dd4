"""The published DeepLab networks: what each one is trained with, every number with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.methods.deeplab.heads import (
    ASPPHead,
    BranchesHead,
    LargeFOVHead,
    PSAHead,
    SEAMHead,
    SummedASPPHead,
)
from wsss_zoo.methods.deeplab.network import DeepLabNetwork


class Variant(NamedTuple):
    """What a variant fixes where the user gives nothing.

    Attributes:
        backbone: name for `create_backbone`.
        backbone_args: arguments of that backbone.
        lr: base learning rate, of pretrained weights.
        weight_decay: of weights.
        momentum: of SGD.
        schedule: of the learning rate.
        poly_refresh: steps between changes of the poly schedule.
        extra_steps: added to the length of the training in the poly schedule.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        loss_at: cross entropy at the size of the logits or of the mask.
        upsample: factor by which the logits are enlarged before that.
        align_corners: of every enlargement of the logits.
    """

    backbone: str
    backbone_args: Mapping[str, Any]
    lr: float
    weight_decay: float
    momentum: float
    schedule: Literal["poly", "cosine"]
    poly_refresh: int
    extra_steps: int
    caffe_biases: bool
    loss_at: Literal["logits", "mask"]
    upsample: int
    align_corners: bool


VARIANTS: dict[str, Variant] = {
    # Network of Chen et al. (2015); training of DSRG's last step (Huang et al., 2018).
    "largefov": Variant(
        backbone="vgg16_largefov",
        backbone_args={},
        lr=1e-3,
        weight_decay=5e-4,
        momentum=0.9,
        schedule="poly",
        poly_refresh=1,
        extra_steps=0,
        caffe_biases=True,
        loss_at="logits",
        upsample=1,
        align_corners=False,
    ),
    # kazuto1011/deeplab-pytorch, which reproduces the authors' Caffe training (Chen et al., 2018).
    "v2": Variant(
        backbone="resnet101_msra",
        backbone_args={},
        lr=2.5e-4,
        weight_decay=5e-4,
        momentum=0.9,
        schedule="poly",
        poly_refresh=10,
        extra_steps=0,
        caffe_biases=True,
        loss_at="logits",
        upsample=1,
        align_corners=False,
    ),
    # Retraining code of SEAM (YudeWang/semantic-segmentation-codebase): (1 - t / (T + 1))^0.9.
    "resnet38_seam": Variant(
        backbone="resnet38d",
        backbone_args={"frozen": "stem"},
        lr=1e-3,
        weight_decay=5e-4,
        momentum=0.9,
        schedule="poly",
        poly_refresh=1,
        extra_steps=1,
        caffe_biases=True,
        loss_at="mask",
        upsample=1,
        align_corners=True,
    ),
    # Segmentation network of PSA as SSDD's code has it. That code makes a new optimiser at every step, so its
    # momentum (0.9 on paper) never takes effect.
    "resnet38_psa": Variant(
        backbone="resnet38d",
        backbone_args={"frozen": "stem"},
        lr=1e-3,
        weight_decay=2e-4,
        momentum=0.0,
        schedule="cosine",
        poly_refresh=1,
        extra_steps=0,
        caffe_biases=False,
        loss_at="logits",
        upsample=2,
        align_corners=False,
    ),
    # YudeWang/semantic-segmentation-codebase, v3+ on full masks, batches of 16 (scale lr linearly).
    "v3plus": Variant(
        backbone="resnet101",
        backbone_args={},
        lr=7e-3,
        weight_decay=4e-5,
        momentum=0.9,
        schedule="poly",
        poly_refresh=1,
        extra_steps=0,
        caffe_biases=False,
        loss_at="mask",
        upsample=1,
        align_corners=False,
    ),
}
# Network of DSRG, trained in its last step as LargeFOV above.
VARIANTS["vgg16_aspp"] = VARIANTS["largefov"]._replace(backbone="vgg16_aspp")
# v3 without the decoder is trained in the same way.
VARIANTS["aspp"] = VARIANTS["v3plus"]


def build_network(
    variant: str,
    backbone: Backbone,
    outputs: int,
    aspp_channels: int = 256,
    aspp_rates: Sequence[int] | None = None,
) -> DeepLabNetwork:
    """Put a variant's head on a backbone.

    Args:
        variant: a key of `VARIANTS`.
        backbone: the feature extractor.
        outputs: number of labels, background included.
        aspp_channels: `aspp` and `v3plus`: channels of the branches.
        aspp_rates: `v2`, `aspp` and `v3plus`: dilations of the branches; None is the variant's own.

    Raises:
        WsssZooError: `v3plus` on a backbone without a stride-4 map.
    """
    if variant == "largefov":
        return DeepLabNetwork(backbone, LargeFOVHead(backbone, outputs))
    if variant == "vgg16_aspp":
        return DeepLabNetwork(backbone, BranchesHead(backbone, outputs))
    if variant == "v2":
        head = SummedASPPHead(backbone, outputs, aspp_rates or (6, 12, 18, 24))
        return DeepLabNetwork(backbone, head, scales=(0.5, 0.75))
    if variant == "resnet38_seam":
        return DeepLabNetwork(backbone, SEAMHead(backbone, outputs))
    if variant == "resnet38_psa":
        return DeepLabNetwork(backbone, PSAHead(backbone, outputs))
    decoder = variant == "v3plus"
    return DeepLabNetwork(backbone, ASPPHead(backbone, outputs, aspp_channels, aspp_rates, decoder))
