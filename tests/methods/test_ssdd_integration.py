"""The integration rule, masks on the grid, losses and the online CRF in cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.methods.ssdd import (
    balanced_bce,
    difference_loss,
    integrate,
    integration_score,
    online_crf,
    shrink_mask,
    vanished_classes,
)
from wsss_zoo.methods.ssdd.crf import crf_images
from wsss_zoo.methods.ssdd.losses import pooled_difference_loss
from wsss_zoo.methods.ssdd.masks import one_hot, restricted_mask
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET
from wsss_zoo.refine import DenseCRF


def row(*values):
    """A mask of one row, in a batch of one."""
    return torch.tensor([[values]])


def logit(probability):
    return math.log(probability / (1 - probability))


def test_the_less_surprising_mask_wins():
    # sigmoid 0.2 and 0.7: the second mask is to be doubted by 0.5
    d_before, d_after = torch.full((1, 1, 1, 2), logit(0.2)), torch.full((1, 1, 1, 2), logit(0.7))
    before, after, none = row(1, 1), row(2, 2), torch.zeros(1, 3)
    score = integration_score(d_before, d_after, before, after, none, bias=0.4)
    assert score.flatten().tolist() == pytest.approx([-0.1, -0.1])
    assert integrate(d_before, d_after, before, after, none, bias=0.4).tolist() == before.tolist()
    assert integrate(d_before, d_after, before, after, none, bias=0.6).tolist() == after.tolist()
    # the other way round the score is 0.5 + bias; the poster's bias is for the first mask
    swapped = (d_after, d_before, before, after, none)
    assert integrate(*swapped, bias=0.4).tolist() == after.tolist()
    assert integrate(*swapped, bias=0.4, prefer="before").tolist() == after.tolist()
    assert integrate(*swapped, bias=0.6, prefer="before").tolist() == before.tolist()


def test_equal_trust_goes_to_the_favoured_mask():
    even = (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), row(1), row(2), torch.zeros(1, 3))
    assert integrate(*even, bias=0.0).item() == 2
    assert integrate(*even, bias=0.0, prefer="before").item() == 1


def test_bias_of_the_background():
    zeros = torch.zeros(1, 1, 1, 4)
    before, after = row(0, 1, 0, 1), row(0, 0, 1, 1)
    score = integration_score(zeros, zeros, before, after, torch.zeros(1, 2), 0.1, bg_bias=0.3)
    assert score.flatten().tolist() == pytest.approx([0.1, 0.4, -0.2, 0.1])


def test_a_class_that_would_vanish_is_kept():
    before, after = row(1, 1, 1, 2, 0, 0), row(1, 1, 1, 0, 0, 2)
    labels = torch.tensor([[1.0, 1.0]])
    flags = vanished_classes(before, row(1, 1, 0, 0, 0, 0), labels)
    assert flags.tolist() == [[0, 0, 1]]  # class 1 keeps two of three, class 2 goes
    flags = torch.tensor([[0.0, 0.0, 1.0]])
    sure = torch.full((1, 1, 1, 6), 9.0)
    # the second mask is trusted, but where the first shows class 2 it stays; where the first is trusted, the
    # second shows class 2 all the same
    assert integrate(sure, -sure, before, after, flags).flatten().tolist() == [1, 1, 1, 0, 0, 2]
    assert integrate(sure, sure, before, after, flags, bias=0.4).flatten().tolist() == [1, 1, 1, 2, 0, 2]
    assert integrate(-sure, sure, before, after, flags, bias=0.4)[0, 0, 5].item() == 2


def test_flags_read_labels_and_half():
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    before, after = row(1, 1, 3, 3, 0, 0), row(1, 0, 0, 0, 255, 255)
    # 1 of 2 is not less than half; class 2 is in neither mask; class 3 is no label of the image
    assert vanished_classes(before, after, labels).tolist() == [[0, 0, 1, 0]]
    # the poster's rule: not more than half; and the background, which grows here
    assert vanished_classes(before, after, labels, "before").tolist() == [[0, 1, 1, 0]]
    assert vanished_classes(row(0, 0, 1), row(1, 1, 1), labels, "before")[0, 0] == 1
    assert vanished_classes(row(0, 0, 1), row(1, 1, 1), labels)[0, 0] == 0


@given(st.integers(0, 2**32 - 1), st.floats(-0.5, 0.5), st.floats(0, 0.5))
def test_the_poster_mirrors_the_code(seed, bias, background):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 4, (2, 3, 5, 6), generator=generator)
    logits = torch.randn(2, 3, 5, 6, generator=generator)
    flags = torch.randint(0, 2, (3, 4), generator=generator).float()
    poster = integrate(*logits, *masks, flags, bias, background, prefer="before")
    # which mask is called the first does not matter once the favour is turned round as well
    code = integrate(*logits.flip(0), *masks.flip(0), flags, bias, background)
    assert torch.equal(poster, code)
    # a rule without bias needs no preference, except for ties
    chosen = integrate(*logits, *masks, torch.zeros(3, 4), 0.0)
    assert torch.equal(chosen, torch.where(logits[0] >= logits[1], masks[1], masks[0]))
    # what both masks agree on stays
    agree = masks[0] == masks[1]
    assert torch.equal(poster[agree], masks[0][agree])


def test_pixels_without_label_can_be_taken():
    sure = torch.full((1, 1, 1, 2), 9.0)
    mask = integrate(sure, -sure, row(1, 1), row(255, 0), torch.zeros(1, 2))
    assert mask.flatten().tolist() == [255, 0]


def test_shrinking_is_a_vote_of_the_middle():
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, 1, 1:3] = mask[0, 2, 1] = 3  # three of the four middle pixels of the first cell
    mask[0, 1:3, 5] = 7  # half of the second: the lower label
    mask[0, 5:7, 1:3] = 255
    mask[0, 4, 4:] = 5  # the rim of a cell has no vote
    small = shrink_mask(mask, (2, 2))
    assert small.dtype == torch.uint8
    assert small.tolist() == [[[3, 0], [255, 0]]]
    assert torch.equal(shrink_mask(mask, (8, 8)), mask)


def test_planes_of_a_mask():
    planes = one_hot(torch.tensor([[[0, 2], [255, 1]]]), 3)
    assert planes.tolist() == [[[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]]


def test_restricted_mask_where_probabilities_vanish():
    logits = torch.tensor([300.0, -300.0, 0.0])[None, :, None, None]
    assert restricted_mask(logits, torch.tensor([[1.0, 0.0, 1.0]])).item() == 0
    # the softmax of both labels is 0: the small constant leaves them equal, and the first wins
    assert restricted_mask(logits, torch.tensor([[0.0, 1.0, 1.0]])).item() == 1


def test_balanced_entropy_by_hand():
    logits = torch.tensor([[[0.0, 0.0, 0.0, logit(0.9), 5.0]]])
    first, second = row(1, 1, 1, 1, 255), row(1, 1, 1, 0, 0)
    expected = 0.5 * math.log(2) - 0.5 * math.log(0.9)
    assert balanced_bce(logits, first, second).item() == pytest.approx(expected)
    # nothing differs: half of the one side, not NaN
    assert balanced_bce(logits, first, first).item() == pytest.approx(
        0.5 * (3 * math.log(2) - math.log(0.1)) / 4
    )
    assert balanced_bce(logits, row(*[255] * 5), second).item() == 0


def test_images_in_which_a_class_vanishes_are_left_out():
    logits = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    first, second = torch.zeros(3, 4, 4, dtype=torch.long), torch.ones(3, 4, 4, dtype=torch.long)
    second[:, 0] = 0
    flags = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    loss = difference_loss(logits, first, second, flags)
    alone = balanced_bce(logits, first, second)
    assert loss.item() == pytest.approx((alone[0] + alone[2]).item() / 2)
    loss.backward()
    assert logits.grad[1].abs().max() == 0
    assert logits.grad[[0, 2]].abs().min() > 0
    none = difference_loss(logits, first, second, torch.ones(3, 2))
    assert none.item() == 0
    none.backward()  # distributed training expects a gradient of every parameter
    # pooled: one mean over the pixels of all images
    first[1] = second[1] = 255
    pooled = pooled_difference_loss(logits, first, second)
    assert pooled.item() == pytest.approx((alone[0] + alone[2]).item() / 2)


@pytest.mark.parametrize("normalization", [IMAGENET, CAFFE_BGR])
def test_colours_of_the_crf(normalization):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    network = torch.from_numpy(normalization(image)).permute(2, 0, 1)[None]
    same = crf_images(network, (8, 8), normalization)[0].permute(1, 2, 0).numpy()
    # cut, not rounded: rounding of the normalisation may cost one level
    assert (image.astype(int) - same).min() >= 0
    assert (image.astype(int) - same).max() <= 1
    small = crf_images(network, (4, 4), normalization)[0].permute(1, 2, 0).numpy()
    mean = image.reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(small - np.floor(mean)).max() <= 1


def test_batch_and_single_images_have_one_crf():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 12, 14), generator=generator, dtype=torch.uint8)
    logits = torch.randn(3, 4, 12, 14, generator=generator)
    labels = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 1], [1, 0, 1, 0]])
    crf = DenseCRF("ssdd_online")
    together = online_crf(images, logits, labels, crf)
    alone = [online_crf(images[i : i + 1], logits[i : i + 1], labels[i : i + 1], crf) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together.amax((2, 3)) > 0, labels > 0)
    assert torch.allclose(together.sum(1), torch.ones(3, 12, 14), atol=1e-5)
    assert (together[0, 0] == 1).all()  # an image without any class is background
