"""Entry points: run a recipe or an ablation by name, or tell what a run would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.pipeline import recipe_files
from wsss_zoo.pipeline.ablation import Ablation, is_ablation, load_ablation, run_ablation
from wsss_zoo.pipeline.plan import Selection, StepPlan, plan_run
from wsss_zoo.pipeline.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from wsss_zoo.tracking.loggers import WandbMode


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe | Ablation:
    """Find and check a recipe or an ablation; does not import torch."""
    name, path = recipe_files.find_recipe(name_or_path)
    content = recipe_files.resolve_extends(path)
    if is_ablation(content):
        return load_ablation(name, content, overrides)
    return load_recipe(name_or_path, overrides)


def dry_run(loaded: Recipe | Ablation, output_dir: Path, selection: Selection) -> dict[str, list[StepPlan]]:
    """The plan of every recipe: what would run, what is reused and why. Data are not opened."""
    if isinstance(loaded, Recipe):
        return {loaded.name: plan_run(loaded, output_dir / loaded.name, selection)}
    base = output_dir / loaded.base
    folders = {name: output_dir / loaded.name / name for name in loaded.runs}
    return {
        recipe.name: plan_run(
            recipe,
            folders[name],
            selection,
            shared=[base, *(path for other, path in folders.items() if other != name)],
        )
        for name, recipe in loaded.runs.items()
    }


def run_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    output_dir: str | Path = "runs",
    *,
    only: Sequence[str] = (),
    start: str | None = None,
    force: bool = False,
    wandb: WandbMode | None = None,
) -> dict[str, Any]:
    """Run a recipe or an ablation.

    Args:
        name_or_path: `minivoc/cam`, `cam`, or a YAML file.
        overrides: texts like `"data.root=/data/VOCdevkit"`.
        output_dir: runs go to `<output_dir>/<recipe name>`.
        only: run these stages alone.
        start: run this stage and the following.
        force: run the selected stages again although nothing changed.
        wandb: `online`, `offline` or `off`; None is online where a key is configured, otherwise offline.

    Returns:
        The content of the run's `metrics.json`: `rows` (one a score, mIoU in [0, 1]) and `stages` (costs).

    Raises:
        WsssZooError: for everything that can be mended; finished images are kept.
    """
    from wsss_zoo.pipeline.runner import run_stages

    loaded = load(name_or_path, overrides)
    selection = Selection(tuple(only), start, force)
    if isinstance(loaded, Ablation):
        return run_ablation(loaded, Path(output_dir), selection=selection, wandb=wandb)
    return run_stages(loaded, Path(output_dir) / loaded.name, selection, wandb=wandb)
