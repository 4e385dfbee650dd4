"""ResNet38d against the published feature maps, keys and frozen parameters."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.parity.rule import resnet38_factor, rule_image, rule_weights
from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.normalization import IMAGENET

PARITY = Path(__file__).parents[1] / "parity"
#: Every how many channels the fixture keeps.
STEPS = {"conv4": 32, "conv5": 64, "conv6": 256}


@pytest.fixture(scope="module")
def shapes():
    facts = json.loads((PARITY / "psa_resnet38_cls.json").read_text())
    return {key: tuple(shape) for key, shape in facts["shapes"].items() if not key.startswith("fc8")}


@pytest.fixture(scope="module")
def backbone(shapes):
    network = create_backbone("resnet38d")
    network.load_state_dict(rule_weights(shapes, resnet38_factor))
    return network.eval()


@pytest.fixture(scope="module")
def light():
    """The same network without memory, for questions about its structure."""
    with torch.device("meta"):
        return create_backbone("resnet38d")


def test_keys_shapes_and_their_order_are_the_published_ones(light, shapes):
    own = {key: tuple(value.shape) for key, value in light.state_dict().items()}
    assert list(own.items()) == list(shapes.items())
    values = sum(np.prod(shape) for key, shape in shapes.items() if "num_batches_tracked" not in key)
    assert values == 105_118_656


@pytest.mark.parametrize(("height", "width"), [(128, 168), (99, 117)])
def test_feature_maps_agree_with_the_published_network(backbone, height, width):
    with torch.no_grad():
        maps = backbone(rule_image(height, width))
    with np.load(PARITY / "psa_resnet38_cls.npz", allow_pickle=False) as arrays:
        for name, step in STEPS.items():
            theirs = torch.from_numpy(arrays[f"{height}x{width}_{name}"])
            ours = maps[name][:, ::step]
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max(), name


def test_dropout_acts_in_training_only(backbone):
    image = rule_image(32, 40)
    with torch.no_grad():
        still = backbone(image)["conv6"]
        assert torch.equal(still, backbone(image)["conv6"])
        backbone.train()
        first, second = backbone(image), backbone(image)
        backbone.eval()
    assert torch.equal(first["conv5"], second["conv5"])  # the bottlenecks that drop channels come after
    assert not torch.equal(first["conv6"], second["conv6"])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (99, 117), (17, 9)])
def test_stages_tell_channels_and_stride(light, height, width):
    maps = light(torch.empty(2, 3, height, width, device="meta"))
    assert [stage.name for stage in light.stages] == ["conv3", "conv4", "conv5", "conv6"]
    for stage in light.stages:
        grid = (-(-height // stage.stride), -(-width // stage.stride))
        assert maps[stage.name].shape == (2, stage.channels, *grid)
    assert light.out_channels == 4096
    assert light.out_stride == 8
    assert light.normalization == IMAGENET


@pytest.mark.parametrize("trained", [False, True])
def test_heads_freeze_the_first_level_and_all_norms(light, trained):
    network = copy.deepcopy(light)
    if trained:
        network.train()
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    convolutions = [name for name in frozen if "conv" in name]
    assert len(frozen) == 82
    assert convolutions == [
        "conv1a.weight",
        "b2.conv_branch2a.weight",
        "b2.conv_branch2b1.weight",
        "b2.conv_branch1.weight",
        "b2_1.conv_branch2a.weight",
        "b2_1.conv_branch2b1.weight",
        "b2_2.conv_branch2a.weight",
        "b2_2.conv_branch2b1.weight",
    ]
    learnt = [name for name, _ in network.pretrained_parameters()]
    assert len(learnt) == 35
    assert all("conv" in name for name in learnt)
    assert not any(layer.training for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))


def test_the_bare_backbone_freezes_one_convolution():
    with torch.device("meta"):
        network = create_backbone("resnet38d", frozen="stem").train()
    frozen = [name for name, item in network.named_parameters() if not item.requires_grad and "conv" in name]
    assert frozen == ["conv1a.weight"]


def test_norms_do_not_move_when_a_parent_is_trained(backbone):
    parent = nn.Sequential(backbone).train()
    before = backbone.bn7.running_mean.clone()
    with torch.no_grad():
        parent(rule_image(16, 16))
    assert torch.equal(backbone.bn7.running_mean, before)
    assert backbone.b6.dropout.training
    parent.eval()


def test_an_unknown_setting_is_told():
    with pytest.raises(WsssZooError, match="'stem' or 'stage2', got 'all'"):
        create_backbone("resnet38d", frozen="all")
