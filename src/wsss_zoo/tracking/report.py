"""One HTML file a run, and one for several runs: everything inside, no scripts, no other files needed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.tracking import report_sections as sections
from wsss_zoo.tracking.clusterings import agreement_table, inline_sheets
from wsss_zoo.tracking.comparison import Alignment, align, load_ablation, load_runs, run_names
from wsss_zoo.tracking.figures import distance_curves_svg, threshold_curves_svg, training_curves_svg
from wsss_zoo.tracking.pictures import inline_pictures
from wsss_zoo.tracking.results import Result, percent
from wsss_zoo.tracking.run_folder import Run, load_run
from wsss_zoo.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

_MOST_PICTURES = 24  # images in a comparison, each once a run


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write `report.html` into a run folder.

    Args:
        run_dir: the folder of a run, finished or not; what it does not hold is named in the report.

    Returns:
        The written file.

    Raises:
        WsssZooError: `run_dir` is no run folder.
        ArtifactError: a file in it is broken, or the report could not be written.
    """
    run = load_run(Path(run_dir))
    curves = sections.threshold_curves(run.results)
    pictures = inline_pictures(run.panels)
    context = {
        "run": run,
        "headline": _last_of_each_stage(run),
        "has_paper": any(result.paper is not None for result in run.results),
        "per_class": sections.per_class_table(run.results, run.class_names),
        "threshold_svg": threshold_curves_svg(curves) if curves else "",
        "saliency": sections.saliency_table(run.results),
        "distance_svg": _distance_plot({f"{r.label}, {r.split}": r for r in run.results}),
        "training": {
            stage: training_curves_svg({run.name: logged}) for stage, logged in run.training.items() if logged
        },
        "pictures": pictures,
        "left_out": len(run.panels) - len(pictures),
        "legend": sections.swatches(run.class_names),
        "agreement": agreement_table(run.clusterings),
        "sheets": inline_sheets(run.clusterings),
        "costs": sections.cost_rows(run.stages),
        "total_cost": sections.total_cost(run),
        "provenance": sections.provenance_table(run.results),
    }
    return _render("report.html.j2", context, run.path / "report.html")


def write_comparison(run_dirs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write one HTML file that sets runs side by side; the first run is what others are compared with.

    Args:
        run_dirs: folders of runs, or the folder of an ablation for all its variants.
        out: the file to write.

    Returns:
        `out`.

    Raises:
        WsssZooError: a folder is no run, or there are fewer than two.
        ArtifactError: a file in a run is broken, or `out` could not be written.
    """
    runs = load_runs([Path(folder) for folder in run_dirs])
    names = run_names(runs)
    alignments = align(runs)
    class_names = max((run.class_names for run in runs), key=len)
    context = {
        "runs": list(zip(names, runs, strict=True)),
        "ablation": load_ablation(runs),
        "headline": [(alignment, _comparison_cells(alignment)) for alignment in alignments],
        "per_class": [
            (alignment.label, _per_class_columns(alignment, names), _per_class_rows(alignment, class_names))
            for alignment in alignments
            if alignment.shared and any(result is not None and result.iou for result in alignment.results)
        ],
        "threshold_svg": _threshold_overlay(runs, names),
        "saliency": sections.saliency_table(_named_results(runs, names)),
        "distance_svg": _distance_plot({f"{r.label}, {r.split}": r for r in _named_results(runs, names)}),
        "training": _training_overlays(runs, names),
        "pictures": _shared_pictures(runs, names),
        "legend": sections.swatches(class_names),
        "costs": [(name, run, sections.cost_rows(run.stages)) for name, run in zip(names, runs, strict=True)],
        "provenance": [
            (alignment.label, _names_of(alignment, names), sections.provenance_table(_present(alignment)))
            for alignment in alignments
        ],
    }
    return _render("comparison.html.j2", context, Path(out))


def _last_of_each_stage(run: Run) -> list[Any]:
    """The figures set large at the top: of every stage its best-known result, in the order of the run."""
    stages = {result.stage: result for result in run.results if result.figure is not None}
    return list(stages.values())[-4:]


def _comparison_cells(alignment: Alignment) -> list[tuple[sections.Cell, sections.Cell]]:
    values = [None if result is None else result.figure for result in alignment.results]
    cells = sections.iou_cells(values)
    return [
        (cell, sections.difference_cell(value, values[0])) for cell, value in zip(cells, values, strict=True)
    ]


def _present(alignment: Alignment) -> list[Any]:
    return [result for result in alignment.results if result is not None]


def _names_of(alignment: Alignment, names: Sequence[str]) -> list[str]:
    return [name for name, result in zip(names, alignment.results, strict=True) if result is not None]


def _per_class_columns(alignment: Alignment, names: Sequence[str]) -> list[str]:
    present = _names_of(alignment, names)
    return [*present, *(f"{name} \N{MINUS SIGN} {present[0]}" for name in present[1:])]


def _per_class_rows(
    alignment: Alignment, class_names: Sequence[str]
) -> list[tuple[str, list[sections.Cell]]]:
    results = _present(alignment)
    rows = [*sections.class_rows(results, class_names), ("mean (mIoU)", [result.miou for result in results])]
    return [
        (
            name,
            [
                *sections.iou_cells(values),
                *(sections.difference_cell(value, values[0]) for value in values[1:]),
            ],
        )
        for name, values in rows
    ]


def _named_results(runs: Sequence[Run], names: Sequence[str]) -> list[Result]:
    """The results of all runs, with the run in their label."""
    return [
        replace(result, label=f"{name}: {result.label}")
        for name, run in zip(names, runs, strict=True)
        for result in run.results
    ]


def _distance_plot(results: Mapping[str, Result]) -> str:
    curves = {name: result.error_by_distance for name, result in results.items()}
    measured = {name: curve for name, curve in curves.items() if curve is not None}
    return distance_curves_svg(measured) if measured else ""


def _threshold_overlay(runs: Sequence[Run], names: Sequence[str]) -> str:
    curves = {
        f"{name}: {legend}": curve
        for name, run in zip(names, runs, strict=True)
        for legend, curve in sections.threshold_curves(run.results).items()
    }
    return threshold_curves_svg(curves) if curves else ""


def _training_overlays(runs: Sequence[Run], names: Sequence[str]) -> dict[str, str]:
    stages = dict.fromkeys(stage for run in runs for stage in run.training)
    logged = {
        stage: {
            name: run.training[stage]
            for name, run in zip(names, runs, strict=True)
            if run.training.get(stage)
        }
        for stage in stages
    }
    return {stage: training_curves_svg(of_runs) for stage, of_runs in logged.items() if of_runs}


def _shared_pictures(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Image id -> (run, address) of the images that most runs show."""
    count: dict[str, int] = {}
    for run in runs:
        for image_id in run.panels:
            count[image_id] = count.get(image_id, 0) + 1
    shown = sorted(count, key=lambda image_id: -count[image_id])[: max(1, _MOST_PICTURES // len(runs))]
    files = {
        f"{image_id}\n{name}": run.panels[image_id]
        for image_id in shown
        for name, run in zip(names, runs, strict=True)
        if image_id in run.panels
    }
    addresses = inline_pictures(files)
    pictures = []
    for image_id in shown:
        keys = [(name, f"{image_id}\n{name}") for name in names]
        of_runs = [(name, addresses[key]) for name, key in keys if key in addresses]
        if of_runs:
            pictures.append((image_id, of_runs))
    return pictures


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("wsss_zoo.tracking", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def _render(template: str, context: Mapping[str, Any], path: Path) -> Path:
    text = _environment().get_template(template).render(version=__version__, **context)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
    return path
