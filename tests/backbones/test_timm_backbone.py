"""timm models as feature extractors."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.timm_backbone import normalization_of
from wsss_zoo.errors import WsssZooError


@pytest.mark.parametrize(
    ("model", "output_stride"),
    [
        ("tf_efficientnet_lite0", 8),
        ("tf_efficientnet_lite0", 16),
        ("tf_efficientnet_lite0", 32),
        ("resnet18", 8),
        ("convnext_atto", 16),
        ("mobilenetv3_small_050", 16),
    ],
)
def test_stages_tell_channels_and_stride(model, output_stride):
    network = create_backbone(f"timm/{model}", output_stride=output_stride).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 96, 128))
    assert list(maps) == [stage.name for stage in network.stages]
    for stage in network.stages:
        assert maps[stage.name].shape == (1, stage.channels, 96 // stage.stride, 128 // stage.stride)
    assert network.out_stride == output_stride


def test_chosen_levels():
    network = create_backbone("timm/tf_efficientnet_lite0", output_stride=16, out_indices=[1, 3])
    assert [tuple(stage) for stage in network.stages] == [("stage1", 24, 4), ("stage2", 112, 16)]


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "resnet18", "swin_tiny_patch4_window7_224"])
def test_the_final_map_is_what_the_classifier_pools(model):
    whole = timm.create_model(model, pretrained=False, num_classes=5).eval()
    network = create_backbone(f"timm/{model}", out_indices=[1], final=True).eval()
    network.features.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = network(images)
        pooled = maps["final"].mean((2, 3))
        expected = whole.forward_head(whole.forward_features(images), pre_logits=True)
    assert list(maps) == ["stage1", "final"]
    assert maps["final"].shape[1:] == (network.out_channels, 7, 7)
    assert network.out_stride == 32
    assert torch.allclose(pooled, expected, atol=1e-5)


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
def test_nothing_behind_the_deepest_exposed_map_is_left(model):
    """Else distributed training fails on parameters that no loss reaches."""
    whole = create_backbone(f"timm/{model}").eval()
    network = create_backbone(f"timm/{model}", out_indices=[1, 3]).eval()
    network.features.load_state_dict(whole.features.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    maps, expected = network(images), whole(images)
    assert torch.equal(maps["stage1"], expected["stage2"])
    assert torch.equal(maps["stage2"], expected["stage4"])
    maps["stage2"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_final_map_of_the_wrong_level_is_told():
    with pytest.raises(WsssZooError, match="has 5 feature levels"):
        create_backbone("timm/tf_efficientnet_lite0", out_indices=[7], final=True)


def test_channels_last_models_are_turned_around():
    with torch.device("meta"):
        network = create_backbone("timm/swin_tiny_patch4_window7_224", out_indices=(0,))
        maps = network(torch.empty(1, 3, 224, 224))
    assert maps["stage1"].shape == (1, 96, 56, 56)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("tf_efficientnet_lite00", {}, "did you mean 'tf_efficientnet_lite0'"),
        ("qqqqqqqq", {}, r"timm.list_models\(\) gives the names$"),
        ("vit_tiny_patch16_224", {"output_stride": 8}, "output_stride"),
        ("hrnet_w18_small", {"output_stride": 16}, "choose another model"),
        ("tf_efficientnet_lite0", {"out_indices": (1, 9)}, "out_indices"),
        ("resnet18", {"outputstride": 8}, "did you mean 'output_stride'"),
    ],
)
def test_what_a_model_cannot_do_is_told(model, arguments, message):
    with pytest.raises(WsssZooError, match=message):
        create_backbone(f"timm/{model}", **arguments)


def test_a_model_that_ignores_the_stride_is_refused(monkeypatch):
    original = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, output_stride, **others: original(*args, **others)
    )
    with pytest.raises(WsssZooError, match="ignores output_stride=8: its deepest map has stride 32"):
        create_backbone("timm/resnet18", output_stride=8)


def test_frozen_norm_neither_moves_nor_learns():
    network = create_backbone("timm/tf_efficientnet_lite0", frozen_norm=True).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) > 40
    assert not any(layer.training or layer.weight.requires_grad for layer in norms)
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in network.modules())
    assert len(list(network.pretrained_parameters())) == convolutions


def test_normalization_is_that_of_the_pretraining():
    imagenet = normalization_of("resnet50.a1_in1k")
    assert imagenet.mean == pytest.approx((123.675, 116.28, 103.53))
    assert imagenet.std == pytest.approx((58.395, 57.12, 57.375))
    half = normalization_of("vit_tiny_patch16_224")
    assert half.mean == pytest.approx((127.5, 127.5, 127.5))
    lite = normalization_of("tf_efficientnet_lite0")
    assert (lite.mean, lite.std, lite.bgr) == ((127.0,) * 3, (128.0,) * 3, False)
