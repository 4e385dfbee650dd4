"""Reads a run folder: figures, costs, training logs, pictures and the resolved recipe.

    recipe.yaml                 the resolved recipe
    metrics.json                figures (`rows`), costs (`stages`), class names
    panels/<image_id>.png       composed pictures
    <stage>/contact_sheets/     images of each sub-category, of stages that cluster
    <stage>/logs/metrics.csv    training log

Any of them may be missing, as in a run that is still going on; what is missing is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsss_zoo.artifacts.files import read_json
from wsss_zoo.errors import WsssZooError
from wsss_zoo.tracking.clusterings import Clustering, parse_clustering
from wsss_zoo.tracking.results import MISSING, Result, expect, number, parse_results
from wsss_zoo.tracking.training_log import read_curves

Curves = Mapping[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class StageCost:
    """What a stage cost.

    Attributes:
        seconds: step (`fit`, `predict`, ...) -> wall-clock seconds.
        images_per_second: step -> images a second.
        bytes: what the stage's results take on disk.
        peak_memory_mb: largest resident memory, MiB.
        peak_gpu_memory_mb: largest memory on the GPU, MiB.
    """

    name: str
    title: str
    status: str
    seconds: Mapping[str, float]
    images_per_second: Mapping[str, float]
    bytes: float | None
    peak_memory_mb: float | None
    peak_gpu_memory_mb: float | None
    host: str


@dataclass(frozen=True)
class Run:
    """A run, as far as it got.

    Attributes:
        path: the folder.
        name: the recipe's name.
        class_names: background first.
        training: stage -> metric name -> (step, value) in order.
        panels: image id -> picture file.
        recipe: text of the resolved recipe.
        software: package -> version that computed the figures.
        missing: what the folder does not hold, in words.
        clusterings: the stages that cluster, in order.
    """

    path: Path
    name: str
    title: str
    description: str
    created: str
    class_names: tuple[str, ...]
    results: tuple[Result, ...]
    stages: tuple[StageCost, ...]
    training: Mapping[str, Curves]
    panels: Mapping[str, Path]
    recipe: str | None
    software: Mapping[str, str]
    missing: tuple[str, ...]
    clusterings: tuple[Clustering, ...] = ()


def load_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        WsssZooError: `path` is no run folder.
        ArtifactError: a file in it is broken.
    """
    path = Path(path)
    metrics_file, recipe_file = path / "metrics.json", path / "recipe.yaml"
    if not metrics_file.is_file() and not recipe_file.is_file():
        raise WsssZooError(
            f"{path} is no run folder: expected metrics.json or recipe.yaml in it"
            + ("." if path.is_dir() else ", but there is no such folder.")
            + " Give the folder that `wsss-zoo run` wrote, such as runs/minivoc/cam."
        )
    metrics = _read_metrics(metrics_file)
    results = tuple(parse_results(metrics.get("rows") or [], f"{metrics_file}: rows"))
    stages = tuple(
        _parse_stage(stage, f"{metrics_file}: stages[{i}]")
        for i, stage in enumerate(metrics.get("stages") or [])
    )
    order = {stage.name: i for i, stage in enumerate(stages)}
    logs = sorted(
        path.glob("*/logs/metrics.csv"), key=lambda file: (order.get(file.parts[-3], len(order)), file)
    )
    panels = path / "panels"
    run = Run(
        path=path,
        name=metrics.get("recipe") or path.resolve().name,
        title=metrics.get("title") or "",
        description=metrics.get("description") or "",
        created=metrics.get("created") or "",
        class_names=tuple(metrics.get("class_names") or ()),
        results=results,
        stages=stages,
        training={file.parts[-3]: read_curves(file) for file in logs},
        panels={
            file.relative_to(panels).with_suffix("").as_posix(): file
            for file in sorted(panels.rglob("*.png"))
        },
        clusterings=tuple(
            parse_clustering(entry, f"{metrics_file}: clusterings[{i}]", path)
            for i, entry in enumerate(metrics.get("clusterings") or [])
        ),
        recipe=recipe_file.read_text(encoding="utf-8") if recipe_file.is_file() else None,
        software=metrics.get("software") or {},
        missing=(),
    )
    return _with_missing(run, metrics_file.is_file())


def _read_metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    metrics = expect(read_json(path), dict, str(path)) or {}
    kinds = {"rows": list, "stages": list, "clusterings": list, "class_names": list, "software": dict}
    texts = dict.fromkeys(("recipe", "title", "description", "created"), str)
    for key, kind in {**kinds, **texts}.items():
        expect(metrics.get(key), kind, f"{path}: {key}")
    return metrics


def _parse_stage(stage: Any, where: str) -> StageCost:
    stage = expect(stage, dict, where) or {}

    def numbers(key: str) -> dict[str, float]:
        values = expect(stage.get(key), dict, f"{where}.{key}") or {}
        parsed = {name: number(value, f"{where}.{key}.{name}") for name, value in values.items()}
        return {name: value for name, value in parsed.items() if value is not None}

    def text(key: str) -> str:
        return expect(stage.get(key), str, f"{where}.{key}") or MISSING

    return StageCost(
        name=text("name"),
        title=expect(stage.get("title"), str, f"{where}.title") or text("name"),
        status=text("status"),
        seconds=numbers("seconds"),
        images_per_second=numbers("images_per_second"),
        bytes=number(stage.get("bytes"), f"{where}.bytes"),
        peak_memory_mb=number(stage.get("peak_memory_mb"), f"{where}.peak_memory_mb"),
        peak_gpu_memory_mb=number(stage.get("peak_gpu_memory_mb"), f"{where}.peak_gpu_memory_mb"),
        host=text("host"),
    )


def _with_missing(run: Run, has_metrics: bool) -> Run:
    if not has_metrics:
        notes = ["metrics.json: the run has not got that far, so there are no figures and no costs"]
    else:
        checks = {
            "metrics.json holds no figures (rows)": not run.results,
            "metrics.json holds no costs (stages)": not run.stages,
            "metrics.json holds no per-class IoU": bool(run.results) and not any(r.iou for r in run.results),
            "metrics.json holds no class names": not run.class_names,
        }
        notes = [note for note, absent in checks.items() if absent]
        notes += [
            f"stage {stage.name}: status is “{stage.status}”, not “done”"
            for stage in run.stages
            if stage.status not in ("done", MISSING)
        ]
    if run.recipe is None:
        notes.append("recipe.yaml: the resolved recipe")
    if not run.panels:
        notes.append("panels/: composed pictures")
    if not run.training:
        notes.append("<stage>/logs/metrics.csv: training logs")
    return replace(run, missing=tuple(notes))
