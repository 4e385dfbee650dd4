"""The CAM network against numbers of the published PSA classifiers, and its parameter groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import resnet38_factor, rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.methods.optimization import parameter_groups

PARITY = Path(__file__).parents[1] / "parity"
CHANNEL_STEPS = {
    "resnet38d": {"conv4": 32, "conv5": 64, "conv6": 256},
    "vgg16": {"conv4": 32, "conv5": 32, "conv5fc": 64},
}


@pytest.fixture(scope="module", params=[("psa_resnet38_cls", "resnet38d"), ("psa_vgg16_cls", "vgg16")])
def published(request):
    name, backbone = request.param
    facts = json.loads((PARITY / f"{name}.json").read_text())
    state_dict = rule_weights(
        facts["shapes"], resnet38_factor if backbone == "resnet38d" else lambda key: 1.0
    )
    for key, check in facts["weight_check"].items():
        assert state_dict[key].double().sum().item() == pytest.approx(check["sum"], rel=1e-6)
    model = create_model("cam", weights=state_dict)
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as arrays:
        yield model, backbone, dict(arrays), list(facts["shapes"])


def test_backbone_and_classes_follow_from_the_weights(published):
    model, backbone, _, keys = published
    assert model.hparams["backbone"] == backbone
    assert model.hparams["num_classes"] == 20
    own = [key.removeprefix("backbone.").replace("classifier", "fc8") for key in model.network.state_dict()]
    assert own == keys


@pytest.mark.parametrize(("height", "width"), [(128, 168), (99, 117)])
def test_maps_logits_and_cam(published, height, width):
    model, backbone, arrays, _ = published
    image = rule_image(height, width)
    with torch.no_grad():
        maps = model.network.backbone(image)
        ours = {name: maps[name][:, ::step] for name, step in CHANNEL_STEPS[backbone].items()}
        ours |= {"logits": model.network(image), "cam": model.network.forward_cam(image)}
    for name, tensor in ours.items():
        theirs = torch.from_numpy(arrays[f"{height}x{width}_{name}"])
        assert tensor.shape == theirs.shape, name
        assert (tensor - theirs).abs().max() <= 2e-5 * theirs.abs().max(), name


def test_what_is_frozen_and_the_groups(published):
    model, backbone, _, _ = published
    network = model.network.train()
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    weights, biases, new_weights, new_biases = parameter_groups(network, network.new_modules())
    assert len(new_weights) == 1
    assert not new_biases
    if backbone == "resnet38d":
        assert len(frozen) == 82
        assert (len(weights), len(biases)) == (35, 0)
        norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        assert not any(layer.training for layer in norms)
    else:
        assert len(frozen) == 8
        assert (len(weights), len(biases)) == (11, 11)
