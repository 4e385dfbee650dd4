"""The scores of saliency maps as a table to print, as CSV and as LaTeX."""

from __future__ import annotations

import io
from collections.abc import Mapping
from csv import writer as csv_writer
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.metrics.saliency_metrics import SCORES

#: How papers write the scores.
_LATEX_HEADINGS = {
    "mae": "MAE",
    "adp_f": r"$F_\mathrm{adp}$",
    "mean_f": r"$F_\mathrm{mean}$",
    "max_f": r"$F_\mathrm{max}$",
    "max_f_of_mean_pr": r"$F_\mathrm{max}^\mathrm{PR}$",
    "adp_e": r"$E_\mathrm{adp}$",
    "adp_e_strict": r"$E_\mathrm{adp}^>$",
    "mean_e": r"$E_\mathrm{mean}$",
    "max_e": r"$E_\mathrm{max}$",
    "s": r"$S$",
    "wf": r"$F^w_\beta$",
}


def saliency_table(scores: Mapping[str, Any]) -> Group:
    """Build what to print for the result of `evaluate_saliency_folders`: a table and remarks below it."""
    rows = scores["rows"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for row in rows:
        table.add_column(Text(row["set"]), justify="right")
    table.add_row("images", *(f"{row['n_images']:,}" for row in rows))
    for name in SCORES:
        table.add_row(name, *(f"{row[name]:.3f}" for row in rows))
    return Group(table, *(Text(remark, style="dim") for row in rows for remark in _remarks(row)))


def write_tables(scores: Mapping[str, Any], csv: Path | None = None, latex: Path | None = None) -> None:
    """Write the result of `evaluate_saliency_folders` to files.

    Raises:
        ArtifactError: a file could not be written.
    """
    for path, text in ((csv, to_csv), (latex, to_latex)):
        if path is not None:
            with atomic_write(path) as file:
                file.write(text(scores).encode("utf-8"))


def to_csv(scores: Mapping[str, Any]) -> str:
    """Write one line a data set: `set`, `n_images` and every score in full precision."""
    text = io.StringIO()
    writer = csv_writer(text, lineterminator="\n")
    writer.writerow(["set", "n_images", *SCORES])
    for row in scores["rows"]:
        writer.writerow([row["set"], row["n_images"], *(repr(row[name]) for name in SCORES)])
    return text.getvalue()


def to_latex(scores: Mapping[str, Any], digits: int = 3) -> str:
    """Write a `tabular` (package booktabs), one line a data set."""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(SCORES)}}}",
        r"\toprule",
        " & ".join(["", *(_LATEX_HEADINGS[name] for name in SCORES)]) + r" \\",
        r"\midrule",
    ]
    for row in scores["rows"]:
        name = row["set"].replace("_", r"\_")
        lines.append(" & ".join([name, *(f"{row[score]:.{digits}f}" for score in SCORES)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _remarks(row: Mapping[str, Any]) -> list[str]:
    details = row["details"]
    facts = (
        (details["resized"], "predictions resized to their masks"),
        (row["missing"], "masks without prediction left out"),
        (row["unmatched"], "predictions without mask ignored"),
        (
            details["skipped"] if details["protocol"] == "ldf" else 0,
            "pairs with an empty map or mask score 0, as in LDF's scripts",
        ),
    )
    return [f"{row['set']}: {count:,} {what}" for count, what in facts if count]
