"""The loss of LDF against its formula, its gradients, and its precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.ldf.losses import decoupled_loss, soft_iou_loss


def draw(seed, shape=(2, 1, 4, 5), dtype=torch.float64, outputs=6):
    """Logits, and soft targets without the channel."""
    generator = torch.Generator().manual_seed(seed)
    logits = [3 * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(outputs)]
    targets = [torch.rand(shape, generator=generator, dtype=dtype)[:, 0] for _ in range(3)]
    return logits, targets


def cross_entropy(x, t):
    p = 1 / (1 + np.exp(-x))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()


def iou(x, t):
    p = 1 / (1 + np.exp(-x))
    both = (p * t).sum((1, 2, 3))
    return (1 - (both + 1) / (p.sum((1, 2, 3)) + t.sum((1, 2, 3)) - both + 1)).mean()


@given(st.integers(0, 2**31), st.sampled_from([3, 6, 9]))
def test_loss_is_the_published_formula(seed, outputs):
    logits, targets = draw(seed, outputs=outputs)
    body, detail, saliency = (t[:, None].numpy() for t in targets)
    expected = 0.0
    for b, d, s in np.stack(logits).reshape(-1, 3, 2, 1, 4, 5):
        expected += cross_entropy(b, body) + cross_entropy(d, detail) + cross_entropy(s, saliency)
        expected += iou(s, saliency)
    expected /= outputs / 3
    assert decoupled_loss(logits, *targets).item() == pytest.approx(expected, rel=1e-10)


def test_gradients():
    logits, targets = draw(0)
    inputs = tuple(x.requires_grad_() for x in logits)
    assert torch.autograd.gradcheck(lambda *x: decoupled_loss(x, *targets), inputs)
    assert torch.autograd.gradcheck(lambda x: soft_iou_loss(x, targets[0][:, None]), inputs[:1])


def test_iou_by_hand():
    # p = 1/2 on four pixels, two of which are the object: both 1, union 2 + 2 - 1
    logits, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert soft_iou_loss(logits, target).item() == pytest.approx(1 - 2 / 4, abs=1e-7)


def test_iou_is_a_mean_over_images():
    logits, (target, *_) = draw(1, dtype=torch.float32)
    alone = [soft_iou_loss(logits[0][i : i + 1], target[i : i + 1, None]) for i in range(2)]
    assert torch.allclose(soft_iou_loss(logits[0], target[:, None]), torch.stack(alone).mean())


def test_images_without_object_are_finite():
    logits = [x.requires_grad_() for x in draw(2, dtype=torch.float32)[0]]
    loss = decoupled_loss(logits, *torch.zeros(3, 2, 4, 5))
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad.isfinite().all() for x in logits)


def test_targets_with_and_without_a_channel():
    logits, targets = draw(3)
    assert decoupled_loss(logits, *(t[:, None] for t in targets)) == decoupled_loss(logits, *targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    logits, targets = draw(4, (1, 1, 300, 300), torch.float32)
    logits = [x.to(dtype) for x in logits]
    loss = decoupled_loss(logits, *targets)
    # a sum of 90,000 probabilities is beyond what half precision can count
    expected = decoupled_loss([x.double() for x in logits], *targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert soft_iou_loss(logits[2], targets[2]).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 5, 4), (1, 4, 5), (2, 1, 8, 10)])
def test_targets_of_another_size(shape):
    logits, targets = draw(5)
    with pytest.raises(WsssZooError, match=r"2 images of 4 x 5 pixels, got \("):
        decoupled_loss(logits, targets[0], torch.zeros(shape), targets[2])
