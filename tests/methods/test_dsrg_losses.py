"""The losses of SEC and DSRG against plain readings of their equations, and what must hold of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.dsrg import (
    balanced_seed,
    constrain,
    crf_images,
    crf_log_marginals,
    expand,
    full,
    pass_surrogate_gradient,
    sec_seed,
    smooth_probabilities,
)
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET
from wsss_zoo.refine import DenseCRF

SEEDS = st.integers(0, 10_000)


def draw(seed, batch=2, planes=4, side=5, share=0.2):
    """Logits, probabilities and seeds in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, planes, side, side, generator=generator, dtype=torch.float64)
    chosen = torch.rand(batch, planes, side, side, generator=generator) < share
    return logits, smooth_probabilities(logits), chosen.double()


def test_smoothing_bounds_the_logarithm():
    logits = torch.zeros(1, 21, 2, 2)
    logits[:, 0] = 1000
    smooth = smooth_probabilities(logits)
    assert torch.allclose(smooth.sum(1), torch.ones(1, 2, 2))
    assert -smooth.log().max() >= 0
    assert -smooth.log().min() == pytest.approx(-math.log(1e-4 / (1 + 21e-4)), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_seed_losses_are_their_equations(seed):
    _, probabilities, seeds = draw(seed)
    sec, balanced = [], []
    for p, s in zip(probabilities.numpy(), seeds.numpy(), strict=True):
        log = np.log(p)
        sec.append(-(s * log).sum() / max(s.sum(), 1e-4))
        background = -(s[0] * log[0]).sum() / max(s[0].sum(), 1e-4)
        balanced.append(background - (s[1:] * log[1:]).sum() / max(s[1:].sum(), 1e-4))
    assert sec_seed(probabilities, seeds).item() == pytest.approx(np.mean(sec), rel=1e-12)
    assert balanced_seed(probabilities, seeds).item() == pytest.approx(np.mean(balanced), rel=1e-12)


def test_an_empty_part_of_the_seeds_counts_nothing():
    logits, probabilities, seeds = draw(0)
    seeds[:, 1:] = 0
    background = sec_seed(probabilities[:, :1], seeds[:, :1])
    assert balanced_seed(probabilities, seeds) == pytest.approx(background.item())
    logits.requires_grad_()
    loss = balanced_seed(smooth_probabilities(logits), torch.zeros_like(seeds))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_the_balance_does_not_depend_on_how_many_seeds_a_side_has():
    probabilities = smooth_probabilities(torch.zeros(1, 21, 8, 8))
    few, many = torch.zeros(1, 21, 8, 8), torch.zeros(1, 21, 8, 8)
    few[0, 0, 0, 0] = few[0, 5, 4, 4] = many[0, 5, 4, 4] = 1
    many[0, 0, :3] = 1
    # as at the start of a training: both sides log 21
    assert balanced_seed(probabilities, few).item() == pytest.approx(2 * math.log(21), abs=1e-4)
    assert balanced_seed(probabilities, many).item() == pytest.approx(2 * math.log(21), abs=1e-4)
    assert sec_seed(probabilities, many).item() == pytest.approx(math.log(21), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(SEEDS, SEEDS)
def test_boundary_loss_is_a_divergence_where_nothing_is_clipped(first, second):
    probabilities, other = draw(first)[1], draw(second)[1]
    plain = constrain(probabilities, other.log(), None)
    expected = (other * (other / probabilities).log()).sum(1).mean()
    assert plain.item() == pytest.approx(expected.item(), abs=1e-12)
    assert plain >= 0
    assert constrain(probabilities, probabilities.log()).item() == pytest.approx(0, abs=1e-12)
    ratio = (other / probabilities).clamp(0.05, 20)
    assert constrain(probabilities, other.log()).item() == pytest.approx(
        (other * ratio.log()).sum(1).mean().item(), abs=1e-12
    )
    # between the clips it is the same
    wide = (other / probabilities).min().item() * 0.9, (other / probabilities).max().item() * 1.1
    assert constrain(probabilities, other.log(), wide).item() == pytest.approx(plain.item(), abs=1e-12)


def test_clipped_ratios_pass_no_gradient():
    probabilities = torch.tensor([0.98, 0.02]).view(1, 2, 1, 1).requires_grad_()
    marginals = torch.tensor([0.01, 0.99]).view(1, 2, 1, 1)  # ratios 1/98 and 49.5
    constrain(probabilities, marginals.log()).backward()
    assert probabilities.grad.abs().max() == 0


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.lists(st.integers(0, 2), max_size=3, unique=True))
def test_expansion_is_its_equation(seed, present):
    _, probabilities, _ = draw(seed)
    labels = torch.zeros(2, 3)
    labels[:, present] = 1

    def pooled(plane, decay):
        ordered = sorted(plane.ravel(), reverse=True)
        weights = [decay**rank for rank in range(len(ordered))]
        return sum(w * p for w, p in zip(weights, ordered, strict=True)) / sum(weights)

    losses = []
    for p in probabilities.numpy():
        inside = [-math.log(pooled(p[c + 1], 0.996)) for c in present]
        outside = [-math.log(1 - p[c + 1].max()) for c in range(3) if c not in present]
        losses.append(
            sum(np.mean(group) for group in (inside, outside) if group) - math.log(pooled(p[0], 0.999))
        )
    assert expand(probabilities, labels).item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_expansion_between_maximum_and_average():
    _, probabilities, _ = draw(3, planes=2)
    labels = torch.ones(2, 1)
    for decay, pool in ((0.0, torch.amax), (1.0, torch.mean)):
        expected = -pool(probabilities, (2, 3)).log().sum(1).mean()
        assert expand(probabilities, labels, decay, decay).item() == pytest.approx(expected.item())


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 3))
def test_expansion_falls_when_a_present_class_gets_surer_at_one_pixel(seed, plane):
    _, probabilities, _ = draw(seed)
    labels = torch.ones(2, 3)
    raised = probabilities.clone()
    raised[0, plane, 2, 2] += 0.5 * (1 - raised[0, plane, 2, 2])
    assert expand(raised, labels) < expand(probabilities, labels)


def test_expansion_has_a_gradient_where_a_present_class_is_certain():
    probabilities = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    probabilities[:, 1] = 1.0
    probabilities[:, 2] = probabilities[:, 0] = 0.1
    probabilities.requires_grad_()
    expand(probabilities, torch.tensor([[1.0, 0.0]])).backward()
    assert torch.isfinite(probabilities.grad).all()


def test_full_loss_weighs_images_alike_and_skips_255():
    _, probabilities, _ = draw(1, batch=3)
    mask = torch.full((3, 5, 5), 255)
    mask[0, 0, 0], mask[1] = 2, 1
    expected = -(probabilities[0, 2, 0, 0].log() + probabilities[1, 1].log().mean()) / 3
    assert full(probabilities, mask).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("normalization", [CAFFE_BGR, IMAGENET])
def test_images_of_the_crf_are_those_that_went_in(normalization):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    batch = torch.from_numpy(normalization(pixels)).permute(2, 0, 1)[None]
    np.testing.assert_array_equal(crf_images(batch, (33, 41), normalization)[0].permute(1, 2, 0), pixels)
    small = crf_images(batch, (5, 6), normalization)[0].permute(1, 2, 0).numpy()
    theirs = np.stack([zoom(pixels[..., c].astype(float), (5 / 33, 6 / 41), order=1) for c in range(3)], -1)
    assert np.abs(small - theirs).max() < 0.501  # rounding


def picture(side=24):
    """An image of two halves, and scores that see the object shifted by two pixels."""
    image = torch.full((1, 3, side, side), 60, dtype=torch.uint8)
    image[..., side // 2 :] = 200
    logits = torch.zeros(1, 3, side, side)
    logits[:, 1, :, side // 2 + 2 :] = 2
    logits[:, 0, :, : side // 2 + 2] = 2
    return image, logits


@pytest.mark.parametrize("energy", ["neg_prob", "neg_log_prob"])
def test_marginals_follow_the_edges_and_are_a_distribution(energy):
    image, logits = picture()
    log_marginals = crf_log_marginals(image, smooth_probabilities(logits), energy)
    assert log_marginals.shape == logits.shape
    assert torch.allclose(log_marginals.exp().sum(1), torch.ones(1, 24, 24), atol=1e-5)
    assert log_marginals.min() >= math.log(1e-4 / (1 + 3e-4)) - 1e-5
    labels = log_marginals.argmax(1)[0]
    assert (labels[:, 12:] == 1).all()
    assert (labels[:, :12] == 0).all()


def test_energies_are_the_negative_probabilities_or_their_logarithm():
    image, logits = picture()
    probabilities = smooth_probabilities(logits)
    crf = DenseCRF("dsrg_loss")
    for energy, unary in (("neg_prob", -probabilities), ("neg_log_prob", -probabilities.log())):
        expected = crf(image, energies=unary)[0].clamp(min=1e-4)
        expected = (expected / expected.sum(0)).log()
        assert torch.allclose(crf_log_marginals(image, probabilities, energy)[0], expected, atol=1e-6)
    with pytest.raises(WsssZooError, match="did you mean 'neg_prob'"):
        crf_log_marginals(image, probabilities, "neg_probs")


def test_the_weak_unary_of_dsrg_gives_smooth_and_sure_marginals():
    image, logits = picture()
    noisy = smooth_probabilities(logits + torch.randn(logits.shape, generator=torch.manual_seed(0)))
    assert noisy.amax(1).mean() < 0.8
    assert crf_log_marginals(image, noisy).exp().amax(1).mean() > 0.99  # the thresholds can be reached


def test_log_marginals_of_impossible_classes_are_finite():
    image, logits = picture()
    assert torch.isfinite(crf_log_marginals(image, (100 * logits).softmax(1), "neg_log_prob")).all()


def test_the_surrogate_gradient_is_that_of_the_release():
    logits, probabilities, _ = draw(0)
    log_marginals = draw(1)[1].log()
    given = probabilities.clone().requires_grad_()
    passed = pass_surrogate_gradient(log_marginals, given)
    assert torch.equal(passed.detach(), log_marginals)
    constrain(probabilities, passed).backward()
    alone = log_marginals.clone().requires_grad_()
    constrain(probabilities, alone).backward()
    assert torch.allclose(given.grad, (1 - log_marginals.exp()) * alone.grad)
    assert logits.grad is None
