from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.data import DATASETS, ImageFolderDataModule, VOC2012DataModule
from wsss_zoo.data.check import check
from wsss_zoo.data.prepare import prepare
from wsss_zoo.errors import DataError


def test_a_sound_set_has_no_problem(voc_root: Path) -> None:
    report = check("voc2012", voc_root, progress=False)
    assert report.ok, str(report)
    assert report.splits == {"train": (3, 3), "train_aug": (6, 6), "trainval": (5, 5), "val": (2, 2)}
    assert report.images == 8
    assert "6 of 6 images of train_aug" in str(report)
    assert str(report).endswith("no problem found")


def test_every_kind_of_problem_is_found(voc_root: Path, voc: Path) -> None:
    path = voc / "JPEGImages" / "2007_000001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    save_mask(voc / "SegmentationClass" / "2007_000002.png", np.zeros((9, 11), np.uint8))
    save_mask(voc / "SegmentationClass" / "2007_000003.png", np.full((27, 34), 99, np.uint8))
    save_mask(voc / "SegmentationClass" / "2009_000099.png", np.zeros((9, 11), np.uint8))
    (voc / "Annotations" / "2007_000003.xml").write_text("<annotation/>")
    shutil.copy(voc / "JPEGImages" / "2008_000005.jpg", voc / "JPEGImages" / "2008_000006.jpg")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000004\n2007_000002\n")
    (voc / "ImageSets" / "Segmentation" / "odd.txt").write_text("2007_000004\n2007_000004\n")
    report = check(VOC2012DataModule(voc_root, train_split="train"), progress=False)
    assert not report.ok
    found = {kind: len(cases) for kind, cases in report.problems.items()}
    assert found == {
        "splits that cannot be used": 2,  # odd, and trainval, which is made of overlapping lists
        "images in both train and val": 1,
        "images that cannot be read": 1,
        "masks of another size than their image": 2,  # also the copied image keeps its old mask
        "masks that cannot be used": 1,
        "images that are identical": 1,
        "masks without image": 1,
    }
    text = str(report)
    for words in (
        "2007_000001.jpg: truncated",
        "found also 99",
        "2007_000002: mask 11 x 9, image 36 x 26",
        "2008_000005 and 2008_000006",
        "2009_000099.png",
        "1 images of train have none of the classes, first 2007_000003",
    ):
        assert words in text


def test_long_lists_are_cut(photos: Path) -> None:
    for number in range(20, 30):
        save_mask(photos / "masks" / f"q{number}.png", np.zeros((2, 2), np.uint8))
    report = check(ImageFolderDataModule(photos), progress=False)
    assert len(report.problems["masks without image"]) == 10
    assert "... and 5 more" in str(report)


def test_partial_copy_is_a_note(voc_root: Path, voc: Path) -> None:
    (voc / "JPEGImages" / "2008_000005.jpg").unlink()
    report = check("voc2012", voc_root, progress=False)
    assert report.ok
    assert report.splits["train_aug"] == (5, 6)
    assert "1 images of train_aug are not here" in str(report)


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'voc2012'"):
        check("voc2021", tmp_path)
    with pytest.raises(DataError, match="root is missing"):
        check("voc2012")
    with pytest.raises(DataError, match="did you mean 'minivoc'"):
        prepare("minivok", tmp_path)
    with pytest.raises(DataError, match="your own data"):
        prepare("image_folder", tmp_path)


def test_failed_download_tells_the_steps_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **keywords: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.VOCSegmentation", offline)
    with pytest.raises(DataError, match=r"VOC 2012 could not be downloaded .*Name or .*VOCtrainval_11-May"):
        prepare("voc2012", tmp_path)


def test_prepare_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(root: str, **keywords: object) -> None:
        assert keywords == {"year": "2012", "image_set": "train", "download": True}
        (Path(root) / "VOCdevkit" / "VOC2012" / "JPEGImages").mkdir(parents=True)

    def broken(root: str, **keywords: object) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("torchvision.datasets.VOCSegmentation", unpack)
    monkeypatch.setattr("torchvision.datasets.SBDataset", broken)
    for _ in range(2):  # a second VOC download would fail on the folder that exists
        with pytest.raises(DataError, match=r"SBD could not be downloaded .*corrupted.*benchmark\.tgz"):
            prepare("voc2012", tmp_path)


def test_names_are_listed_without_torch() -> None:
    code = "import sys, wsss_zoo.data as d; print(*d.DATASETS); assert 'torch' not in sys.modules"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.split() == sorted(DATASETS)


def test_every_listed_class_exists() -> None:
    import wsss_zoo.data

    for path in DATASETS.values():
        module, _, name = path.rpartition(".")
        assert module == "wsss_zoo.data"
        assert issubclass(getattr(wsss_zoo.data, name), wsss_zoo.data.ImageDataModule)


def test_grey_levels_in_place_of_labels(photos: Path) -> None:
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(photos / "masks" / "p1.png")
    report = check("image_folder", photos, progress=False)
    assert list(report.problems) == ["masks that cannot be used"]
    assert "found also 128" in str(report)
