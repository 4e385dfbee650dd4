"""Trained modules out and in."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from lightning import LightningModule
from torch import nn

from wsss_zoo.errors import WeightsError
from wsss_zoo.methods.published import load_pretrained
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.pretrained import (
    export_state_dict,
    load_weights,
    read_metadata,
    save_pretrained,
)


class Small(LightningModule):
    def __init__(self, width: int = 4, scales: tuple[float, ...] = (0.5, 1.0), backbone_weights=None):
        super().__init__()
        self.save_hyperparameters()
        if backbone_weights is not None:
            raise AssertionError("initial weights are not needed to load trained ones")
        self.network = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))


@pytest.fixture
def trained():
    torch.manual_seed(0)
    module = Small(width=6)
    module.hparams["backbone_weights"] = "imagenet"  # what the module was trained from
    nn.init.normal_(module.network[1].running_mean)
    return module


def test_a_saved_module_comes_back(tmp_path, trained):
    path = tmp_path / "models" / "small.safetensors"
    save_pretrained(trained, path, class_names=("cat", "dog"))
    loaded = load_pretrained(path)
    assert type(loaded) is Small
    assert not loaded.training
    assert loaded.class_names == ["cat", "dog"]
    assert loaded.hparams["width"] == 6
    image = torch.randn(2, 3, 5, 5)
    assert torch.equal(loaded.network(image), trained.eval().network(image))
    assert [file.name for file in path.parent.iterdir()] == ["small.safetensors"]


def test_the_file_says_what_it_is(tmp_path, trained):
    path = tmp_path / "small.safetensors"
    save_pretrained(trained, path)
    description = read_metadata(path)
    assert description["class_path"] == f"{Small.__module__}.Small"
    assert description["hparams"] == {"width": 6, "scales": [0.5, 1.0], "backbone_weights": "imagenet"}
    assert description["class_names"] is None
    assert read_state_dict(path).keys() == trained.network.state_dict().keys()


def test_plain_export(tmp_path, trained):
    export_state_dict(trained, tmp_path / "network.pth")
    target = Small(width=6)
    load_weights(target, tmp_path / "network.pth")
    assert torch.equal(target.network[1].running_mean, trained.network[1].running_mean)
    with pytest.raises(WeightsError, match=r"network\.pth.*other shape"):
        load_weights(Small(width=5), tmp_path / "network.pth")


def test_settings_that_are_no_json_are_refused_before_writing(tmp_path, trained):
    trained.hparams["scales"] = {1, 2}
    with pytest.raises(WeightsError, match="hyper-parameters of Small cannot be written down"):
        save_pretrained(trained, tmp_path / "small.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_of_others_have_no_description(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    assert read_metadata(path) is None
    with pytest.raises(WeightsError, match="does not tell which model"):
        load_pretrained(path)
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    assert read_metadata(tmp_path / "other.pth") is None
    with pytest.raises(WeightsError, match="there is no weights file"):
        read_metadata(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"hparams": 3, "class_path": "a.B"}), "{}"])
def test_a_damaged_description_is_told(tmp_path, text):
    path = tmp_path / "damaged.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, metadata={"wsss_zoo": text})
    with pytest.raises(WeightsError, match=r"damaged\.safetensors: its description"):
        read_metadata(path)
