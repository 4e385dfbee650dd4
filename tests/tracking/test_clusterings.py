"""Contact sheets, and sub-categories in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.errors import ArtifactError
from wsss_zoo.tracking.contact_sheet import compose_contact_sheet
from wsss_zoo.tracking.report import write_report
from wsss_zoo.tracking.run_folder import load_run

MakeRun = Callable[..., Path]
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


def plain(colour: str, height: int = 30, width: int = 40) -> np.ndarray:
    return np.broadcast_to(np.array(COLOURS[colour], np.uint8), (height, width, 3))


def test_rows_of_whole_images() -> None:
    rows = [("0: 2 images", [plain("red"), plain("green")]), ("1: 1 image", [plain("blue", 90, 20)])]
    sheet = compose_contact_sheet(rows, side=48)
    assert (sheet.dtype, sheet.shape[0]) == (np.uint8, 6 + 2 * (48 + 6))
    areas = {name: np.argwhere((sheet == colour).all(2)) for name, colour in COLOURS.items()}
    extents = {name: (np.ptp(area, 0) + 1).tolist() for name, area in areas.items()}
    assert extents == {"red": [36, 48], "green": [36, 48], "blue": [48, 11]}  # fitted, not cut or stretched
    assert areas["green"][:, 1].min() > areas["red"][:, 1].max()
    assert areas["blue"][:, 0].min() > areas["red"][:, 0].max()
    left = areas["red"][:, 1].min()
    assert (sheet[:54, :left] < 128).any()  # each row has its caption
    assert (sheet[54:, :left] < 128).any()


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        compose_contact_sheet([])


def clustering(stage: str, before: str | None, nmi: list[float | None]) -> dict[str, Any]:
    names = ["aeroplane", "bicycle"]
    return {
        "stage": stage,
        "title": f"title of {stage}",
        "k": 3,
        "images": 40,
        "compared_with": before,
        "nmi": None if before is None else 0.25,
        "classes": [
            {
                "name": name,
                "images": 20 - index,
                "sizes": [10, 10 - index, 0],
                "inertia": 12.5,
                "nmi": nmi[index],
                "sheet": f"0{index}_{name}.png",
            }
            for index, name in enumerate(names)
        ],
    }


@pytest.fixture
def clustered_run(make_run: MakeRun) -> Path:
    folder = make_run()
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["clusterings"] = [
        clustering("clusters_1", None, [None, None]),
        clustering("clusters_2", "clusters_1", [0.251, None]),
    ]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("00_aeroplane", "01_bicycle"):
        file = folder / "clusters_2" / "contact_sheets" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(compose_contact_sheet([("0", [plain("red")])])).save(file)
    return folder


def test_the_report_shows_sheets_and_agreement(clustered_run: Path) -> None:
    text = write_report(clustered_run).read_text()
    section = text[text.index('id="subcategories"') : text.index('id="costs"')]
    assert '<a href="#subcategories">' in text
    for shown in (
        "<small>and clusters_1</small>",
        ">0.25<",
        ">–<",
        "aeroplane: 20 images in 2 sub-categories",
    ):
        assert shown in section
    assert section.count("<img") == 2  # those of the second clustering; the first one's lie in another run
    assert section.count("The contact sheet is not in this report") == 2
    assert text.count("<details open><summary>title of clusters_2") == 1


def test_a_run_without_clusterings_has_no_such_section(make_run: MakeRun) -> None:
    assert "Sub-categories" not in write_report(make_run()).read_text()


def test_a_broken_entry_is_named(clustered_run: Path) -> None:
    metrics = json.loads((clustered_run / "metrics.json").read_text())
    metrics["clusterings"][1]["classes"][0]["sizes"] = "many"
    (clustered_run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ArtifactError, match=r"clusterings\[1\]\.classes\[0\]\.sizes: expected list"):
        load_run(clustered_run)
