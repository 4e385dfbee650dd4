"""The classifier and its maps on networks whose weights are filled by hand, its loss, its training."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares, Pixels
from wsss_zoo.methods import CAM
from wsss_zoo.methods.cam.losses import multilabel_soft_margin
from wsss_zoo.methods.cam.network import CAMNetwork
from wsss_zoo.methods.multi_scale import multi_scale_localize
from wsss_zoo.methods.optimization import parameter_groups
from wsss_zoo.metrics.average_precision import MeanAveragePrecision


def red_and_not_blue(sqrt_cam=False):
    """Class 0 is red, class 1 is green minus blue."""
    network = CAMNetwork(Pixels(), 2, dropout=0.5, sqrt_cam=sqrt_cam).eval()
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
    network.classifier.weight.data = weights[:, :, None, None]
    return network


def test_maps_are_the_rectified_classifier_at_every_position():
    image = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]], [[1.0, 4.0]]]])
    expected = torch.tensor([[[[1.0, 2.0]], [[2.0, 0.0]]]])
    with torch.no_grad():
        assert torch.equal(red_and_not_blue().forward_cam(image), expected)
        assert torch.equal(red_and_not_blue(sqrt_cam=True).forward_cam(image), expected.sqrt())


def test_logits_are_the_mean_of_the_maps_before_rectification():
    network, images = red_and_not_blue(), torch.randn(4, 3, 5, 7)
    with torch.no_grad():
        unrectified = network.classifier(network.features(images))
        assert torch.allclose(network(images), unrectified.mean((2, 3)), atol=1e-6)
        assert (unrectified < 0).any()


def test_dropout_drops_whole_channels_in_training_and_never_in_maps():
    network, images = red_and_not_blue().train(), torch.ones(64, 3, 4, 4)
    with torch.no_grad():
        assert set(network(images)[:, 0].tolist()) == {0.0, 2.0}
        assert torch.equal(network.forward_cam(images)[:, 0], torch.ones(64, 4, 4))


def test_localize_masks_absent_classes_and_reaches_one():
    torch.manual_seed(0)
    model = CAM(num_classes=3, backbone=TINY).eval()
    images, labels = torch.randn(2, 3, 64, 48), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    with torch.no_grad():
        maps = model.localize(images, labels)
        summed = multi_scale_localize(model, [images[:1]], labels[0], (64, 48), flip=False)
    assert maps.shape == (2, 3, 64, 48)
    assert torch.equal(maps.amax((2, 3)) > 0, labels > 0)
    assert maps.min() >= 0
    assert 0.99 < maps.max() < 1
    assert torch.allclose(maps[0], summed, atol=1e-5)


def test_merged_maps_are_divided_by_their_maximum():
    maps = torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]])
    merged = CAM.merge_maps(None, maps)
    assert torch.allclose(merged, torch.tensor([[[0.0, 4 / 4.00001]], [[0.0, 0.0]]]), atol=0, rtol=1e-7)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_loss_is_the_published_formula(seed):
    rng = np.random.default_rng(seed)
    x, y = 5 * rng.standard_normal((3, 4)), rng.integers(0, 2, (3, 4))
    sigmoid = 1 / (1 + np.exp(-x))
    expected = -(y * np.log(sigmoid) + (1 - y) * np.log(1 - sigmoid)).mean()
    ours = multilabel_soft_margin(torch.from_numpy(x), torch.from_numpy(y).double())
    assert ours.item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_loss():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (3, 4)).double()
    assert torch.autograd.gradcheck(lambda x: multilabel_soft_margin(x, labels), logits)


def average_precision(labels, scores):
    """Mean, over the positives, of the precision among everything scored at least as high."""
    return np.mean([labels[scores >= scores[i]].mean() for i in np.flatnonzero(labels)])


def test_mean_average_precision_over_the_classes_that_occur():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 2, (40, 5))
    labels[:, 3] = 0
    metric = MeanAveragePrecision()
    for rows in (slice(0, 25), slice(25, 40)):
        metric.update(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]).float())
    expected = np.mean([average_precision(labels[:, c], logits[:, c]) for c in (0, 1, 2, 4)])
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_mean_average_precision_without_any_class_is_undefined():
    metric = MeanAveragePrecision()
    metric.update(torch.randn(3, 2), torch.zeros(3, 2))
    assert metric.compute().isnan()


def test_irn_variant():
    with torch.device("meta"):
        model = CAM(backbone="resnet50_irn", dropout=0.0, weight_decay=1e-4, caffe_biases=False)
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    groups = model.configure_optimizers()["optimizer"].param_groups
    assert {group["weight_decay"] for group in groups} == {1e-4}
    assert {group["momentum"] for group in groups} == {1e-4}
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("weights", 0.1),
        ("biases", 0.1),
        ("new_weights", 1.0),
    ]
    # batch norm learns, but not with the statistics of the batch; the stem is frozen
    network = model.network.train()
    assert network.backbone.layer4[0].bn1.weight.requires_grad
    assert not network.backbone.layer4[0].bn1.training
    assert not network.backbone.conv1.weight.requires_grad
    assert model.forward(torch.empty(1, 3, 100, 130, device="meta")).shape == (1, 20)
    assert model.activation_maps(torch.empty(1, 3, 100, 130, device="meta")).shape == (1, 20, 7, 9)


def test_irn_learns_in_the_last_two_levels_only():
    model = CAM(num_classes=2, backbone="resnet50_irn").train()
    model(torch.randn(1, 3, 32, 32)).sum().backward()
    learning = {
        name.split(".")[1] for name, item in model.network.named_parameters() if item.grad is not None
    }
    assert learning == {"layer3", "layer4", "weight"}


def test_vgg_takes_the_square_root_unless_told_otherwise():
    with torch.device("meta"):
        assert CAM(backbone="vgg16").network.sqrt_cam
        assert not CAM(backbone="vgg16", sqrt_cam=False).network.sqrt_cam
        assert not CAM().network.sqrt_cam


def test_new_parts_are_the_classifier():
    network = CAM(num_classes=2, backbone=TINY).network
    groups = parameter_groups(network, network.new_modules())
    assert groups[2] == [network.classifier.weight]
    assert groups[3] == []
    assert sum(map(len, groups)) == len(list(network.parameters()))


def test_training_lowers_the_loss(tmp_path):
    L.seed_everything(0, verbose=False)
    model = CAM(num_classes=3, backbone=TINY, optimizer="adamw", lr=5e-3, weight_decay=1e-2)
    data = ColouredSquares(classes=3)  # the third class never occurs
    loader = DataLoader(data, batch_size=8)
    logger = CSVLogger(tmp_path)
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor("step")],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    before = trainer.validate(model, loader, verbose=False)[0]
    trainer.fit(model, loader, loader)
    after = trainer.validate(model, loader, verbose=False)[0]
    assert after["val/loss"] < 0.6 * before["val/loss"]
    assert after["val/map"] > 0.95
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([factor * 5e-3 * (1 / 40) ** 0.9 for factor in (1, 1, 2, 10)], rel=1e-6)
    written = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "train/loss" in written
