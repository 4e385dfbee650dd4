"""What a person sees of a run: pictures, tables, the HTML report, loggers. Importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.tracking.loggers import close_loggers, log_panels, log_results, stage_loggers
    from wsss_zoo.tracking.panels import choose_image_ids, class_legend, compose_panel
    from wsss_zoo.tracking.report import write_comparison, write_report
    from wsss_zoo.tracking.run_folder import Run, load_run
    from wsss_zoo.tracking.tables import results_table, to_csv, to_latex

_LOCATIONS = {
    "write_comparison": "report",
    "close_loggers": "loggers",
    "log_panels": "loggers",
    "log_results": "loggers",
    "stage_loggers": "loggers",
    "choose_image_ids": "panels",
    "class_legend": "panels",
    "compose_panel": "panels",
    "write_report": "report",
    "Run": "run_folder",
    "load_run": "run_folder",
    "results_table": "tables",
    "to_csv": "tables",
    "to_latex": "tables",
}

__all__ = [
    "Run",
    "choose_image_ids",
    "class_legend",
    "close_loggers",
    "compose_panel",
    "load_run",
    "log_panels",
    "log_results",
    "results_table",
    "stage_loggers",
    "to_csv",
    "to_latex",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.tracking.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.tracking' has no attribute '{name}'")
