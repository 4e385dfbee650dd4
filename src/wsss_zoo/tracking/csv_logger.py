"""Lightning logger that writes `metrics.csv` and goes on with it after a kill."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from wsss_zoo.tracking.training_log import TrainingLogFile


class ContinuedCSVLogger(Logger):
    """Writes the columns of Lightning's `CSVLogger`, but keeps the rows of an earlier process.

    Lightning's own logger deletes an existing `metrics.csv` when it starts, so a training that continues
    from a checkpoint would lose the curve so far.

    Args:
        folder: where `metrics.csv` goes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._log = TrainingLogFile(folder / "metrics.csv")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.name

    @property
    def version(self) -> str:
        """Empty: there is one log, however often the training is continued."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        """The folder."""
        return str(self._folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row.

        Args:
            metrics: name -> number.
            step: optimiser steps so far; the Trainer always gives it.

        Raises:
            ValueError: there is no step.
        """
        if step is None:
            raise ValueError("a training log needs the step of every row")
        self._log.append({name: float(value) for name, value in metrics.items()}, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write nothing: the run folder's `recipe.yaml` holds every setting."""
