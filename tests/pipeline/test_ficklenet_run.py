"""A recipe that goes from many maps and a folder of saliency maps to seeds and their quality."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import LocalizationMaps, Seeds, finished_ids, load_mask, save_saliency
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.pipeline.console import print_run, print_scores
from wsss_zoo.pipeline.evaluate import evaluate_folders
from wsss_zoo.pipeline.inputs import folder_identity
from wsss_zoo.pipeline.plan import Selection
from wsss_zoo.pipeline.recipe import load_recipe
from wsss_zoo.pipeline.run import dry_run, load

RECIPE = """
extends: {base}
stages:
  cam: null
  pseudo_labels: null
  deeplab: null
  classifier:
    title: FickleNet
    fit:
      method:
        class_path: wsss_zoo.methods.FickleNet
        init_args:
          backbone: timm/test_efficientnet
          backbone_args: {{output_stride: 8}}
          kernel: 3
          p: 0.5
      data: {{batch_size: 4, crop_size: 64}}
      trainer: {{max_epochs: 1, enable_model_summary: false, log_every_n_steps: 1}}
    predict:
      splits: [train]
      outputs: [maps, maps_max]
      init_args: {{n_maps: 4, map_size: [8, 8]}}
    evaluate: {{splits: [train]}}
  seeds:
    title: seeds
    refine:
      inputs: {{maps: classifier, maps_max: classifier, saliency: {saliency}/}}
      splits: [train]
      workers: 1
      refiner:
        class_path: wsss_zoo.refine.FickleSeeds
        init_args: {{grid: [8, 8], background_saliency: 0.5}}
    evaluate: {{splits: [train]}}
"""


@pytest.fixture(scope="module")
def saliency(tmp_path_factory, small_data) -> Path:
    """The left half of every image is salient."""
    folder = tmp_path_factory.mktemp("saliency")
    data = MiniVOCDataModule(small_data, n_train=12, n_val=8, image_size=64)
    for record in data.records("train"):
        height, width = data.read_image(record).shape[:2]
        grey = np.zeros((height, width), np.float32)
        grey[:, : width // 2] = 1
        save_saliency(folder / f"{record.image_id}.png", grey)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small_recipe, saliency) -> Path:
    path = tmp_path_factory.mktemp("fickle") / "fickle.yaml"
    path.write_text(RECIPE.format(base=small_recipe, saliency=saliency))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Path:
    output = tmp_path_factory.mktemp("runs")
    run_recipe(str(recipe), output_dir=output, wandb="off")
    return output / "fickle"


def actions(recipe, run):
    plans = dry_run(load(str(recipe)), run.parent, Selection())["fickle"]
    return {(plan.stage, plan.step): (plan.action, plan.reason) for plan in plans}


def test_every_image_has_seeds(run):
    ids = finished_ids(run / "seeds" / "seeds", ".npz")
    assert len(ids) == 12
    assert finished_ids(run / "classifier" / "maps_max", ".npz") == ids
    for image_id in ids:
        seeds = Seeds.load(run / "seeds" / "seeds" / f"{image_id}.npz")
        maps = LocalizationMaps.load(run / "classifier" / "maps_max" / f"{image_id}.npz")
        claimed = (maps.maps > np.float16(0.35)).any(0)
        np.testing.assert_array_equal(seeds.seeds[1:].any(0), claimed)
        right = np.tile(np.arange(8) > 4, (8, 1))
        assert (seeds.seeds[0] == ~claimed)[right].all()
        assert not seeds.seeds[0][:, :3].any()
        assert load_mask(run / "seeds" / "masks" / f"{image_id}.png").shape == seeds.size


def test_seed_quality_is_in_the_figures_and_in_the_report(run):
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    assert [(row["stage"], row["artifact"]) for row in rows] == [("classifier", "maps"), ("seeds", "masks")]
    details = rows[1]["details"]
    assert 0 < details["coverage"] < 1
    assert set(details) == {
        "precision", "recall", "foreground_precision", "foreground_recall", "coverage", "labelled_miou",
    }  # fmt: skip
    report = (run / "report.html").read_text()
    assert "<h3>Seeds</h3>" in report
    assert f"{100 * details['coverage']:.1f}" in report


def test_a_folder_is_known_by_its_files_and_not_by_its_place(recipe, run, saliency, tmp_path):
    assert {action for action, _ in actions(recipe, run).values()} == {"reuse"}
    copy = tmp_path / "elsewhere"
    shutil.copytree(saliency, copy)  # keeps the times
    assert folder_identity(str(copy)) == folder_identity(str(saliency))
    moved = tmp_path / "fickle.yaml"
    moved.write_text(recipe.read_text().replace(str(saliency), str(copy)))
    assert {action for action, _ in actions(moved, run).values()} == {"reuse"}
    os.utime(sorted(copy.iterdir())[0], (1, 1))
    changed = actions(moved, run)
    assert changed["classifier", "predict"][0] == "reuse"
    assert changed["seeds", "refine"] == ("run", "changed: inputs.saliency")


def test_images_without_a_file_are_named(recipe, run, saliency, tmp_path):
    shutil.copytree(run, tmp_path / "fickle")
    partial = tmp_path / "partial"
    shutil.copytree(saliency, partial)
    victim = sorted(partial.iterdir())[0]
    victim.unlink()
    other = tmp_path / "fickle.yaml"
    other.write_text(recipe.read_text().replace(str(saliency), str(partial)))
    with pytest.raises(DataError, match=rf"refine\.inputs\.saliency: 1 of 12 .*first {victim.stem}"):
        run_recipe(str(other), output_dir=tmp_path, wandb="off")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.seeds.refine.inputs.saliency=no/such/", r"inputs\.saliency: there is no folder no/such/"),
        ("stages.seeds.refine.inputs.hint=no/such/", r"follows from the role"),
        ("stages.seeds.refine.inputs.saliency=classifier.maps", "reads grey maps, but"),
        ("stages.seeds.refine.inputs.maps_max=null", r"maps_max: is missing; .*FickleSeeds needs it"),
        ("stages.classifier.predict.outputs=[maps]", r"maps_max: .*makes maps: none is meant for it"),
    ],
)
def test_inputs_that_cannot_be_read(recipe, override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(recipe), [override])


def test_other_localizers_have_no_maximum():
    with pytest.raises(RecipeError, match=r"outputs: there is no 'maps_max'"):
        load_recipe("minivoc/cam", ["stages.cam.predict.outputs=[maps, maps_max]"])


def test_seed_quality_is_printed(run, small_data, tmp_path, capsys):
    metrics = json.loads((run / "metrics.json").read_text())
    details = metrics["rows"][1]["details"]
    print_run(metrics, run)
    printed = capsys.readouterr().out
    assert "seeds in %" in printed
    assert f"{100 * details['foreground_recall']:.1f}" in printed
    for record in MiniVOCDataModule(small_data, n_train=12, n_val=8, image_size=64).records("train"):
        shutil.copy(record.mask, tmp_path)
    scores = evaluate_folders(run / "seeds" / "masks", tmp_path, num_classes=8)
    assert scores["details"] == details
    print_scores(scores)
    assert f"seeds: precision {100 * details['precision']:.2f}" in capsys.readouterr().out
