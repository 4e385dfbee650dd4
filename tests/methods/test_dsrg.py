"""DSRG: the networks and their published keys, the terms of the objective, training on seeds."""

from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo import create_model
from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WeightsError, WsssZooError
from wsss_zoo.methods import DSRG, DeepLab
from wsss_zoo.methods.dsrg import balanced_seed, constrain, expand, full, grow, sec_seed, smooth_probabilities
from wsss_zoo.methods.multi_scale import image_pyramid, multi_scale_segment
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.weights.initial import file_weights

SEC = {
    "seed_loss": "sec",
    "grow": False,
    "expand_weight": 1.0,
    "crf_energy": "neg_log_prob",
    "ratio_range": None,
    "lr": 1e-3,
    "step_every": 2000,
    "step_factor": 0.1,
}


def tiny(**hparams):
    defaults = {"variant": "v2", "aspp_rates": (1, 2), "backbone_args": {"output_stride": 8}}
    model = DSRG(num_classes=2, backbone=TINY, test_size=32, **{**defaults, **hparams})
    model.log = model.log_dict = lambda *arguments, **keywords: None
    return model


class SeededSquares(Dataset):
    """`ColouredSquares` with seeds in the middle of the squares and at the border, on a grid of 4 x 4."""

    def __init__(self, length=16):
        self.squares = ColouredSquares(length)

    def __len__(self):
        return len(self.squares)

    def __getitem__(self, index):
        sample = self.squares[index]
        label = int(sample["labels"].argmax()) + 1
        inside = F.avg_pool2d((sample["mask"] == label)[None].float(), 8)[0]
        seeds = torch.zeros(3, 4, 4)
        seeds[label] = (inside == inside.max()).float()
        seeds[0] = (inside == 0).float()
        return {**sample, "seeds": seeds}


def batch_of(length=4):
    return next(iter(DataLoader(SeededSquares(length), batch_size=length)))


@pytest.mark.parametrize("variant", ["vgg16_aspp", "largefov", "v2"])
def test_squashed_images_of_321_pixels_have_score_maps_of_41(variant):
    with torch.device("meta"):
        model = DSRG(variant=variant).train()
        assert model(torch.empty(1, 3, 321, 321)).shape == (1, 21, 41, 41)
        assert model.segment(torch.empty(1, 3, 375, 500)).shape == (1, 21, 375, 500)


def caffe_weights(branches):
    """Random tensors under the names of the DSRG (four branches) or SEC release."""
    generator = torch.Generator().manual_seed(0)
    suffixes = [f"_{index}" for index in range(1, branches + 1)] if branches else [""]
    shapes = {
        f"conv{group}_{index}": (width, inputs if index == 1 else width, 3, 3)
        for group, (inputs, width, count) in enumerate(
            [(3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3)], 1
        )
        for index in range(1, count + 1)
    }
    for suffix in suffixes:
        shapes[f"fc6{suffix}"] = (1024, 512, 3, 3)
        shapes[f"fc7{suffix}"] = (1024, 1024, 1, 1)
        shapes[f"fc8-SEC{suffix}"] = (21, 1024, 1, 1)
    weights = {}
    for name, shape in shapes.items():
        spread = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        weights[f"{name}.weight"] = spread * torch.randn(shape, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return weights


@pytest.mark.parametrize(("branches", "rates"), [(4, (6, 12, 18, 24)), (0, (12,))])
def test_published_keys_and_a_plain_reading_of_the_network(branches, rates):
    weights = caffe_weights(branches)
    model = create_model("dsrg", weights=weights)
    assert model.hparams["variant"] == ("vgg16_aspp" if branches else "largefov")
    x = images = torch.randn(1, 3, 65, 49, generator=torch.manual_seed(1))

    def layer(name, x, dilation=1):
        kernel = weights[f"{name}.weight"]
        padding = dilation * (kernel.shape[2] // 2)
        return F.conv2d(x, kernel, weights[f"{name}.bias"], padding=padding, dilation=dilation)

    for group, count in enumerate((2, 2, 3, 3, 3), 1):
        for index in range(1, count + 1):
            x = layer(f"conv{group}_{index}", x, 2 if group == 5 else 1).relu()
        x = F.max_pool2d(x, 3, 2 if group < 4 else 1, 1)
    x = F.avg_pool2d(x, 3, 1, 1)
    expected = torch.zeros(())
    for index, rate in enumerate(rates, 1):
        suffix = f"_{index}" if branches else ""
        branch = layer(f"fc7{suffix}", layer(f"fc6{suffix}", x, rate).relu()).relu()
        expected = expected + layer(f"fc8-SEC{suffix}", branch)
    with torch.no_grad():
        ours = model(images)
    assert ours.shape == (1, 21, 9, 7)
    assert torch.allclose(ours, expected, atol=1e-4 * expected.abs().max())


def test_four_branches_start_from_one(tmp_path):
    weights = {key: value for key, value in caffe_weights(0).items() if not key.startswith("fc8")}
    torch.save(weights, tmp_path / "vgg16_20M.pth")
    filled = file_weights("vgg16_aspp", tmp_path / "vgg16_20M.pth")
    with torch.device("meta"):
        network = create_backbone("vgg16_aspp")
    assert filled.keys() == network.state_dict().keys()
    for branch in range(1, 5):
        assert torch.equal(filled[f"fc6_{branch}.weight"], weights["fc6.weight"])
        assert torch.equal(filled[f"fc7_{branch}.bias"], weights["fc7.bias"])


@pytest.mark.parametrize(("backbone", "key"), [("vgg16_aspp", "fc6_1"), ("vgg16_largefov", "fc6")])
def test_a_file_of_convolutions_alone_is_told(tmp_path, backbone, key):
    weights = {key: value for key, value in caffe_weights(0).items() if key.startswith("conv")}
    torch.save(weights, tmp_path / "convolutions.pth")
    with pytest.raises(WeightsError, match=rf"do not fit .*missing: {key}\.weight"):
        create_backbone(backbone, str(tmp_path / "convolutions.pth"))


def test_the_second_step_takes_the_weights_of_the_first():
    with torch.device("meta"):
        for variant in ("vgg16_aspp", "v2", "largefov"):
            first, second = DSRG(variant=variant), DeepLab(variant=variant)
            assert first.network.state_dict().keys() == second.network.state_dict().keys()


def test_terms_of_dsrg():
    model, batch = tiny().eval(), batch_of()
    batch["seeds"][:, :, 1:3] = 0  # room to grow
    logits = 4 * torch.randn(4, 3, 4, 4, generator=torch.manual_seed(0))
    losses = model.losses(logits, batch)
    assert losses.keys() == {"seed", "boundary"}
    probabilities = smooth_probabilities(logits)
    log_marginals = model._log_marginals(batch["image"], logits, probabilities)
    assert not log_marginals.requires_grad
    present = torch.cat([torch.ones(4, 1), batch["labels"]], 1)
    grown = grow(batch["seeds"], log_marginals.exp(), present, 0.99, 0.85)
    assert grown.sum() > batch["seeds"].sum()
    assert torch.equal(losses["seed"], balanced_seed(probabilities, grown))
    assert torch.equal(losses["boundary"], constrain(probabilities, log_marginals))
    fixed = tiny(grow=False, boundary_weight=0.0)
    assert torch.equal(fixed.losses(logits, batch)["seed"], balanced_seed(probabilities, batch["seeds"]))


def test_terms_of_sec():
    model, batch = tiny(**SEC).eval(), batch_of()
    logits = torch.randn(4, 3, 4, 4, generator=torch.manual_seed(0))
    losses = model.losses(logits, batch)
    assert losses.keys() == {"seed", "boundary", "expand"}
    probabilities = smooth_probabilities(logits)
    assert torch.equal(losses["seed"], sec_seed(probabilities, batch["seeds"]))
    assert torch.equal(losses["expand"], expand(probabilities, batch["labels"]))


def test_strong_images_learn_from_their_masks_alone():
    model, batch = tiny(full_weight=3.0).eval(), batch_of()
    batch["strong"] = torch.tensor([True, False, False, True])
    batch["seeds"][batch["strong"]] = 0
    losses = model.losses(torch.randn(4, 3, 4, 4, generator=torch.manual_seed(0)), batch)
    assert losses.keys() == {"seed", "boundary", "full"}
    probabilities = smooth_probabilities(torch.randn(4, 3, 4, 4, generator=torch.manual_seed(0)))
    mask = batch["mask"][:, 4::8, 4::8].clone()
    mask[~batch["strong"]] = 255
    assert torch.equal(losses["full"], full(probabilities, mask))
    total = model.training_step(batch, 0)
    terms = model.losses(model(batch["image"]), batch)
    assert total.item() == pytest.approx((terms["seed"] + terms["boundary"] + 3 * terms["full"]).item())


@pytest.mark.parametrize("hparams", [{}, SEC, {"variant": "aspp"}, {"crf_gradient": "surrogate"}])
def test_all_that_is_optimised_has_a_gradient(hparams):
    torch.manual_seed(0)
    model = tiny(**hparams).train()
    model.training_step(batch_of(), 0).backward()
    assert all(item.grad is not None for item in model.network.parameters() if item.requires_grad)


def test_the_surrogate_changes_the_gradient_and_not_the_loss():
    gradients, losses = [], []
    for choice in ("blocked", "surrogate"):
        torch.manual_seed(0)
        model = tiny(crf_gradient=choice).eval()
        loss = model.training_step(batch_of(), 0)
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.network.head.c0.weight.grad)
    assert losses[0] == losses[1]
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize(
    ("hparams", "steps", "factors"),
    [
        ({}, (0, 999, 1000, 2000), (1, 1, 0.33, 0.33**2)),
        (SEC, (1999, 2000), (1, 0.1)),
        ({"schedule": "poly"}, (0, 50, 99), (1, 0.5**0.9, 0.01**0.9)),
    ],
)
def test_schedules_and_groups(hparams, steps, factors):
    model = tiny(**hparams)
    model.trainer = SimpleNamespace(estimated_stepping_batches=100)
    configured = model.configure_optimizers()
    schedule = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert [schedule(step) for step in steps] == pytest.approx(list(factors))
    lr = model.hparams["lr"]
    groups = {group["name"]: group for group in configured["optimizer"].param_groups}
    assert groups["new_biases"]["initial_lr"] == pytest.approx(20 * lr)
    assert groups["new_biases"]["weight_decay"] == 0
    assert groups["weights"]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"variant": "resnet38_psa"}, "DSRG has no variant 'resnet38_psa'"),
        ({"crf_energy": "neg_probs"}, "did you mean 'neg_prob'"),
        ({"grow_background": 99}, r"grow_background lies in \[0, 1\], got 99"),
        ({"boundary_weight": -1.0}, "boundary_weight must not be negative"),
    ],
)
def test_mistaken_settings(hparams, message):
    with pytest.raises(WsssZooError, match=message):
        tiny(**hparams)


def test_missing_and_misplaced_seeds_are_told():
    model, batch = tiny(), batch_of()
    with pytest.raises(WsssZooError, match=r"grid of 2 x 2 .* make the seeds anew with grid: \[4, 4\]"):
        model.training_step({**batch, "seeds": batch["seeds"][:, :, ::2, ::2]}, 0)
    del batch["seeds"]
    with pytest.raises(WsssZooError, match="trains on seeds and the training data has none"):
        model.training_step(batch, 0)


def test_inference_squashes_the_image_and_enlarges_the_scores():
    torch.manual_seed(0)
    model = tiny().eval()
    image = torch.randint(0, 256, (40, 61, 3), dtype=torch.uint8).numpy()
    pyramid = image_pyramid(image, (0.75, 1.0, 1.25), model.normalization, model.test_size)
    assert [tuple(level.shape[2:]) for level in pyramid] == [(24, 24), (32, 32), (40, 40)]
    scores = multi_scale_segment(model, pyramid, (40, 61), flip=False, average="logit_sum")
    with torch.no_grad():
        logits = [
            F.interpolate(model(level), (40, 61), mode="bilinear", align_corners=True) for level in pyramid
        ]
    assert torch.allclose(scores, torch.cat(logits).sum(0).softmax(0), atol=1e-5)
    assert model.segment(torch.randn(1, 3, 40, 61)).shape == (1, 3, 40, 61)


class _Trained(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        trainer.metrics_seen = dict(trainer.callback_metrics)


def test_it_learns_masks_from_seeds(tmp_path):
    torch.manual_seed(0)
    settings = {
        "optimizer": "adamw",
        "lr": 3e-3,
        "weight_decay": 1e-3,
        "schedule": "poly",
        "expand_weight": 0.2,
    }
    model = DSRG(
        "v2",
        num_classes=2,
        backbone=TINY,
        backbone_args={"output_stride": 8},
        aspp_rates=(1, 2),
        test_size=32,
        **settings,
    )
    trainer = L.Trainer(
        max_epochs=15,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[_Trained()],
    )
    trainer.fit(model, DataLoader(SeededSquares(32), batch_size=8))
    seen = trainer.metrics_seen
    assert {"train/loss_seed", "train/loss_boundary", "train/loss_expand"} <= seen.keys()
    assert seen["train/grown_seeds"] > seen["train/seeds"]
    metric = MeanIoU(3)
    with torch.no_grad():
        for index in range(16):
            sample = ColouredSquares(16)[index]
            labels = model.eval().segment(sample["image"][None]).argmax(1)
            metric.update(labels, sample["mask"][None])
    assert metric.compute()["miou"] > 0.5  # untrained 0.1 to 0.2
