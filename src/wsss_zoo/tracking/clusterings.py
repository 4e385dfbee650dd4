"""The clusterings of a run, as `metrics.json` tells them: sub-categories in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss_zoo.tracking.pictures import inline_pictures
from wsss_zoo.tracking.results import MISSING, expect, number

#: Bytes of all contact sheets of one report, besides those of the panels.
SHEET_BUDGET = 6_000_000


@dataclass(frozen=True)
class ClassClusters:
    """The sub-categories of one class.

    Attributes:
        images: images of the class.
        sizes: images of each sub-category.
        inertia: sum of the squared distances to the centres.
        nmi: agreement with the clustering before, 0..1; None where there is none.
        sheet: the contact sheet, None where it is not in this run's folder.
    """

    name: str
    images: int
    sizes: tuple[int, ...]
    inertia: float | None
    nmi: float | None
    sheet: Path | None


@dataclass(frozen=True)
class Clustering:
    """One stage that clusters.

    Attributes:
        k: sub-categories of every class.
        compared_with: the stage that clustered before; empty for the first.
        nmi: mean of the classes' agreement with it.
    """

    stage: str
    title: str
    k: int
    compared_with: str
    nmi: float | None
    classes: tuple[ClassClusters, ...]


def parse_clustering(value: Any, where: str, run_dir: Path) -> Clustering:
    """Read one entry of `clusterings` in `metrics.json`.

    Raises:
        ArtifactError: a value is of the wrong type.
    """
    entry = expect(value, dict, where) or {}
    stage = expect(entry.get("stage"), str, f"{where}.stage") or MISSING
    classes = expect(entry.get("classes"), list, f"{where}.classes") or []
    return Clustering(
        stage=stage,
        title=expect(entry.get("title"), str, f"{where}.title") or stage,
        k=int(number(entry.get("k"), f"{where}.k") or 0),
        compared_with=expect(entry.get("compared_with"), str, f"{where}.compared_with") or "",
        nmi=number(entry.get("nmi"), f"{where}.nmi"),
        classes=tuple(
            _parse_class(item, f"{where}.classes[{index}]", run_dir / stage / "contact_sheets")
            for index, item in enumerate(classes)
        ),
    )


def _parse_class(value: Any, where: str, folder: Path) -> ClassClusters:
    entry = expect(value, dict, where) or {}
    sizes = expect(entry.get("sizes"), list, f"{where}.sizes") or []
    file = folder / (expect(entry.get("sheet"), str, f"{where}.sheet") or MISSING)
    return ClassClusters(
        name=expect(entry.get("name"), str, f"{where}.name") or MISSING,
        images=int(number(entry.get("images"), f"{where}.images") or 0),
        sizes=tuple(int(number(size, f"{where}.sizes[{i}]") or 0) for i, size in enumerate(sizes)),
        inertia=number(entry.get("inertia"), f"{where}.inertia"),
        nmi=number(entry.get("nmi"), f"{where}.nmi"),
        sheet=file if file.is_file() else None,
    )


def agreement_table(clusterings: tuple[Clustering, ...]) -> list[tuple[str, list[str]]]:
    """Classes as rows, clusterings from the second on as columns; the mean is the last row.

    Returns:
        Texts with two decimals; empty where nothing is compared.
    """
    compared = [clustering for clustering in clusterings if clustering.compared_with]
    if not compared:
        return []
    rows = [
        (item.name, [_decimals(clustering.classes[index].nmi) for clustering in compared])
        for index, item in enumerate(compared[0].classes)
    ]
    return [*rows, ("mean", [_decimals(clustering.nmi) for clustering in compared])]


def inline_sheets(clusterings: tuple[Clustering, ...]) -> Mapping[tuple[str, str], str]:
    """Stage and class -> address of the contact sheet; those of the last clustering first, as room allows."""
    files = {
        f"{clustering.stage}\n{item.name}": item.sheet
        for clustering in reversed(clusterings)
        for item in clustering.classes
        if item.sheet is not None
    }
    addresses = inline_pictures(files, SHEET_BUDGET)
    return {(key.split("\n")[0], key.split("\n", 1)[1]): address for key, address in addresses.items()}


def _decimals(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
