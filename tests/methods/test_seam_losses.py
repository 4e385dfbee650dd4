"""SEAM's loss terms: by the equations, by finite differences, for any shape and label."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.methods.seam.correlation import correlate
from wsss_zoo.methods.seam.losses import seam_losses


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 100))
def test_every_term_has_finite_values_and_gradients(height, width, classes, seed):
    second = (max(1, height // 3), max(1, width // 3))
    views = [
        tuple(noise(2, classes + 1, *size, seed=seed + i, dtype=torch.float32) for i in range(2))
        for size in ((height, width), second)
    ]
    for maps in (*views[0], *views[1]):
        maps.requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(2, classes, generator=generator) > 0.6).float()  # often without any class
    losses = seam_losses(views, labels)
    assert set(losses) == {"cls", "min", "er", "ecr"}
    assert all(value.isfinite() and value >= 0 for value in losses.values())
    sum(losses.values()).backward()
    assert all(maps.grad.isfinite().all() for maps in (*views[0], *views[1]))


def plain_losses(views, labels):
    """The terms, step by step on all planes, with OHEM over all positions."""
    labels = torch.cat([torch.ones(len(labels), 1), labels], 1)[:, :, None, None].double()
    (c1, r1), (c2, r2) = views
    size = c2.shape[2:]

    def norm(p):
        q = p.clamp(min=0)
        low, high = (x(q.flatten(2), 2).values[:, :, None, None] for x in (torch.min, torch.max))
        return (q - low - 1e-5).clamp(min=0) / (high - low + 1e-5)

    def down(p):
        return torch.nn.functional.interpolate(p, size, mode="bilinear", align_corners=True)

    maps = [down(norm(c1)) * labels, norm(c2) * labels]
    refined = [down(norm(r1)) * labels, norm(r2) * labels]
    er = (maps[0] - maps[1])[:, 1:].abs().mean()
    targets = []
    for x in maps:
        x = x.detach().clone()
        top = x[:, 1:].max(1, keepdim=True).values
        x[:, :1] = 1 - top
        x[:, 1:][x[:, 1:] < top] = 0
        targets.append(x)
    differences = [(targets[1] - refined[0]).abs(), (targets[0] - refined[1]).abs()]
    ecr = 0
    for difference in differences:
        values = difference.flatten(1).sort(1, descending=True).values
        ecr = ecr + values[:, : int(0.2 * values.shape[1])].mean()
    scores = [x.mean((2, 3))[:, 1:] for x in (c1, c2)]
    y = labels[:, 1:, 0, 0]
    cls = sum(-(y * s.sigmoid().log() + (1 - y) * (-s).sigmoid().log()).mean() for s in scores) / 2
    smallest = 0
    for x in (r1, r2):
        strongest = (x * labels)[:, 1:].max(1).values.flatten(1).sort(1).values
        count = strongest.shape[1] // 4
        smallest = smallest + strongest[:, :count].clamp(min=0).sum() / (count * len(x)) / 2
    return {"cls": cls, "min": smallest, "er": er, "ecr": ecr}


@given(st.integers(0, 1000))
def test_terms_are_the_equations(seed):
    views = [
        tuple(noise(2, 5, *size, seed=seed + i).requires_grad_() for i in range(2))
        for size in ((14, 17), (4, 5))
    ]
    leaves = [*views[0], *views[1]]
    labels = (torch.rand(2, 4, generator=torch.Generator().manual_seed(seed)) > 0.5).double()
    ours, expected = seam_losses(views, labels), plain_losses(views, labels)
    for name, value in expected.items():
        assert ours[name].item() == pytest.approx(value.item(), rel=1e-9), name
    gradients = torch.autograd.grad(sum(ours.values()), leaves)
    for own, plain in zip(gradients, torch.autograd.grad(sum(expected.values()), leaves), strict=True):
        assert torch.allclose(own, plain, rtol=1e-8, atol=1e-12)


def test_finite_differences():
    # values 0.05 apart and in random order: steps of 1e-6 meet no kink of maximum, suppression or OHEM
    def spread(*shape, seed):
        order = torch.randperm(torch.Size(shape).numel(), generator=torch.Generator().manual_seed(seed))
        return (0.05 * (order + 1)).double().view(shape) + 0.01 * noise(*shape, seed=seed).abs()

    first, second = ([spread(1, 3, *size, seed=s) for s in (0, 1)] for size in ((6, 5), (3, 2)))
    labels = torch.tensor([[1.0, 1.0]]).double()

    def total(c1, r1, c2, r2):
        losses = seam_losses([(c1, r1), (c2, r2)], labels)
        return losses["cls"], losses["min"], losses["er"]

    inputs = [x.requires_grad_() for x in (*first, *second)]
    assert torch.autograd.gradcheck(total, inputs)
    # targets of ECR are constants by definition, so only the refined maps are varied
    fixed = [first[0].detach(), second[0].detach()]
    assert torch.autograd.gradcheck(
        lambda r1, r2: seam_losses([(fixed[0], r1), (fixed[1], r2)], labels)["ecr"], [first[1], second[1]]
    )
    keys = noise(1, 4, 2, 3, seed=3).requires_grad_()
    maps = noise(1, 2, 2, 3, seed=4).abs()
    assert torch.autograd.gradcheck(lambda k: correlate(maps, k), [keys])


def test_the_background_of_the_refined_maps_learns():
    views = [tuple(noise(1, 4, size, size, seed=i).requires_grad_() for i in range(2)) for size in (12, 4)]
    sum(seam_losses(views, torch.tensor([[1.0, 0.0, 1.0]]).double()).values()).backward()
    for cam, refined in views:
        assert cam.grad[:, 0].abs().max() == 0
        assert refined.grad[:, 0].abs().max() > 0
