"""Which results of several runs stand beside each other, and how an ablation sets its figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss_zoo.artifacts.files import read_json
from wsss_zoo.errors import WsssZooError
from wsss_zoo.tracking.results import Result, number
from wsss_zoo.tracking.run_folder import Run, load_run

#: What says which number of a run an ablation compares.
_COMPARED = ("metric", "stage", "artifact", "split")


@dataclass(frozen=True)
class Alignment:
    """The same result in every run.

    Attributes:
        label: what the row is called.
        results: one a run, None where the run has no such result.
    """

    label: str
    results: tuple[Result | None, ...]

    @property
    def shared(self) -> bool:
        """Whether at least two runs have it."""
        return sum(result is not None for result in self.results) > 1


@dataclass(frozen=True)
class AblationRow:
    """A variant.

    Attributes:
        result: which result is compared, in words.
        paper: the paper's figure in percent; None where it prints none.
        value: ours as a fraction, the mean over seeds.
        spread: standard deviation over seeds; None for one seed.
        seeds: number of seeds.
    """

    variant: str
    result: str
    paper: float | None
    value: float | None
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class AblationTable:
    """The table of an ablation beside the paper's.

    Attributes:
        source: the paper and its table; empty without one.
    """

    title: str
    description: str
    source: str
    rows: tuple[AblationRow, ...]


def load_runs(run_dirs: Sequence[Path]) -> list[Run]:
    """Read the runs to compare; the folder of an ablation stands for the runs of its variants.

    Raises:
        WsssZooError: a folder is no run, or there are fewer than two runs.
    """
    folders: list[Path] = []
    for folder in map(Path, run_dirs):
        table = _ablation_metrics(folder)
        names = [name for row in table.get("rows") or [] for name in row["runs"]] if table else []
        folders += [folder / name for name in dict.fromkeys(names)] if table else [folder]
    if len({folder.resolve() for folder in folders}) < 2:
        given = ", ".join(map(str, run_dirs)) or "nothing"
        raise WsssZooError(f"compare needs two or more different run folders, or one ablation, got {given}")
    return [load_run(folder) for folder in dict.fromkeys(folders)]


def load_ablation(runs: Sequence[Run]) -> AblationTable | None:
    """The ablation whose variants the runs are; None where they do not belong to one ablation."""
    parents = {run.path.resolve().parent for run in runs}
    if len(parents) != 1:
        return None
    folder = parents.pop()
    metrics = _ablation_metrics(folder)
    if metrics is None:
        return None
    where = folder / "metrics.json"
    shown = {run.path.name for run in runs}
    return AblationTable(
        title=metrics.get("title") or folder.name,
        description=metrics.get("description") or "",
        source=metrics["ablation"].get("source") or "",
        rows=tuple(
            AblationRow(
                variant=row["variant"],
                result=" · ".join(str(row[key]) for key in _COMPARED if row.get(key)),
                paper=number(row.get("paper"), f"{where}: rows[{i}].paper"),
                value=number(row.get("value"), f"{where}: rows[{i}].value"),
                spread=number(row.get("spread"), f"{where}: rows[{i}].spread"),
                seeds=len(row["runs"]),
            )
            for i, row in enumerate(metrics.get("rows") or [])
            if shown & set(row["runs"])
        ),
    )


def align(runs: Sequence[Run]) -> list[Alignment]:
    """Find the same results in several runs.

    Results are the same where stage, artifact, split and kind of threshold agree. Recipes of different
    methods name their stages differently; what is left over is therefore the same where artifact, split
    and kind of threshold agree and no run has two such results left.
    """
    groups: dict[tuple[Any, ...], list[Result | None]] = {}
    for i, run in enumerate(runs):
        for result in run.results:
            key = (result.stage, *_what(result))
            group = groups.setdefault(key, [None] * len(runs))
            if group[i] is None:  # a second one with the same identity is a row of its own
                group[i] = result
            else:
                groups[(*key, result.label)] = [result if j == i else None for j in range(len(runs))]
    alone = [group for group in groups.values() if sum(result is not None for result in group) == 1]
    merged = _merge_single_results(alone, len(runs))
    together = [group for group in groups.values() if not any(group is single for single in alone)]
    alignments = [Alignment(_label(group), tuple(group)) for group in [*together, *merged]]
    return sorted(alignments, key=lambda alignment: _position(alignment, runs))


def run_names(runs: Sequence[Run]) -> list[str]:
    """Short names that tell the runs apart: recipe names, or folder paths where recipes are the same."""
    names = [run.name for run in runs]
    prefix = names[0].rpartition("/")[0] + "/"
    if all(name.startswith(prefix) for name in names):
        names = [name.removeprefix(prefix) for name in names]
    if len(set(names)) == len(names):
        return names
    return [str(run.path) for run in runs]


def _ablation_metrics(folder: Path) -> Mapping[str, Any] | None:
    file = folder / "metrics.json"
    metrics = read_json(file) if file.is_file() else None
    is_ablation = isinstance(metrics, Mapping) and isinstance(metrics.get("ablation"), Mapping)
    return metrics if is_ablation else None


def _what(result: Result) -> tuple[str, str, str | None]:
    return result.artifact, result.split, result.threshold_kind


def _merge_single_results(groups: Sequence[list[Result | None]], count: int) -> list[list[Result | None]]:
    by_kind: dict[tuple[str, str, str | None], list[list[Result | None]]] = {}
    for group in groups:
        result = next(result for result in group if result is not None)
        by_kind.setdefault(_what(result), []).append(group)
    merged: list[list[Result | None]] = []
    for same_kind in by_kind.values():
        a_run = [[group[i] for group in same_kind if group[i] is not None] for i in range(count)]
        if all(len(results) <= 1 for results in a_run):
            merged.append([results[0] if results else None for results in a_run])
        else:
            merged += same_kind
    return merged


def _label(group: Sequence[Result | None]) -> str:
    labels = dict.fromkeys(f"{result.label}, {result.split}" for result in group if result is not None)
    return " / ".join(labels)


def _position(alignment: Alignment, runs: Sequence[Run]) -> tuple[int, int]:
    for i, (run, result) in enumerate(zip(runs, alignment.results, strict=True)):
        if result is not None:
            return next(j for j, other in enumerate(run.results) if other is result), i
    raise AssertionError("an alignment holds at least one result")
