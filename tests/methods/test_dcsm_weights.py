"""DCSM's VGG16: the published network, its input, and weights of every origin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsss_zoo import create_model
from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WeightsError
from wsss_zoo.methods import DCSM
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET
from wsss_zoo.weights.torchvision_weights import vgg16_fcn_from_torchvision


def caffe_layout(fc_channels=8, classes=20):
    shapes, inputs = {}, 3
    for group, widths in enumerate(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), 1):
        for index, width in enumerate(widths, 1):
            shapes[f"conv{group}_{index}"] = (width, inputs, 3, 3)
            inputs = width
    shapes |= {
        "fc6of": (fc_channels, 512, 7, 7),
        "fc7of": (fc_channels, fc_channels, 1, 1),
        "fc8": (classes, fc_channels, 1, 1),
    }
    generator = torch.Generator().manual_seed(0)
    state_dict = {}
    for name, shape in shapes.items():
        state_dict[f"{name}.weight"] = (
            torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        )
        state_dict[f"{name}.bias"] = 0.1 * torch.randn(shape[:1], generator=generator)
    return state_dict


def test_weights_of_the_caffe_release():
    state_dict = caffe_layout()
    model = create_model("dcsm", weights=state_dict, backbone_args={"fc_channels": 8})
    assert (model.hparams["backbone"], model.hparams["num_classes"]) == ("vgg16_fcn", 20)
    image = 50 * torch.randn(1, 3, 230, 200)
    with torch.no_grad():
        x = image
        for group, count in enumerate((2, 2, 3, 3, 3), 1):
            for index in range(1, count + 1):
                weight, bias = (state_dict[f"conv{group}_{index}.{kind}"] for kind in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, padding=1).relu()
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        for name in ("fc6of", "fc7of"):
            x = F.conv2d(x, state_dict[f"{name}.weight"], state_dict[f"{name}.bias"]).relu()
        expected = F.conv2d(x, state_dict["fc8.weight"], state_dict["fc8.bias"])
        score_map, logits = model.network(image), model(image)
    assert score_map.shape == (1, 20, 2, 1)
    assert torch.allclose(score_map, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert torch.equal(logits, score_map.amax((2, 3)))
    with pytest.raises(WeightsError, match=r"classifier\.bias: expected \(3,\), got \(20,\)"):
        create_model("dcsm", weights=state_dict, backbone_args={"fc_channels": 8}, num_classes=3)


def matconvnet_layout(state_dict):
    """The same tensors with the numbers of MatConvNet's layers, filters height x width x inputs x outputs."""
    numbers = (1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29, 32, 34, 36)
    names = [key.removesuffix(".weight") for key in state_dict if key.endswith(".weight")]
    layers = {}
    for number, name in zip(numbers, names, strict=True):
        layers[f"layers.{number}.filters"] = state_dict[f"{name}.weight"].permute(2, 3, 1, 0)
        layers[f"layers.{number}.biases"] = state_dict[f"{name}.bias"][None]
    return layers


@pytest.mark.parametrize("bgr", [True, False])
def test_weights_of_the_matconvnet_release(bgr):
    # fc6 as wide as one convolution, so that nothing but the layout tells inputs from outputs
    state_dict = caffe_layout(512, classes=7)
    caffe = create_model("dcsm", weights=state_dict)
    arguments = {"fc_channels": 512, "bgr": bgr}
    model = create_model("dcsm", weights=matconvnet_layout(state_dict), backbone_args=arguments)
    assert model.hparams["num_classes"] == 7
    assert model.normalization.bgr == bgr
    for key, value in caffe.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)


@pytest.mark.parametrize("layout", [lambda state_dict: state_dict, matconvnet_layout])
def test_the_width_follows_from_the_weights(layout):
    model = create_model("dcsm", weights=layout(caffe_layout(3)))
    assert model.hparams["backbone_args"] == {"fc_channels": 3}
    with torch.device("meta"):
        published = {key: torch.empty_like(value) for key, value in caffe_layout(4096).items()}
        assert create_model("dcsm", weights=published).hparams["backbone_args"] is None


def test_the_published_network():
    with torch.device("meta"):
        model = DCSM()
        assert model(torch.empty(2, 3, 512, 400)).shape == (2, 20)
        assert model.network(torch.empty(1, 3, 512, 512)).shape == (1, 20, 10, 10)
    shapes = {key: tuple(value.shape) for key, value in model.network.state_dict().items()}
    assert shapes["backbone.fc6.weight"] == (4096, 512 * 49)
    assert sum(np.prod(shape) for shape in shapes.values()) == 134_342_484
    assert model.network.layers == tuple(f"conv{group}_{index}" for group in (3, 4, 5) for index in (1, 2, 3))
    assert [stage.stride for stage in model.network.backbone.stages] == [4, 4, 4, 8, 8, 8, 16, 16, 16, 32]
    assert (model.canvas, model.scales, model.settings.compared_classes) == (500, (0.8, 1.0, 1.2), 4)
    with torch.device("meta"):
        caffe = DCSM(variant="caffe")
    assert (caffe.canvas, caffe.scales, caffe.settings.compared_classes) == (512, (1.0,), 3)


def test_input_of_the_network():
    assert DCSM(backbone_args={"fc_channels": 2}).normalization.mean == (104.00699, 116.66877, 122.67892)
    backbone = create_backbone("vgg16_fcn", fc_channels=2, bgr=False)
    pixels = np.array([[[104, 117, 123]]], np.uint8)
    assert np.abs(backbone.normalization(pixels)).max() < 0.4


@pytest.mark.parametrize("bgr", [True, False])
def test_imagenet_weights_of_torchvision(tmp_path, bgr):
    generator = torch.Generator().manual_seed(0)
    convolutions = [key for key in caffe_layout(2) if key.startswith("conv") and key.endswith("weight")]
    theirs = {}
    for position, key in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), convolutions, strict=True):
        theirs[f"features.{position}.weight"] = caffe_layout(2)[key]
        theirs[f"features.{position}.bias"] = torch.randn(len(caffe_layout(2)[key]), generator=generator)
    for index, shape in ((0, (2, 512 * 49)), (3, (2, 2)), (6, (1000, 2))):
        theirs[f"classifier.{index}.weight"] = torch.randn(shape, generator=generator)
        theirs[f"classifier.{index}.bias"] = torch.randn(shape[0], generator=generator)
    torch.save(theirs, tmp_path / "vgg16.pth")
    backbone = create_backbone("vgg16_fcn", str(tmp_path / "vgg16.pth"), fc_channels=2, bgr=bgr)
    photo = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    ours, expected = (
        F.conv2d(torch.from_numpy(normalise(photo)).permute(2, 0, 1)[None], weight, bias)
        for normalise, weight, bias in (
            (backbone.normalization, backbone.conv1_1.weight, backbone.conv1_1.bias),
            (IMAGENET, theirs["features.0.weight"], theirs["features.0.bias"]),
        )
    )
    assert torch.allclose(ours, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(backbone.conv5_3.weight, theirs["features.28.weight"])
    assert torch.equal(backbone.fc6.weight, theirs["classifier.0.weight"])
    assert torch.equal(backbone.fc7.bias, theirs["classifier.3.bias"])
    del theirs["classifier.3.bias"]
    with pytest.raises(WeightsError, match=r"classifier\.3\.bias"):
        vgg16_fcn_from_torchvision(theirs, CAFFE_BGR)


def test_initial_weights_from_caffe_files(tmp_path):
    state_dict = caffe_layout(2)
    torch.save(state_dict, tmp_path / "dcsm.pth")
    backbone = create_backbone("vgg16_fcn", str(tmp_path / "dcsm.pth"), fc_channels=2)
    assert torch.equal(backbone.fc6.weight, state_dict["fc6of.weight"].flatten(1))
    # the ImageNet classifier released for Caffe has the same layers under other names, fc6 a matrix
    original = {key.replace("of.", "."): value for key, value in state_dict.items() if "fc8" not in key}
    original["fc6.weight"] = original["fc6.weight"].flatten(1)
    torch.save(original | {"fc8.weight": torch.ones(3, 2)}, tmp_path / "vgg.pth")
    torch.save(matconvnet_layout(state_dict), tmp_path / "mat.pth")
    backbone = create_backbone("vgg16_fcn", str(tmp_path / "mat.pth"), fc_channels=2)
    assert torch.equal(backbone.fc6.weight, state_dict["fc6of.weight"].flatten(1))
    assert torch.equal(backbone.conv5_3.weight, state_dict["conv5_3.weight"])
    backbone = create_backbone("vgg16_fcn", str(tmp_path / "vgg.pth"), fc_channels=2)
    assert torch.equal(backbone.fc6.weight, state_dict["fc6of.weight"].flatten(1))
    assert torch.equal(backbone.fc7.weight, state_dict["fc7of.weight"].flatten(1))
