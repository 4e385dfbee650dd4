"""Torchvision's ImageNet weights for the networks of DeepLab, which expect Caffe's input.

Caffe's VGG16 and MSRA ResNet-101 take BGR in 0..255 with the mean subtracted, torchvision's networks RGB
divided by a standard deviation. The first convolution is rewritten so that it computes the same from either.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsss_zoo.backbones.resnet_msra import key_from_torchvision
from wsss_zoo.errors import WeightsError
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET, Normalization

#: Position in torchvision's `vgg16().features` -> name of the convolution.
VGG_FEATURES = dict(
    zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (f"conv{g}_{i}" for g, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)),
        strict=True,
    )
)


def for_caffe_input(weight: Tensor, normalization: Normalization = CAFFE_BGR) -> tuple[Tensor, Tensor]:
    """A first convolution for normalised RGB, rewritten for mean-subtracted BGR in 0..255.

    With `x = (y + m_caffe - m) / s` for each colour, `w * x = (w / s) * y + sum(w (m_caffe - m) / s)`. Exact
    but for the zero padding at the border, which stands for a mean colour that differs by at most 1 of 255.

    Args:
        weight: `(O, 3, k, k)`, RGB, for torchvision's normalisation.
        normalization: the input's: a mean in 0..255 that is subtracted, nothing divided.

    Returns:
        The weight `(O, 3, k, k)` for this input, and the `(O,)` that is to be added to its output.
    """
    rgb = weight / torch.tensor(IMAGENET.std).view(1, 3, 1, 1)
    mean = torch.tensor(normalization.mean)
    shift = (mean.flip(0) if normalization.bgr else mean) - torch.tensor(IMAGENET.mean)
    return rgb.flip(1) if normalization.bgr else rgb, rgb.sum((2, 3)) @ shift


def vgg16_from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's VGG16 with the keys and the input of the dense VGG16.

    Raises:
        WeightsError: a key of torchvision's VGG16 is missing.
    """
    tensors, connected = _vgg16_parts(state_dict, CAFFE_BGR)
    return tensors | subsampled(*connected)


def vgg16_fcn_from_torchvision(
    state_dict: Mapping[str, Tensor], normalization: Normalization
) -> dict[str, Tensor]:
    """Torchvision's VGG16 with the keys and the input of the fully convolutional VGG16.

    Raises:
        WeightsError: a key of torchvision's VGG16 is missing.
    """
    tensors, connected = _vgg16_parts(state_dict, normalization)
    keys = ("fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias")
    return tensors | dict(zip(keys, connected, strict=True))


def _vgg16_parts(
    state_dict: Mapping[str, Tensor], normalization: Normalization
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The convolutions for another input; weight and bias of the two fully connected layers."""
    tensors = {}
    try:
        for index, name in VGG_FEATURES.items():
            for kind in ("weight", "bias"):
                tensors[f"{name}.{kind}"] = state_dict[f"features.{index}.{kind}"]
        connected = [
            state_dict[f"classifier.{index}.{kind}"] for index in (0, 3) for kind in ("weight", "bias")
        ]
    except KeyError as error:
        raise WeightsError(f"torchvision's VGG16 has a key {error}, the file has not") from error
    tensors["conv1_1.weight"], shift = for_caffe_input(tensors["conv1_1.weight"], normalization)
    tensors["conv1_1.bias"] = tensors["conv1_1.bias"] + shift
    return tensors, connected


def subsampled(fc6: Tensor, fc6_bias: Tensor, fc7: Tensor, fc7_bias: Tensor) -> dict[str, Tensor]:
    """VGG16's fully connected layers as the convolutions fc6 (3x3) and fc7 (1x1) with 1024 channels.

    fc6 keeps every third position of its 7x7 kernel and every fourth of its 4096 outputs, fc7 the inputs that
    remain and every fourth output: the subsampling by which DeepLab made its 20 M parameters (Chen et al.,
    2015, section 3.1), with the positions that ParseNet and SSD take.

    Args:
        fc6: `(4096, 512 * 7 * 7)`.
        fc6_bias: `(4096,)`.
        fc7: `(4096, 4096)`.
        fc7_bias: `(4096,)`.
    """
    return {
        "fc6.weight": fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3].contiguous(),
        "fc6.bias": fc6_bias[::4].contiguous(),
        "fc7.weight": fc7.reshape(4096, 4096)[::4, ::4, None, None].contiguous(),
        "fc7.bias": fc7_bias[::4].contiguous(),
    }


def msra_from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's ResNet-101 with the keys and the input of `MSRAResNet101`.

    The input's mean moves into the running mean of the first batch norm. Caveat: torchvision trained with the
    stride on the 3x3 convolution, this network has it on the 1x1 before, so that from the first block of
    layer3 on the weights see other positions. It is a good start for training, not the same function.
    """
    renamed = {key_from_torchvision(key): value for key, value in state_dict.items()}
    tensors = {key: value for key, value in renamed.items() if key is not None}
    stem, mean = "layer1.conv1.conv.weight", "layer1.conv1.bn.running_mean"
    tensors[stem], shift = for_caffe_input(tensors[stem])
    tensors[mean] = tensors[mean] - shift
    return tensors
