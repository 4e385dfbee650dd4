"""Subtraction, squashing and merging against a plain reading of both releases, candidates, the canvas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.dcsm.candidates import choose_candidates
from wsss_zoo.methods.dcsm.canvas import Canvas
from wsss_zoo.methods.dcsm.maps import (
    background,
    channel_maxima,
    finish,
    layer_evidence,
    merge_derivatives,
    squash,
    union_map,
)
from wsss_zoo.methods.dcsm.saliency import SaliencySettings
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET

VARIANTS = ("reference", "caffe")


def random_derivatives(seed, classes, height=6, width=9):
    """Two layers on grids of two sizes, guided derivatives being mostly zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        values = torch.randn(*shape, generator=generator)
        return torch.where(torch.rand(*shape, generator=generator) < 0.6, 0, values)

    return {"deep": draw(classes, 7, height, width), "shallow": draw(classes, 4, 2 * height, 2 * width)}


def half_pixel(plane, height, width):
    return F.interpolate(plane[None, None], (height, width), mode="bilinear")[0, 0]


def corner(plane, height, width):
    """Bilinear at i h / H: floor, linear weight, clamped on the right and at the bottom."""
    rows, columns = plane.shape
    result = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            top, left = y * rows / height, x * columns / width
            y0, x0 = int(top), int(left)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            a, b = top - y0, left - x0
            result[y, x] = (1 - a) * ((1 - b) * plane[y0, x0] + b * plane[y0, x1]) + a * (
                (1 - b) * plane[y1, x0] + b * plane[y1, x1]
            )
    return result


def reference(scales, height, width):
    """The sum over scales, layers and other classes, literally."""
    count = len(next(iter(scales[0].values())))
    maps = []
    for c in range(count):
        total = torch.zeros(height, width)
        for scale in scales:
            for derivative in scale.values():
                planes = [half_pixel(d.abs().amax(0), height, width) for d in derivative]
                for other in set(range(count)) - {c}:
                    difference = planes[c] - planes[other]
                    if difference.max() > 0:
                        total += (3 * difference / difference.max()).tanh().clamp(min=0)
        maps.append((3 * total / total.max()).tanh() if total.max() > 0 else total)
    return torch.stack(maps)


def caffe(derivatives, height, width):
    """All ordered pairs, signed; two squashes; enlarged; summed over layers; over the maximum; clipped."""

    def scaled_tanh(plane):
        return (plane * 3 / plane.max()).tanh() if plane.max() > 0 else torch.zeros_like(plane)

    count = len(next(iter(derivatives.values())))
    maps = []
    for c in range(count):
        total = torch.zeros(height, width)
        for derivative in derivatives.values():
            planes = derivative.amax(1)
            pairs = [scaled_tanh(planes[c] - planes[other]) for other in range(count)]
            total += corner(scaled_tanh(torch.stack(pairs).sum(0)), height, width)
        maps.append((total / total.max()).clamp(min=0) if total.max() > 0 else torch.zeros_like(total))
    return torch.stack(maps)


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_reference_is_the_published_sum(seed, classes):
    scales = [random_derivatives(seed, classes), random_derivatives(seed + 1, classes, 7, 8)]
    ours = merge_derivatives(scales, (23, 31))
    assert torch.allclose(ours, reference(scales, 23, 31), atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_caffe_is_its_chain_of_layers(seed, classes):
    derivatives = random_derivatives(seed, classes, 3, 4)
    ours = merge_derivatives(derivatives, (11, 13), "caffe")
    assert torch.allclose(ours, caffe(derivatives, 11, 13), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_class_has_nothing_to_be_told_from(variant):
    derivatives = random_derivatives(0, 1)
    assert merge_derivatives(derivatives, 20, variant).abs().max() == 0
    alone = merge_derivatives(derivatives, 20, variant, subtract=False)
    assert alone.shape == (1, 20, 20)
    assert alone.max() > 0.99


def test_without_subtraction_classes_do_not_matter_to_each_other():
    derivatives = random_derivatives(1, 3)
    together = merge_derivatives(derivatives, 20, subtract=False)
    for index in range(3):
        one = {layer: derivative[index : index + 1] for layer, derivative in derivatives.items()}
        assert torch.allclose(merge_derivatives(one, 20, subtract=False)[0], together[index], atol=1e-6)
    planes = torch.stack([d.abs().amax(1) for d in [derivatives["deep"]]])[0]
    enlarged = F.interpolate(planes[None], 20, mode="bilinear")[0]
    evidence = layer_evidence(planes, 20, subtract=False)
    assert torch.allclose(evidence, (3 * enlarged / enlarged.amax((1, 2), keepdim=True)).tanh(), atol=1e-6)


@given(st.integers(0, 1000), st.sampled_from(VARIANTS))
def test_a_class_below_another_everywhere_gets_nothing_from_it(seed, variant):
    maxima = torch.rand(1, 5, 7, generator=torch.Generator().manual_seed(seed))
    pair = torch.cat([maxima, maxima + 0.5])
    evidence = layer_evidence(pair, 15, variant)
    assert evidence[0].abs().max() == 0
    assert evidence[1].min() > 0
    third = torch.cat([pair, maxima * 0.25])
    with_it, without_it = layer_evidence(third, 15, variant)[0], layer_evidence(third[[0, 2]], 15, variant)[0]
    assert torch.allclose(with_it, without_it, atol=1e-6)


@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.sampled_from(VARIANTS))
def test_the_scale_of_a_layer_does_not_matter(seed, factor, variant):
    derivatives = random_derivatives(seed, 4)
    expected = merge_derivatives(derivatives, 20, variant)
    derivatives["shallow"] = derivatives["shallow"] * factor
    assert torch.allclose(merge_derivatives(derivatives, 20, variant), expected, atol=1e-4)


@given(
    st.integers(0, 1000), st.integers(1, 6), st.sampled_from(VARIANTS), st.integers(1, 30), st.integers(1, 30)
)
def test_maps_lie_between_0_and_1_in_any_shape(seed, classes, variant, height, width):
    maps = merge_derivatives(random_derivatives(seed, classes, 4, 3), (height, width), variant)
    assert maps.shape == (classes, height, width)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert torch.isfinite(maps).all()
    order = torch.randperm(classes)
    shuffled = {layer: d[order] for layer, d in random_derivatives(seed, classes, 4, 3).items()}
    assert torch.allclose(merge_derivatives(shuffled, (height, width), variant), maps[order], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_some_targets_among_all_compared_classes(variant):
    maxima = torch.rand(4, 6, 6)
    every = layer_evidence(maxima, 12, variant)
    assert torch.equal(layer_evidence(maxima, 12, variant, targets=[3, 1]), every[[3, 1]])
    assert layer_evidence(maxima, 12, variant, targets=[]).shape == (0, 12, 12)


def test_channel_maxima():
    derivative = torch.tensor([[[[1.0, -5.0]], [[-2.0, 3.0]]]])
    assert channel_maxima(derivative).tolist() == [[[2, 5]]]
    assert channel_maxima(derivative, "caffe").tolist() == [[[1, 3]]]


def test_squash():
    maps = torch.tensor([[[2.0, -1.0]], [[-3.0, -1.0]], [[0.0, 0.0]]])
    expected = [[[math.tanh(3), math.tanh(-1.5)]], [[0, 0]], [[0, 0]]]
    assert torch.allclose(squash(maps, 3.0), torch.tensor(expected))
    assert squash(torch.full((1, 2, 2), 1e-44), 3.0).isfinite().all()


def test_finish():
    evidence = torch.tensor([[[4.0, -2.0, 1.0]], [[0.0, 0.0, 0.0]]])
    assert torch.allclose(finish(evidence, "caffe"), torch.tensor([[[1, 0, 0.25]], [[0, 0, 0]]]))
    assert torch.allclose(
        finish(evidence.clamp(min=0), alpha=2.0),
        torch.tensor([[[math.tanh(2), 0, math.tanh(0.5)]], [[0, 0, 0]]]),
    )


def test_union_of_all_classes():
    evidence = torch.tensor([[[4.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.5, 1.0]]])
    expected = torch.tanh(2 * torch.tensor([[1.0, 0.5, 1.0]]))
    assert torch.allclose(union_map(evidence, alpha=2.0), expected)
    assert torch.allclose(union_map(evidence[:1]), finish(evidence[:1])[0])
    assert union_map(torch.zeros(2, 1, 3)).tolist() == [[0, 0, 0]]
    assert union_map(torch.zeros(0, 1, 3)).tolist() == [[0, 0, 0]]


def test_background():
    assert background(torch.tensor([[[0.2, 0.9]], [[0.5, 0.0]]])).tolist() == pytest.approx(
        np.array([[0.5, 0.1]]), abs=1e-6
    )
    assert background(torch.zeros(0, 2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]


def logit(*rows):
    return torch.logit(torch.tensor(rows))


def test_targets_by_scale_and_the_best_of_the_others():
    logits = logit([0.9, 0.5, 0.1, 0.2, 0.3, 0.05], [0.4, 0.6, 0.1, 0.3, 0.1, 0.05])
    targets, compared = choose_candidates(logits)
    assert targets.int().tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]  # 0.5 is not above 0.5
    assert compared.tolist() == [0, 1, 3, 4]  # sums 0.5 and 0.4 beat 0.2 and 0.1
    assert choose_candidates(logits, compared_classes=3).compared.tolist() == [0, 1, 3]
    for fewer in (0, 1, 2):  # never fewer than the targets
        assert choose_candidates(logits, compared_classes=fewer).compared.tolist() == [0, 1]
    assert choose_candidates(logits, compared_classes=10).compared.tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_candidates(logits, threshold=0.55).targets[0].tolist() == [True] + 5 * [False]


def test_more_targets_than_compared_classes():
    logits = logit([0.9, 0.8, 0.7, 0.6, 0.9, 0.1])
    assert choose_candidates(logits).compared.tolist() == [0, 1, 2, 3, 4]


def test_no_class_above_the_threshold():
    logits = logit([0.1, 0.3, 0.2], [0.1, 0.2, 0.4])
    best = choose_candidates(logits, compared_classes=2)
    assert best.targets.tolist() == 2 * [[False, False, True]]
    assert best.compared.tolist() == [1, 2]
    none = choose_candidates(logits, fallback="background")
    assert not none.targets.any()
    assert len(none.compared) == 0


def test_labels_are_targets_at_every_scale():
    logits = logit([0.9, 0.1, 0.3], [0.8, 0.1, 0.2])
    targets, compared = choose_candidates(logits, torch.tensor([0.0, 1.0, 0.0]), compared_classes=2)
    assert targets.tolist() == 2 * [[False, True, False]]
    assert compared.tolist() == [0, 1]
    nothing = choose_candidates(logits, torch.zeros(3))
    assert not nothing.targets.any()
    assert len(nothing.compared) == 0


def test_caffe_takes_the_best_classes_whatever_they_score():
    logits = torch.tensor([[30.0, -2.0, 40.0, 35.0, -9.0]])  # probabilities round to 1
    targets, compared = choose_candidates(logits, variant="caffe", compared_classes=2)
    assert targets.tolist() == [[False, False, True, True, False]]
    assert compared.tolist() == [2, 3]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 30))
def test_canvas(height, width, side):
    image = torch.rand(1, 3, height, width)
    canvas = Canvas.around(image, side, IMAGENET)
    black = -torch.tensor(IMAGENET.mean) / torch.tensor(IMAGENET.std)
    top, left, rows, columns = canvas.box
    assert canvas.pixels.shape == (1, 3, side, side)
    assert 0 <= top <= top + rows <= side
    assert 0 <= left <= left + columns <= side
    outside = torch.ones(side, side, dtype=torch.bool)
    outside[top : top + rows, left : left + columns] = False
    assert torch.equal(canvas.pixels[0, :, outside], black[:, None].expand(3, int(outside.sum())))
    if max(height, width) <= side:
        assert (top, left) == tuple((side - n + n % 2) // 2 for n in (height, width))
        assert torch.equal(canvas.crop(canvas.pixels[0]), image[0])
    else:
        assert max(rows, columns) == side
    restored = canvas.restore(canvas.crop(canvas.pixels[0]))
    assert restored.shape == image.shape[1:]


def test_canvas_at_other_sizes():
    image = torch.rand(1, 3, 20, 30) * 255 - torch.tensor(CAFFE_BGR.mean).view(1, 3, 1, 1)
    canvas = Canvas.around(image, 40, CAFFE_BGR)
    assert canvas.at(1.0) is canvas.pixels
    large = canvas.at(1.25)
    assert large.shape == (1, 3, 50, 50)
    # the border is black: minus the mean
    assert torch.allclose(large[0, :, 0, 0], -torch.tensor(CAFFE_BGR.mean), atol=1e-3)
    assert canvas.at(0.8).shape == (1, 3, 32, 32)
    assert canvas.at(0.8).mean().item() == pytest.approx(canvas.pixels.mean().item(), abs=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "cafe"}, "did you mean 'caffe'"),
        ({"fallback": "worst"}, "there is no fallback 'worst'"),
        ({"alpha": 0.0}, "alpha, the factor in the tanh, is above 0"),
        ({"compared_classes": -1}, "compared_classes is 0 or more"),
        ({"threshold": 1.5}, "threshold is a probability"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(WsssZooError, match=message):
        SaliencySettings(**change)
