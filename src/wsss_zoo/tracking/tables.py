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

    Args:
        metrics: the content of a run's `metrics.json`.
        per_class: show every class; otherwise one row a result with its mIoU.
        width: characters; results that do not fit stand in further tables below.

    Returns:
        Something to hand to `rich.print` or `Console.print`: one or several tables.
    """
    from rich.console import Group

    results = _results(metrics)
    names = list(metrics.get("class_names") or ())
    if not per_class or not any(result.iou for result in results):
        return Group(_summary(results, width))
    several = max(1, (width - _FIRST_COLUMN) // _COLUMN)
    return Group(*(_per_class(results[i : i + several], names) for i in range(0, len(results), several)))


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
    """Write the figures as a LaTeX `tabular` (package booktabs): percent, the best of each row bold."""
    results = _results(metrics)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(results)}}}",
        r"\toprule",
        " & ".join(["", *(_escaped(f"{result.label}, {result.split}") for result in results)]) + r" \\",
        r"\midrule",
    ]
    for name, values in class_rows(results, metrics.get("class_names") or ()):
        lines.append(_latex_row(name, values, digits))
    if len(lines) > 4:
        lines.append(r"\midrule")
    lines += [_latex_row(*_mean(results), digits), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def best_of(values: Sequence[float | None], digits: int = 1) -> set[int]:
    """Indices of the values that are highest as shown; empty where fewer than two can be compared."""
    shown = [None if value is None else round(100 * value, digits) for value in values]
    present = [value for value in shown if value is not None]
    if len(present) < 2 or len(set(present)) == 1:
        return set()
    return {i for i, value in enumerate(shown) if value == max(present)}


def _results(metrics: Mapping[str, Any]) -> list[Result]:
    return parse_results(metrics.get("rows") or [], "rows")


def _mean(results: Sequence[Result]) -> tuple[str, list[float | None]]:
    return "mIoU", [result.miou for result in results]


def _per_class(results: Sequence[Result], names: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    _, means = _mean(results)
    table.add_column(
        "IoU in %", footer="mIoU", no_wrap=True, max_width=_FIRST_COLUMN - 2, overflow="ellipsis"
    )
    best = best_of(means)
    for i, result in enumerate(results):
        header = Text(result.label).append(f"\n{result.split}", style="dim")
        table.add_column(
            header,
            footer=_cell(means[i], i in best),
            justify="right",
            min_width=6,
            max_width=_COLUMN - 2,
        )
    for name, values in class_rows(results, names):
        best = best_of(values)
        table.add_row(name, *(_cell(value, i in best) for i, value in enumerate(values)))
    return table


def _summary(results: Sequence[Result], width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, width=None if width >= 72 else width)
    table.add_column("result")
    for heading in ("mIoU %", "split", "images", "threshold"):
        table.add_column(heading, justify="right" if heading in ("mIoU %", "images") else "left")
    for result in results:
        count = "–" if result.n_images is None else f"{result.n_images:,}"
        table.add_row(result.label, percent(result.miou, 2), result.split, count, result.threshold_text)
    return table


def _cell(value: float | None, best: bool) -> str:
    return f"[bold]{percent(value)}[/bold]" if best else percent(value)


def _latex_row(name: str, values: Sequence[float | None], digits: int) -> str:
    best = best_of(values, digits)
    cells = [
        rf"\textbf{{{percent(value, digits)}}}" if i in best else percent(value, digits).replace("–", "--")
        for i, value in enumerate(values)
    ]
    return " & ".join([_escaped(name), *cells]) + r" \\"


def _escaped(text: str) -> str:
    replacements = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    replacements.update({character: "\\" + character for character in "&%$#_{}"})
    return "".join(replacements.get(character, character) for character in text)
