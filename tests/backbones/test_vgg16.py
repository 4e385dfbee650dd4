"""The two VGG16 of the field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import rule_image, rule_weights
from wsss_zoo.backbones import create_backbone
from wsss_zoo.normalization import CAFFE_BGR

PARITY = Path(__file__).parents[1] / "parity"
STEPS = {"conv4": 32, "conv5": 32, "conv5fc": 64}


@pytest.fixture(scope="module")
def shapes():
    facts = json.loads((PARITY / "psa_vgg16_cls.json").read_text())
    return {key: tuple(shape) for key, shape in facts["shapes"].items() if not key.startswith("fc8")}


@pytest.fixture(scope="module")
def weights(shapes):
    return rule_weights(shapes)


@pytest.fixture(scope="module")
def psa(weights):
    network = create_backbone("vgg16")
    network.load_state_dict(weights)
    return network.eval()


@pytest.mark.parametrize("name", ["vgg16", "vgg16_largefov"])
def test_keys_and_shapes_are_the_published_ones(name, shapes):
    with torch.device("meta"):
        network = create_backbone(name)
    assert [(key, tuple(value.shape)) for key, value in network.state_dict().items()] == list(shapes.items())
    assert network.normalization == CAFFE_BGR


@pytest.mark.parametrize(("height", "width"), [(128, 168), (99, 117)])
def test_feature_maps_agree_with_the_published_network(psa, height, width):
    with torch.no_grad():
        maps = psa(rule_image(height, width))
    with np.load(PARITY / "psa_vgg16_cls.npz", allow_pickle=False) as arrays:
        for name, step in STEPS.items():
            theirs = torch.from_numpy(arrays[f"{height}x{width}_{name}"])
            assert maps[name][:, ::step].shape == theirs.shape
            assert (maps[name][:, ::step] - theirs).abs().max() <= 1e-5 * theirs.abs().max(), name


def test_psa_freezes_the_first_two_levels_before_and_after_train(psa):
    expected = [f"conv{g}_{i}.{kind}" for g in (1, 2) for i in (1, 2) for kind in ("weight", "bias")]
    for network in (create_backbone("vgg16"), psa.train()):
        frozen = [name for name, item in network.named_parameters() if not item.requires_grad]
        assert frozen == expected
    assert len(list(psa.eval().pretrained_parameters())) == 22


def test_psa_drops_whole_channels_of_fc6_in_training_only(psa):
    dropped = []
    handle = psa.fc7.register_forward_pre_hook(lambda module, inputs: dropped.append(inputs[0]))
    with torch.no_grad():
        psa(rule_image(48, 48))
        psa.train()(rule_image(48, 48))
        psa.eval()
    handle.remove()
    evaluated, trained = (x.flatten(2) for x in dropped)
    silent = (trained == 0).all(2) & (evaluated != 0).any(2)
    assert 0.3 < silent.float().mean() < 0.7
    kept = ~(trained == 0).all(2)
    assert torch.allclose(trained[kept], 2 * evaluated[kept])  # no single activation is dropped


def test_affinitynet_widens_fc6():
    with torch.device("meta"):
        network = create_backbone("vgg16", fc6_dilation=4)
    assert (network.fc6.dilation, network.fc6.padding) == ((4, 4), (4, 4))


def test_largefov_is_deeplabs_network(weights):
    """Against the layer table of DeepLab-LargeFOV, written out with plain functions."""
    import torch.nn.functional as F

    network = create_backbone("vgg16_largefov")
    network.load_state_dict(weights)
    image = rule_image(65, 81)
    with torch.no_grad():
        ours = network.eval()(image)
        x = image
        for group, (count, stride) in enumerate(((2, 2), (2, 2), (3, 2), (3, 1), (3, None)), 1):
            dilation = 2 if group == 5 else 1
            for index in range(1, count + 1):
                key = f"conv{group}_{index}"
                x = F.conv2d(
                    x, weights[f"{key}.weight"], weights[f"{key}.bias"], 1, dilation, dilation
                ).relu()
            if stride is not None:
                x = F.max_pool2d(x, 3, stride, 1)
        conv5 = x
        x = F.avg_pool2d(F.max_pool2d(x, 3, 1, 1), 3, 1, 1)
        x = F.conv2d(x, weights["fc6.weight"], weights["fc6.bias"], 1, 12, 12).relu()
        x = F.conv2d(x, weights["fc7.weight"], weights["fc7.bias"]).relu()
    torch.testing.assert_close(ours["conv5"], conv5)
    torch.testing.assert_close(ours["fc7"], x)
    assert all(item.requires_grad for item in network.parameters())


@pytest.mark.parametrize(("size", "grid"), [(321, 41), (513, 65), (320, 40)])
def test_largefov_grid(size, grid):
    with torch.device("meta"):
        network = create_backbone("vgg16_largefov")
        maps = network(torch.empty(1, 3, size, size))
    assert maps["fc7"].shape == (1, 1024, grid, grid)


def test_largefov_drops_single_activations_in_training_only():
    torch.manual_seed(0)
    network = create_backbone("vgg16_largefov")
    seen = []
    network.fc7.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.train()(rule_image(48, 48))
    channel = seen[0].flatten(2)
    partly = (channel == 0).any(2) & (channel != 0).any(2)
    assert partly.float().mean() > 0.5
