"""Torchvision's ResNets, IRN's ResNet-50 and DeepLab v2's ResNet-101."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET


def meta(name, **arguments):
    with torch.device("meta"):
        return create_backbone(name, **arguments)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_torchvision_layout_and_strides(name, output_stride):
    network = meta(name, output_stride=output_stride)
    with torch.device("meta"):
        reference = getattr(torchvision.models, name)()
        maps = network(torch.empty(1, 3, 99, 130))
    assert list(network.state_dict()) == [key for key in reference.state_dict() if not key.startswith("fc.")]
    assert [stage.channels for stage in network.stages] == [256, 512, 1024, 2048]
    assert network.out_stride == output_stride
    for stage in network.stages:
        expected = (1, stage.channels, -(-99 // stage.stride), -(-130 // stage.stride))
        assert maps[stage.name].shape == expected
    assert network.normalization == IMAGENET


def test_resnet50_computes_what_torchvision_does():
    torch.manual_seed(0)
    reference = torchvision.models.resnet50().eval()
    network = create_backbone("resnet50", output_stride=32).eval()
    network.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        pooled = network(image)["layer4"].mean((2, 3))
        torch.testing.assert_close(reference.fc(pooled), reference(image))


def test_unknown_output_stride_is_told():
    with pytest.raises(WsssZooError, match="8, 16 or 32, got 4"):
        create_backbone("resnet50", output_stride=4)


@pytest.mark.parametrize("name", ["resnet50", "resnet101_msra"])
def test_frozen_norm_neither_moves_nor_learns(name):
    network = meta(name, frozen_norm=True).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not any(
        layer.training or layer.weight.requires_grad or layer.bias.requires_grad for layer in norms
    )
    free = meta(name, frozen_norm=False).train()
    norms = [layer for layer in free.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(layer.training and layer.weight.requires_grad for layer in norms)


@pytest.mark.parametrize("trained", [False, True])
def test_irn_norms_use_running_statistics_but_learn(trained):
    network = meta("resnet50_irn")
    if trained:
        network.train()
    norms = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert not any(layer.training for layer in norms.values())
    assert [name for name, layer in norms.items() if not layer.weight.requires_grad] == ["bn1"]
    frozen = [name for name, item in network.named_parameters() if not item.requires_grad]
    assert frozen == ["conv1.weight", "bn1.weight", "bn1.bias"]


def test_irn_keeps_the_last_level_at_stride_16_without_dilation():
    network = meta("resnet50_irn")
    with torch.device("meta"):
        maps = network(torch.empty(2, 3, 99, 130))
    assert maps["layer4"].shape == (2, 2048, 7, 9)
    assert network.out_stride == 16
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.dilation == (1, 1) for layer in convolutions)
    assert len(network.state_dict()) == 318  # the published file's entries below `resnet50.`


@pytest.mark.parametrize("detached", [True, False])
def test_irn_classifier_learns_from_layer3_on(detached):
    network = create_backbone("resnet50_irn", detach_layer2=detached).train()
    network(torch.randn(1, 3, 32, 32))["layer4"].sum().backward()
    with_gradient = {name.split(".")[0] for name, item in network.named_parameters() if item.grad is not None}
    assert with_gradient == ({"layer3", "layer4"} if detached else {"layer1", "layer2", "layer3", "layer4"})


@pytest.mark.parametrize(("size", "grid"), [(321, 41), (513, 65), (320, 41)])
def test_msra_grid(size, grid):
    """320: the pool rounds up, as in Caffe (rounding down gives 40)."""
    network = meta("resnet101_msra")
    with torch.device("meta"):
        maps = network(torch.empty(1, 3, size, size))
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "layer2": (256, 2 * grid - 1, 2 * grid - 1),
        "layer3": (512, grid, grid),
        "layer4": (1024, grid, grid),
        "layer5": (2048, grid, grid),
    }
    assert network.normalization == CAFFE_BGR


def test_msra_keys_strides_and_dilations():
    network = meta("resnet101_msra")
    state_dict = network.state_dict()
    # 632 entries of the release, less the four ASPP branches with weight and bias
    assert len(state_dict) == 632 - 8
    assert state_dict["layer1.conv1.conv.weight"].shape == (64, 3, 7, 7)
    assert state_dict["layer4.block23.conv3x3.conv.weight"].shape == (256, 256, 3, 3)
    assert state_dict["layer5.block1.shortcut.conv.weight"].shape == (2048, 1024, 1, 1)
    assert "layer5.block2.shortcut.conv.weight" not in state_dict
    first = network.layer3.block1
    assert (first.reduce.conv.stride, first.conv3x3.conv.stride) == ((2, 2), (1, 1))
    assert first.shortcut.conv.stride == (2, 2)
    dilations = [network.get_submodule(f"layer{k}.block2.conv3x3.conv").dilation[0] for k in (2, 3, 4, 5)]
    assert dilations == [1, 1, 2, 4]
