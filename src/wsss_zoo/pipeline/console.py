"""What a person reads in the terminal: the plan of a run, its table, scores of two folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsss_zoo.pipeline.plan import StepPlan
from wsss_zoo.tracking.tables import results_table

_COLOURS = {"run": "bold", "continue": "yellow", "reuse": "green", "leave out": "dim"}


def print_plan(plans: Mapping[str, Sequence[StepPlan]]) -> None:
    """Print what would run, what is reused and why."""
    console = Console()
    for name, steps in plans.items():
        table = Table(title=name, title_justify="left", box=None, header_style="dim")
        for heading in ("stage", "step", "action", "why"):
            table.add_column(heading, overflow="fold")
        for step in steps:
            action = Text(step.action, style=_COLOURS[step.action])
            table.add_row(step.stage, step.step, action, step.reason)
        console.print(table)
    console.print("[dim]Images and labels are compared when the run starts.[/]")


def print_run(metrics: Mapping[str, Any], folder: Path) -> None:
    """Print the figures of a run or an ablation, and where pictures and report are."""
    console = Console()
    if "ablation" in metrics:
        console.print(_ablation_table(metrics))
    elif metrics["rows"]:
        console.print(results_table(metrics, width=console.width))
    else:
        console.print("Nothing was evaluated: no stage has an `evaluate` block that ran.")
    if (folder / "panels").is_dir():
        console.print(f"pictures  {folder / 'panels'}", soft_wrap=True)
    console.print(f"report    {folder / 'report.html'}", soft_wrap=True)


def print_scores(scores: Mapping[str, Any]) -> None:
    """Print the scores of `wsss-zoo evaluate`."""
    console = Console()
    label = "best threshold (oracle)" if scores["artifact"] == "maps" else "mIoU"
    console.print(f"{label}: {100 * scores['miou']:.2f} mIoU over {scores['n_images']} images")
    details = scores["details"]
    if scores["artifact"] == "maps":
        console.print(f"best threshold {details['best_threshold']:.2f}")
        console.print(f"at {details['fixed_threshold']:.2f}: {100 * details['fixed_miou']:.2f} mIoU")
        console.print(f"PxAP (threshold-free): {100 * details['pxap']:.2f}")
    if "coverage" in details:
        shares = (f"{name} {100 * details[name]:.2f}" for name in ("precision", "recall", "coverage"))
        console.print(f"seeds: {', '.join(shares)} (pixels without a label count as background in the mIoU)")
    for index, value in enumerate(scores["iou"]):
        if value is not None:
            console.print(f"  class {index:3d}  {100 * value:6.2f}")


def _ablation_table(metrics: Mapping[str, Any]) -> Table:
    source = metrics["ablation"]["source"]
    table = Table(
        title=metrics["title"],
        caption=f"in percent; paper: {source}" if source else "in percent",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("variant")
    table.add_column("result")
    if source:
        table.add_column("paper", justify="right")
    table.add_column("ours", justify="right")
    for row in metrics["rows"]:
        paper = "" if row["paper"] is None else f"{row['paper']:.1f}"
        ours = "–" if row["value"] is None else f"{100 * row['value']:.2f}"
        if row["spread"] is not None:
            ours += f" ± {100 * row['spread']:.2f} ({len(row['values'])} seeds)"
        result = f"{row['metric']} of {row['stage']} ({row['artifact']}) on {row['split']}"
        table.add_row(row["variant"], result, *([paper] if source else []), ours)
    return table
