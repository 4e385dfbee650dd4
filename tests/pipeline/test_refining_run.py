"""A recipe whose stages read several artifacts of others: seeds, AffinityNet, random walk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import LabelScores, LocalizationMaps, finished_ids, load_mask
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import DataError
from wsss_zoo.pipeline.plan import Selection
from wsss_zoo.pipeline.run import dry_run, load

RECIPE = """
extends: {base}
stages:
  pseudo_labels: null
  deeplab: null
  seeds:
    refine:
      inputs: {{maps: cam}}
      splits: [train]
      workers: 1
      refiner: {{class_path: wsss_zoo.refine.AffinitySeeds, init_args: {{low: 2, high: 8, crf: null}}}}
    evaluate: {{splits: [train]}}
  affinity:
    fit:
      method:
        class_path: wsss_zoo.methods.AffinityNet
        init_args:
          backbone: timm/test_efficientnet
          backbone_args: {{output_stride: 8}}
          radius: 3
          shrink_radius: true
      inputs: {{scores_low: seeds, scores_high: seeds}}
      data: {{batch_size: 4, crop_size: 64, pad_value: black}}
      trainer: {{max_epochs: 1, enable_model_summary: false, log_every_n_steps: 1}}
  walk:
    title: walk
    predict:
      weights: affinity
      inputs: {{maps: cam}}
      init_args: {{alpha: 4, log_t: 2}}
      outputs: [masks, scores]
      splits: [train]
      crf: seam_walk
      crf_workers: 1
    evaluate: {{splits: [train]}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small_recipe) -> Path:
    path = tmp_path_factory.mktemp("refining") / "refining.yaml"
    path.write_text(RECIPE.format(base=small_recipe))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Path:
    output = tmp_path_factory.mktemp("runs")
    run_recipe(str(recipe), output_dir=output, wandb="off")
    return output / "refining"


def test_every_step_is_scored_and_leaves_its_artifacts(run):
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    assert [(row["stage"], row["artifact"]) for row in rows if row["split"] == "train"] == [
        ("cam", "maps"),
        ("seeds", "masks"),
        ("walk", "masks"),
        ("walk", "masks_crf"),
    ]
    ids = finished_ids(run / "walk" / "masks", ".png")
    assert len(ids) == 12
    folders = ("walk/scores", "seeds/scores_low", "seeds/scores_high", "cam/maps")
    assert all(finished_ids(run / folder, ".npz") >= ids for folder in folders)
    networks = rows[-1]["provenance"]["networks"]
    assert [network["stage"] for network in networks] == ["cam", "affinity"]


def test_masks_of_the_walk_are_the_highest_of_its_scores(run, small_data):
    labels = {r.image_id: np.flatnonzero(r.labels) for r in MiniVOCDataModule(
        small_data, n_train=12, n_val=8, image_size=64
    ).records("train")}  # fmt: skip
    for path in (run / "walk" / "scores").glob("*.npz"):
        scores = LabelScores.load(path)
        mask = load_mask(run / "walk" / "masks" / f"{path.stem}.png")
        assert scores.classes.tolist() == labels[path.stem].tolist()
        assert scores.size == mask.shape
        highest = np.concatenate([[0], scores.classes + 1])[scores.full_size().argmax(0)]
        assert (highest == mask).mean() > 0.9  # scores are kept at a quarter of the size
        maps = LocalizationMaps.load(run / "cam" / "maps" / f"{path.stem}.npz")
        assert maps.classes.tolist() == scores.classes.tolist()


def test_inference_settings_do_not_train_again(recipe, run):
    overrides = ["stages.walk.predict.init_args.log_t=4"]
    plans = dry_run(load(str(recipe), overrides), run.parent, Selection())["refining"]
    actions = {(plan.stage, plan.step): plan.action for plan in plans}
    assert actions.pop(("walk", "predict")) == "run"
    assert actions.pop(("walk", "evaluate")) == "run"
    assert set(actions.values()) == {"reuse"}


def test_other_seeds_train_and_walk_again(recipe, run):
    overrides = ["stages.seeds.refine.refiner.low=3"]
    plans = dry_run(load(str(recipe), overrides), run.parent, Selection())["refining"]
    again = {plan.stage for plan in plans if plan.action == "run"}
    assert again == {"seeds", "affinity", "walk"}


def test_maps_that_are_missing_are_named_before_the_network_runs(recipe, run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "refining")
    victim = sorted((tmp_path / "refining" / "cam" / "maps").glob("*.npz"))[0]
    victim.unlink()
    for mask in (tmp_path / "refining" / "walk" / "masks").glob("*.png"):
        mask.unlink()
    state = tmp_path / "refining" / "walk" / "stage.json"
    content = json.loads(state.read_text())
    content["steps"]["predict"]["status"] = "started"
    state.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=rf"stages\.walk\.predict\.inputs\.maps: 1 of 12 .* first {victim.stem}"
    ):
        run_recipe(str(recipe), output_dir=tmp_path, only=["walk"], wandb="off")
