"""LDF on tiny backbones: passes, sizes, branches, optimiser, schedule, a training."""

from __future__ import annotations

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from tests.methods.tiny import TINY, Pixels
from wsss_zoo.data.label_decoupling import decouple, edge_map
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods import LDF, create_model
from wsss_zoo.methods.ldf.losses import decoupled_loss
from wsss_zoo.methods.ldf.network import LDFNetwork
from wsss_zoo.methods.ldf.optimization import triangular_factor
from wsss_zoo.methods.published import load_pretrained
from wsss_zoo.weights.pretrained import save_pretrained


class BrightSquares(Dataset):
    """64 x 64 noise with one bright square, its mask and the maps that follow from it."""

    def __init__(self, length=8):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        mask = np.zeros((64, 64), np.uint8)
        top, left = rng.integers(4, 28, 2)
        mask[top : top + 32, left : left + 32] = 255
        body, detail = decouple(mask)
        maps = {"mask": mask, "body": body, "detail": detail, "edge": edge_map(mask)}
        sample = {name: torch.from_numpy(values / np.float32(255)) for name, values in maps.items()}
        image = 0.1 * rng.standard_normal((3, 64, 64)) + 2.0 * (mask > 0)
        return {"image": torch.from_numpy(image.astype(np.float32)), **sample, "image_id": str(index)}


def tiny(**hparams):
    torch.manual_seed(0)
    return LDF(**{"backbone": TINY, "channels": 8, "test_size": 64, **hparams})


def trainer(folder, **arguments):
    return L.Trainer(
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **arguments,
    )


def train_one_step(folder, model):
    trainer(folder, max_epochs=1).fit(model, DataLoader(BrightSquares(2), batch_size=2))


def attached(model, epochs=None):
    """A module with what its optimiser asks of a trainer."""
    facts = {"max_epochs": epochs, "accumulate_grad_batches": 1, "num_training_batches": 330}
    model.trainer = type("Trainer", (), {**facts, "estimated_stepping_batches": 660})()
    return model


def test_published_settings():
    with torch.device("meta"):
        model = LDF()
    assert [stage.stride for stage in model.network.backbone.stages] == [4, 8, 16, 32]
    assert model.network.levels == ("layer1", "layer2", "layer3", "layer4")
    assert model.normalization.mean == (124.55, 118.90, 102.94)
    assert model.normalization.std == (56.77, 55.97, 57.50)
    assert model.kind == "saliency"


def test_other_backbones_keep_their_normalization():
    model = tiny()
    assert model.normalization == model.network.backbone.normalization
    # this one has a map of stride 2, too
    assert model.network.levels == ("stage2", "stage3", "stage4", "stage5")


@pytest.mark.parametrize("interactions", [0, 1, 3])
def test_every_interaction_adds_a_pass(interactions):
    model = tiny(interactions=interactions).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        outputs = model(images)
        once = LDFNetwork(model.network.backbone, 8, 0).eval()
        # the passes share everything: the first one does not know how many follow
        once.load_state_dict(model.network.state_dict(), strict=False)
        first = once(images)
    assert len(outputs) == 3 * (interactions + 1)
    assert all(x.shape == (2, 1, 64, 96) for x in outputs)
    assert all(torch.equal(x, y) for x, y in zip(outputs, first, strict=False))
    for one, next_one in zip(outputs, outputs[3:], strict=False):
        assert not torch.allclose(one, next_one)


def test_without_feedback_the_second_pass_repeats_the_first():
    model = tiny().eval()
    for head in (*model.network.interaction.body_heads, *model.network.interaction.detail_heads):
        torch.nn.init.zeros_(head[1].weight)
        torch.nn.init.zeros_(head[1].bias)
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 64))
    assert all(torch.equal(x, y) for x, y in zip(outputs, outputs[3:], strict=False))


@pytest.mark.parametrize("interactions", [0, 1])
def test_everything_learns(interactions):
    # distributed training stops where a parameter gets no gradient
    model = tiny(interactions=interactions).train()
    batch = next(iter(DataLoader(BrightSquares(2), batch_size=2)))
    sum(x.square().mean() for x in model(batch["image"])).backward()
    without = [name for name, item in model.network.named_parameters() if item.grad is None]
    assert without == []


@pytest.mark.parametrize(("height", "width"), [(100, 96), (96, 336), (16, 16)])
def test_sides_that_are_no_multiple_of_32(height, width):
    with pytest.raises(WsssZooError, match=rf"multiples of 32, got {height} x {width}"):
        tiny()(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"backbone": "resnet38d"}, "strides 4, 8, 16 and 32, the backbone ResNet38d has"),
        ({"backbone": "resnet50", "backbone_args": {"output_stride": 16}}, "ResNet has 4, 8, 16, 16"),
        ({"branches": ("body", "details")}, "no branch 'details'; did you mean 'detail'"),
        ({"branches": ("body",)}, "two branches, `branches` names 1"),
        ({"test_size": 350}, "test_size is a multiple of 32, got 350"),
        ({"interactions": -1}, "interactions at least 0, got 64 and -1"),
    ],
)
def test_settings_that_do_not_work(hparams, message):
    with torch.device("meta"), pytest.raises(WsssZooError, match=message):
        LDF(**hparams)


def test_a_backbone_of_the_wrong_kind():
    with pytest.raises(WsssZooError, match="Pixels has 1"):
        LDFNetwork(Pixels())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 75), (97, 131)])
def test_saliency_of_any_size(height, width):
    model, images = tiny().eval(), torch.randn(2, 3, height, width)
    with torch.no_grad():
        maps = model.saliency_maps(images)
        squares = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear")
        quarter = model.network(squares, (16, 16))
        assert torch.equal(model.saliency(images), maps["saliency"])
    assert list(maps) == ["body", "detail", "saliency"]
    for index, name in enumerate(maps):
        # one bilinear step from a quarter of the test size to the image, of logits
        logits = torch.nn.functional.interpolate(quarter[3 + index], (height, width), mode="bilinear")
        assert torch.allclose(maps[name], logits.sigmoid(), atol=1e-6)
        assert maps[name].shape == (2, 1, height, width)


@given(st.integers(1, 90), st.integers(1, 90))
def test_images_reach_test_size_as_in_opencv(height, width):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    model = LDF.__new__(LDF)
    L.LightningModule.__init__(model)
    model.save_hyperparameters({"test_size": 352})
    mean, std = np.array([124.55, 118.90, 102.94]), np.array([56.77, 55.97, 57.50])
    normalised = (image - mean) / std
    expected = cv2.resize(normalised, (352, 352), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    tensor = torch.from_numpy(normalised.astype(np.float32)).permute(2, 0, 1)[None]
    assert np.abs(model.to_test_size(tensor)[0].numpy() - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("branches", "keys", "targets"),
    [
        (("body", "edge"), ["body", "edge", "saliency"], ("body", "edge")),
        (("edge", "body"), ["edge", "body", "saliency"], ("edge", "body")),
        (("saliency", "detail"), ["saliency", "detail"], ("detail",)),
        (("saliency", "edge"), ["saliency", "edge"], ("edge",)),
        (("saliency", "saliency"), ["saliency"], ()),
    ],
)
def test_what_the_branches_learn(branches, keys, targets):
    model = tiny(branches=branches).eval()
    batch = next(iter(DataLoader(BrightSquares(2), batch_size=2)))
    with torch.no_grad():
        maps = model.saliency_maps(batch["image"])
        logits = model(batch["image"])
    assert list(maps) == keys
    assert torch.allclose(maps["saliency"], logits[5].sigmoid(), atol=1e-6)
    assert model.targets == targets
    first, second = (batch["mask" if branch == "saliency" else branch] for branch in branches)
    with torch.no_grad():
        loss = model.training_step(batch, 0)
    assert torch.equal(loss, decoupled_loss(logits, first, second, batch["mask"]))
    assert not torch.equal(loss, decoupled_loss(logits, batch["body"], batch["detail"], batch["mask"]))


def test_samples_without_a_target():
    batch = next(iter(DataLoader(BrightSquares(2), batch_size=2)))
    del batch["edge"]
    with pytest.raises(
        WsssZooError, match=r"learns 'edge', but the training samples have no 'edge'.*targets"
    ):
        tiny(branches=("body", "edge")).training_step(batch, 0)


@pytest.mark.parametrize("epochs", [48, 40, 1, 7])
def test_the_schedule_is_a_triangle(epochs):
    factors = [triangular_factor(epoch, epochs) for epoch in range(epochs)]
    expected = [2 * min(e, epochs + 1 - e) / (epochs + 1) for e in range(1, epochs + 1)]
    assert factors == pytest.approx(expected, abs=1e-12)
    assert triangular_factor(epochs, epochs) == 0
    assert triangular_factor(3 * epochs, epochs) == 0


def test_sgd_as_published():
    with torch.device("meta"):
        model = attached(LDF(), epochs=48)
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "epoch"
    assert [group["name"] for group in optimizer.param_groups] == ["backbone", "head"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [156, 138]
    for group in optimizer.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
    for epoch in range(48):
        factor = 2 * min(epoch + 1, 48 - epoch) / 49
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.005 * factor, 0.05 * factor], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_adamw_keeps_rates_and_schedule_and_spares_vectors():
    model = attached(tiny(optimizer="adamw", lr=1e-3, weight_decay=0.05), epochs=4)
    configured = model.configure_optimizers()
    assert isinstance(configured["optimizer"], torch.optim.AdamW)
    assert configured["lr_scheduler"]["interval"] == "epoch"
    of = {
        id(item): (group["lr"], group["weight_decay"])
        for group in configured["optimizer"].param_groups
        for item in group["params"]
    }
    for name, item in model.network.named_parameters():
        rate = 1e-4 if name.startswith("backbone.") else 1e-3
        assert of[id(item)] == pytest.approx((rate * 0.4, 0.05 if item.ndim > 1 else 0.0)), name


def test_unknown_optimizer():
    with pytest.raises(WsssZooError, match="did you mean 'adam"):
        attached(tiny(optimizer="adamv"), epochs=2).configure_optimizers()


def test_training_by_steps_counts_the_epochs_that_they_fill():
    optimizer = attached(tiny(), epochs=-1).configure_optimizers()["optimizer"]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.05 * 2 / 3)  # 660 steps of 330 an epoch


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(trainer.optimizers[0].param_groups[-1]["lr"])


def test_training_lowers_loss_and_error(tmp_path):
    L.seed_everything(0, verbose=False)
    model = tiny(optimizer="adamw", lr=1e-2, backbone_lr_factor=0.5)
    loader, rates = DataLoader(BrightSquares(), batch_size=4), Rates()
    running = trainer(tmp_path, max_epochs=12, callbacks=[rates])
    before = running.validate(model, loader, verbose=False)[0]["val/mae"]
    running.fit(model, loader)
    after = running.validate(model, loader, verbose=False)[0]["val/mae"]
    expected = [1e-2 * triangular_factor(epoch, 12) for epoch in range(12) for _ in range(2)]
    assert rates.seen == pytest.approx(expected, rel=1e-9)
    assert after < 0.5 * before
    with torch.no_grad():
        batch = next(iter(loader))
        maps = model.eval().saliency_maps(batch["image"])
    error = (maps["saliency"][:, 0] - batch["mask"]).abs().mean((1, 2))
    assert 0.2 * after < error.mean() < 5 * after


def test_validation_error_is_a_mean_over_images(tmp_path):
    model, data = tiny(), BrightSquares(3)
    # batches of two and of one count by their images
    logged = trainer(tmp_path).validate(model, DataLoader(data, batch_size=2), verbose=False)[0]["val/mae"]
    samples = [data[index] for index in range(len(data))]
    with torch.no_grad():
        model.eval()
        errors = [(model.saliency(x["image"][None])[0, 0] - x["mask"]).abs().mean().item() for x in samples]
    assert logged == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_stem_keeps_its_weights_but_follows_the_statistics(tmp_path):
    model = LDF()
    network = model.network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train_one_step(tmp_path, model)
    after = network.state_dict()
    for key in ("conv1.weight", "bn1.weight", "bn1.bias"):
        assert torch.equal(before[f"backbone.{key}"], after[f"backbone.{key}"])
    for key in ("backbone.bn1.running_mean", "backbone.layer1.0.bn1.weight", "saliency_head.3.weight"):
        assert not torch.equal(before[key], after[key]), key


def test_own_files_come_back(tmp_path):
    model = tiny(branches=("body", "edge"), interactions=2).eval()
    save_pretrained(model, tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        expected = model.saliency_maps(images)
        for again in (
            load_pretrained(tmp_path / "weights.safetensors"),
            create_model("ldf", tmp_path / "weights.safetensors"),
        ):
            maps = again.saliency_maps(images)
            assert list(maps) == ["body", "edge", "saliency"]
            assert all(torch.equal(maps[name], expected[name]) for name in maps)
