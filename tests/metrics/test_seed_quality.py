"""Quality of labels of which an image has only some."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.errors import DataError
from wsss_zoo.metrics import MeanIoU, SeedQuality


def images(seed, count=3):
    rng = np.random.default_rng(seed)
    predicted = [rng.choice([0, 1, 2, 3, 255], (6, 5 + i), p=[0.2, 0.2, 0.1, 0, 0.5]) for i in range(count)]
    true = [rng.choice([0, 1, 2, 255], one.shape, p=[0.4, 0.3, 0.2, 0.1]) for one in predicted]
    return predicted, true


def score(predicted, true, num_classes=5):
    metric = SeedQuality(num_classes)
    for one, other in zip(predicted, true, strict=True):
        metric.update(torch.from_numpy(one), torch.from_numpy(other))
    return {name: value.item() for name, value in metric.compute().items()}


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_by_counting_pixels(seed):
    predicted, true = images(seed)
    scores = score(predicted, true)
    p, t = (np.concatenate([one.ravel() for one in many]) for many in (predicted, true))
    p, t = p[t != 255], t[t != 255]
    precision = {c: (t[p == c] == c).mean() for c in range(5) if (p == c).any()}
    recall = {c: (p[t == c] == c).mean() for c in range(5) if (t == c).any()}
    assert scores["precision"] == pytest.approx(np.mean(list(precision.values())))
    assert scores["recall"] == pytest.approx(np.mean(list(recall.values())))
    assert scores["foreground_precision"] == pytest.approx(np.mean([v for c, v in precision.items() if c]))
    assert scores["foreground_recall"] == pytest.approx(np.mean([v for c, v in recall.items() if c]))
    assert scores["coverage"] == pytest.approx((p != 255).mean())


def test_mean_iou_of_what_has_a_label():
    predicted, true = images(0)
    reference = MeanIoU(5)
    for one, other in zip(predicted, true, strict=True):
        reference.update(torch.from_numpy(np.where(one == 255, 0, one)),
                         torch.from_numpy(np.where(one == 255, 255, other)))  # fmt: skip
    assert score(predicted, true)["labelled_miou"] == pytest.approx(reference.compute()["miou"].item())


def test_whole_masks_cover_everything():
    predicted, true = [np.array([[0, 1], [1, 1]])], [np.array([[0, 1], [0, 255]])]
    scores = score(predicted, true, 2)
    assert scores["coverage"] == 1
    reference = MeanIoU(2)
    reference.update(torch.from_numpy(predicted[0]), torch.from_numpy(true[0]))
    assert scores["labelled_miou"] == pytest.approx(reference.compute()["miou"].item())


def test_lists_batches_and_ranks_add_up():
    predicted, true = images(1, 2)
    whole = SeedQuality(5)
    whole.update([torch.from_numpy(one) for one in predicted], [torch.from_numpy(one) for one in true])
    halves = [SeedQuality(5), SeedQuality(5)]
    for half, one, other in zip(halves, predicted, true, strict=True):
        half.update(torch.from_numpy(one)[None], torch.from_numpy(other)[None])
    assert torch.equal(whole.confusion, halves[0].confusion + halves[1].confusion)
    assert torch.equal(whole.pixels, halves[0].pixels + halves[1].pixels)


def test_labels_out_of_range_are_told():
    metric = SeedQuality(3)
    with pytest.raises(DataError, match="prediction holds label 3"):
        metric.update(torch.tensor([[3, 255]]), torch.tensor([[0, 0]]))
    with pytest.raises(DataError, match="ground truth holds label 3"):
        metric.update(torch.tensor([[255, 0]]), torch.tensor([[3, 0]]))
    with pytest.raises(DataError, match="differ in size"):
        metric.update(torch.tensor([[255, 0]]), torch.tensor([[0]]))
