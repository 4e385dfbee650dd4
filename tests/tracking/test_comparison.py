from __future__ import annotations

from pathlib import Path
from typing import Any

from wsss_zoo.tracking.comparison import align, run_names
from wsss_zoo.tracking.results import Result
from wsss_zoo.tracking.run_folder import Run


def run(*results: tuple[str, str, str], name: str = "a/x") -> Run:
    """Results are (stage, artifact, split)."""
    rows = tuple(Result(stage, artifact, split, label=stage.upper()) for stage, artifact, split in results)
    empty: dict[str, Any] = {"training": {}, "panels": {}, "software": {}}
    empty |= dict.fromkeys(("title", "description", "created"), "")
    empty |= dict.fromkeys(("class_names", "stages", "missing"), ())
    return Run(Path(name), name, results=rows, recipe=None, **empty)


def labels(*runs: Run) -> list[tuple[str, list[str | None]]]:
    return [
        (alignment.label, [result.stage if result else None for result in alignment.results])
        for alignment in align(runs)
    ]


def test_same_stage_is_the_same_result() -> None:
    first = run(("cam", "maps", "train"), ("deeplab", "masks", "val"))
    assert labels(first, first) == [("CAM, train", ["cam", "cam"]), ("DEEPLAB, val", ["deeplab", "deeplab"])]


def test_methods_that_name_their_stage_otherwise_meet_by_kind() -> None:
    first = run(("cam", "maps", "train"), ("deeplab", "masks", "val"))
    second = run(("seam", "maps", "train"), ("walk", "masks", "train"), ("deeplab", "masks", "val"))
    assert labels(first, second) == [
        ("CAM, train / SEAM, train", ["cam", "seam"]),
        ("DEEPLAB, val", ["deeplab", "deeplab"]),
        ("WALK, train", [None, "walk"]),
    ]


def test_two_candidates_are_not_guessed() -> None:
    first = run(("threshold", "masks", "train"))
    second = run(("walk", "masks", "train"), ("crf", "masks", "train"))
    assert all(sum(stage is not None for stage in stages) == 1 for _, stages in labels(first, second))


def test_splits_are_never_mixed() -> None:
    assert len(labels(run(("cam", "maps", "train")), run(("cam", "maps", "val")))) == 2


def test_results_of_one_identity_are_all_kept() -> None:
    twice = run(("cam", "maps", "train"), ("cam", "maps", "train"))
    assert sum(stage is not None for _, stages in labels(twice, run()) for stage in stages) == 2


def test_run_names() -> None:
    assert run_names([run(name="voc2012/cam"), run(name="voc2012/seam")]) == ["cam", "seam"]
    assert run_names([run(name="voc2012/cam"), run(name="minivoc/cam")]) == ["voc2012/cam", "minivoc/cam"]
