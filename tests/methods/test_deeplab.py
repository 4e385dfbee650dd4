"""DeepLab: sizes and parameter groups of every variant, the wrappers of v2, training."""

from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods import DeepLab
from wsss_zoo.methods.deeplab.heads import ASPPHead, PSAHead
from wsss_zoo.methods.deeplab.variants import VARIANTS
from wsss_zoo.methods.multi_scale import multi_scale_segment

SEGMENTERS = sorted(VARIANTS)


def on_meta(variant, **hparams):
    """Shapes and names without memory or arithmetic."""
    with torch.device("meta"):
        return DeepLab(variant=variant, **hparams)


def tiny(variant, **hparams):
    return DeepLab(variant=variant, num_classes=2, backbone=TINY, **hparams)


def configured(model, steps=100, epochs=10):
    model.trainer = SimpleNamespace(estimated_stepping_batches=steps, max_epochs=epochs)
    result = model.configure_optimizers()
    return result["optimizer"], result["lr_scheduler"]["scheduler"]


@pytest.mark.parametrize(
    ("variant", "size", "grid"),
    [
        ("largefov", (321, 321), (41, 41)),
        ("v2", (321, 321), (41, 41)),
        ("v2", (513, 400), (65, 51)),
        ("resnet38_seam", (321, 448), (41, 56)),
        ("resnet38_psa", (448, 300), (56, 38)),
        ("aspp", (512, 321), (32, 21)),
        ("v3plus", (512, 321), (128, 81)),
    ],
)
def test_sizes(variant, size, grid):
    model = on_meta(variant).eval()
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 21, *grid)
    assert model.segment(torch.empty(1, 3, *size, device="meta")).shape == (1, 21, *size)


def test_v2_in_training_gives_every_scale_and_the_maximum():
    outputs = on_meta("v2").train()(torch.empty(1, 3, 321, 321, device="meta"))
    # deeplab-pytorch: 321, 160 (half, cut) and 240 (three quarters, cut) pixels
    assert [tuple(x.shape[2:]) for x in outputs] == [(41, 41), (21, 21), (31, 31), (41, 41)]


def test_v2_takes_the_maximum_over_scales():
    torch.manual_seed(0)
    model, images = tiny("v2").eval(), torch.randn(2, 3, 64, 96)
    network = model.network
    with torch.no_grad():
        single = [network.head(network.backbone(images))]
        for size in ((32, 48), (48, 72)):
            small = F.interpolate(images, size, mode="bilinear")
            single.append(
                F.interpolate(network.head(network.backbone(small)), single[0].shape[2:], mode="bilinear")
            )
        expected = torch.maximum(torch.maximum(single[0], single[1]), single[2])
        assert torch.allclose(model(images), expected, atol=1e-6)


def test_summed_aspp_is_the_sum_of_its_branches():
    head = tiny("v2").network.head
    x = torch.randn(1, 64, 9, 9)
    with torch.no_grad():
        total = sum(
            F.conv2d(x, layer.weight, layer.bias, padding=rate, dilation=rate)
            for layer, rate in zip((head.c0, head.c1, head.c2, head.c3), (6, 12, 18, 24), strict=True)
        )
        assert torch.allclose(head({head.source: x}), total, atol=1e-5)


@pytest.mark.parametrize("variant", SEGMENTERS)
def test_every_variant_learns_through_all_it_optimises(variant):
    torch.manual_seed(0)
    # the reflection padding of the PSA head needs more than 12 x 12 features
    side = 112 if variant == "resnet38_psa" else 32
    model = tiny(variant, backbone_args={"output_stride": 8}).train()
    model.log = lambda *arguments, **keywords: None
    batch = {"image": torch.randn(2, 3, side, side), "mask": torch.randint(0, 3, (2, side, side))}
    model.training_step(batch, 0).backward()
    groups = configured(model)[0].param_groups
    listed = [parameter for group in groups for parameter in group["params"]]
    assert all(parameter.grad is not None for parameter in listed)
    assert {id(p) for p in listed} == {id(p) for p in model.network.parameters() if p.requires_grad}
    assert len(listed) == len({id(p) for p in listed})


# (learning rate, weight decay, momentum) of pretrained weights and biases, new weights and biases
CAFFE = [(1, 1), (2, 0), (10, 1), (20, 0)]
AS_WEIGHTS = [(1, 1), (1, 1), (10, 1), (10, 1)]


@pytest.mark.parametrize(
    ("variant", "lr", "decay", "momentum", "factors", "counts"),
    [
        (
            "largefov",
            1e-3,
            5e-4,
            0.9,
            CAFFE,
            {"weights": 15, "biases": 15, "new_weights": 1, "new_biases": 1},
        ),
        # frozen batch norm: the 104 convolutions and nothing else of the backbone
        ("v2", 2.5e-4, 5e-4, 0.9, CAFFE, {"weights": 104, "new_weights": 4, "new_biases": 4}),
        # 43 convolutions of ResNet38d without conv1a; two batch norms of the head learn
        ("resnet38_seam", 1e-3, 5e-4, 0.9, CAFFE, {"weights": 42, "new_weights": 5, "new_biases": 3}),
        ("resnet38_psa", 1e-3, 2e-4, 0.0, AS_WEIGHTS, {"weights": 42, "new_weights": 2, "new_biases": 2}),
    ],
)
def test_parameter_groups(variant, lr, decay, momentum, factors, counts):
    groups = configured(on_meta(variant))[0].param_groups
    assert {group["name"]: len(group["params"]) for group in groups} == counts
    expected = dict(zip(("weights", "biases", "new_weights", "new_biases"), factors, strict=True))
    for group in groups:
        factor, decayed = expected[group["name"]]
        assert group["lr"] == pytest.approx(lr * factor)
        assert group["weight_decay"] == decay * decayed
        assert group["momentum"] == momentum
        assert not group["nesterov"]


def test_v2_changes_its_rate_every_ten_steps():
    optimizer, schedule = configured(tiny("v2"), steps=40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2.5e-4 * (1 - t // 10 * 10 / 40) ** 0.9 for t in range(40)])


def test_seam_divides_by_one_step_more():
    optimizer, schedule = configured(tiny("resnet38_seam"), steps=4)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * (1 - 3 / 5) ** 0.9)


def test_psa_follows_the_cosine_of_ssdd():
    optimizer, schedule = configured(tiny("resnet38_psa"), steps=160, epochs=16)  # ten steps an epoch
    for _ in range(155):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(8.141676086873584e-05)


def test_own_settings_win():
    model = tiny("v2", lr=1.0, weight_decay=0.5, momentum=0.1, head_lr_factor=3, caffe_biases=False)
    groups = configured(model)[0].param_groups
    assert {group["lr"] for group in groups} == {1.0, 3.0}
    assert {(group["weight_decay"], group["momentum"]) for group in groups} == {(0.5, 0.1)}


def test_frozen_batch_norm_stays_frozen_in_training():
    for variant, learning in (("v2", 0), ("resnet38_seam", 2), ("resnet38_psa", 0)):
        network = on_meta(variant).network.train()
        norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        assert sum(layer.training for layer in norms) == learning
        assert sum(layer.weight.requires_grad for layer in norms) == learning


def test_resnet38_variants_freeze_the_stem_only():
    for variant in ("resnet38_seam", "resnet38_psa"):
        backbone = on_meta(variant).network.backbone
        assert not backbone.conv1a.weight.requires_grad
        assert backbone.b2.conv_branch2a.weight.requires_grad
    kept = on_meta("resnet38_seam", backbone_args={"frozen": "stage2"}).network.backbone
    assert not kept.b2.conv_branch2a.weight.requires_grad


def test_psa_head_is_two_reflected_convolutions_with_constant_norm():
    torch.manual_seed(0)
    head = PSAHead(SimpleNamespace(stages=[SimpleNamespace(name="x")], out_channels=4), 3).train()
    x = torch.randn(1, 4, 13, 15)
    first = F.conv2d(F.pad(x, [12] * 4, "reflect"), head.seg1.conv1.weight, dilation=12) / (1 + 1e-3) ** 0.5
    expected = F.conv2d(F.pad(first.relu(), [12] * 4, "reflect"), head.seg2.weight, dilation=12)
    assert torch.allclose(head({"x": x}), expected, atol=1e-4)
    with pytest.raises(WsssZooError, match="at least 104 pixels"):
        head({"x": x[:, :, :12]})


def test_rates_of_aspp_follow_the_stride():
    for stride, rates in ((8, [12, 24, 36]), (16, [6, 12, 18])):
        head = tiny("aspp", backbone_args={"output_stride": stride}).network.head
        assert [branch[0].dilation[0] for branch in list(head.aspp.convs)[1:-1]] == rates
    head = tiny("v3plus", aspp_channels=16, aspp_rates=(2, 4)).network.head
    assert head.classifier.in_channels == 16
    assert [branch[0].dilation[0] for branch in list(head.aspp.convs)[1:-1]] == [2, 4]
    assert head.shallow == "stage2"


def test_mistakes_are_named():
    with pytest.raises(WsssZooError, match="did you mean 'largefov'"):
        DeepLab(variant="large_fov")
    with pytest.raises(WsssZooError, match="exposes a stride-4 map"):
        tiny("v3plus", backbone_args={"out_indices": [3, 4]})
    model = tiny("aspp").train()
    with pytest.raises(WsssZooError, match="batch_size >= 2"):
        model(torch.randn(1, 3, 64, 64))
    with pytest.raises(WsssZooError, match="has none: set `masks`"):
        model.training_step({"image": torch.randn(2, 3, 64, 64)}, 0)
    with pytest.raises(WsssZooError, match="no schedule 'step'"):
        configured(tiny("v2", schedule="step"))


def test_logits_are_enlarged_as_the_variant_says():
    for variant, align in (("resnet38_seam", True), ("largefov", False)):
        model, images = tiny(variant).eval(), torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            logits = F.interpolate(model(images), (64, 96), mode="bilinear", align_corners=align)
            assert torch.allclose(model.segment(images), logits.softmax(1), atol=1e-6)
            merged = multi_scale_segment(model, [images], (64, 96), flip=False)
        assert torch.allclose(merged, logits.softmax(1)[0], atol=1e-6)


def test_decoder_joins_both_maps():
    head = ASPPHead(tiny("v3plus").network.backbone, 3, 8, (2,), decoder=True).eval()
    maps = {"stage2": torch.randn(1, 24, 16, 16), "stage5": torch.randn(1, 64, 2, 2)}
    with torch.no_grad():
        logits = head(maps)
        assert logits.shape == (1, 3, 16, 16)
        for name in maps:
            assert not torch.allclose(logits, head({**maps, name: maps[name] + 1}))


@pytest.mark.parametrize("variant", ["v2", "v3plus"])
def test_training_lowers_the_loss(tmp_path, variant):
    L.seed_everything(0, verbose=False)
    model = tiny(
        variant,
        backbone_args={"output_stride": 8},
        aspp_channels=16,
        aspp_rates=(1, 2),
        optimizer="adamw",
        lr=5e-3,
    )
    loader = DataLoader(ColouredSquares(), batch_size=8)
    trainer = L.Trainer(
        max_epochs=15,
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    before = trainer.validate(model, loader, verbose=False)[0]["val/miou"]
    trainer.fit(model, loader)
    after = trainer.validate(model, loader, verbose=False)[0]["val/miou"]
    assert after > max(0.6, before + 0.2)
