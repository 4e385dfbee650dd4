"""Labels of cells and pairs, and the loss: against published numbers and against the formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.methods.affinitynet.losses import (
    PairLabels,
    affinity_loss,
    confident_labels,
    pair_labels,
)
from wsss_zoo.refine import PixelPairs

PARITY = Path(__file__).parents[1] / "parity"
FACTS = json.loads((PARITY / "psa_affinity_supervision.json").read_text())
PAIRS = PixelPairs(16, 16)


@pytest.fixture(scope="module")
def arrays():
    with np.load(PARITY / "psa_affinity_supervision.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def affinities():
    return torch.from_numpy(np.random.default_rng(42).random((1, 34, 96)).astype(np.float32))


def published_pairs(arrays, prefix=""):
    return [arrays[f"{prefix}{name}"].bool()[None] for name in ("bg_pos", "fg_pos", "neg")]


def test_published_pair_labels(arrays):
    ours = pair_labels(arrays["label_map"].long()[None], PAIRS)
    for kind, published in zip(ours, published_pairs(arrays), strict=True):
        assert torch.equal(kind, published)
    values = FACTS["loss"]
    assert ours.counts().tolist() == [values["bg_count"], values["fg_count"], values["neg_count"]]


def test_published_combination_of_the_two_score_sets(arrays):
    planes = [F.avg_pool2d(arrays[f"laha_{name}_float16"].float(), 8)[None] for name in ("la", "ha")]
    labels = confident_labels(*planes)
    assert torch.equal(labels[0], arrays["laha_label"].long())
    for kind, published in zip(pair_labels(labels, PAIRS), published_pairs(arrays, "laha_"), strict=True):
        assert torch.equal(kind, published)
    # planes of absent classes, which are zero, change the labels' names only
    full = torch.zeros(2, 1, 21, 16, 16)
    full[:, :, [0, 3, 15]] = torch.stack(planes)
    renamed = torch.full((256,), 255)
    renamed[:3] = torch.tensor([0, 3, 15])
    assert torch.equal(confident_labels(*full), renamed[labels])


def test_published_loss_and_gradient(arrays, affinities):
    affinities = affinities.clone().requires_grad_()
    loss = affinity_loss(affinities, PairLabels(*published_pairs(arrays)))
    expected = [FACTS["loss"][name] for name in ("loss", "bg_loss", "fg_loss", "neg_loss")]
    assert [term.item() for term in loss] == pytest.approx(expected, rel=1e-5)
    loss.total.backward()
    published = arrays["loss_grad_aff"]
    assert (affinities.grad - published).abs().max() <= 1e-5 * published.abs().max()


def test_published_loss_where_kinds_are_missing(arrays, affinities):
    background, foreground, negative = published_pairs(arrays)
    none = PairLabels(background, torch.zeros_like(foreground), torch.zeros_like(negative))
    values = FACTS["loss_without_foreground_and_negative"]
    expected = [values[name] for name in ("loss", "bg_loss", "fg_loss", "neg_loss")]
    assert [term.item() for term in affinity_loss(affinities, none)] == pytest.approx(expected, rel=1e-5)


def test_what_is_a_confident_label():
    # sure foreground; foreground only against weak background; background even as the weak one, where
    # the strong one loses (it overrules); no score; padding up to 1e-5
    low = torch.tensor([[0.2, 0.6, 0.1, 0.0, 9e-6], [0.1, 0.1, 0.7, 0.0, 0.0], [0.7, 0.3, 0.2, 0.0, 0.0]])
    high = torch.tensor([[0.1, 0.3, 0.8, 0.0, 0.0], [0.1, 0.2, 0.1, 0.0, 8e-6], [0.8, 0.5, 0.1, 0.0, 0.0]])
    labels = confident_labels(low[None, :, None], high[None, :, None])
    assert labels.tolist() == [[[2, 255, 0, 255, 255]]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_kinds_of_pairs_by_definition(seed, radius):
    rng = np.random.default_rng(seed)
    pairs = PixelPairs(radius + 3, 2 * radius + 2, radius)
    labels = torch.from_numpy(rng.choice([0, 0, 1, 2, 255], (2, pairs.height, pairs.width)))
    kinds = pair_labels(labels, pairs)
    flat, sources, destinations = labels.flatten(1), pairs.source_indices(), pairs.destination_indices()
    assert kinds.background.shape == (2, *destinations.shape)
    for image in range(2):
        for k, row in enumerate(destinations.tolist()):
            for s, destination in enumerate(row):
                a, b = flat[image, sources[s]].item(), flat[image, destination].item()
                sure = a != 255 and b != 255
                expected = [a == b == 0, a == b and 0 < a < 255, sure and a != b]
                assert [kind[image, k, s].item() for kind in kinds] == expected


def random_case(seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 0, 1, 2, 255])[torch.randint(5, (batch, 9, 11), generator=generator)]
    pairs = PixelPairs(9, 11, 3)
    shape = (batch, len(pairs.offsets), pairs.sources)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 0.98 + 0.01, pair_labels(
        labels, pairs
    )


def test_loss_against_its_formula_and_its_derivative():
    affinities, labels = random_case(0)
    values = affinities.numpy()
    background, foreground, negative = (kind.numpy() for kind in labels)
    expected = (
        -np.log(values[background] + 1e-5).sum() / (background.sum() + 1e-5) / 4
        - np.log(values[foreground] + 1e-5).sum() / (foreground.sum() + 1e-5) / 4
        - np.log(1 + 1e-5 - values[negative]).sum() / (negative.sum() + 1e-5) / 2
    )
    assert affinity_loss(affinities, labels).total.item() == pytest.approx(expected, rel=1e-7)
    affinities.requires_grad_()
    # finite differences
    assert torch.autograd.gradcheck(lambda x: affinity_loss(x, labels).total, affinities)


def test_loss_is_finite_at_both_ends():
    affinities = torch.tensor([0.0, 1.0]).repeat(1, 4, 2).requires_grad_()
    everything = torch.ones(1, 4, 4, dtype=torch.bool)
    loss = affinity_loss(affinities, PairLabels(everything, everything, everything))
    loss.total.backward()
    assert loss.total.isfinite()
    assert affinities.grad.isfinite().all()


def test_with_mean_counts_devices_average_to_the_loss_of_the_whole_batch():
    affinities, labels = random_case(1, batch=4)
    affinities.requires_grad_()
    whole = affinity_loss(affinities, labels)
    (gradient,) = torch.autograd.grad(whole.total, affinities)
    # unequal shares of pairs: two devices with two images each
    shares = [PairLabels(*(kind[part] for kind in labels)) for part in (slice(0, 2), slice(2, 4))]
    assert not torch.equal(shares[0].counts(), shares[1].counts())
    counts = (shares[0].counts() + shares[1].counts()) / 2
    losses = [
        affinity_loss(affinities[part], share, counts)
        for part, share in zip((slice(0, 2), slice(2, 4)), shares, strict=True)
    ]
    mean = (losses[0].total + losses[1].total) / 2
    assert mean.item() == pytest.approx(whole.total.item(), rel=1e-6)
    (averaged,) = torch.autograd.grad(mean, affinities)
    torch.testing.assert_close(averaged, gradient, rtol=1e-6, atol=0)
