"""Folders of saliency maps against folders of masks, and the command line around it."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.parity.saliency_pairs import saliency_pairs
from wsss_zoo.cli import main
from wsss_zoo.errors import DataError
from wsss_zoo.metrics import SaliencyMetrics
from wsss_zoo.metrics.saliency_metrics import SCORES
from wsss_zoo.pipeline.evaluate_saliency import evaluate_saliency_folders, score_saliency

PAIRS = saliency_pairs()


def write(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")


@pytest.fixture
def one_set(tmp_path):
    write(tmp_path / "pred", {name: pair[0] for name, pair in PAIRS.items()})
    write(tmp_path / "gt", {name: pair[1] for name, pair in PAIRS.items()})
    return tmp_path / "pred", tmp_path / "gt"


@pytest.fixture
def two_sets(tmp_path):
    """One set in LDF's layout with a list, one with masks directly in its folder."""
    names = list(PAIRS)
    for folder, mask_folder, of_set in (
        ("DUTS", "DUTS/mask", names[:6]),
        ("ECSSD", "ECSSD", names[6:9]),
    ):
        write(tmp_path / "pred" / folder, {name: PAIRS[name][0] for name in of_set[:4]})
        write(tmp_path / "gt" / mask_folder, {name: PAIRS[name][1] for name in of_set})
    (tmp_path / "gt" / "DUTS" / "test.txt").write_text("\n".join(names[2:4]) + "\n")
    return tmp_path / "pred", tmp_path / "gt"


def expected_scores(names, protocol="pysodmetrics"):
    metrics = SaliencyMetrics(protocol)
    metrics.update([PAIRS[name][0] for name in names], [PAIRS[name][1] for name in names])
    return metrics.compute()


@pytest.mark.parametrize("protocol", ["pysodmetrics", "ldf"])
def test_scores_are_those_of_the_metric(one_set, protocol):
    (row,) = evaluate_saliency_folders(*one_set, protocol=protocol)["rows"]
    expected = expected_scores(PAIRS, protocol)
    assert row["n_images"] == len(PAIRS) > 16  # more than are scored together
    for name in SCORES:
        assert isinstance(row[name], float)
        assert row[name] == pytest.approx(float(expected[name]), abs=1e-14)
    details = row["details"]
    assert details["skipped"] == 2
    assert (details["protocol"], details["resized"]) == (protocol, 0)
    assert details["curves"]["thresholds"] == list(range(255, -1, -1))
    for name in ("f", "precision", "recall", "e"):
        torch.testing.assert_close(
            torch.tensor(details["curves"][name], dtype=torch.float64), expected[name], rtol=0, atol=1e-14
        )


def test_masks_may_be_boolean_or_float(tmp_path):
    levels, mask = PAIRS["soft"]
    write(tmp_path, {"soft": levels})
    rows = [
        score_saliency([(tmp_path / "soft.png", given)])
        for given in (mask, mask > 128, mask.astype(np.float32) / 255)
    ]
    assert rows[0] == rows[1] == rows[2]


def test_subfolders_are_data_sets(two_sets):
    rows = evaluate_saliency_folders(*two_sets)["rows"]
    names = list(PAIRS)
    assert [(row["set"], row["n_images"], row["missing"], row["unmatched"]) for row in rows] == [
        ("DUTS", 2, 0, 2),
        ("ECSSD", 3, 0, 0),
    ]
    for row, chosen in zip(rows, (names[2:4], names[6:9]), strict=True):
        assert row["mae"] == pytest.approx(float(expected_scores(chosen)["mae"]), abs=1e-14)


def test_missing_predictions_are_named_or_left_out(two_sets):
    (two_sets[1] / "DUTS" / "test.txt").unlink()
    names = list(PAIRS)
    with pytest.raises(DataError, match=f"DUTS: 2 of 6 masks have no prediction: {names[4]}, {names[5]}"):
        evaluate_saliency_folders(*two_sets)
    row = evaluate_saliency_folders(*two_sets, allow_missing=True)["rows"][0]
    assert (row["n_images"], row["missing"]) == (4, 2)
    assert row["s"] == pytest.approx(float(expected_scores(names[:4])["s"]), abs=1e-14)
    (two_sets[0] / "ECSSD").rename(two_sets[0] / "ecssd")
    with pytest.raises(DataError, match="has no subfolder for ECSSD"):
        evaluate_saliency_folders(*two_sets, allow_missing=True)


def test_many_missing_predictions_are_counted_and_some_named(tmp_path):
    write(tmp_path / "gt", {f"{i:02}": PAIRS["dot"][1] for i in range(14)})
    write(tmp_path / "pred", {"other": PAIRS["dot"][0]})
    with pytest.raises(DataError, match=r"14 of 14 masks have no prediction: 00, .*, 09 and 4 more"):
        evaluate_saliency_folders(tmp_path / "pred", tmp_path / "gt", allow_missing=True)


def test_list_of_images(one_set, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("soft.png\nmixed\n")
    (row,) = evaluate_saliency_folders(*one_set, ids=ids)["rows"]
    assert (row["n_images"], row["unmatched"]) == (2, len(PAIRS) - 2)
    assert row["wf"] == pytest.approx(float(expected_scores(["soft", "mixed"])["wf"]), abs=1e-14)
    ids.write_text("soft\nunknown\n")
    with pytest.raises(DataError, match=r"1 of 2 have no mask in .*: unknown"):
        evaluate_saliency_folders(*one_set, ids=ids)


def test_a_list_is_for_one_set(two_sets, tmp_path):
    (tmp_path / "ids.txt").write_text("soft\n")
    with pytest.raises(DataError, match=r"a list file is for one data set, but .* holds 2"):
        evaluate_saliency_folders(*two_sets, ids=tmp_path / "ids.txt")


@pytest.mark.parametrize("protocol", ["pysodmetrics", "ldf"])
def test_predictions_are_resized_to_their_masks(tmp_path, protocol):
    levels, mask = PAIRS["mixed"]
    small = np.ascontiguousarray(levels[::2, ::2])
    write(tmp_path, {"small": small, "full": levels})
    pairs = [(tmp_path / "small.png", mask), (tmp_path / "full.png", mask)]
    row = score_saliency(pairs, protocol)
    enlarged = (
        cv2.resize(small, (120, 90), interpolation=cv2.INTER_LINEAR)
        if protocol == "pysodmetrics"
        else np.asarray(Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC))
    )
    metrics = SaliencyMetrics(protocol)
    metrics.update([enlarged, levels], [mask, mask])
    assert row["details"]["resized"] == 1
    assert row["mae"] == pytest.approx(float(metrics.compute()["mae"]), abs=1e-14)


def test_what_cannot_be_scored(tmp_path, one_set):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="there is no folder"):
        evaluate_saliency_folders(tmp_path / "nowhere", one_set[1])
    with pytest.raises(DataError, match="holds no masks"):
        evaluate_saliency_folders(one_set[0], empty)
    with pytest.raises(DataError, match="no saliency maps to score"):
        score_saliency([])
    (one_set[0] / "soft.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"soft\.png: not an image"):
        evaluate_saliency_folders(*one_set)


def test_command_line_writes_every_format(two_sets, tmp_path, capsys):
    files = {ending: tmp_path / f"scores.{ending}" for ending in ("json", "csv", "tex")}
    command = ["evaluate", "--kind", "saliency", "--pred", str(two_sets[0]), "--gt", str(two_sets[1])]
    outputs = ["-o", str(files["json"]), "--csv", str(files["csv"]), "--latex", str(files["tex"])]
    assert main([*command, *outputs]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(files["json"].read_text())["rows"]
    assert [row["set"] for row in rows] == ["DUTS", "ECSSD"]
    lines = list(csv.DictReader(files["csv"].open()))
    latex = files["tex"].read_text().splitlines()
    for row, line, tex in zip(rows, lines, latex[4:6], strict=True):
        assert (line["set"], int(line["n_images"])) == (row["set"], row["n_images"])
        assert [float(line[name]) for name in SCORES] == [row[name] for name in SCORES]
        cells = tex.removesuffix(r" \\").split(" & ")
        assert cells == [row["set"], *(f"{row[name]:.3f}" for name in SCORES)]
        for name in SCORES:
            (shown,) = [text for text in printed.splitlines() if text.split()[0] == name]
            assert f"{row[name]:.3f}" in shown
    assert "DUTS: 2 predictions without mask ignored" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv", "x.csv"], "--csv does not apply to --kind segmentation"),
        (["--allow-missing"], "--allow-missing does not apply to --kind segmentation"),
        (["--kind", "saliency", "--num-classes", "8"], "--num-classes does not apply to --kind saliency"),
        (["--kind", "saliency"], "there is no folder /nowhere"),
    ],
)
def test_command_line_mistakes(options, message, capsys):
    assert main(["evaluate", "--pred", "/nowhere", "--gt", "/nowhere", *options]) == 2
    assert message in capsys.readouterr().err
