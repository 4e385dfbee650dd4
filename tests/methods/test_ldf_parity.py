"""The network of LDF against numbers of the published one, its keys and its parameter groups."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.errors import WeightsError
from wsss_zoo.methods.ldf.optimization import parameter_groups
from wsss_zoo.weights.files import read_state_dict

PARITY = Path(__file__).parents[1] / "parity"
FACTS = json.loads((PARITY / "ldf_net.json").read_text())
OUTPUTS = ("body1", "detail1", "saliency1", "body2", "detail2", "saliency2")


def damped(key):
    return 0.2 if re.fullmatch(r"bkbone\.layer\d\.\d+\.bn3\.weight", key) else 1.0


@pytest.fixture(scope="module")
def state_dict():
    tensors = rule_weights(FACTS["shapes"])
    for key, values in FACTS["weight_probe"].items():
        assert tensors[key].flatten()[:4].tolist() == pytest.approx(values, rel=1e-6)
    return tensors


@pytest.fixture(scope="module")
def model(state_dict):
    return create_model("ldf", weights={key: value * damped(key) for key, value in state_dict.items()})


@pytest.fixture(scope="module")
def arrays():
    with np.load(PARITY / "ldf_net.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def check(outputs, arrays, prefix, step):
    assert len(outputs) == len(OUTPUTS)
    for name, ours in zip(OUTPUTS, outputs, strict=True):
        theirs = arrays[f"{prefix}_{name}"]
        ours = ours[0, 0, ::step, ::step]
        assert ours.shape == theirs.shape, name
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max(), name


def test_logits_at_the_size_of_the_image(model, arrays):
    with torch.no_grad():
        check(model.network(rule_image(128, 160)), arrays, "128x160", 2)


def test_logits_at_another_size(model, arrays):
    with torch.no_grad():
        check(model.network(rule_image(352, 352), (97, 131)), arrays, "352x352", 2)


def test_undamped_weights_from_a_file_of_old_pytorch_without_extension(state_dict, arrays, tmp_path):
    # the release was saved by PyTorch 1.3 as model-<epoch>
    path = tmp_path / "model-48"
    torch.save(state_dict, path, _use_new_zipfile_serialization=False)
    with torch.no_grad():
        check(create_model("ldf", weights=path).network(rule_image(128, 160)), arrays, "plain_128x160", 4)


def test_an_unknown_file_without_extension(tmp_path):
    (tmp_path / "model-48").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="unknown kind of weights"):
        read_state_dict(tmp_path / "model-48")


def test_every_published_entry_has_its_place(model, state_dict):
    own = model.network.state_dict()
    assert len(own) == len(FACTS["shapes"]) == 543
    assert sum(item.numel() for item in model.network.parameters()) == FACTS["parameters"]
    published = sorted(tuple(shape) for shape in FACTS["shapes"].values())
    assert sorted(tuple(value.shape) for value in own.values()) == published
    # nothing is lost and nothing is used twice
    sums = {key: (value * damped(key)).double().sum().item() for key, value in state_dict.items()}
    assert sorted(value.double().sum().item() for value in own.values()) == sorted(sums.values())
    assert model.hparams["backbone"] == "resnet50"


def test_the_three_parameter_groups(model):
    backbone, head = parameter_groups(model.network, lr=0.05, backbone_lr_factor=0.1, weight_decay=5e-4)
    for group in (backbone, head):
        sizes = [len(group["params"]), sum(item.numel() for item in group["params"])]
        assert sizes == FACTS["groups"][group["name"]]
    grouped = {id(item) for group in (backbone, head) for item in group["params"]}
    rest = {name: item for name, item in model.network.named_parameters() if id(item) not in grouped}
    assert list(rest) == ["backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.bias"]
    assert [len(rest), sum(item.numel() for item in rest.values())] == FACTS["groups"]["frozen"]
    assert not any(item.requires_grad for item in rest.values())


def test_files_from_before_batch_counters(state_dict):
    fewer = {key: value for key, value in state_dict.items() if "num_batches" not in key}
    network = create_model("ldf", weights=fewer).network
    expected = state_dict["conv4d.2.running_var"]
    assert torch.equal(network.state_dict()["detail_squeezes.2.2.running_var"], expected)


def test_holes_and_strangers_are_named(state_dict):
    holes = {key: value for key, value in state_dict.items() if not key.startswith("decoderd.bn3")}
    with pytest.raises(WeightsError, match=r"missing: detail_decoder\.blocks\.3\.1\.weight"):
        create_model("ldf", weights=holes)
    with pytest.raises(WeightsError, match=r"linearx\.weight"):
        create_model("ldf", weights={**state_dict, "linearx.weight": torch.zeros(1)})
    backbone = {key: value for key, value in state_dict.items() if key.startswith("bkbone.")}
    with pytest.raises(WeightsError, match="without a head"):
        create_model("ldf", weights=backbone)
