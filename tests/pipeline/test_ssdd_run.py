"""SSDD as a recipe: two masks, their static integration, the dynamic stage, pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import Differences, finished_ids, load_mask
from wsss_zoo.artifacts.masks import heatmap_overlay, overlay
from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.data import build_datamodule
from wsss_zoo.pipeline.plan import Selection
from wsss_zoo.pipeline.run import dry_run, load
from wsss_zoo.tracking.panels import compose_panel

NETWORK = """
          backbone: timm/test_efficientnet
          backbone_args: {out_indices: [0, 1, 2]}
          head_channels: 8
          head_dilation: 2
          detector_channels: 6
          test_size: 64
"""
FIT = """
      data: {batch_size: 4, crop_size: 64, scale: null, resize_square: [64, 80]}
      trainer: {max_epochs: 1, enable_model_summary: false, log_every_n_steps: 1}
"""
RECIPE = """
title: SSDD in small
extends: {base}
stages:
  deeplab: null
  other_labels:
    title: other labels
    refine:
      inputs: {{maps: cam}}
      splits: [train]
      workers: 1
      refiner:
        class_path: wsss_zoo.refine.PseudoLabels
        init_args: {{background: threshold, value: 0.6, crf: null, crf_args: null}}
  static:
    fit:
      method:
        class_path: wsss_zoo.methods.SSDDStatic
        init_args: {network}
      inputs: {{before: pseudo_labels, after: other_labels}}
      val_split: val
{fit}
    predict:
      inputs: {{before: pseudo_labels, after: other_labels}}
      outputs: [masks, differences]
      splits: [train]
    evaluate: {{splits: [train]}}
  dynamic:
    title: dynamic
    fit:
      method:
        class_path: wsss_zoo.methods.SSDD
        init_args: {network}
          scales: [1.0]
          crf_args: {{sxy_gauss: 1, sxy_bilateral: 5}}
      inputs: {{before: pseudo_labels, after: other_labels, differences: static}}
{fit}
    predict: {{splits: [val], scales: [1.0], crf: ssdd_final, crf_workers: 1}}
    evaluate: {{splits: [val]}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small_recipe) -> Path:
    path = tmp_path_factory.mktemp("ssdd") / "ssdd.yaml"
    path.write_text(RECIPE.format(base=small_recipe, network=NETWORK, fit=FIT))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Path:
    output = tmp_path_factory.mktemp("runs")
    run_recipe(str(recipe), output_dir=output, wandb="off")
    return output / "ssdd"


def test_every_stage_leaves_its_artifacts_and_is_scored(run):
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    scored = [(row["stage"], row["artifact"], row["split"]) for row in rows]
    assert ("static", "masks", "train") in scored
    assert [row[1] for row in scored if row[0] == "dynamic"] == ["masks", "masks_crf"]
    ids = finished_ids(run / "static" / "masks", ".png")
    assert len(ids) == 12
    assert finished_ids(run / "static" / "differences", ".npz") == ids
    header = (run / "static" / "logs" / "metrics.csv").read_text()
    assert "val/miou" in header


def test_each_pixel_of_a_static_mask_is_one_of_both(run):
    for path in (run / "static" / "masks").glob("*.png"):
        before, after = (
            load_mask(run / name / "masks" / path.name) for name in ("pseudo_labels", "other_labels")
        )
        refined = load_mask(path)
        assert np.all((refined == before) | (refined == after))
        differences = Differences.load(run / "static" / "differences" / f"{path.stem}.npz")
        assert differences.size == refined.shape
        assert differences.before.shape == (16, 16)


def test_pictures_in_the_order_of_the_poster(run, small_data):
    panels = sorted((run / "panels" / "static").glob("*.png"))
    assert len(panels) == 8
    height, width = load_mask(run / "static" / "masks" / panels[0].name).shape
    with Image.open(panels[0]) as panel:
        # image, two masks with their differences, refined, ground truth
        assert panel.width == 8 + 7 * (round(width * 240 / height) + 8)
    assert len(list((run / "panels").glob("*.png"))) > len(panels)
    for file in panels:
        image = np.asarray(Image.open(next(small_data.rglob(f"{file.stem}.jpg"))).convert("RGB"))
        before, after, refined = (
            overlay(image, load_mask(run / stage / "masks" / file.name))
            for stage in ("pseudo_labels", "other_labels", "static")
        )
        logits = Differences.load(run / "static" / "differences" / f"{file.stem}.npz").full_size()
        d_before, d_after = (heatmap_overlay(image, probability) for probability in expit(logits))
        truth = overlay(image, load_mask(next(small_data.rglob(f"SegmentationClass/{file.name}"))))
        captions = ("before", "d(before)", "after", "d(after)", "refined", "ground truth")
        tiles = (before, d_before, after, d_after, refined, truth)
        expected = compose_panel(image, list(zip(captions, tiles, strict=True)))
        assert np.abs(expected.astype(int) - np.asarray(Image.open(file))).max() <= 1, file.stem
    report = (run / "report.html").read_text()
    assert all(f"<figcaption>static/{file.stem}</figcaption>" in report for file in panels)


def test_inference_of_the_static_stage_is_repeated_without_training(recipe, run):
    overrides = ["stages.static.predict.init_args.prefer=before"]
    plans = dry_run(load(str(recipe), overrides), run.parent, Selection())["ssdd"]
    again = {(plan.stage, plan.step) for plan in plans if plan.action == "run"}
    assert ("static", "predict") in again
    assert ("static", "fit") not in again
    assert ("dynamic", "fit") in again


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.static.predict.inputs.after=null", r"inputs\.after: is missing"),
        ("stages.static.predict.outputs=[masks, scores]", r"no 'scores'; choose from: differences, masks"),
        ("stages.dynamic.fit.inputs.differences=pseudo_labels", r"none is meant for it"),
        ("stages.dynamic.fit.inputs.before=cam", r"none is meant for it"),
        ("stages.dynamic.fit.method.alfa=1", "alpha"),
    ],
)
def test_mistakes_are_told_before_anything_runs(recipe, override, message):
    with pytest.raises(RecipeError, match=message):
        load(str(recipe), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.dynamic.predict.scales=[1.0, 1.5]", "SSDD looks at each image at scales of its own"),
        ("stages.static.predict.crf=psa", "SSDDStatic decides each pixel"),
    ],
)
def test_settings_that_inference_cannot_use(recipe, run, tmp_path, override, message):
    import shutil

    shutil.copytree(run, tmp_path / "ssdd")
    with pytest.raises(RecipeError, match=message):
        run_recipe(str(recipe), [override], output_dir=tmp_path, only=[override.split(".")[1]], wandb="off")


def test_the_method_tells_the_data_module_how_differences_are_read(recipe):
    loaded = load(str(recipe), [])
    for joint in (True, False):
        datamodule = build_datamodule(loaded, {}, train_split="train", joint_differences=joint)
        assert datamodule.joint_differences is joint
    assert build_datamodule(loaded, {}, train_split="train").joint_differences is True


def test_prediction_of_any_images(run, tmp_path, small_data):
    from wsss_zoo.pipeline.predict_images import predict_images

    images = sorted(small_data.rglob("*.jpg"))[:2]
    weights = run / "dynamic" / "checkpoints" / "weights.safetensors"
    assert predict_images(str(weights), images, tmp_path) == 2
    with Image.open(images[0]) as image:
        size = image.size
    assert load_mask(tmp_path / "masks" / f"{images[0].stem}.png").shape == (size[1], size[0])
