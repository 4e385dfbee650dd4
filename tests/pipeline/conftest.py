"""A small recipe that goes through every kind of stage in seconds: tiny images, tiny networks."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = """
title: a small run through every kind of stage
extends: minivoc/cam
data:
  init_args: {{root: {root}, n_train: 12, n_val: 8, image_size: 64}}
stages:
  cam:
    fit:
      method:
        class_path: wsss_zoo.methods.CAM
        init_args:
          backbone: timm/test_efficientnet
          backbone_weights: null
          backbone_args: {{output_stride: 8}}
          lr: 0.05
      data: {{batch_size: 4, crop_size: 64}}
      trainer: {{max_epochs: 2, enable_model_summary: false, log_every_n_steps: 1}}
    predict: {{scales: [1.0, 1.5]}}
  pseudo_labels:
    refine:
      workers: 1
      refiner:
        class_path: wsss_zoo.refine.PseudoLabels
        init_args: {{background: threshold, value: 0.4, crf: null, crf_args: null}}
  deeplab:
    fit:
      method:
        class_path: wsss_zoo.methods.DeepLab
        init_args:
          variant: aspp
          backbone: timm/test_efficientnet
          backbone_weights: null
          backbone_args: {{output_stride: 8}}
          aspp_channels: 8
          aspp_rates: [2, 4]
          lr: 0.01
      data: {{batch_size: 4, crop_size: 64}}
      trainer: {{max_epochs: 2, enable_model_summary: false, log_every_n_steps: 1}}
    predict: {{scales: [1.0]}}
"""


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """The generated images of the small recipe, made once."""
    from wsss_zoo.data import MiniVOCDataModule

    root = tmp_path_factory.mktemp("minivoc")
    MiniVOCDataModule(root, n_train=12, n_val=8, image_size=64).prepare_data()
    return root


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory, small_data) -> Path:
    """The small recipe as a YAML file."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE.format(root=small_data))
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, small_recipe) -> Path:
    """Folder of a run of the small recipe that was never stopped. Do not write to it."""
    from wsss_zoo import run_recipe

    output = tmp_path_factory.mktemp("runs")
    run_recipe(str(small_recipe), output_dir=output, wandb="off")
    return output / "small"
