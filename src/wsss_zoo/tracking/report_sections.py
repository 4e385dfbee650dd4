"""What stands in a report, as plain values for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsss_zoo.artifacts.masks import VOC_PALETTE
from wsss_zoo.tracking.results import MISSING, Curve, Result, class_rows, percent
from wsss_zoo.tracking.run_folder import Run, StageCost
from wsss_zoo.tracking.tables import best_of

_NETWORK = "network of stage"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        bar: length of the bar below it, 0..1; None for no bar.
        best: highest of its row.
        span: columns it covers.
        tone: `good` or `bad` for differences, else empty.
    """

    text: str
    bar: float | None = None
    best: bool = False
    span: int = 1
    tone: str = ""


def swatches(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Class name and CSS colour of every class but the background."""
    return [
        (name, "#{:02x}{:02x}{:02x}".format(*VOC_PALETTE[label % 256]))
        for label, name in enumerate(class_names)
        if label > 0
    ]


def per_class_table(results: Sequence[Result], class_names: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    """Classes as rows and results as columns; the mean is the last row. Empty without per-class figures."""
    rows = class_rows(results, class_names)
    if not rows:
        return []
    splits = [result.split for result in results]
    means = [result.miou for result in results]
    return [(name, iou_cells(values, splits)) for name, values in [*rows, ("mean (mIoU)", means)]]


def saliency_table(results: Sequence[Result]) -> tuple[list[str], list[tuple[Result, list[Cell]]]] | None:
    """Scores as columns, results as rows, in fractions with three digits; None without saliency maps.

    The best of each split is marked: the lowest of `mae`, the highest of all others.
    """
    rows = [result for result in results if result.scores]
    if not rows:
        return None
    names = list(dict.fromkeys(name for result in rows for name in result.scores))
    splits = [result.split for result in rows]
    columns = []
    for name in names:
        values = [result.scores.get(name) for result in rows]
        signed = [None if value is None else -value for value in values] if name == "mae" else values
        best = best_of(signed, splits)
        columns.append(
            [
                Cell(MISSING if value is None else f"{value:.3f}", best=i in best)
                for i, value in enumerate(values)
            ]
        )
    return names, [(result, [column[i] for column in columns]) for i, result in enumerate(rows)]


def iou_cells(values: Sequence[float | None], groups: Sequence[object] | None = None) -> list[Cell]:
    """One cell a value, the best of each group marked (see `best_of`)."""
    best = best_of(values, groups)
    return [Cell(percent(value), bar=value, best=i in best) for i, value in enumerate(values)]


def difference_cell(value: float | None, reference: float | None) -> Cell:
    """The difference of two fractions in percentage points, with its sign."""
    if value is None or reference is None:
        return Cell(MISSING)
    points = round(100 * (value - reference), 1)
    if points == 0:
        return Cell("0.0")
    return Cell(f"{points:+.1f}".replace("-", "\N{MINUS SIGN}"), tone="good" if points > 0 else "bad")


def threshold_curves(results: Sequence[Result]) -> dict[str, Curve]:
    """Legend text -> curve of every result that carries one."""
    curves = {}
    for result in results:
        if result.curve is not None:
            name = result.label.removesuffix("(best threshold)").strip()
            curves[f"{name}, {result.split}"] = result.curve
    return curves


def provenance_table(results: Sequence[Result]) -> list[tuple[str, list[Cell]]]:
    """What each figure rests on: facts as rows, results as columns.

    A fact that is the same for all results is one cell over all columns.
    """
    facts = [_flat(result.provenance) for result in results]
    rows = []
    keys = dict.fromkeys(key for fact in facts for key in fact)
    for key in sorted(keys, key=lambda key: key.startswith(_NETWORK)):
        texts = [fact.get(key, MISSING) for fact in facts]
        if len(set(texts)) == 1:
            rows.append((key, [Cell(texts[0], span=len(texts))]))
        else:
            rows.append((key, [Cell(text) for text in texts]))
    return rows


def _flat(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Facts by readable names; a network of the chain is one fact each."""
    facts: dict[str, str] = {}
    for key, value in provenance.items():
        if key == "networks" and isinstance(value, list):
            for network in value:
                parts = dict(network) if isinstance(network, Mapping) else {"method": network}
                stage = parts.pop("stage", MISSING)
                facts[f"{_NETWORK} {stage}"] = in_words(parts)
        else:
            facts[key.replace("_", " ")] = in_words(value)
    return facts


def in_words(value: Any) -> str:
    """Show a JSON value to a person: yes and no, lists with commas, mappings as `key: value` lines."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "\n".join(f"{str(key).replace('_', ' ')}: {in_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(in_words(item) for item in value)
    return json.dumps(value)


def cost_rows(stages: Sequence[StageCost]) -> list[list[str]]:
    """One row a step of a stage, in words; the disk, memory and host stand in the first row of a stage."""
    rows = []
    for stage in stages:
        steps = list(dict.fromkeys([*stage.seconds, *stage.images_per_second])) or [MISSING]
        for i, step in enumerate(steps):
            speed = stage.images_per_second.get(step)
            whole = [
                size(stage.bytes),
                memory(stage.peak_memory_mb),
                memory(stage.peak_gpu_memory_mb),
                stage.host,
            ]
            rows.append(
                [
                    stage.title if i == 0 else "",
                    stage.status if i == 0 else "",
                    step,
                    duration(stage.seconds.get(step)),
                    MISSING if not speed else f"{speed:,.1f}",
                    *(whole if i == 0 else [""] * len(whole)),
                ]
            )
    return rows


def total_cost(run: Run) -> str:
    """Time and disk of the whole run in a few words; empty where neither is known."""
    seconds = [value for stage in run.stages for value in stage.seconds.values()]
    sizes = [stage.bytes for stage in run.stages if stage.bytes is not None]
    parts = [duration(sum(seconds))] if seconds else []
    parts += [f"{size(sum(sizes))} on disk"] if sizes else []
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """`8.4 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds is None:
        return MISSING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def size(count: float | None) -> str:
    """Bytes in the unit (powers of 1000) that needs fewest digits."""
    if count is None:
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return (
                f"{count / factor:.3g} {unit}" if count < 1000 * factor else f"{count / factor:,.0f} {unit}"
            )
    return f"{count:.0f} B"


def memory(mebibytes: float | None) -> str:
    """MiB, or GiB from 1024 MiB."""
    if mebibytes is None:
        return MISSING
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.0f} MiB"
