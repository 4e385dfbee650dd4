"""The official key layouts of all rounds, and the network against numbers of the published classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import resnet38_factor, rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.errors import WeightsError

PARITY = Path(__file__).parents[1] / "parity"
FACTS = json.loads((PARITY / "psa_resnet38_cls.json").read_text())
BACKBONE = {key: shape for key, shape in FACTS["shapes"].items() if key != "fc8.weight"}


def heads(**rows):
    """The backbone's keys and heads of so many rows, on no more memory than one number each."""
    shapes = BACKBONE | {f"{name}.weight": (count, 4096, 1, 1) for name, count in rows.items()}
    return {key: torch.zeros(()).expand(tuple(shape)) for key, shape in shapes.items()}


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_the_network_of_later_rounds():
    # the rule draws a tensor by its key: the head of the classes is that of the fixture
    state_dict = rule_weights(FACTS["shapes"], resnet38_factor)
    state_dict["fc8_20.weight"] = state_dict.pop("fc8.weight")
    state_dict |= rule_weights({"fc8_200.weight": (200, 4096, 1, 1)})
    model = create_model("sccam", weights=state_dict)
    assert (model.hparams["num_classes"], model.hparams["k"]) == (20, 10)
    official = {"head.classifier": "fc8_20", "head.subcategories": "fc8_200", "backbone.": ""}
    own = set()
    for key in model.network.state_dict():
        start = next(name for name in official if key.startswith(name))
        own.add(key.replace(start, official[start]))
    assert own == set(state_dict)

    image = rule_image(99, 117)
    with torch.no_grad():
        logits, features, scores, sub_logits, sub_scores = model.network(image)
        cam, sub_cam = model.network.forward_two_cam(image)
        maps = model.network.maps(image)
    with np.load(PARITY / "psa_resnet38_cls.npz", allow_pickle=False) as arrays:
        published = {name: torch.from_numpy(arrays[f"99x117_{name}"]) for name in ("conv6", "logits", "cam")}
    close(maps[:, ::256], published["conv6"])
    close(logits, published["logits"])
    close(cam, published["cam"])
    assert (cam.shape, sub_cam.shape) == ((1, 20, 13, 15), (1, 200, 13, 15))
    weight = state_dict["fc8_200.weight"][:, :, 0, 0]
    close(features, maps.mean((2, 3)))
    close(sub_logits, features @ weight.T)
    close(sub_cam, torch.einsum("kd,bdhw->bkhw", weight, maps).relu())
    assert torch.equal(scores, logits.sigmoid())
    assert torch.equal(sub_scores, sub_logits.sigmoid())


@pytest.mark.parametrize(
    ("rows", "classes", "k"),
    [
        ({"fc8": 20}, 20, 0),
        ({"fc8_20": 20, "fc8_200": 20}, 20, 1),
        ({"fc8_20": 20, "fc8_200": 100}, 20, 5),
        ({"fc8_20": 4, "fc8_200": 12}, 4, 3),
    ],
)
def test_classes_and_kinds_follow_from_the_heads(rows, classes, k):
    with torch.device("meta"):
        model = create_model("sccam", weights=heads(**rows))
    hparams = model.hparams
    assert (hparams["backbone"], hparams["num_classes"], hparams["k"]) == ("resnet38d", classes, k)
    assert (model.network.head.subcategories is None) == (k == 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"fc8_20": 20}, r"missing: head\.subcategories\.weight"),
        ({"fc8_200": 200}, r"missing: head\.classifier\.weight"),
        ({"fc8_20": 20, "fc8_200": 30}, r"30 rows, no multiple of the 20 classes"),
        ({"fc9": 20}, r"the key 'fc9\.weight' of this resnet38d file belongs to no part"),
    ],
)
def test_files_that_are_not_of_sccam(rows, message):
    with torch.device("meta"), pytest.raises(WeightsError, match=message):
        create_model("sccam", weights=heads(**rows))
