"""Run a recipe: plan, execute what is not done, collect figures, pictures and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from PIL import Image
from rich.console import Console

from wsss_zoo.artifacts.files import atomic_write, read_json, write_json
from wsss_zoo.pipeline.clusterings import contact_sheets, summarise_clusterings
from wsss_zoo.pipeline.cost import measured
from wsss_zoo.pipeline.data import build_datamodule
from wsss_zoo.pipeline.difference_panels import difference_panels
from wsss_zoo.pipeline.inputs import GROUND_TRUTH, input_kind, is_folder, source_stage
from wsss_zoo.pipeline.lock import locked
from wsss_zoo.pipeline.panels import run_tiles
from wsss_zoo.pipeline.plan import EVERYTHING, Selection, StepPlan, plan_run, require_inputs
from wsss_zoo.pipeline.provenance import provenance, software
from wsss_zoo.pipeline.ranks import is_first_rank
from wsss_zoo.pipeline.recipe import Recipe, Stage
from wsss_zoo.pipeline.signatures import import_class
from wsss_zoo.pipeline.stage_folder import RESULT_STEPS, StageFolder
from wsss_zoo.tracking.loggers import WandbMode, close_loggers, log_panels, log_results, stage_loggers
from wsss_zoo.tracking.panels import compose_panel
from wsss_zoo.tracking.report import write_report

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.data.image_datamodule import ImageDataModule

_console = Console(stderr=True)


@dataclass
class Run:
    """A run in progress: the recipe, its folder, its plan and the data."""

    recipe: Recipe
    folder: Path
    plans: list[StepPlan]
    datamodule: ImageDataModule
    wandb: WandbMode | None

    def plan(self, stage: str, step: str) -> StepPlan | None:
        """The plan of a step, if the stage has it."""
        return next((plan for plan in self.plans if (plan.stage, plan.step) == (stage, step)), None)

    def results_folder(self, stage: str) -> Path:
        """Where the maps, masks or sub-categories of a stage lie."""
        plans = (self.plan(stage, step) for step in RESULT_STEPS)
        return next((plan.folder for plan in plans if plan is not None), self.folder / stage)

    def input_folders(self, inputs: Mapping[str, str]) -> dict[str, str | Path]:
        """Role -> folder of artifacts, for what a step reads; `"ground_truth"` and folders as they are."""
        return {
            role: source
            if source == GROUND_TRUTH or is_folder(source)
            else self.results_folder(source_stage(source)) / input_kind(role, source, self.recipe.stages)
            for role, source in inputs.items()
        }

    def records(self, splits: Sequence[str]) -> list[Record]:
        """The images of several splits, each once."""
        unique = {record.image_id: record for split in splits for record in self.datamodule.records(split)}
        return list(unique.values())


def run_stages(
    recipe: Recipe,
    folder: Path,
    selection: Selection = EVERYTHING,
    *,
    wandb: WandbMode | None = None,
    shared: Sequence[Path] = (),
) -> dict[str, Any]:
    """Run a checked recipe in a folder.

    Args:
        recipe: the recipe.
        folder: the run's folder.
        selection: stages asked for.
        wandb: `online`, `offline`, `off`, or None for online where a key is configured.
        shared: other run folders whose finished steps may be used.

    Returns:
        The content of `metrics.json`.
    """
    is_main = is_first_rank()
    with locked(folder) if is_main else nullcontext():
        _check_refiners(recipe)
        datamodule = build_datamodule(recipe)
        splits = {
            split for plan in plan_run(recipe, folder, selection, shared=shared) for split in plan.splits
        }
        fingerprints = {split: datamodule.fingerprint(split) for split in sorted(splits)}
        plans = plan_run(recipe, folder, selection, fingerprints=fingerprints, shared=shared)
        require_inputs(plans, recipe)
        run = Run(recipe, folder, plans, datamodule, wandb)
        if is_main:
            with atomic_write(folder / "recipe.yaml") as file:
                file.write(yaml.safe_dump(recipe.content, sort_keys=False, allow_unicode=True).encode())
            for split in sorted(splits):
                _console.print(f"[dim]{datamodule.describe(split)}[/]")
        for plan in plans:
            _run_step(run, plan, fingerprints, is_main)
        return _summarise(run) if is_main else {}


def _check_refiners(recipe: Recipe) -> None:
    """Build refiners and clusterers once, so that wrong values are told before hours of training."""
    for stage in recipe.stages:
        if stage.refine is not None:
            import_class(stage.refine.refiner.class_path)(**stage.refine.refiner.init_args)
        if stage.cluster is not None:
            import_class(stage.cluster.clusterer.class_path)(**stage.cluster.clusterer.init_args)


def _run_step(run: Run, plan: StepPlan, fingerprints: dict[str, str], is_main: bool) -> None:
    if plan.action == "leave out":
        return
    if plan.action == "reuse":
        if is_main:
            _console.print(f"[green]✓[/] {plan.stage}: {plan.step} ({plan.reason})")
        return
    folder = StageFolder(plan.folder)
    if not is_main and plan.step in ("cluster", "refine", "evaluate"):
        _wait_for(folder, plan)
        return
    if is_main:
        _console.print(f"[bold]▶ {plan.stage}: {plan.step}[/] ({plan.reason})")
        folder.begin(plan.step, hash=plan.hash, settings=plan.settings, again=plan.action == "run")
    before = (folder.step(plan.step) or {}).get("seconds", 0.0)
    with measured() as cost:
        facts = _STEP_FUNCTIONS[plan.step](run, run.recipe.stage(plan.stage), plan)
    if is_main:
        cost["seconds"] = round(cost["seconds"] + before, 2)
        known = {split: fingerprints[split] for split in plan.splits}
        folder.record(
            plan.step,
            **facts,
            **cost,
            fingerprints=known,
            software=software(),
            seed=run.recipe.seed,
            status="done",
        )


def _wait_for(folder: StageFolder, plan: StepPlan) -> None:
    """On other ranks: wait until the first rank has finished a step that only it does."""
    while True:
        state = folder.step(plan.step)
        if state and state["hash"] == plan.hash and state["status"] == "done":
            return
        time.sleep(1.0)


def _fit_step(run: Run, stage: Stage, plan: StepPlan) -> dict[str, Any]:
    from wsss_zoo.pipeline.fit import fit, weights_file

    assert stage.fit is not None
    weights = None
    if stage.fit.weights is not None:
        trained = run.plan(stage.fit.weights, "fit")
        weights = Path(stage.fit.weights) if trained is None else weights_file(trained.folder)
    config = {"stage": stage.name, **plan.settings}
    kind = stage.fit.method.class_path.rpartition(".")[2]
    loggers = stage_loggers(run.folder, run.recipe.name, stage.name, run.wandb, config, kind=kind)
    return fit(
        run.recipe,
        stage.fit,
        plan.folder,
        stage=stage.name,
        inputs=run.input_folders(stage.fit.inputs),
        weights=weights,
        loggers=loggers,
        class_names=run.datamodule.class_names,
    )


def _predict_step(run: Run, stage: Stage, plan: StepPlan) -> dict[str, Any]:
    from wsss_zoo.methods.published import load_pretrained
    from wsss_zoo.pipeline.fit import load_trained
    from wsss_zoo.pipeline.predict import predict

    assert stage.predict is not None
    source = stage.predict.weights or stage.name
    trained = run.plan(source, "fit")
    if trained is None:
        method = load_pretrained(Path(source), **stage.predict.init_args)
    else:
        fitted = run.recipe.stage(source).fit
        assert fitted is not None
        method = load_trained(
            fitted.method, len(run.datamodule.class_names), trained.folder, stage.predict.init_args
        )
    return predict(
        method,
        stage.predict,
        run.records(stage.predict.splits),
        run.datamodule,
        plan.folder,
        inputs=run.input_folders(stage.predict.inputs),
        stage=stage.name,
        trainer_arguments=run.recipe.trainer,
        num_workers=run.datamodule.num_workers,
    )


def _cluster_step(run: Run, stage: Stage, plan: StepPlan) -> dict[str, Any]:
    from wsss_zoo.pipeline.cluster import cluster

    assert stage.cluster is not None
    return cluster(
        stage.cluster,
        Path(run.input_folders(stage.cluster.inputs)["features"]),
        run.records(stage.cluster.splits),
        run.datamodule,
        plan.folder,
        stage=stage.name,
    )


def _refine_step(run: Run, stage: Stage, plan: StepPlan) -> dict[str, Any]:
    from wsss_zoo.pipeline.refine import refine

    assert stage.refine is not None
    inputs = {role: Path(folder) for role, folder in run.input_folders(stage.refine.inputs).items()}
    return refine(stage.refine, inputs, run.records(stage.refine.splits), plan.folder, stage=stage.name)


def _evaluate_step(run: Run, stage: Stage, plan: StepPlan) -> dict[str, Any]:
    from wsss_zoo.pipeline.evaluate import evaluate

    assert stage.evaluate is not None
    results = run.results_folder(stage.name)
    rows = evaluate(stage.evaluate, run.datamodule, results, stage=stage.name, title=stage.title)
    for row in rows:
        row["provenance"] = provenance(run.recipe, stage, row, run.datamodule)
    write_json(plan.folder / "metrics.json", {"stage": stage.name, "rows": rows})
    return {"images": sum(row["n_images"] for row in rows)}


_STEP_FUNCTIONS: dict[str, Callable[[Run, Stage, StepPlan], dict[str, Any]]] = {
    "fit": _fit_step,
    "predict": _predict_step,
    "cluster": _cluster_step,
    "refine": _refine_step,
    "evaluate": _evaluate_step,
}


def _summarise(run: Run) -> dict[str, Any]:
    """Write `metrics.json`, the pictures and `report.html` of a run."""
    rows: list[dict[str, Any]] = []
    for stage in run.recipe.stages:
        plan = run.plan(stage.name, "evaluate")
        if plan is not None and (plan.folder / "metrics.json").exists():
            rows += read_json(plan.folder / "metrics.json")["rows"]
    metrics = {
        "recipe": run.recipe.name,
        "title": run.recipe.title,
        "description": run.recipe.description,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "class_names": ["background", *run.datamodule.class_names],
        "rows": rows,
        "stages": [_costs(run, stage) for stage in run.recipe.stages],
        "software": software(),
    }
    shown = [(stage, run.results_folder(stage.name)) for stage in run.recipe.stages]
    class_names = run.datamodule.class_names
    if clusterings := summarise_clusterings(shown, class_names):
        metrics["clusterings"] = clusterings
    write_json(run.folder / "metrics.json", metrics)
    splits = list(dict.fromkeys(row["split"] for row in rows)) or _predicted_splits(run)
    tiles = run_tiles(shown, run.datamodule, splits)
    panels = {
        name: compose_panel(columns["image"], [item for item in columns.items() if item[0] != "image"])
        for name, columns in tiles.items()
    }
    for stage, folder in shown:
        if stage.predict is not None:
            inputs = {role: Path(source) for role, source in run.input_folders(stage.predict.inputs).items()}
            records = [record for record in run.records(splits) if record.image_id in tiles]
            panels |= difference_panels(stage.name, folder, inputs, records, run.datamodule)
    for image_id, panel in panels.items():
        with atomic_write(run.folder / "panels" / f"{image_id}.png") as file:
            Image.fromarray(panel).save(file, format="PNG")
    loggers = stage_loggers(run.folder, run.recipe.name, "summary", run.wandb, {"recipe": run.recipe.content})
    log_panels(loggers, panels | contact_sheets(shown, class_names), tiles)
    log_results(loggers, rows)
    close_loggers(loggers)
    write_report(run.folder)
    return metrics


def _predicted_splits(run: Run) -> list[str]:
    """What to show of a run in which nothing is scored, because there is no ground truth."""
    splits = [
        split
        for stage in run.recipe.stages
        if stage.predict is not None and run.results_folder(stage.name).is_dir()
        for split in stage.predict.splits
    ]
    return list(dict.fromkeys(splits))


def _costs(run: Run, stage: Stage) -> dict[str, Any]:
    """Seconds, images a second, bytes and memory of a stage, from the folders that hold its results."""
    costs: dict[str, Any] = {"name": stage.name, "title": stage.title, "seconds": {}, "images_per_second": {}}
    statuses = []
    for plan in (plan for plan in run.plans if plan.stage == stage.name):
        facts = StageFolder(plan.folder).step(plan.step)
        if facts is None:
            statuses.append("not run")
            continue
        statuses.append(facts["status"])
        costs["host"] = facts.get("host")
        if seconds := facts.get("seconds"):
            costs["seconds"][plan.step] = seconds
            images = facts.get("images", 0) * facts.get("epochs", 1)
            costs["images_per_second"][plan.step] = round(images / seconds, 2)
        costs["bytes"] = costs.get("bytes", 0) + facts.get("bytes", 0)
        for key in ("peak_memory_mb", "peak_gpu_memory_mb"):
            if key in facts:
                costs[key] = max(costs.get(key, 0), facts[key])
    costs["status"] = "done" if set(statuses) == {"done"} else ", ".join(dict.fromkeys(statuses))
    return costs
