"""LDF as a recipe: coarse, fine on what the coarse network predicts, scores, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import finished_ids, load_saliency
from wsss_zoo.data import MiniVOCSaliencyDataModule
from wsss_zoo.metrics.saliency_metrics import SCORES
from wsss_zoo.pipeline.plan import Selection
from wsss_zoo.pipeline.run import dry_run, load

METHOD = """
        class_path: wsss_zoo.methods.LDF
        init_args:
          backbone: timm/test_efficientnet
          backbone_args: {out_indices: [1, 2, 3, 4]}
          channels: 4
          lr: 0.01
          test_size: 64
"""
RECIPE = """
title: LDF in small
data:
  class_path: wsss_zoo.data.MiniVOCSaliencyDataModule
  init_args: {{root: {root}, n_train: 12, n_val: 8, image_size: 64, sizes: [64], batch_size: 4}}
trainer: {{accelerator: cpu, enable_model_summary: false, log_every_n_steps: 1, max_epochs: 1}}
stages:
  coarse:
    fit:
      method: {method}
      split: train
    predict: {{splits: [train], outputs: [body, detail]}}
  fine:
    title: LDF
    fit:
      method: {method}
      split: train
      inputs: {{body: coarse, detail: coarse}}
    predict: {{splits: [val]}}
    evaluate: {{splits: [val]}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small_data) -> Path:
    path = tmp_path_factory.mktemp("saliency") / "ldf.yaml"
    path.write_text(RECIPE.format(root=small_data, method=METHOD))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Path:
    output = tmp_path_factory.mktemp("runs")
    run_recipe(str(recipe), output_dir=output, wandb="off")
    return output / "ldf"


def test_the_fine_network_learns_what_the_coarse_one_predicts(run, recipe, small_data):
    assert len(finished_ids(run / "coarse" / "body", ".png")) == 12
    assert not (run / "coarse" / "saliency").exists()
    maps = sorted((run / "fine" / "saliency").glob("*.png"))
    assert len(maps) == 8
    data = MiniVOCSaliencyDataModule(small_data, n_train=12, n_val=8, image_size=64)
    sizes = {record.image_id: data.read_image(record).shape[:2] for record in data.records("val")}
    assert {path.stem: load_saliency(path).shape for path in maps} == sizes
    changed = load(str(recipe), ["stages.coarse.fit.method.lr=0.02"])
    again = {
        (plan.stage, plan.step)
        for plan in dry_run(changed, run.parent, Selection())["ldf"]
        if plan.action == "run"
    }
    assert ("fine", "fit") in again


def test_all_scores_and_the_error_by_distance_stand_in_the_report(run):
    row = json.loads((run / "metrics.json").read_text())["rows"][0]
    assert (row["artifact"], row["split"], row["n_images"], row["miou"]) == ("saliency", "val", 8, None)
    assert set(row["scores"]) == set(SCORES)
    assert 0 < row["scores"]["mae"] < 1
    curve = row["details"]["error_by_distance"]
    assert len(curve["distance"]) == len(curve["error"])
    assert np.nanmax(np.array(curve["error"], dtype=float)) <= 1
    report = (run / "report.html").read_text()
    for text in ("adp_f", "max_f_of_mean_pr", f"{row['scores']['mae']:.3f}", "pixels from the edge"):
        assert text in report
    assert len(list((run / "panels").glob("*.png"))) == 8


def test_the_table_and_a_comparison_show_saliency(run, tmp_path, capsys):
    from wsss_zoo.pipeline.console import print_run
    from wsss_zoo.tracking.report import write_comparison

    metrics = json.loads((run / "metrics.json").read_text())
    print_run(metrics, run)
    printed = capsys.readouterr().out
    assert "adp_e_strict" in printed
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps({**metrics, "recipe": "other"}))
    page = write_comparison([run, other], tmp_path / "compare.html").read_text()
    assert "adaptive F" in page
    assert f"{100 * metrics['rows'][0]['scores']['adp_f']:.2f}" in page


def test_an_ablation_compares_a_saliency_score(recipe, tmp_path):
    path = tmp_path / "branches.yaml"
    path.write_text(
        f"base: {recipe}\nvariants:\n  both: {{}}\n"
        "  no_labels:\n"
        "    stages.fine.fit.method.branches: [saliency, edge]\n"
        "    stages.fine.fit.inputs: {body: null, detail: null}\n"
        "result: {stage: fine, split: val, artifact: saliency, metric: mae}\n"
    )
    both, no_labels = run_recipe(str(path), output_dir=tmp_path / "runs", wandb="off")["rows"]
    assert 0 < both["value"] < 1
    assert 0 < no_labels["value"] < 1
    assert not (tmp_path / "runs" / "branches" / "no_labels" / "coarse").exists()


def test_trained_weights_make_saliency_of_any_image_set(run, small_data, tmp_path):
    path = tmp_path / "cues.yaml"
    path.write_text(
        "data:\n  class_path: wsss_zoo.data.MiniVOCDataModule\n"
        f"  init_args: {{root: {small_data}, n_train: 12, n_val: 8, image_size: 64}}\n"
        "trainer: {accelerator: cpu}\n"
        "stages:\n  cues:\n    predict:\n"
        f"      weights: {run}/fine/checkpoints/weights.safetensors\n      splits: [val]\n"
    )
    run_recipe(str(path), output_dir=tmp_path / "runs", wandb="off")
    made = tmp_path / "runs" / "cues" / "cues" / "saliency"
    expected = run / "fine" / "saliency"
    assert finished_ids(made, ".png") == finished_ids(expected, ".png")
    for file in expected.glob("*.png"):
        np.testing.assert_array_equal(load_saliency(made / file.name), load_saliency(file))
