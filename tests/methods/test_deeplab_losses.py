"""Cross entropy at both sizes, Pillow's nearest rule, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from wsss_zoo.methods.deeplab.losses import multi_scale_loss, segmentation_loss, shrink_labels


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 520), st.integers(1, 520), st.integers(1, 70), st.integers(1, 70))
@example(321, 321, 41, 41)
@example(321, 321, 21, 31)
@example(448, 512, 112, 65)  # (i + 0.5) * 512 / 65 is a whole number in the middle
@example(8, 14, 6, 5)
def test_labels_shrink_as_in_pillow(height, width, to_height, to_width):
    mask = np.random.default_rng(height * width).integers(0, 256, (height, width), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(mask).resize((to_width, to_height), Image.Resampling.NEAREST))
    ours = shrink_labels(torch.from_numpy(mask)[None].long(), (to_height, to_width))
    assert np.array_equal(ours[0].numpy(), pillow)


def numpy_cross_entropy(logits, mask):
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    terms = [
        -np.log(probabilities[b, mask[b, y, x], y, x])
        for b, y, x in np.ndindex(*mask.shape)
        if mask[b, y, x] != 255
    ]
    return np.mean(terms)


def test_cross_entropy_at_the_size_of_the_logits():
    rng = np.random.default_rng(0)
    logits, mask = rng.standard_normal((2, 4, 3, 5)), rng.integers(0, 4, (2, 9, 10))
    mask[rng.random(mask.shape) < 0.3] = 255
    small = shrink_labels(torch.from_numpy(mask), (3, 5)).numpy()
    ours = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(mask), at="logits")
    assert ours.item() == pytest.approx(numpy_cross_entropy(logits, small), rel=1e-12)


@pytest.mark.parametrize("align_corners", [False, True])
def test_cross_entropy_at_the_size_of_the_mask(align_corners):
    rng = np.random.default_rng(0)
    logits, mask = torch.from_numpy(rng.standard_normal((2, 4, 3, 5))), rng.integers(0, 4, (2, 9, 10))
    mask[0, :4] = 255
    large = F.interpolate(logits, (9, 10), mode="bilinear", align_corners=align_corners).numpy()
    ours = segmentation_loss(logits, torch.from_numpy(mask), align_corners=align_corners)
    assert ours.item() == pytest.approx(numpy_cross_entropy(large, mask), rel=1e-12)


def test_v2_sums_over_scales():
    rng = np.random.default_rng(0)
    outputs = [torch.from_numpy(rng.standard_normal((1, 3, side, side))) for side in (6, 3, 4, 6)]
    mask = torch.from_numpy(rng.integers(0, 3, (1, 24, 24)))
    mask[:, :8] = 255
    expected = sum(numpy_cross_entropy(x.numpy(), shrink_labels(mask, x.shape[2:]).numpy()) for x in outputs)
    assert multi_scale_loss(outputs, mask).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("at", ["logits", "mask"])
def test_gradient(at):
    logits = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.randint(0, 3, (1, 5, 6))
    mask[0, 0] = 255
    assert torch.autograd.gradcheck(lambda x: segmentation_loss(x, mask, at=at), logits)


def test_nothing_to_learn_from_is_zero_and_not_nan():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
