"""Everything a number depends on, written beside it."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from wsss_zoo.pipeline.recipe import Recipe, Stage
from wsss_zoo.version import __version__

if TYPE_CHECKING:
    from wsss_zoo.data.image_datamodule import ImageDataModule


def provenance(
    recipe: Recipe, stage: Stage, row: dict[str, Any], datamodule: ImageDataModule
) -> dict[str, Any]:
    """What a score depends on.

    Returns:
        `images` (how many of how many, from which list), `ground_truth`, `networks` (method, backbone and
        initial weights of every network behind the number, in order), `scales`, `flip`, `crf`,
        `image_labels_used`, `threshold`, `threshold_chosen_on`, `seed`.
    """
    chain = _stages_behind(recipe, stage)
    facts: dict[str, Any] = {
        "images": datamodule.describe(row["split"]),
        "ground_truth": datamodule.split(row["split"]).ground_truth,
        "networks": [_network(item) for item in chain if item.fit is not None],
        "seed": recipe.seed,
    }
    if stage.predict is not None:
        facts["scales"] = list(stage.predict.scales)
        facts["flip"] = stage.predict.flip
        facts["crf"] = stage.predict.crf if row["artifact"] == "masks_crf" else None
    if stage.refine is not None:
        facts["refiner"] = {
            "class_path": stage.refine.refiner.class_path,
            **stage.refine.refiner.init_args,
        }
    if row["artifact"] == "maps" and stage.predict is not None:
        facts["image_labels_used"] = stage.predict.image_labels
        facts["threshold"] = row["details"].get("best_threshold")
        facts["threshold_chosen_on"] = f"ground truth of {row['split']} (oracle)"
    elif stage.refine is not None or (stage.predict is not None and stage.predict.label_filter):
        facts["image_labels_used"] = True
    return facts


def software() -> dict[str, str]:
    """Versions of what computes the numbers."""
    names = ("torch", "torchvision", "lightning", "timm", "torchmetrics", "albumentations", "numpy")
    versions = {name: metadata.version(name) for name in names}
    return {"wsss-zoo": __version__, "python": platform.python_version(), **versions}


def _stages_behind(recipe: Recipe, stage: Stage) -> list[Stage]:
    names: list[str] = []

    def visit(item: Stage) -> None:
        for name in item.inputs:
            visit(recipe.stage(name))
        if item.name not in names:
            names.append(item.name)

    visit(stage)
    return [recipe.stage(name) for name in names]


def _network(stage: Stage) -> dict[str, Any]:
    assert stage.fit is not None
    arguments = stage.fit.method.init_args
    return {
        "stage": stage.name,
        "method": stage.fit.method.class_path,
        "backbone": arguments.get("backbone", "the method's default"),
        "initial_weights": stage.fit.weights or arguments.get("backbone_weights") or "random",
        "trained_on": stage.fit.split,
        "inputs": stage.fit.inputs or "image-level labels only",
    }
