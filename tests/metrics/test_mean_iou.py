import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassJaccardIndex

from wsss_zoo.errors import DataError
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.metrics.functional import mean_iou


def random_pair(seed, classes=5, size=(30, 40), ignored=0.1):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, size, generator=generator)
    preds = torch.where(
        torch.rand(size, generator=generator) < 0.6, target, torch.randint(classes, size, generator=generator)
    )
    target[torch.rand(size, generator=generator) < ignored] = 255
    return preds, target


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 21))
def test_agrees_with_torchmetrics_where_every_class_occurs(seed, classes):
    preds, target = random_pair(seed, classes)
    expected = MulticlassJaccardIndex(classes, average="macro", ignore_index=255)(preds, target)
    assert float(mean_iou(preds, target, classes)) == pytest.approx(float(expected), abs=1e-6)


def test_one_confusion_matrix_over_all_images_and_not_a_mean_of_images():
    metric = MeanIoU(2)
    metric.update(torch.tensor([[1, 1], [1, 1]]), torch.tensor([[1, 1], [1, 1]]))
    metric.update(torch.tensor([[0, 1]]), torch.tensor([[1, 0]]))
    # class 0: 0 of 2; class 1: 4 hits, 5 predicted, 5 true
    result = metric.compute()
    assert result["iou"].tolist() == [0.0, 4 / 6]
    assert float(result["miou"]) == pytest.approx(1 / 3)


def test_absent_class_is_left_out_or_zero():
    preds, target = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])
    result = MeanIoU(4)(preds, target)
    assert result["iou"].isnan().tolist() == [False, False, True, True]
    assert result["classes_present"].tolist() == [True, True, False, False]
    assert float(result["miou"]) == pytest.approx(0.5)
    assert float(MeanIoU(4, absent="zero")(preds, target)["miou"]) == pytest.approx(0.25)
    # predicted somewhere, never true: present, IoU 0
    assert float(MeanIoU(4)(torch.tensor([0, 3]), torch.tensor([0, 0]))["iou"][3]) == 0
    with pytest.raises(DataError, match="'exclude' or 'zero'"):
        MeanIoU(4, absent="nan")


def test_batches_lists_and_single_images_count_the_same():
    pairs = [random_pair(seed) for seed in range(4)]
    single, batch, listed, arrays = (MeanIoU(5) for _ in range(4))
    for preds, target in pairs:
        single.update(preds, target)
        arrays.update(preds.numpy().astype(np.uint8), target.numpy().astype(np.uint8))
    batch.update(torch.stack([p for p, _ in pairs]), torch.stack([t for _, t in pairs]))
    listed.update([p for p, _ in pairs[:3]], [t for _, t in pairs[:3]])
    listed.update([pairs[3][0][:10], pairs[3][0][10:]], [pairs[3][1][:10], pairs[3][1][10:]])
    for other in (batch, listed, arrays):
        assert torch.equal(other.confusion, single.confusion)
    assert single.confusion.dtype == torch.int64
    assert int(single.confusion.sum()) == sum(int((t != 255).sum()) for _, t in pairs)


def test_counts_beyond_int32_do_not_wrap():
    metric = MeanIoU(2)
    metric.confusion += torch.tensor([[2**31, 0], [2**31, 2**40]])
    metric.update(torch.tensor([0]), torch.tensor([0]))
    assert metric.compute()["iou"][0] == pytest.approx((2**31 + 1) / (2**32 + 1))


@pytest.mark.parametrize(
    ("preds", "target", "complaint"),
    [
        ([[0, 5]], [[0, 1]], "prediction holds label 5, expected 0..4"),
        ([[0, -1]], [[0, 1]], "prediction holds label -1"),
        ([[0, 255]], [[0, 1]], "prediction holds label 255"),
        ([[0, 1]], [[0, 7]], r"ground truth holds label 7, expected 0\.\.4 or 255"),
        ([[0, 1]], [[0, 1, 1]], r"differ in size: \(1, 2\) and \(1, 3\)"),
        ([[0.0, 1.0]], [[0, 1]], "integer labels, got torch.float32"),
    ],
)
def test_mistakes_are_told(preds, target, complaint):
    metric = MeanIoU(5)
    with pytest.raises(DataError, match=complaint):
        metric.update(torch.tensor(preds), torch.tensor(target))
    assert int(metric.confusion.sum()) == 0


def test_predictions_at_ignored_pixels_do_not_matter():
    metric = MeanIoU(2)
    metric.update(torch.tensor([1, 255]), torch.tensor([1, 255]))
    assert int(metric.confusion.sum()) == 1


def test_clone_pickle_reset():
    metric = MeanIoU(5)
    metric.update(*random_pair(0))
    for twin in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert torch.equal(twin.confusion, metric.confusion)
        assert float(twin.compute()["miou"]) == float(metric.compute()["miou"])
    metric.reset()
    assert int(metric.confusion.sum()) == 0
