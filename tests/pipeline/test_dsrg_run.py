"""Seeds from localization maps, DSRG on them with a few strong images, its masks, and training on these."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import Seeds, load_mask
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.plan import plan_run
from wsss_zoo.pipeline.recipe import load_recipe

RECIPE = """
extends: {small}
stages:
  pseudo_labels: null
  deeplab: null
  seeds:
    refine:
      inputs: {{maps: cam}}
      splits: [train]
      workers: 1
      refiner: {{class_path: wsss_zoo.refine.SeedCues, init_args: {{grid: [8, 8]}}}}
    evaluate:
      splits: [train]
  dsrg:
    fit:
      method:
        class_path: wsss_zoo.methods.DSRG
        init_args:
          variant: v2
          backbone: timm/test_efficientnet
          backbone_args: {{output_stride: 8}}
          aspp_rates: [1, 2]
          lr: 0.01
          test_size: 64
      split: train
      val_split: val
      inputs: {{seeds: seeds}}
      data: {{batch_size: 4, crop_size: 64, scale: null, resize_square: [64, 64], strong_split: {strong}}}
      trainer: {{max_epochs: 2, enable_model_summary: false, log_every_n_steps: 1}}
    predict:
      splits: [train]
      scales: [0.75, 1.0, 1.25]
      average: logit_sum
      flip: false
      label_filter: true
      crf: sec_test
    evaluate:
      splits: [train]
  retrain:
    fit:
      method:
        class_path: wsss_zoo.methods.DeepLab
        init_args:
          variant: v2
          backbone: timm/test_efficientnet
          backbone_args: {{output_stride: 8}}
          aspp_rates: [1, 2]
          lr: 0.001
      weights: dsrg
      split: train
      inputs: {{masks: dsrg.masks_crf}}
      data: {{batch_size: 4, crop_size: 64}}
      trainer: {{max_epochs: 1, enable_model_summary: false, log_every_n_steps: 1}}
    predict:
      splits: [val]
    evaluate:
      splits: [val]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small_recipe, small_data) -> Path:
    folder = tmp_path_factory.mktemp("dsrg")
    images = MiniVOCDataModule(small_data, n_train=12, n_val=8, image_size=64).records("train")
    (folder / "strong.txt").write_text("".join(f"{record.image_id}\n" for record in images[:5]))
    path = folder / "dsrg.yaml"
    path.write_text(RECIPE.format(small=small_recipe, strong=folder / "strong.txt"))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Path:
    output = tmp_path_factory.mktemp("dsrg_runs")
    run_recipe(str(recipe), output_dir=output, wandb="off")
    return output / "dsrg"


def test_every_stage_is_scored(run):
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    scored = {(row["stage"], row["split"], row["artifact"]) for row in rows}
    assert {
        ("seeds", "train", "masks"),
        ("dsrg", "train", "masks"),
        ("dsrg", "train", "masks_crf"),
        ("retrain", "val", "masks"),
    } <= scored
    filtered = next(row for row in rows if row["stage"] == "dsrg")
    assert filtered["provenance"]["image_labels_used"]


def test_terms_of_the_objective_are_logged(run):
    text = "".join(path.read_text() for path in (run / "dsrg" / "logs").rglob("*.csv"))
    for name in ("loss_seed", "loss_boundary", "loss_full", "grown_seeds", "val/miou"):
        assert re.search(name, text)


def test_masks_hold_no_other_class_than_the_image(run, small_data):
    datamodule = MiniVOCDataModule(small_data, n_train=12, n_val=8, image_size=64)
    for record in datamodule.records("train"):
        known = {0, *(np.flatnonzero(record.labels) + 1).tolist()}
        size = datamodule.read_image(record).shape[:2]
        for kind in ("masks", "masks_crf"):
            mask = load_mask(run / "dsrg" / kind / f"{record.image_id}.png")
            assert set(np.unique(mask).tolist()) <= known
            assert mask.shape == size
        assert Seeds.load(run / "seeds" / "seeds" / f"{record.image_id}.npz").grid == (8, 8)


def test_other_strong_images_train_again(recipe, run):
    loaded = load_recipe(str(recipe))
    strong = loaded.stage("dsrg").fit.data["strong_split"]
    known = json.loads((run / "dsrg" / "stage.json").read_text())["steps"]["fit"]["fingerprints"]
    assert set(known) == {"train", "val", strong}
    for fingerprint, action in ((known[strong], "reuse"), ("of another list", "run")):
        plans = plan_run(loaded, run, fingerprints={**known, strong: fingerprint})
        assert [plan.action for plan in plans if (plan.stage, plan.step) == ("dsrg", "fit")] == [action]


def test_a_label_filter_without_segmenter_is_refused(recipe):
    with pytest.raises(RecipeError, match="label_filter: is for segmenters, the method is a localizer"):
        load_recipe(str(recipe), ["stages.cam.predict.label_filter=true"])
