"""`create_model`: names, our own files, and the key layouts of published checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo import create_model, list_models
from wsss_zoo.errors import WeightsError, WsssZooError
from wsss_zoo.methods import CAM, MODELS, DeepLab
from wsss_zoo.methods.published import load_pretrained
from wsss_zoo.weights.pretrained import export_state_dict, save_pretrained

PARITY = Path(__file__).parents[1] / "parity"
IMAGES = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))


def marked(shapes):
    """Tensors whose values tell which key they came from; on no more memory than one number each."""
    return {
        key: torch.tensor(float(index)).expand(tuple(shape))
        for index, (key, shape) in enumerate(shapes.items())
    }


def convolution(key, out, inputs, kernel, bias=True):
    shapes = {f"{key}.weight": (out, inputs, kernel, kernel)}
    return {**shapes, f"{key}.bias": (out,)} if bias else shapes


def norm(key, channels):
    vectors = {f"{key}.{name}": (channels,) for name in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{key}.num_batches_tracked": ()}


def resnet38d(prefix):
    facts = json.loads((PARITY / "psa_resnet38_cls.json").read_text())
    return {f"{prefix}{key}": shape for key, shape in facts["shapes"].items() if key != "fc8.weight"}


def vgg16(names):
    shapes, inputs, position = {}, 3, 0
    for group, widths in enumerate(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), 1):
        for index, width in enumerate(widths, 1):
            key = f"conv{group}_{index}" if names == "caffe" else f"features.{position}"
            shapes |= convolution(key, width, inputs, 3)
            inputs, position = width, position + 2
        position += 1
    return shapes | convolution("fc6", 1024, 512, 3) | convolution("fc7", 1024, 1024, 1)


def deeplab_v2(prefix="base.", classes=21):
    shapes = convolution("layer1.conv1.conv", 64, 3, 7, bias=False) | norm("layer1.conv1.bn", 64)
    inputs = 64
    for layer, (blocks, middle) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512)), 2):
        for number in range(1, blocks + 1):
            block = f"layer{layer}.block{number}"
            parts = [
                ("reduce", middle, inputs, 1),
                ("conv3x3", middle, middle, 3),
                ("increase", 4 * middle, middle, 1),
            ]
            if number == 1:
                parts.append(("shortcut", 4 * middle, inputs, 1))
            for part, out, into, kernel in parts:
                shapes |= convolution(f"{block}.{part}.conv", out, into, kernel, bias=False)
                shapes |= norm(f"{block}.{part}.bn", out)
            inputs = 4 * middle
    for index in range(4):
        shapes |= convolution(f"aspp.c{index}", classes, 2048, 3)
    return {prefix + key: shape for key, shape in shapes.items()}


def seam(classes=21):
    head = convolution("conv_fov", 512, 4096, 3, bias=False) | norm("bn_fov", 512)
    head |= convolution("conv_fov2", 512, 512, 1, bias=False) | norm("bn_fov2", 512)
    return resnet38d("backbone.") | head | convolution("cls_conv", classes, 512, 1)


def ssdd():
    head = {}
    for name in ("seg_main", "seg_sub"):
        head |= convolution(f"{name}.seg1.conv1", 512, 4096, 3) | norm(f"{name}.seg1.bn1", 512)
        head |= convolution(f"{name}.seg2", 21, 512, 3)
    return resnet38d("encoder.") | head


def test_names():
    assert {"affinitynet", "cam", "deeplab", "seam"} <= set(list_models())
    assert isinstance(create_model("cam", backbone=TINY), CAM)
    assert isinstance(create_model("deeplab", variant="largefov", backbone=TINY), DeepLab)
    with pytest.raises(WsssZooError, match="did you mean 'deeplab'"):
        create_model("deeplap")
    with pytest.raises(WsssZooError, match="did you mean 'num_classes'"):
        create_model("cam", num_clases=3)


def test_the_package_is_imported_without_torch():
    code = "import sys, wsss_zoo.methods as m; assert m.list_models(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shapes", "hparams", "first", "here"),
    [
        (deeplab_v2(), {"variant": "v2"}, "base.aspp.c3.bias", "head.c3.bias"),
        (deeplab_v2(""), {"variant": "v2"}, "aspp.c0.weight", "head.c0.weight"),
        (deeplab_v2(classes=5), {"variant": "v2", "num_classes": 4}, "base.aspp.c1.bias", "head.c1.bias"),
        (
            vgg16("caffe") | convolution("fc8-SEC", 21, 1024, 1),
            {"variant": "largefov"},
            "fc8-SEC.weight",
            "head.classifier.weight",
        ),
        (
            vgg16("port") | convolution("fc8", 11, 1024, 1),
            {"variant": "largefov", "num_classes": 10},
            "features.28.bias",
            "backbone.conv5_3.bias",
        ),
        (seam(), {"variant": "resnet38_seam"}, "bn_fov2.running_var", "head.bn_fov2.running_var"),
        (ssdd(), {"variant": "resnet38_psa"}, "seg_main.seg1.bn1.weight", "head.seg1.bn1.weight"),
    ],
    ids=["v2", "v2-without-prefix", "v2-five-labels", "caffe", "port", "seam", "ssdd"],
)
def test_published_segmentation_networks(shapes, hparams, first, here):
    model = create_model("deeplab", weights=marked(shapes))
    assert not model.training
    assert {name: model.hparams[name] for name in hparams} == hparams
    value = model.network.state_dict()[here]
    assert (value == list(shapes).index(first)).all()


def test_the_published_v2_file_has_632_entries_and_all_are_used():
    shapes = deeplab_v2()
    assert len(shapes) == 632
    assert len(create_model("deeplab", weights=marked(shapes)).network.state_dict()) == 632


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_weights_without_a_head_are_for_backbone_weights(backbone):
    import torchvision

    with torch.device("meta"):
        state_dict = getattr(torchvision.models, backbone)().state_dict()
    for name in ("cam", "deeplab"):
        with pytest.raises(WeightsError, match="backbone_weights"):
            create_model(name, weights=state_dict)


def test_irn_classifier_with_its_copies():
    with torch.device("meta"):
        own = CAM(backbone="resnet50_irn").network.state_dict()
    shapes = {key.replace("backbone.", "resnet50.", 1): value.shape for key, value in own.items()}
    shapes |= {"stage1.0.weight": (64, 3, 7, 7), "backbone.0.0.weight": (64, 3, 7, 7)}
    shapes |= {"newly_added.0.weight": (20, 2048, 1, 1)}
    model = create_model("cam", weights=marked(shapes))
    assert model.hparams["backbone"] == "resnet50_irn"
    here = model.network.state_dict()
    assert (here["classifier.weight"] == list(shapes).index("classifier.weight")).all()
    assert (here["backbone.conv1.weight"] == list(shapes).index("resnet50.conv1.weight")).all()


def test_weights_of_another_size_or_with_holes():
    shapes = deeplab_v2()
    with pytest.raises(WeightsError, match=r"head\.c0.*other shape|other shape.*head\.c0"):
        create_model("deeplab", weights=marked(shapes), num_classes=7)
    del shapes["base.layer4.block7.reduce.conv.weight"]
    with pytest.raises(WeightsError, match=r"missing: backbone\.layer4\.block7\.reduce\.conv\.weight"):
        create_model("deeplab", weights=marked(shapes))
    shapes["base.aspp.c9.extra.weight"] = (1,)
    shapes["base.surprise.weight"] = (1,)
    with pytest.raises(WeightsError, match=r"surprise\.weight"):
        create_model("deeplab", weights=marked(shapes))


@pytest.mark.parametrize(
    ("name", "hparams"),
    [
        ("cam", {"num_classes": 3, "backbone": TINY, "backbone_args": {"output_stride": 8}}),
        (
            "deeplab",
            {
                "variant": "v3plus",
                "num_classes": 4,
                "backbone": TINY,
                "aspp_rates": (1, 2),
                "aspp_channels": 8,
            },
        ),
    ],
)
def test_own_files_tell_their_hyper_parameters(tmp_path, name, hparams):
    model = create_model(name, **hparams).eval()
    save_pretrained(model, tmp_path / "weights.safetensors", class_names=["a", "b"])
    with torch.no_grad():
        expected = model(IMAGES)
        for again in (
            create_model(name, tmp_path / "weights.safetensors"),
            load_pretrained(tmp_path / "weights.safetensors"),
        ):
            assert not again.training
            assert torch.equal(again(IMAGES), expected)
    other = next(other for other in MODELS if other != name)
    with pytest.raises(WeightsError, match=f"not the model '{other}'"):
        create_model(other, tmp_path / "weights.safetensors")


def test_exported_state_dicts_come_back(tmp_path):
    model = create_model("cam", num_classes=2, backbone=TINY).eval()
    export_state_dict(model, tmp_path / "network.pth")
    again = create_model("cam", tmp_path / "network.pth", num_classes=2, backbone=TINY)
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_our_keys_are_not_taken_for_those_of_seam():
    # both call the encoder `backbone`
    with torch.device("meta"):
        own = DeepLab(variant="resnet38_seam").network.state_dict()
    shapes = {key: value.shape for key, value in own.items()}
    model = create_model("deeplab", weights=marked(shapes), variant="resnet38_seam")
    value = model.network.head.conv_fov.weight
    assert (value == list(shapes).index("head.conv_fov.weight")).all()


def test_lightning_checkpoints_tell_their_hyper_parameters(tmp_path):
    model = create_model("cam", num_classes=2, backbone=TINY)
    trainer = L.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, DataLoader(ColouredSquares(4), batch_size=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = create_model("cam", tmp_path / "last.ckpt")
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model.eval()(IMAGES))
    assert again.hparams["num_classes"] == 2


def test_hub_addresses(monkeypatch, tmp_path):
    import huggingface_hub

    save_pretrained(create_model("cam", num_classes=2, backbone=TINY), tmp_path / "w.safetensors")
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / "w.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert create_model("cam", "hf://owner/repository/folder/w.safetensors").hparams["num_classes"] == 2
    assert asked == [("owner/repository", "folder/w.safetensors")]
    with pytest.raises(WeightsError, match="hf://owner/repository/file"):
        create_model("cam", "hf://owner")

    def fail(repository, file):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match="no network"):
        create_model("cam", "hf://owner/repository/w.safetensors")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="pip install huggingface_hub"):
        create_model("cam", "hf://owner/repository/w.safetensors")


def test_missing_file():
    with pytest.raises(WeightsError, match=r"there is no weights file nowhere\.pth"):
        create_model("cam", "nowhere.pth")
