from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from wsss_zoo.errors import ArtifactError, WsssZooError
from wsss_zoo.tracking.pictures import inline_pictures
from wsss_zoo.tracking.report import write_comparison, write_report
from wsss_zoo.tracking.report_sections import duration, in_words, memory, size

from .conftest import CLASS_NAMES

MakeRun = Callable[..., Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that elements nest, and collects text, addresses and tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def edit_metrics(run: Path, **changes: object) -> None:
    file = run / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_report_shows_every_figure(make_run: MakeRun) -> None:
    run = make_run()
    metrics = json.loads((run / "metrics.json").read_text())
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    for row in metrics["rows"]:
        assert row["label"] in page.text
        assert f"{100 * row['miou']:.2f}" in page.text
        for value in row["iou"]:
            assert value is None or f"{100 * value:.1f}" in page.text
    details = metrics["rows"][0]["details"]
    assert f"{100 * details['fixed_miou']:.2f}" in page.text
    assert "0.30, fixed" in page.text
    assert "0.17, oracle: best on ground truth of train" in page.text
    assert "best 48.2 at 0.17" in page.text
    assert f"fixed {100 * details['fixed_miou']:.1f} at 0.30" in page.text
    for word in (*CLASS_NAMES, "1,464", "1,449", "55.12", "1 h 01 min", "123 MB", "900 MiB", "node-07"):
        assert word in page.text
    assert "wsss_zoo.methods.deeplab.DeepLab" in page.text
    assert "name: voc2012/cam" in page.text
    assert "CAM on VOC 2012 <tags & masks>" in page.text  # escaped in the source, as typed for the reader


def test_report_stands_alone(make_run: MakeRun) -> None:
    path = write_report(make_run())
    page = Page(path)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not re.search(r"https?://|url\((?!#)|@import", path.read_text(encoding="utf-8"))


def test_report_is_reproducible(make_run: MakeRun) -> None:
    run = make_run()
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_report_marks_the_best_of_a_row_within_a_split(make_run: MakeRun) -> None:
    run = make_run()
    rows = json.loads((run / "metrics.json").read_text())["rows"][1:3]  # pseudo labels, DeepLab
    for row, iou in zip(rows, ([0.9, 0.1], [0.2, 0.3]), strict=True):
        row["iou"] = iou
    train_again = {**rows[0], "label": "Other labels", "iou": [0.5, 0.6]}
    edit_metrics(run, rows=[rows[0], train_again, rows[1]], class_names=["background", "dog"])
    source = write_report(run).read_text(encoding="utf-8")
    bold = re.findall(r'<span class="best\s*">([\d.]+)</span>', source)
    assert bold == ["90.0", "60.0"]  # one result of val has nothing to be compared with; the means are equal


@pytest.mark.parametrize(
    ("remove", "note"),
    [
        ("metrics.json", "metrics.json: the run has not got that far"),
        ("recipe.yaml", "recipe.yaml: the resolved recipe"),
        ("panels/2007_000000.png", "panels/: composed pictures"),
    ],
)
def test_report_names_what_is_missing(make_run: MakeRun, remove: str, note: str) -> None:
    run = make_run(pictures=1)
    (run / remove).unlink()
    assert note in Page(write_report(run)).text


def test_report_of_a_run_that_has_only_started(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    text = Page(write_report(tmp_path)).text
    for note in ("No figures", "No threshold curve", "No training log", "No pictures", "No costs"):
        assert note in text


def test_report_tolerates_missing_values(make_run: MakeRun) -> None:
    run = make_run()
    rows = [{"label": "CAM"}, {"miou": None, "iou": None}]
    edit_metrics(run, rows=rows, stages=[{"name": "cam"}], title=None)
    text = Page(write_report(run)).text
    assert "metrics.json holds no per-class IoU" in text
    assert "No per-class IoU in this run folder" in text


def test_report_tells_unfinished_stages(make_run: MakeRun) -> None:
    run = make_run()
    edit_metrics(run, stages=[{"name": "deeplab", "status": "started"}])
    assert "stage deeplab: status is “started”" in Page(write_report(run)).text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rows": [{"miou": "0.5"}]},
            r"rows\[0\]\.miou: expected a number or null, got '0\.5'",
        ),
        ({"rows": [{"details": {"pxap": "high"}}]}, r"rows\[0\]\.details\.pxap"),
        ({"rows": {}}, r"metrics\.json: rows: expected list"),
        ({"rows": [{"iou": [0.1, "x"]}]}, r"rows\[0\]\.iou\[1\]"),
        ({"stages": [{"seconds": {"fit": "long"}}]}, r"stages\[0\]\.seconds\.fit"),
        (
            {"rows": [{"label": "CAM", "details": {"curve": {"thresholds": [0.1], "miou": [0.1, 0.2]}}}]},
            "1 thresholds, but 2 mIoU values",
        ),
    ],
)
def test_wrong_values_are_named(make_run: MakeRun, changes: dict[str, object], message: str) -> None:
    run = make_run()
    edit_metrics(run, **changes)
    with pytest.raises(ArtifactError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(WsssZooError, match=r"is no run folder: expected metrics\.json or recipe\.yaml"):
        write_report(tmp_path)
    with pytest.raises(WsssZooError, match="there is no such folder"):
        write_report(tmp_path / "nothing")


def test_broken_picture_is_named(make_run: MakeRun) -> None:
    run = make_run(pictures=1)
    (run / "panels" / "2007_000000.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ArtifactError, match=r"2007_000000\.png: the picture cannot be read"):
        write_report(run)


def test_pictures_shrink_to_the_budget_then_are_left_out(make_run: MakeRun) -> None:
    run = make_run(pictures=3)
    files = {file.stem: file for file in sorted((run / "panels").glob("*.png"))}
    full = inline_pictures(files)
    total = sum(map(len, full.values()))
    assert [width(address) for address in full.values()] == [1600] * 3
    smaller = inline_pictures(files, budget=total // 2)
    assert sum(map(len, smaller.values())) <= total // 2
    assert len(smaller) == 3
    assert len({width(address) for address in smaller.values()} - {1600}) == 1
    smallest = inline_pictures(files, budget=len(next(iter(smaller.values()))) // 2)
    assert 0 < len(smallest) < 3


def width(address: str) -> int:
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).width


def test_comparison_sets_runs_side_by_side(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(), make_run("voc2012/seam", "seam", gain=0.031)]
    page = Page(write_comparison(runs, tmp_path / "compare.html"))
    assert (tmp_path / "compare.html").stat().st_size < 10_000_000
    for figure in ("61.74", "64.84", "+3.1", "62.88", "65.98"):
        assert figure in page.text
    assert "CAM (best threshold), train / SEAM (best threshold), train" in page.text
    assert "seam − cam" in page.text
    assert "seam: SEAM, train: best 51.3 at 0.17, fixed 44.7 at 0.30" in page.text
    assert page.text.count("2007_000001") == 1
    assert len([address for address in page.addresses if address.startswith("data:")]) == 4
    assert not re.search(r"https?://", (tmp_path / "compare.html").read_text(encoding="utf-8"))


def test_comparison_of_an_ablation_stands_beside_the_paper(make_run: MakeRun, tmp_path: Path) -> None:
    variants = [make_run("ablations/crf/without", gain=-0.02), make_run("ablations/crf/with")]
    folder = tmp_path / "runs" / "ablations" / "crf"
    what = {"metric": "miou", "stage": "deeplab", "artifact": "masks", "split": "val"}
    summary = {
        "recipe": "ablations/crf",
        "title": "Dense CRF on and off",
        "ablation": {"source": "the paper, table 4"},
        "rows": [
            {"variant": "without", "paper": None, "value": 0.5974, "runs": ["without"], **what},
            {"variant": "with", "paper": 63.0, "value": 0.6174, "spread": 0.0123, "runs": ["with"], **what},
        ],
    }
    (folder / "metrics.json").write_text(json.dumps(summary))
    from_variants = Page(write_comparison(variants, tmp_path / "a.html"))
    from_folder = Page(write_comparison([folder], tmp_path / "b.html"))
    assert from_folder.text == from_variants.text
    for words in (
        "Dense CRF on and off",
        "deeplab · masks · val",
        "the paper, table 4",
        "63.0",
        "−1.3",
        "± 1.23",
    ):
        assert words in from_folder.text


def test_comparison_needs_two_runs(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(WsssZooError, match="two or more different run folders"):
        write_comparison([run, run], tmp_path / "out.html")
    with pytest.raises(WsssZooError, match="is no run folder"):
        write_comparison([run, tmp_path / "runs"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_comparison_of_runs_without_common_results(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(), make_run("voc2012/started")]
    (runs[1] / "metrics.json").unlink()
    text = Page(write_comparison(runs, tmp_path / "out.html")).text
    assert "No result with per-class IoU is in two of these runs" in text
    assert "metrics.json: the run has not got that far" in text


def test_report_starts_without_torch() -> None:
    code = "import sys, wsss_zoo.tracking.report, wsss_zoo.tracking.tables, wsss_zoo.tracking.loggers;"
    code += "print({'torch', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_quantities_in_words() -> None:
    assert [duration(s) for s in (None, 8.44, 59.96, 185, 3599.7, 7620)] == [
        "–",
        "8.4 s",
        "1 min 00 s",
        "3 min 05 s",
        "1 h 00 min",
        "2 h 07 min",
    ]
    assert [size(b) for b in (None, 12, 23_456_789, 1.5e9)] == ["–", "12 B", "23.5 MB", "1.5 GB"]
    assert [memory(m) for m in (None, 900, 11_264)] == ["–", "900 MiB", "11.0 GiB"]
    assert in_words({"image_labels": True, "scales": [0.5, 1.0], "crf": None}) == (
        "image labels: yes\nscales: 0.5, 1\ncrf: none"
    )
