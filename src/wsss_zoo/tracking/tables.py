"""The table printed after a run, and the same figures as LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsss_zoo.tracking.results import Result, class_rows, parse_results, percent

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLUMN = 14  # characters a result column needs with its padding
_FIRST_COLUMN = 16


def results_table(metrics: Mapping[str, Any], per_class: bool = True, width: int = 100) -> Group:
    """Build the table to print: classes as rows, results as columns, the mean at the bottom.

    The best of each row is bold, among results of the same split.

    Args:
        metrics: the content of a run's `metrics.json`.
        per_class: show every class; otherwise one row a result with its mIoU.
        width: characters; results that do not fit stand in further tables below.

    Returns:
        Something to hand to `rich.print` or `Console.print`: one or several tables.
    """
    from rich.console import Group

    everything = _results(metrics)
    results = [result for result in everything if not result.scores]
    if not results and everything:
        return Group(_saliency(everything))
    if len(results) < len(everything):
        maps = [result for result in everything if result.scores]
        return Group(
            results_table({**metrics, "rows": _rows(metrics, False)}, per_class, width), "", _saliency(maps)
        )
    names = list(metrics.get("class_names") or ())
    partial = [result for result in results if result.details.get("coverage") is not None]
    seeds: list[str | Table] = ["", _seeds(partial)] if partial else []
    if not per_class or not any(result.iou for result in results):
        return Group(_summary(results, width), *seeds)
    several = max(1, (width - _FIRST_COLUMN) // _COLUMN)
    count = len(results)
    parts = [range(start, min(start + several, count)) for start in range(0, count, several)]
    tables = [_per_class(results, names, part) for part in parts]
    spaces: list[str | Table] = [""] if len(tables) > 1 else []
    return Group(*(item for table in tables for item in (*spaces, table)), *seeds)


def to_csv(metrics: Mapping[str, Any]) -> str:
    """Write the figures as CSV: classes as rows, results as columns, fractions in full precision."""
    results = _results(metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *(f"{result.label} / {result.split}" for result in results)])
    for name, values in [*class_rows(results, metrics.get("class_names") or ()), _mean(results)]:
        writer.writerow([name, *("" if value is None else repr(value) for value in values)])
    return text.getvalue()


def to_latex(metrics: Mapping[str, Any], digits: int = 1) -> str:
    """Write the figures as a LaTeX `tabular` (package booktabs): percent, best of a row and split bold."""
    results = _results(metrics)
    splits = [result.split for result in results]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(results)}}}",
        r"\toprule",
        " & ".join(["", *(_escaped(f"{result.label}, {result.split}") for result in results)]) + r" \\",
        r"\midrule",
    ]
    for name, values in class_rows(results, metrics.get("class_names") or ()):
        lines.append(_latex_row(name, values, splits, digits))
    if len(lines) > 4:
        lines.append(r"\midrule")
    lines += [_latex_row(*_mean(results), splits, digits), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def best_of(
    values: Sequence[float | None], groups: Sequence[object] | None = None, digits: int = 1
) -> set[int]:
    """Find the values that are highest as shown.

    Args:
        values: fractions.
        groups: what may be compared, one a value: figures of different splits may not. None: all.
        digits: digits of the percent that are shown.

    Returns:
        Indices; none of a group in which fewer than two values differ.
    """
    shown: dict[object, dict[int, float]] = {}
    for i, value in enumerate(values):
        if value is not None:
            shown.setdefault(groups[i] if groups else None, {})[i] = round(100 * value, digits)
    return {
        i
        for group in shown.values()
        if len(set(group.values())) > 1
        for i, value in group.items()
        if value == max(group.values())
    }


def _results(metrics: Mapping[str, Any]) -> list[Result]:
    return parse_results(metrics.get("rows") or [], "rows")


def _rows(metrics: Mapping[str, Any], saliency: bool) -> list[Any]:
    return [row for row in metrics.get("rows") or [] if bool(row.get("scores")) == saliency]


def _saliency(results: Sequence[Result]) -> Table:
    """Build the table of saliency maps: scores as rows, results as columns, fractions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False)
    table.add_column("saliency")
    for result in results:
        header = Text(result.label).append(f"\n{result.split}", style="not bold dim")
        table.add_column(header, justify="right")
    for name in dict.fromkeys(name for result in results for name in result.scores):
        values = [result.scores.get(name) for result in results]
        table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values))
    return table


def _seeds(results: Sequence[Result]) -> Table:
    """Build the table of masks that leave pixels without a label (see `metrics.SeedQuality`)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False)
    table.add_column("seeds in %")
    names = ("precision", "recall", "foreground_precision", "foreground_recall", "coverage", "labelled_miou")
    for name in names:
        table.add_column(name.replace("_", " ").replace("miou", "mIoU"), justify="right")
    for result in results:
        label = Text(result.label).append(f"\n{result.split}", style="not bold dim")
        table.add_row(label, *(percent(result.details.get(name)) for name in names))
    return table


def _mean(results: Sequence[Result]) -> tuple[str, list[float | None]]:
    return "mIoU", [result.miou for result in results]


def _per_class(results: Sequence[Result], names: Sequence[str], columns: range) -> Table:
    """Build the table of some results; what is best is found among all of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False)
    table.add_column("IoU in %", no_wrap=True, max_width=_FIRST_COLUMN - 2, overflow="ellipsis")
    for i in columns:
        header = Text(results[i].label).append(f"\n{results[i].split}", style="not bold dim")
        table.add_column(header, justify="right", min_width=6, max_width=_COLUMN - 2)
    splits = [result.split for result in results]
    rows = class_rows(results, names)
    for name, values in [*rows, _mean(results)]:
        if name == "mIoU":
            table.add_section()
        best = best_of(values, splits)
        table.add_row(
            Text(name), *(Text(percent(values[i]), style="bold" if i in best else "") for i in columns)
        )
    return table


def _summary(results: Sequence[Result], width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, width=None if width >= 72 else width)
    table.add_column("result")
    for heading in ("mIoU %", "split", "images", "threshold"):
        table.add_column(heading, justify="right" if heading in ("mIoU %", "images") else "left")
    for result in results:
        count = "–" if result.n_images is None else f"{result.n_images:,}"
        texts = (result.label, percent(result.miou, 2), result.split, count, result.threshold_text)
        table.add_row(*map(Text, texts))
    return table


def _latex_row(name: str, values: Sequence[float | None], splits: Sequence[str], digits: int) -> str:
    best = best_of(values, splits, digits)
    cells = [
        rf"\textbf{{{percent(value, digits)}}}" if i in best else percent(value, digits).replace("–", "--")
        for i, value in enumerate(values)
    ]
    return " & ".join([_escaped(name), *cells]) + r" \\"


def _escaped(text: str) -> str:
    replacements = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    replacements.update({character: "\\" + character for character in "&%$#_{}"})
    return "".join(replacements.get(character, character) for character in text)
