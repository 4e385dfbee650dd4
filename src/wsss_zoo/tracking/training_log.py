"""The `metrics.csv` of a training: Lightning's columns (`epoch`, `step`, metrics) with gaps.

Every row holds what was logged at one moment, so most cells are empty. A training that was killed and
continued goes on in the same file: see `TrainingLogFile`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.errors import ArtifactError

Row = dict[str, str]
_MOMENT = ("epoch", "step")


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a training log; a last line cut off by a kill is left out.

    Raises:
        ArtifactError: the file cannot be read or has no `step` column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: the training log cannot be read ({error})") from error
    whole_lines = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole_lines))
    if reader.fieldnames is None:
        return []
    if "step" not in reader.fieldnames:
        raise ArtifactError(f"{path}: expected a training log with a column 'step', got {reader.fieldnames}")
    return [{key: cell for key, cell in row.items() if cell} for row in reader if row.get("step")]


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Read every metric of a training log.

    Returns:
        Metric name -> (step, value) in the order of the file; cells that are no numbers are an error.

    Raises:
        ArtifactError: the file cannot be read, or a cell is not a number.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_rows(path):
        for name, cell in row.items():
            if name in _MOMENT:
                continue
            try:
                curves.setdefault(name, []).append((float(row["step"]), float(cell)))
            except ValueError:
                raise ArtifactError(
                    f"{path}: expected a number in column {name!r} at step {row['step']}, got {cell!r}"
                ) from None
    return curves


class TrainingLogFile:
    """Appends to a `metrics.csv`, also over kills: earlier rows stay and no step is there twice.

    A continued training starts again at its last checkpoint, which lies before the last logged step.
    So the first metrics of a new process, at step s, replace what earlier processes wrote for later
    steps, and the same metrics at step s.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []
        self._first_step: int | None = None

    def append(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one row.

        Args:
            metrics: name -> value, `epoch` among them where it is known.
            step: optimiser steps made so far.

        Raises:
            ArtifactError: the file could not be written.
        """
        row = {**{name: repr(value) for name, value in metrics.items()}, "step": str(step)}
        if self._first_step is None:
            self._first_step = step
        if step == self._first_step:  # one moment is logged in several rows: rates, then losses
            self._rewrite([*self._earlier_rows(row, step), row])
        elif row.keys() - set(self._columns):
            self._rewrite([*read_rows(self.path), row])
        else:
            self._write_end(row)

    def _earlier_rows(self, new: Row, step: int) -> list[Row]:
        if not self.path.exists():
            return []
        repeated = new.keys() - set(_MOMENT)
        kept = []
        for row in read_rows(self.path):
            if int(row["step"]) == step:
                row = {name: cell for name, cell in row.items() if name not in repeated}
            if int(row["step"]) <= step and row.keys() - set(_MOMENT):
                kept.append(row)
        return kept

    def _rewrite(self, rows: list[Row]) -> None:
        self._columns = sorted({name for row in rows for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode("utf-8"))

    def _write_end(self, row: Row) -> None:
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        except OSError as error:
            raise ArtifactError(f"{self.path}: the training log cannot be written ({error})") from error
