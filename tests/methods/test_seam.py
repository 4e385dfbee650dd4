"""SEAM's switches, where gradients go, its backbones, maps and training."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo import create_model
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods import SEAM
from wsss_zoo.methods.multi_scale import multi_scale_localize
from wsss_zoo.methods.optimization import parameter_groups
from wsss_zoo.methods.seam import losses as terms
from wsss_zoo.methods.seam.losses import seam_losses
from wsss_zoo.weights.pretrained import save_pretrained

#: Eight by eight cells for 64 pixels: the third stage of the tiny network is the deepest.
SMALL = {"out_indices": (0, 1, 2)}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**hparams):
    torch.manual_seed(0)
    return SEAM(num_classes=3, backbone=TINY, backbone_args=SMALL, **hparams)


def step_losses(model, images, labels):
    smaller = torch.nn.functional.interpolate(images, (19, 19), mode="bilinear", align_corners=True)
    return seam_losses([model.network(images), model.network(smaller)], labels)


def test_which_term_reaches_what():
    model = build(dropout=0.0).eval()
    images, labels = noise(2, 3, 64, 64, dtype=torch.float32), torch.tensor([[1.0, 0, 0], [0, 1.0, 1.0]])
    network = model.network
    parts = {
        "backbone": dict(network.backbone.named_parameters()),
        "classifier": dict(network.head.classifier.named_parameters()),
        "pcm": dict(network.head.correlation.named_parameters()),
    }
    reached = {}
    for name in ("cls", "min", "er", "ecr"):
        network.zero_grad()
        step_losses(model, images, labels)[name].backward()
        reached[name] = {
            part
            for part, parameters in parts.items()
            if any(p.grad is not None and p.grad.abs().max() > 0 for p in parameters.values())
        }
        weight = network.head.classifier.weight.grad
        assert weight is None or (weight[0] == 0).all(), "the background row of the classifier"
        if name in ("min", "ecr"):
            assert all(p.grad.abs().max() > 0 for p in parts["pcm"].values())
    assert reached == {
        "cls": {"backbone", "classifier"},
        "er": {"backbone", "classifier"},
        "min": {"pcm"},
        "ecr": {"pcm"},
    }


@pytest.mark.parametrize(
    ("switches", "names", "passes"),
    [
        ({"er": False, "pcm": False}, {"cls"}, 1),
        ({"er": True, "pcm": False}, {"cls", "er"}, 2),
        ({"er": False, "pcm": True}, {"cls", "min", "ecr"}, 2),
        ({"min_pooling": False}, {"cls", "er", "ecr"}, 2),
        ({}, {"cls", "min", "er", "ecr"}, 2),
    ],
)
def test_switches_choose_terms_and_maps(switches, names, passes):
    model, sizes_seen, logged = build(**switches), [], {}
    model.log = lambda name, value, **_: logged.update({name: value.item()})
    model.log_dict = lambda values: logged.update({name: value.item() for name, value in values.items()})
    model.network.register_forward_pre_hook(lambda _, inputs: sizes_seen.append(tuple(inputs[0].shape[2:])))
    batch = {
        "image": noise(2, 3, 64, 48, dtype=torch.float32),
        "labels": torch.tensor([[1.0, 0, 0], [0, 1, 1]]),
    }
    loss = model.training_step(batch, 0)
    assert sizes_seen == [(64, 48), (19, 14)][:passes]
    assert set(logged) == {"train/loss"} | {f"train/loss_{name}" for name in names}
    assert loss.item() == pytest.approx(sum(logged[f"train/loss_{name}"] for name in names), rel=1e-6)
    loss.backward()
    # everything that exists is trained: distributed training would stop at anything else
    assert all(p.grad is not None for p in model.network.parameters() if p.requires_grad)
    assert (model.network.head.correlation is not None) == switches.get("pcm", True)
    model.eval()
    with torch.no_grad():
        cam, refined = model.network(batch["image"])
        source = refined if switches.get("pcm", True) else cam.relu()
        assert torch.equal(model.activation_maps(batch["image"]), source[:, 1:])


def test_ohem_keeps_what_differs_most():
    target = torch.zeros(2, 2, 1, 5)
    refined = torch.arange(20.0).view(2, 2, 1, 5)
    assert terms.hard_difference(target, refined, 0.2).item() == pytest.approx((8.5 + 18.5) / 2)
    assert terms.hard_difference(target, refined, None).item() == pytest.approx(9.5)
    model, seen = build(ohem=False), []
    model.log = model.log_dict = lambda *_, **__: None
    batch = {"image": noise(1, 3, 64, 64, dtype=torch.float32), "labels": torch.ones(1, 3)}
    original = terms.hard_difference
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "hard_difference", lambda *a: seen.append(a[2]) or original(*a))
        model.training_step(batch, 0)
    assert seen == [None, None]


def test_localize_masks_absent_classes():
    model = build().eval()
    images, labels = noise(2, 3, 64, 48, dtype=torch.float32), torch.tensor([[1.0, 0, 0], [0, 1.0, 1.0]])
    with torch.no_grad():
        maps = model.localize(images, labels)
        summed = multi_scale_localize(model, [images[:1]], labels[0], (64, 48), flip=False)
        logits = model(images)
    assert maps.shape == (2, 3, 64, 48)
    assert logits.shape == (2, 3)
    assert torch.equal(maps.amax((2, 3)) > 0, labels > 0)
    assert maps.min() >= 0
    assert maps.max() < 1
    assert torch.allclose(maps[0], summed, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "arguments", "stages", "channels"),
    [
        ("resnet50", {"output_stride": 8}, ("layer2", "layer3"), (512, 1024)),
        ("vgg16", {}, ("conv4", "conv5"), (512, 512)),
        (TINY, {}, ("stage3", "stage4"), (32, 48)),
        (TINY, {"final": True}, ("stage4", "stage5"), (48, 64)),
    ],
)
def test_backbones(backbone, arguments, stages, channels):
    model = SEAM(num_classes=2, backbone=backbone, backbone_args=arguments).eval()
    assert model.network.pcm_stages == stages
    pcm = model.network.head.correlation
    assert (pcm.shallow.in_channels, pcm.deep.in_channels) == channels
    with torch.no_grad():
        cam, refined = model.network(noise(1, 3, 66, 50, dtype=torch.float32))
    assert cam.shape == refined.shape == (1, 3, 66, 50)
    assert 0 <= refined.min() < refined.max() <= 1 + 1e-6


def test_levels_of_other_strides_are_brought_to_the_grid():
    model = SEAM(num_classes=2, backbone=TINY, pcm_stages=("stage1", "stage4"), pcm_channels=(5, 6)).eval()
    seen = []
    model.network.head.correlation.key.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.network(noise(1, 3, 96, 64, dtype=torch.float32))
    assert seen[0].shape == (1, 3 + 5 + 6, 3, 2)


def test_the_image_enters_the_module_at_the_scale_of_imagenet_normalisation():
    assert build().network.head.correlation.image_scale == pytest.approx(1)
    assert SEAM(backbone="vgg16").network.head.correlation.image_scale == pytest.approx(1 / 57.63)


def test_settings_that_cannot_be():
    with pytest.raises(WsssZooError, match=r"only conv5, fc7.*pcm=False"):
        SEAM(backbone="vgg16_largefov")
    assert SEAM(backbone="vgg16_largefov", pcm=False).network.pcm_stages is None
    with pytest.raises(WsssZooError, match=r"no stage 'layer1'; choose from: stage1"):
        build(pcm_stages=("layer1", "stage1"))
    with pytest.raises(WsssZooError, match=r"two names out of stage1, stage2, stage3"):
        build(pcm_stages=("stage1",))
    for name in ("view_scale", "ohem_fraction", "min_pooling_fraction"):
        with pytest.raises(WsssZooError, match=name):
            build(**{name: 0.0})
        with pytest.raises(WsssZooError, match=name):
            build(**{name: 1.5})


def test_defaults_are_the_paper_s():
    with torch.device("meta"):
        model = SEAM()
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 10576})()
    groups = model.configure_optimizers()["optimizer"].param_groups
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("weights", 0.01, 5e-4),
        ("new_weights", 0.1, 5e-4),
    ]
    assert {group["momentum"] for group in groups} == {5e-4}
    # 448 x 448 becomes 134 x 134
    with torch.device("meta"):
        cam, refined = model.network(torch.empty(2, 3, 134, 134))
    assert cam.shape == refined.shape == (2, 21, 134, 134)
    assert model(torch.empty(1, 3, 100, 130, device="meta")).shape == (1, 20)


def test_new_parts_are_the_head():
    network = build().network
    groups = parameter_groups(network, network.new_modules())
    assert len(groups[2]) == 4
    assert groups[3] == []
    assert sum(map(len, groups)) == len(list(network.parameters()))


def test_own_files_come_back(tmp_path):
    model = build(pcm_stages=("stage1", "stage2"), pcm_channels=(4, 5)).eval()
    save_pretrained(model, tmp_path / "seam.safetensors")
    again = create_model("seam", tmp_path / "seam.safetensors")
    plain = create_model("seam", model.network.state_dict(), **dict(model.hparams))
    images = noise(1, 3, 64, 48, dtype=torch.float32)
    with torch.no_grad():
        for other in (again, plain):
            for ours, theirs in zip(model.network(images), other.network(images), strict=True):
                assert torch.equal(ours, theirs)


def test_training_lowers_the_loss(tmp_path):
    L.seed_everything(0, verbose=False)
    model = SEAM(
        num_classes=3, backbone=TINY, backbone_args=SMALL, optimizer="adamw", lr=5e-3, weight_decay=1e-2
    )
    loader = DataLoader(ColouredSquares(classes=3), batch_size=8)  # the third class never occurs
    trainer = L.Trainer(
        max_epochs=20,
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
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([factor * 5e-3 * (1 / 40) ** 0.9 for factor in (1, 1, 2, 10)], rel=1e-6)
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    for name in ("loss", "loss_cls", "loss_min", "loss_er", "loss_ecr"):
        assert f"train/{name}" in header.split(",")
