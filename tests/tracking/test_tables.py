from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from rich.console import Console

from wsss_zoo.tracking.results import class_rows, parse_results
from wsss_zoo.tracking.tables import best_of, results_table, to_csv, to_latex

from .conftest import CLASS_NAMES
from .conftest import metrics as whole_metrics


def printed(metrics: dict[str, Any], width: int = 100, **options: Any) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(results_table(metrics, width=width, **options))
    return console.export_text()


@pytest.fixture
def metrics() -> dict[str, Any]:
    return whole_metrics("voc2012/cam")


def test_printed_table_holds_every_class_and_result(metrics: dict[str, Any]) -> None:
    lines = printed(metrics).splitlines()
    assert max(map(len, lines)) <= 100
    results = parse_results(metrics["rows"], "rows")
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.split()[1:]}
    for name, values in class_rows(results, CLASS_NAMES):
        assert rows[name] == ["–" if value is None else f"{100 * value:.1f}" for value in values]
    assert rows["mIoU"] == [f"{100 * r.miou:.1f}" for r in results if r.miou is not None]
    assert lines.index(next(line for line in lines if line.startswith("mIoU"))) == len(lines) - 1


@pytest.mark.parametrize("width", [45, 60, 80])
def test_narrow_terminals_get_several_tables(metrics: dict[str, Any], width: int) -> None:
    text = printed(metrics, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("mIoU") == -(-5 // ((width - 16) // 14))
    for value in ("48.2", "42.0", "53.9", "61.7", "62.9"):
        assert value in text


def test_summary_without_classes(metrics: dict[str, Any]) -> None:
    text = printed(metrics, per_class=False)
    assert "aeroplane" not in text
    assert "0.17, oracle: best on ground truth of train" in text
    assert "62.88" in text
    for row in metrics["rows"]:
        row["iou"] = []
        row["details"].pop("fixed_iou", None)
    assert "62.88" in printed(metrics)


def test_labels_are_not_markup(metrics: dict[str, Any]) -> None:
    metrics["rows"] = [{**metrics["rows"][1], "label": "[red]CAM"}]
    assert "[red]CAM" in printed(metrics)
    assert "[red]CAM" in printed(metrics, per_class=False)


def test_csv_gives_back_the_figures(metrics: dict[str, Any]) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(metrics))))
    assert rows[0] == ["class", *(f"{r.label} / {r.split}" for r in parse_results(metrics["rows"], "rows"))]
    assert [row[0] for row in rows[1:]] == [*CLASS_NAMES, "mIoU"]
    assert float(rows[-1][1]) == metrics["rows"][0]["miou"]
    assert float(rows[1][3]) == metrics["rows"][1]["iou"][0]
    assert rows[-2][-1] == ""  # DeepLab met no television


def test_latex_marks_the_best_and_escapes(metrics: dict[str, Any]) -> None:
    row = {"split": "val_1", "miou": 0.5, "iou": [0.4, 0.6]}
    latex = to_latex(
        {
            "class_names": ["background", "pot & plant"],
            "rows": [{**row, "label": "A"}, {**row, "label": "B", "miou": 0.55, "iou": [0.5, None]}],
        }
    )
    assert r" & A, val\_1 & B, val\_1 \\" in latex
    assert r"background & 40.0 & \textbf{50.0} \\" in latex
    assert r"pot \& plant & 60.0 & -- \\" in latex
    assert r"mIoU & 50.0 & \textbf{55.0} \\" in latex
    assert latex.count("midrule") == 2


def test_best_of_compares_what_is_shown_within_groups() -> None:
    assert best_of([0.1, 0.3, None]) == {1}
    assert best_of([0.3001, 0.3004, 0.1]) == {0, 1}
    assert best_of([0.3, None]) == set()
    assert best_of([0.3, 0.3]) == set()
    assert best_of([0.1, 0.2, 0.9], ["train", "train", "val"]) == {1}


def test_row_scored_at_a_fixed_threshold_gives_two_results(metrics: dict[str, Any]) -> None:
    oracle, fixed = parse_results(metrics["rows"][:1], "rows")
    assert (oracle.threshold_kind, fixed.threshold_kind) == ("oracle", "fixed")
    assert (oracle.label, fixed.label) == ("CAM (best threshold)", "CAM (fixed threshold)")
    assert fixed.miou == metrics["rows"][0]["details"]["fixed_miou"]
    assert (oracle.threshold_text, fixed.threshold_text) == (
        "0.17, oracle: best on ground truth of train",
        "0.30, fixed",
    )
    assert oracle.curve is not None
    assert oracle.curve.thresholds[oracle.curve.best] == 0.17
    assert fixed.curve is None
