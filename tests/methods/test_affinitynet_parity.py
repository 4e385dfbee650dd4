"""AffinityNet against numbers of the published networks, and the layouts of their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import resnet38_factor, rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.errors import DataError, WeightsError
from wsss_zoo.methods.optimization import parameter_groups

PARITY = Path(__file__).parents[1] / "parity"
CHANNEL_STEPS = {
    "resnet38d": {"conv4": 32, "conv5": 64, "conv6": 256},
    "vgg16": {"conv4": 32, "conv5": 32, "conv5fc": 64},
}


def resnet38_aff_factor(key):
    return 0.2 if key == "f9.weight" else resnet38_factor(key)


def read(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def published_weights(name):
    facts = json.loads((PARITY / f"{name}.json").read_text())
    factor = resnet38_aff_factor if "resnet38" in name else lambda key: 1.0
    state_dict = rule_weights(facts["shapes"], factor)
    for key, check in facts["weight_check"].items():
        assert state_dict[key].double().sum().item() == pytest.approx(check["sum"], rel=1e-6)
    return state_dict


NETWORKS = [("psa_resnet38_aff", "resnet38d"), ("psa_vgg16_aff", "vgg16")]


@pytest.fixture(scope="module", params=NETWORKS)
def published(request):
    name, backbone = request.param
    return create_model("affinitynet", weights=published_weights(name)), backbone, read(name)


def close(ours, theirs):
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 2e-5 * theirs.abs().max())


def test_backbone_and_form_of_the_head_follow_from_the_weights(published):
    model, backbone, _ = published
    assert model.hparams["backbone"] == backbone
    assert model.hparams["norm"] == ("group" if backbone == "vgg16" else "none")
    assert not model.training
    assert model.stride == 8


@pytest.mark.parametrize(("height", "width"), [(128, 168), (99, 117)])
def test_maps_embedding_and_affinities(published, height, width):
    model, backbone, arrays = published
    image, size = rule_image(height, width), f"{height}x{width}"
    with torch.no_grad():
        maps = model.network.backbone(image)
        for name, step in CHANNEL_STEPS[backbone].items():
            assert close(maps[name][:, ::step], arrays[f"{size}_{name}"]), name
        assert close(model.network.embed(image)[:, ::16], arrays[f"{size}_f9_elu_sub"])
        assert close(model.network(image), arrays[f"{size}_aff"])


def test_dense_matrix(published):
    model, _, arrays = published
    with torch.no_grad():
        matrix = model.network.forward_dense(rule_image(99, 117))
    assert close(matrix, arrays["99x117_dense"])
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), torch.ones(len(matrix)))


@pytest.mark.parametrize("published", NETWORKS[:1], indirect=True)
def test_seam_shrinks_the_radius_for_small_images(published):
    model, _, _ = published
    arrays, image = read("seam_resnet38_aff_smallimage"), rule_image(64, 80)
    with torch.no_grad():
        with pytest.raises(DataError, match="shrink_radius=True"):
            model.network.forward_dense(rule_image(64, 64))
        model.network.shrink_radius = True
        try:
            assert model.network.pairs(8, 10).radius == 3
            assert close(model.network(image), arrays["64x80_aff"])
            assert close(model.network.embed(image)[:, ::16], arrays["64x80_f9_elu_sub"])
            assert close(model.network.forward_dense(image), arrays["64x80_dense"])
        finally:
            model.network.shrink_radius = False


def test_what_is_frozen_and_the_groups(published):
    model, backbone, _ = published
    network = model.network.train()
    weights, biases, new_weights, new_biases = parameter_groups(network, network.new_modules())
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    network.eval()
    assert not new_biases
    assert [weight.shape[0] for weight in new_weights] == [64, 128, 256, 448]
    if backbone == "resnet38d":
        assert len(frozen) == 82
        assert (len(weights), len(biases)) == (35, 0)
    else:
        assert len(frozen) == 8
        # eleven convolutions of the backbone and the three group norms
        assert (len(weights), len(biases)) == (14, 14)
        norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.GroupNorm)]
        assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(8, 64), (16, 128), (32, 256)]
        assert all(any(norm.weight is weight for weight in weights) for norm in norms)
        assert network.backbone.fc6.dilation == (4, 4)


def marked(shapes):
    """Tensors whose values tell which key they came from; on no more memory than one number each."""
    return {
        key: torch.tensor(float(index)).expand(tuple(shape))
        for index, (key, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("name", ["psa_resnet38_aff", "psa_vgg16_aff"])
def test_every_published_tensor_has_its_place(name):
    shapes = json.loads((PARITY / f"{name}.json").read_text())["shapes"]
    # a classifier among the keys, as SEAM's reading without insistence allows, and no batch counters
    shapes = {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    state_dict = marked({**shapes, "fc8.weight": [20, 4096 if "resnet38" in name else 1024, 1, 1]})
    own = create_model("affinitynet", weights=state_dict).network.state_dict()
    places = {
        "f8_3": "levels.0.conv",
        "f8_4": "levels.1.conv",
        "f8_5": "levels.2.conv",
        "gn8_3": "levels.0.norm",
        "gn8_4": "levels.1.norm",
        "gn8_5": "levels.2.norm",
        "f9": "embedding",
    }
    for index, key in enumerate(shapes):
        layer, _, parameter = key.rpartition(".")
        here = f"head.{places[layer]}.{parameter}" if layer in places else f"backbone.{key}"
        assert (own[here] == index).all(), key


def test_files_of_other_networks_are_refused():
    shapes = json.loads((PARITY / "psa_resnet38_aff.json").read_text())["shapes"]
    without = {key: shape for key, shape in shapes.items() if key != "f8_5.weight"}
    with pytest.raises(WeightsError, match=r"missing: head\.levels\.2\.conv\.weight"):
        create_model("affinitynet", weights=marked(without))
    # SEAM's localizer has layers of the same names
    seam = {**without, "f9.weight": [192, 195, 1, 1], "fc8.weight": [21, 4096, 1, 1]}
    with pytest.raises(WeightsError, match=r"head\.embedding\.weight: expected \(448, 448, 1, 1\)"):
        create_model("affinitynet", weights=marked(seam))
    with pytest.raises(WeightsError, match="belongs to no part"):
        create_model("affinitynet", weights=marked({**shapes, "surprise.weight": [1]}))
