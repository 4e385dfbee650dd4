"""Build the data module of a stage: the recipe's arguments, the stage's changes, and what is linked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.pipeline.recipe import Recipe
from wsss_zoo.pipeline.signatures import import_class, parameters_of

if TYPE_CHECKING:
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.normalization import Normalization


def build_datamodule(
    recipe: Recipe,
    changes: dict[str, Any] | None = None,
    *,
    train_split: str | None = None,
    val_split: str | None = None,
    inputs: Mapping[str, str | Path] | None = None,
    normalization: Normalization | None = None,
    targets: Sequence[str] | None = None,
    joint_differences: bool | None = None,
) -> ImageDataModule:
    """Instantiate the recipe's data module.

    Args:
        recipe: names the class and its arguments.
        changes: a stage's own arguments, laid over the recipe's.
        train_split: linked from the stage.
        val_split: linked from the stage.
        inputs: role -> folder of artifacts, or `"ground_truth"`.
        normalization: linked from the method's backbone.
        targets: linked from the method, where it says what samples must hold.
        joint_differences: linked from the method, where it reads predicted differences.
    """
    arguments = {**recipe.data.init_args, **(changes or {})}
    known = parameters_of(recipe.data.class_path)
    if "seed" in known:
        arguments.setdefault("seed", recipe.seed)
    linked = {
        "train_split": train_split,
        "val_split": val_split,
        "inputs": {role: str(source) for role, source in inputs.items()} if inputs else None,
        "normalization": normalization,
        "targets": list(targets) if targets is not None and "targets" not in arguments else None,
        "joint_differences": joint_differences,
    }
    arguments.update({key: value for key, value in linked.items() if key in known and value is not None})
    datamodule = import_class(recipe.data.class_path)(**arguments)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule
