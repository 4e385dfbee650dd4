"""SEAM against numbers of the official network, losses and inference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import resnet38_factor, rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.errors import WeightsError
from wsss_zoo.methods import SEAM
from wsss_zoo.methods.multi_scale import multi_scale_localize
from wsss_zoo.methods.optimization import parameter_groups
from wsss_zoo.methods.seam.losses import min_pooling, seam_losses
from wsss_zoo.methods.seam.planes import (
    clean_planes,
    image_scores,
    normalise_planes,
    resize,
    suppress_non_maximum,
)
from wsss_zoo.weights.initial import file_weights

PARITY = Path(__file__).parents[1] / "parity"
FACTS = json.loads((PARITY / "seam_resnet38_seam.json").read_text())
LOSSES = json.loads((PARITY / "seam_losses.json").read_text())
SIZES = [(128, 168), (99, 117)]


def arrays(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as content:
        return {key: torch.from_numpy(content[key]) for key in content}


def single(values):
    return torch.from_numpy(values.astype(np.float32))


def draw(rng, *shape):
    return single(rng.standard_normal(shape))


@pytest.fixture(scope="module")
def state_dict():
    tensors = rule_weights(FACTS["shapes"], resnet38_factor)
    for key, check in FACTS["weight_check"].items():
        assert tensors[key].double().sum().item() == pytest.approx(check["sum"], rel=1e-6)
    return tensors


@pytest.fixture(scope="module")
def model(state_dict):
    return create_model("seam", weights=state_dict)


@pytest.fixture(scope="module")
def theirs():
    return arrays("seam_resnet38_seam")


def test_what_follows_from_the_weights(model, state_dict):
    assert len(state_dict) == 232
    assert (model.hparams["backbone"], model.hparams["num_classes"]) == ("resnet38d", 20)
    assert model.network.pcm_stages == ("conv4", "conv5")
    names = {"head.classifier": "fc8", "head.correlation.shallow": "f8_3"}
    names |= {"head.correlation.deep": "f8_4", "head.correlation.key": "f9", "backbone.": ""}
    own = set()
    for key in model.network.state_dict():
        start = next(name for name in names if key.startswith(name))
        own.add(key.replace(start, names[start]))
    assert own == set(FACTS["shapes"])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_both_outputs(model, theirs, height, width):
    with torch.no_grad():
        cam, refined = model.network(rule_image(height, width))
    assert cam.shape == refined.shape == (1, 21, height, width)
    expected = theirs[f"{height}x{width}_cam_sub8"]
    assert (cam[:, :, ::8, ::8] - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (refined[:, :, ::8, ::8] - theirs[f"{height}x{width}_cam_rv_sub8"]).abs().max() <= 1e-5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_input_and_output_of_the_correlation(model, theirs, height, width):
    image = rule_image(height, width)
    with torch.no_grad():
        activations, refined = model.network.forward_grid(image)
    expected = theirs[f"{height}x{width}_pcm_in_cam_stride8"]
    assert (clean_planes(activations) - expected).abs().max() <= 1e-5
    assert (refined - theirs[f"{height}x{width}_pcm_out_stride8"]).abs().max() <= 1e-5


def test_the_correlation_alone(model, theirs):
    rng = np.random.default_rng(7)
    maps, features, smaller = draw(rng, 2, 21, 9, 11), draw(rng, 2, 195, 9, 11), draw(rng, 2, 21, 5, 7)
    with torch.no_grad():
        assert (model.network.head.correlation(maps, features) - theirs["pcm_alone_out"]).abs().max() <= 1e-5
        resized = model.network.head.correlation(smaller, features)
    assert (resized - theirs["pcm_alone_resize_out"]).abs().max() <= 1e-5
    assert resized.std() > 0.01


def test_logits_are_the_means_of_the_enlarged_activations(model):
    image = rule_image(99, 117)
    with torch.no_grad():
        logits, cam = model(image), model.network(image)[0]
    assert torch.allclose(logits, image_scores(cam), rtol=1e-5)
    assert torch.allclose(logits, cam.mean((2, 3))[:, 1:], rtol=1e-4)


def test_what_is_frozen_and_the_groups(model):
    network = model.network.train()
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    weights, biases, new_weights, new_biases = parameter_groups(network, network.new_modules())
    network.eval()
    assert len(frozen) == 82
    assert (len(weights), len(biases), len(new_biases)) == (35, 0, 0)
    assert [tuple(weight.shape[:2]) for weight in new_weights] == [
        (21, 4096),
        (64, 512),
        (128, 1024),
        (192, 195),
    ]


def test_other_files_of_the_family(state_dict, tmp_path):
    classifier = {key: value for key, value in state_dict.items() if not key.startswith(("f8_", "f9"))}
    with pytest.raises(WeightsError, match=r"missing: head\.correlation"):
        create_model("seam", weights=classifier)
    torch.save(state_dict, tmp_path / "seam.pth")
    backbone = file_weights("resnet38d", tmp_path / "seam.pth")
    assert set(backbone) == {key for key in state_dict if not key.startswith("f")}


@pytest.fixture(params=LOSSES["cases"])
def case(request):
    """Network outputs, labels, and what the official loss gave for them."""
    facts = LOSSES["cases"][request.param]
    rng = np.random.default_rng(facts["seed"])
    count, sizes = facts["N"], (facts["H"], facts["h"])
    draws = {
        "A_normal": rng.standard_normal,
        "B_positive": lambda shape: 0.5 + np.abs(rng.standard_normal(shape)),
        "C_smallrv": lambda shape: 0.2 * rng.random(shape),
    }
    views = [
        tuple(
            torch.from_numpy(
                draws[request.param]((count, 21, size, size)).astype(np.float32)
            ).requires_grad_()
            for _ in ("cam", "cam_rv")
        )
        for size in sizes
    ]
    labels = torch.zeros(count, 20)
    for row, classes in zip(labels, facts["classes"], strict=True):
        row[classes] = 1
    return request.param, views, labels, facts


def test_every_term(case):
    _, views, labels, facts = case
    losses, expected = seam_losses(views, labels), facts["losses"]
    assert losses["cls"].item() == pytest.approx(
        (expected["loss_cls1"] + expected["loss_cls2"]) / 2, rel=1e-6
    )
    smallest = (expected["loss_rvmin1"] + expected["loss_rvmin2"]) / 2
    assert losses["min"].item() == pytest.approx(smallest, rel=1e-5)
    assert losses["er"].item() == pytest.approx(expected["loss_er"], rel=1e-5)
    assert losses["ecr"].item() == pytest.approx(expected["loss_ecr"], rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(expected["loss"], rel=1e-6)


def test_gradients(case):
    name, views, labels, facts = case
    sum(seam_losses(views, labels).values()).backward()
    expected = arrays("seam_losses")
    for number, (view, step) in enumerate(zip(views, (5, 2), strict=True), 1):
        for kind, maps in zip(("cam", "cam_rv"), view, strict=True):
            theirs = expected[f"{name}_grad_{kind}{number}_sub"]
            ours = maps.grad[:, :, ::step, ::step]
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max(), (kind, number)
            total, background = maps.grad.abs().double().sum(), maps.grad[:, 0].abs().double().sum()
            assert total.item() == pytest.approx(facts["grad_abs_sum"][f"{kind}{number}"], rel=1e-4)
            assert background.item() == pytest.approx(
                facts["grad_abs_sum_background_channel"][f"{kind}{number}"], rel=1e-4
            )


def test_normalisation_suppression_and_min_pooling_alone():
    expected = arrays("seam_losses")
    maps = draw(np.random.default_rng(32), 2, 21, 6, 7)
    maps[1] += 3
    assert (normalise_planes(maps) - expected["max_norm_out"]).abs().max() <= 1e-6
    maps = torch.from_numpy(
        np.random.default_rng(33).random((2, 21, 5, 6), dtype=np.float64).astype(np.float32)
    )
    assert torch.equal(suppress_non_maximum(maps), expected["max_onehot_out"])
    maps = torch.cat([torch.zeros(2, 1, 13, 17), draw(np.random.default_rng(31), 2, 20, 13, 17)], 1)
    assert min_pooling(maps, torch.ones(2, 20)).item() == pytest.approx(LOSSES["min_pooling"], rel=1e-6)


class StandIn:
    """Gives random refined maps, scale by scale, plain then mirrored."""

    merge_maps = SEAM.merge_maps

    def __init__(self):
        self.rng = np.random.default_rng(63)

    def activation_maps(self, images):
        size = images.shape[2:]
        height, width = (-(-side // 8) for side in size)
        draws = [0.3 + self.rng.standard_normal((1, 21, height, width)) for _ in range(len(images))]
        return torch.cat([resize(single(x), size)[:, 1:] for x in draws])


def test_merging_over_scales_and_mirrors():
    height, width = 61, 83
    pyramid = [torch.zeros(1, 3, round(height * s), round(width * s)) for s in (0.5, 1.0, 1.5, 2.0)]
    labels = torch.zeros(20)
    labels[[2, 14]] = 1
    merged = multi_scale_localize(StandIn(), pyramid, labels, (height, width))
    theirs = arrays("seam_merge")
    for index in (2, 14):
        expected = theirs[f"seam_norm_cam_{index}"]
        assert expected.min() < 0  # by 1e-5 over the maximum; here it is 0
        assert (merged[index] - expected.clamp(min=0)).abs().max() <= 1e-6
    assert merged.min() == 0
    assert merged[[0, 1, 3, 19]].abs().max() == 0
