"""Published key layouts, on tensors without memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.layouts import load_strictly, recognise

PARITY = Path(__file__).parents[1] / "parity"


def keys_of(name):
    """The state dict of a backbone, one small tensor a key: only keys and identity matter here."""
    with torch.device("meta"):
        network = create_backbone(name)
    return {key: torch.tensor(float(index)) for index, key in enumerate(network.state_dict())}


def check(published, backbone, tensors, rest):
    assert published is not None
    assert published.backbone == backbone
    assert published.tensors.keys() == tensors.keys()
    assert all(published.tensors[key] is value for key, value in tensors.items())
    assert set(published.rest) == set(rest)


def heads(*names):
    return {name: torch.tensor(-1.0) for name in names}


RESNET38_HEADS = {
    "PSA classifier": ("fc8.weight",),
    "SEAM": ("fc8.weight", "f8_3.weight", "f8_4.weight", "f9.weight"),
    "affinity": ("f8_3.weight", "f8_4.weight", "f8_5.weight", "f9.weight"),
    "SC-CAM": ("fc8.weight", "fc8_20.weight", "fc8_200.weight"),
    "backbone alone": (),
}


@pytest.mark.parametrize("head", RESNET38_HEADS.values(), ids=RESNET38_HEADS.keys())
@pytest.mark.parametrize("counted", [True, False])
def test_resnet38d_with_heads(head, counted):
    backbone = keys_of("resnet38d")
    if not counted:  # files from before PyTorch 0.4.1
        backbone = {key: value for key, value in backbone.items() if "num_batches" not in key}
    check(recognise(backbone | heads(*head)), "resnet38d", backbone, head)


def test_seam_has_the_published_number_of_keys():
    assert len(keys_of("resnet38d") | heads(*RESNET38_HEADS["SEAM"])) == 232


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("backbone.", ("conv_fov.weight", "bn_fov.weight", "conv_fov2.weight", "cls_conv.bias")),
        ("encoder.", ("seg_main.seg1.conv1.weight", "seg_main.seg2.bias", "seg_sub.seg2.bias")),
        ("backbone.", ("classifier.weight",)),
    ],
)
def test_resnet38d_inside_segmentation_networks(prefix, head):
    backbone = keys_of("resnet38d")
    whole = {f"{prefix}{key}": value for key, value in backbone.items()} | heads(*head)
    check(recognise(whole), "resnet38d", backbone, head)


def test_resnet38d_mxnet_names_all_191_of_them():
    rows = json.loads((PARITY / "resnet38d_mxnet_names.json").read_text())
    values = {row[0]: torch.tensor(float(index)) for index, row in enumerate(rows)}
    dropped = heads("arg:linear1000_weight", "arg:linear1000_bias")
    expected = {row[1]: values[row[0]] for row in rows}
    assert len(expected) == 191
    assert set(expected) == {key for key in keys_of("resnet38d") if "num_batches" not in key}
    check(recognise(values | dropped), "resnet38d", expected, ())


def test_mxnet_arrays_of_no_known_layer_are_not_lost():
    rows = json.loads((PARITY / "resnet38d_mxnet_names.json").read_text())
    values = {row[0]: torch.tensor(1.0) for row in rows}
    assert set(recognise(values | heads("arg:extra_weight")).rest) == {"arg:extra_weight"}


def test_vgg16_tells_psa_from_deeplab():
    backbone = keys_of("vgg16")
    check(recognise(backbone | heads("fc8.weight")), "vgg16", backbone, ("fc8.weight",))
    head = ("fc8_voc12.weight", "fc8_voc12.bias")
    check(recognise(backbone | heads(*head)), "vgg16_largefov", backbone, head)
    check(recognise(backbone), "vgg16_largefov", backbone, ())


def test_vgg16_of_ports_and_of_torchvision():
    with torch.device("meta"):
        reference = torchvision.models.vgg16()
    positions = [index for index, layer in enumerate(reference.features) if isinstance(layer, nn.Conv2d)]
    backbone = keys_of("vgg16")
    names = [key.removesuffix(".weight") for key in backbone if key.startswith("conv") and "weight" in key]
    features = {
        f"features.{position}.{kind}": backbone[f"{name}.{kind}"]
        for position, name in zip(positions, names, strict=True)
        for kind in ("weight", "bias")
    }
    connected = {key: value for key, value in backbone.items() if key.startswith("fc")}
    check(recognise(features | connected | heads("fc8.bias")), "vgg16_largefov", backbone, ("fc8.bias",))
    found = recognise(features | heads("classifier.0.weight", "classifier.6.bias"))
    assert found.tensors.keys() == {key for key in backbone if key.startswith("conv")}
    assert set(found.rest) == {"classifier.0.weight", "classifier.6.bias"}


@pytest.mark.parametrize("prefix", ["base.", ""])
def test_deeplab_v2(prefix):
    backbone = keys_of("resnet101_msra")
    head = heads("aspp.c0.weight", "aspp.c3.bias") if prefix else heads("fc.weight")
    whole = {f"{prefix}{key}": value for key, value in (backbone | head).items()}
    check(recognise(whole), "resnet101_msra", backbone, head)


def test_deeplab_v2_caffe_names():
    backbone = {key: value for key, value in keys_of("resnet101_msra").items() if "num_batches" not in key}
    branches = {"shortcut": "1", "reduce": "2a", "conv3x3": "2b", "increase": "2c"}
    whole = {}
    for key, value in backbone.items():
        layer, block, *inner, kind, parameter = key.split(".")
        prefix = "res" if kind == "conv" else "scale" if parameter in ("weight", "bias") else "bn"
        if layer == "layer1":
            name = {"res": "conv1", "scale": "scale_conv1", "bn": "bn_conv1"}[prefix]
        else:
            level, number = int(layer[5:]), int(block[5:])
            later = f"b{number - 1}" if level in (3, 4) else "abc"[number - 1]
            name = f"{prefix}{level}{'a' if number == 1 else later}_branch{branches[inner[0]]}"
        whole[f"{name}.{parameter}"] = value
    assert {"res2c_branch2a.weight", "res4b22_branch2c.weight", "scale5a_branch1.bias"} <= set(whole)
    copies = {f"{key.split('.')[0]}_res05.weight": torch.tensor(-2.0) for key in list(whole)[:3]}
    extra = heads("fc1_voc12_c0.weight", "fc1_voc12_c0.bias")
    check(recognise(whole | copies | extra), "resnet101_msra", backbone, ("aspp.c0.weight", "aspp.c0.bias"))


def test_irn_reads_one_of_three_copies():
    backbone = keys_of("resnet50_irn")
    head = heads("classifier.weight", "fc_edge1.0.weight", "fc_dp7.4.running_mean", "mean_shift.running_mean")
    whole = {f"resnet50.{key}": value for key, value in backbone.items()} | head
    copies = heads("resnet50.fc.weight", "stage1.0.weight", "backbone.0.0.weight", "edge_layers.0.0.weight")
    copies |= heads("newly_added.0.weight", "dp_layers.0.0.weight")
    check(recognise(whole | copies), "resnet50_irn", backbone, head)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision_resnets(name):
    backbone = keys_of(name)
    check(recognise(backbone | heads("fc.weight", "fc.bias")), name, backbone, ("fc.weight", "fc.bias"))


def test_other_networks_are_not_recognised():
    assert recognise(heads("model.conv_stem.weight", "classifier.weight")) is None


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_strict_loading_without_counters():
    source, target = network(), network()
    nn.init.normal_(source[1].running_mean)
    state_dict = {key: value for key, value in source.state_dict().items() if "num_batches" not in key}
    load_strictly(target, state_dict, "a.pth")
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state_dict.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"a\.pth.* missing: 0\.weight"),
        ({"2.weight": torch.ones(1)}, r"not in the network: 2\.weight"),
        ({"0.bias": torch.ones(5)}, r"other shape: 0\.bias: expected \(4,\), got \(5,\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, message):
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state_dict = {**network().state_dict(), **change}
    state_dict = {key: value for key, value in state_dict.items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        load_strictly(target, state_dict, "a.pth")
    assert all(torch.equal(target.state_dict()[key], value) for key, value in before.items())


def test_foreign_keys_are_shown():
    with pytest.raises(WeightsError, match=r"expected keys like 0\.weight, .* found encoder\.a, encoder\.b"):
        load_strictly(network(), heads("encoder.a", "encoder.b"), "a.pth")
