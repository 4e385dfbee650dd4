"""Inference of AffinityNet: the walk of localization maps, against a plain reading with the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.methods.tiny import TINY
from wsss_zoo.errors import DataError, RecipeError, WsssZooError
from wsss_zoo.methods import AffinityNet
from wsss_zoo.refine import PixelPairs, affinity_matrix


def tiny(**arguments):
    torch.manual_seed(0)
    return AffinityNet(num_classes=2, backbone=TINY, backbone_args={"output_stride": 8}, **arguments)


def plain_refine(model, image, maps, alpha, beta, log_t, radius):
    """Inference step by step with the dense matrix, in double precision."""
    height, width = image.shape[2:]
    rows, columns = -(-height // 8), -(-width // 8)
    canvas = torch.zeros(1, 3, 8 * rows, 8 * columns)
    canvas[:, :, :height, :width] = image
    stack = np.zeros((len(maps) + 1, 8 * rows, 8 * columns))
    stack[1:, :height, :width] = maps
    stack[0, :height, :width] = (1 - maps.max(0)) ** alpha
    pooled = stack.reshape(len(stack), rows, 8, columns, 8).mean((2, 4))
    with torch.no_grad():
        affinities = model.network(canvas)[0]
    matrix = affinity_matrix(affinities, PixelPairs(rows, columns, radius)).double().numpy() ** beta
    transition = np.linalg.matrix_power(matrix / matrix.sum(0), 2**log_t)
    walked = torch.from_numpy((pooled.reshape(len(stack), -1) @ transition).reshape(1, -1, rows, columns))
    return F.interpolate(walked, scale_factor=8, mode="bilinear", align_corners=False)[0, :, :height, :width]


@pytest.mark.parametrize(
    ("size", "settings", "radius"),
    [
        ((85, 101), {}, 5),
        ((88, 104), {"alpha": 6.0, "log_t": 6, "shrink_radius": True}, 5),
        ((50, 101), {"alpha": 6.0, "log_t": 6, "shrink_radius": True}, 3),
        ((20, 11), {"shrink_radius": True}, 1),
        ((70, 90), {"beta": 2.5, "log_t": 3, "radius": 4}, 4),
    ],
)
def test_refine_is_the_published_inference(size, settings, radius):
    model = tiny(**settings).eval()
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.standard_normal((1, 3, *size)).astype(np.float32))
    maps = rng.random((2, *size)).astype(np.float32)
    maps[1] = 0
    with torch.no_grad():
        scores = model.refine(image, torch.tensor([1.0, 0.0]), maps=torch.from_numpy(maps))
    used = {"alpha": 16.0, "beta": 8.0, "log_t": 8, **settings}
    expected = plain_refine(model, image, maps, used["alpha"], used["beta"], used["log_t"], radius)
    assert scores.shape == (3, *size)
    assert not scores[2].any()
    for plane, wanted in zip(scores[:2].double(), expected, strict=False):
        assert (plane - wanted).abs().max() <= 1e-4 * wanted.max()


def test_refine_leaves_out_classes_without_a_label():
    model = tiny().eval()
    image, maps = torch.randn(1, 3, 80, 96), torch.rand(2, 80, 96)
    with torch.no_grad():
        scores = model.refine(image, torch.tensor([0.0, 1.0]), maps=maps)
        maps[0] = 0
        alone = model.refine(image, torch.tensor([0.0, 1.0]), maps=maps)
    assert torch.equal(scores, alone)
    assert not scores[1].any()
    assert scores[2].any()


def test_refine_refuses_what_does_not_fit():
    model, labels = tiny().eval(), torch.ones(2)
    image = torch.zeros(1, 3, 80, 96)
    with pytest.raises(DataError, match=r"maps \(2, H, W\) .* got an image .* maps \(2, 80, 90\)"):
        model.refine(image, labels, maps=torch.zeros(2, 80, 90))
    with pytest.raises(DataError, match=r"got an image \(2, 3, 80, 96\)"):
        model.refine(image.expand(2, -1, -1, -1), labels, maps=torch.zeros(2, 80, 96))
    with pytest.raises(DataError, match=r"radius 5 .* got 10 x 8.*shrink_radius"):
        model.refine(image[..., :64], labels, maps=torch.zeros(2, 80, 64))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"alpha": 0.0}, WsssZooError, "alpha, the power of the background, is above 0"),
        ({"beta": -1.0}, RecipeError, "beta"),
        ({"log_t": -1}, RecipeError, "log_t"),
        ({"radius": 0}, RecipeError, "radius"),
    ],
)
def test_wrong_inference_settings_are_told_when_the_method_is_built(settings, error, message):
    with pytest.raises(error, match=message):
        AffinityNet(backbone=TINY, **settings)
