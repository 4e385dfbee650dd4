from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import ArtifactError
from wsss_zoo.tracking.training_log import TrainingLogFile, read_curves, read_rows


def write(path: Path, *rows: tuple[int, dict[str, float]]) -> None:
    """One process: a new object for the same file."""
    log = TrainingLogFile(path)
    for step, metrics in rows:
        log.append(metrics, step)


def test_columns_that_come_later_leave_gaps(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.csv"
    write(path, (9, {"epoch": 0, "train/loss": 0.5}), (9, {"lr": 0.1}), (19, {"epoch": 1, "train/loss": 0.4}))
    assert path.read_text() == "epoch,lr,step,train/loss\n0,,9,0.5\n,0.1,9,\n1,,19,0.4\n"
    assert read_curves(path) == {"train/loss": [(9.0, 0.5), (19.0, 0.4)], "lr": [(9.0, 0.1)]}


def test_continuing_replaces_what_was_logged_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, *((step, {"loss": float(step)}) for step in range(0, 50, 10)), (19, {"val": 0.5}))
    write(path, (30, {"loss": 0.3}), (40, {"loss": 0.4}), (50, {"loss": 0.5}))
    assert read_curves(path) == {
        "loss": [(0, 0.0), (10, 10.0), (20, 20.0), (30, 0.3), (40, 0.4), (50, 0.5)],
        "val": [(19, 0.5)],
    }


def test_other_metrics_of_the_same_step_stay(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write(path, (9, {"lr": 0.1}), (9, {"epoch": 0, "loss": 1.0}))
    write(path, (9, {"epoch": 0, "val": 0.5}))
    assert read_curves(path) == {"lr": [(9, 0.1)], "loss": [(9, 1.0)], "val": [(9, 0.5)]}
    write(path, (9, {"epoch": 0, "val": 0.6}))
    assert read_curves(path)["val"] == [(9, 0.6)]


@given(
    steps=st.lists(st.integers(1, 30), min_size=1, max_size=20).map(lambda s: sorted(set(s))),
    killed_after=st.integers(0, 40),
    checkpoint=st.integers(0, 20),
)
def test_a_continued_log_equals_one_that_was_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], killed_after: int, checkpoint: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    # a moment is logged in two rows, and the kill may come between them
    rows = [row for step in steps for row in ((step, {"lr": 0.1}), (step, {"epoch": 0, "loss": 1 / step}))]
    write(folder / "whole.csv", *rows)
    write(folder / "parts.csv", *rows[:killed_after])
    write(folder / "parts.csv", *rows[2 * min(checkpoint, killed_after // 2) :])
    assert read_rows(folder / "parts.csv") == read_rows(folder / "whole.csv")


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,step\n0,0.5,9\n1,0.4")
    assert read_curves(path) == {"loss": [(9, 0.5)]}
    write(path, (19, {"epoch": 1, "loss": 0.25}))
    assert read_curves(path) == {"loss": [(9, 0.5), (19, 0.25)]}


def test_broken_logs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("loss\n0.5\n")
    with pytest.raises(ArtifactError, match=r"metrics\.csv: expected a training log with a column 'step'"):
        read_curves(path)
    path.write_text("loss,step\nhigh,3\n")
    with pytest.raises(ArtifactError, match="expected a number in column 'loss' at step 3, got 'high'"):
        read_curves(path)
