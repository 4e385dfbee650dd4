"""SC-CAM on networks whose weights are filled by hand: outputs, maps, loss, schedule, training."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares, Pixels
from wsss_zoo import create_model
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods import CAM, SCCAM
from wsss_zoo.methods.multi_scale import multi_scale_localize
from wsss_zoo.methods.optimization import parameter_groups, poly_factor
from wsss_zoo.methods.sccam.losses import joint_losses
from wsss_zoo.methods.sccam.network import (
    ClassOutputs,
    JointOutputs,
    SCCAMNetwork,
    merge_subcategories,
)
from wsss_zoo.weights.pretrained import export_state_dict, save_pretrained


def colours(dropout=0.5):
    """Classes: red; green minus blue. Two kinds of each: red, blue; green, blue minus red."""
    network = SCCAMNetwork(Pixels(), 2, k=2, dropout=dropout).eval()
    classes = torch.tensor([[1.0, 0, 0], [0, 1, -1]])
    kinds = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [-1, 0, 1]])
    network.head.classifier.weight.data = classes[:, :, None, None]
    network.head.subcategories.weight.data = kinds[:, :, None, None]
    return network


def build(**hparams):
    torch.manual_seed(0)
    return SCCAM(**{"num_classes": 3, "k": 2, "backbone": TINY, **hparams})


def test_outputs_of_later_rounds_and_of_round_0():
    network, images = colours(), torch.randn(4, 3, 5, 7)
    with torch.no_grad():
        later, first = network(images), network(images, 0)
    assert isinstance(later, JointOutputs)
    assert isinstance(first, ClassOutputs)
    assert [tuple(item.shape) for item in later] == [(4, 2), (4, 3), (4, 2), (4, 4), (4, 4)]
    means = images.mean((2, 3))
    logits, features, scores, sub_logits, sub_scores = later
    torch.testing.assert_close(features, means)
    torch.testing.assert_close(logits, torch.stack([means[:, 0], means[:, 1] - means[:, 2]], 1))
    red, green, blue = means.unbind(1)
    torch.testing.assert_close(sub_logits, torch.stack([red, blue, green, blue - red], 1))
    torch.testing.assert_close(scores, logits.sigmoid())
    torch.testing.assert_close(sub_scores, sub_logits.sigmoid())
    for ours, of_later in zip(first, later, strict=False):
        assert torch.equal(ours, of_later)
    assert all(torch.equal(ours, same) for ours, same in zip(network(images, 3), later, strict=True))


def test_a_network_without_kinds_is_that_of_round_0():
    network = SCCAMNetwork(Pixels(), 2, k=0).eval()
    assert len(network(torch.randn(1, 3, 4, 4))) == 3
    for call in (lambda images: network(images, 1), network.forward_two_cam):
        with pytest.raises(WsssZooError, match="k=0, as in round 0"):
            call(torch.randn(1, 3, 4, 4))
    assert set(dict(network.head.named_parameters())) == {"classifier.weight"}


def test_maps_are_the_rectified_classifiers_at_every_position():
    image = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]], [[1.0, 4.0]]]])
    with torch.no_grad():
        classes, kinds = colours().forward_two_cam(image)
    assert classes.tolist() == [[[[1, 2]], [[2, 0]]]]
    assert kinds.tolist() == [[[[1, 2]], [[1, 4]], [[3, 0]], [[0, 2]]]]
    assert torch.equal(colours().forward_cam(image), classes)


def test_features_never_see_dropout():
    images = torch.rand(8, 3, 4, 4) + 1
    network = colours().train()
    assert not torch.equal(network(images).features, network.image_features(images))
    assert torch.equal(network.image_features(images), network.eval().image_features(images))
    torch.testing.assert_close(network.image_features(images), images.mean((2, 3)))


def test_features_of_the_plain_classifier_are_pooled_before_its_last_layer():
    torch.manual_seed(0)
    model = CAM(num_classes=3, backbone=TINY).train()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        model.eval()
        features = model.image_features(images)
        assert features.shape == (2, model.network.backbone.out_channels)
        logits = features @ model.network.classifier.weight[:, :, 0, 0].T
        torch.testing.assert_close(logits, model(images))


def test_kinds_are_merged_over_their_common_maximum():
    # class 0: a strong and a weak kind, class 1: nothing at all
    maps = torch.tensor([[[[4.0, 1.0]], [[0.0, 2.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    expected = torch.tensor([[[4.0, 2.0]], [[0.0, 0.0]]]) / torch.tensor([4 + 1e-5, 1e-5])[:, None, None]
    torch.testing.assert_close(merge_subcategories(maps), expected, rtol=1e-7, atol=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_merging_is_what_dividing_groups_in_a_loop_gives(seed, classes, k):
    maps = np.random.default_rng(seed).random((classes * k, 3, 4)).astype(np.float32)
    merged = merge_subcategories(torch.from_numpy(maps.reshape(classes, k, 3, 4))).numpy()
    for index in range(classes):
        group = maps[index * k : (index + 1) * k]
        by_hand = np.max([plane / (group.max() + 1e-5) for plane in group], axis=0)
        np.testing.assert_allclose(merged[index], by_hand, rtol=1e-6)


@pytest.mark.parametrize("head", ["class", "subcategory"])
def test_localization_of_both_heads(head):
    model = build(head=head).eval()
    images, labels = torch.randn(2, 3, 64, 48), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    with torch.no_grad():
        maps = model.localize(images, labels)
        summed = multi_scale_localize(model, [images[:1]], labels[0], (64, 48), flip=False)
    assert maps.shape == (2, 3, 64, 48)
    assert torch.equal(maps.amax((2, 3)) > 0, labels > 0)
    assert maps.min() >= 0
    assert 0.99 < maps.max() < 1
    torch.testing.assert_close(maps[0], summed, atol=1e-5, rtol=0)


def test_kinds_are_summed_over_scales_and_mirrors_before_they_are_merged():
    model = build(head="subcategory").eval()
    pyramid = [torch.randn(1, 3, 64, 48), torch.randn(1, 3, 96, 72)]
    labels, size = torch.tensor([0.0, 1.0, 1.0]), (64, 48)
    with torch.no_grad():
        merged = multi_scale_localize(model, pyramid, labels, size, flip=True)
        total = torch.zeros(6, *size)
        for image in pyramid:
            for flipped in (False, True):
                view = image.flip(3) if flipped else image
                _, kinds = model.network.forward_two_cam(view)
                enlarged = torch.nn.functional.interpolate(kinds, size, mode="bilinear", align_corners=False)
                total += enlarged[0].flip(2) if flipped else enlarged[0]
    for index in (1, 2):
        group = total[2 * index : 2 * index + 2]
        torch.testing.assert_close(merged[index], (group / (group.max() + 1e-5)).amax(0), atol=1e-5, rtol=0)
    assert merged[0].max() == 0


@given(st.integers(0, 2**32 - 1))
def test_losses_are_the_published_formula(seed):
    rng = np.random.default_rng(seed)
    sizes = {"class": (3, 4), "subcategory": (3, 20)}
    drawn = {name: (5 * rng.standard_normal(s), rng.integers(0, 2, s)) for name, s in sizes.items()}
    tensors = [torch.from_numpy(item).double() for pair in drawn.values() for item in pair]
    for name, loss in joint_losses(*tensors).items():
        x, y = drawn[name]
        sigmoid = 1 / (1 + np.exp(-x))
        expected = -(y * np.log(sigmoid) + (1 - y) * np.log(1 - sigmoid)).mean()
        assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_losses():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    sub_logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    labels, sublabels = torch.randint(0, 2, (2, 3)).double(), torch.randint(0, 2, (2, 6)).double()
    assert torch.autograd.gradcheck(
        lambda x, z: tuple(joint_losses(x, labels, z, sublabels).values()), (logits, sub_logits)
    )


def batch_of(model, sublabels):
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    return {"image": torch.randn(2, 3, 32, 32), "labels": labels, "sublabels": sublabels}


def test_the_objective_weighs_the_kinds():
    sublabels = torch.tensor([[1.0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    values = {}
    for weight in (0.0, 1.0, 5.0):
        model = build(subcategory_weight=weight, dropout=0.0).eval()
        model.log = model.log_dict = lambda *args, **kwargs: None
        torch.manual_seed(1)
        values[weight] = model.training_step(batch_of(model, sublabels), 0).item()
    kinds = values[1.0] - values[0.0]
    assert kinds > 0.1
    assert values[5.0] == pytest.approx(values[0.0] + 5 * kinds, rel=1e-5)
    assert build().hparams["subcategory_weight"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: batch.pop("sublabels"), r"inputs: \{subcategories: <stage>\}"),
        (
            lambda batch: batch.update(sublabels=torch.zeros(2, 9)),
            r"k=2 sub-categories .* made 3; give the method and the clusterer the same k",
        ),
    ],
)
def test_samples_without_or_with_other_kinds(change, message):
    model = build()
    batch = batch_of(model, torch.zeros(2, 6))
    change(batch)
    with pytest.raises(WsssZooError, match=message):
        model.training_step(batch, 0)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"k": -1}, "k, the sub-categories of every class, is 0 or more, got -1"),
        ({"head": "both"}, "'class' or 'subcategory', got 'both'"),
        ({"k": 0, "head": "subcategory"}, "needs sub-categories, but k is 0"),
        ({"schedule_epochs": 0}, "schedule_epochs is 1 or more"),
    ],
)
def test_settings_that_cannot_be_meant(hparams, message):
    with pytest.raises(WsssZooError, match=message):
        build(**hparams)


def test_new_parts_are_both_heads_and_start_at_random():
    network = build().network
    groups = parameter_groups(network, network.new_modules())
    assert groups[2] == [network.head.classifier.weight, network.head.subcategories.weight]
    for weight in groups[2]:
        bound = (6 / (weight.shape[0] + weight.shape[1])) ** 0.5  # Xavier
        assert 0.9 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("schedule_epochs", [None, 61])
def test_a_schedule_that_is_laid_out_for_longer(schedule_epochs):
    model = build(schedule_epochs=schedule_epochs)
    model.trainer = type(
        "Trainer", (), {"estimated_stepping_batches": 31 * 661, "max_epochs": 31, "max_steps": -1}
    )()
    schedule = model.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]
    last = 31 * 661 - 1
    if schedule_epochs is None:
        assert schedule(last) == pytest.approx(poly_factor(last, last + 1))
    else:  # the steps of the sheet: 661 * 61
        assert schedule(last) == pytest.approx((1 - last / 40321) ** 0.9)
        assert schedule(last) > 0.5


def test_a_longer_schedule_needs_epochs():
    model = build(schedule_epochs=61)
    model.trainer = type(
        "Trainer", (), {"estimated_stepping_batches": 100, "max_epochs": None, "max_steps": 100}
    )()
    with pytest.raises(WsssZooError, match=r"set trainer\.max_epochs and no trainer\.max_steps"):
        model.configure_optimizers()


def test_the_published_optimiser():
    with torch.device("meta"):
        model = SCCAM()
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 10, "max_epochs": 1})()
    groups = model.configure_optimizers()["optimizer"].param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("weights", 0.01), ("new_weights", 0.1)]
    assert {group["weight_decay"] for group in groups} == {5e-4}
    assert {group["momentum"] for group in groups} == {5e-4}


def test_files_of_the_zoo(tmp_path):
    model = build(k=4).eval()
    images = torch.randn(1, 3, 64, 48)
    save_pretrained(model, tmp_path / "a.safetensors")
    export_state_dict(model, tmp_path / "a.pth")
    for again in (
        create_model("sccam", tmp_path / "a.safetensors"),
        create_model("sccam", tmp_path / "a.pth", num_classes=3, k=4, backbone=TINY),
    ):
        assert again.hparams["k"] == 4
        with torch.no_grad():
            for ours, theirs in zip(again.network(images), model.network(images), strict=True):
                assert torch.equal(ours, theirs)


class SquaresOfTwoKinds(ColouredSquares):
    """The kind of a square is whether it lies in the left half; one 1 among the kinds of its class."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        label = int(sample["labels"].argmax())
        left = (sample["mask"] == label + 1).float().sum(0).argmax() < 8
        sample["sublabels"] = torch.zeros(2 * self.classes)
        sample["sublabels"][2 * label + int(left)] = 1
        return sample


def test_training_lowers_both_losses(tmp_path):
    L.seed_everything(0, verbose=False)
    model = SCCAM(num_classes=3, k=2, backbone=TINY, optimizer="adamw", lr=5e-3, weight_decay=1e-2)
    loader = DataLoader(SquaresOfTwoKinds(classes=3), batch_size=8)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
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
    rows = np.genfromtxt(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", delimiter=",", names=True)
    terms = {name: rows[f"train{name}"] for name in ("loss", "loss_class", "loss_subcategory")}
    terms = {name: values[~np.isnan(values)] for name, values in terms.items()}
    np.testing.assert_allclose(terms["loss"], terms["loss_class"] + 5 * terms["loss_subcategory"], rtol=1e-4)
    assert terms["loss_subcategory"][-2:].mean() < 0.6 * terms["loss_subcategory"][:2].mean()
