from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.errors import DataError

from .conftest import SBD_TRAIN, SBD_VAL, VOC_OBJECTS, VOC_TRAIN, VOC_VAL, draw


def ids(datamodule: VOC2012DataModule, split: str) -> list[str]:
    return [record.image_id for record in datamodule.records(split)]


@pytest.mark.parametrize("below", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_three_folders(voc_root: Path, below: str) -> None:
    datamodule = VOC2012DataModule(voc_root / below)
    datamodule.prepare_data()
    assert ids(datamodule, "train") == VOC_TRAIN
    assert len(datamodule.records("train_aug")) == 6  # SBD is found from each of them


def test_train_aug_is_train_and_sbd_without_val(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root)
    expected = (set(VOC_TRAIN) | set(SBD_TRAIN) | set(SBD_VAL)) - set(VOC_VAL)
    assert ids(datamodule, "train_aug") == sorted(expected)
    assert ids(datamodule, "trainval") == sorted(VOC_TRAIN + VOC_VAL)
    assert datamodule.split_names == ("train", "train_aug", "trainval", "val")


@pytest.mark.parametrize("name", ["train_aug", "trainaug"])
def test_a_list_of_train_aug_goes_before_sbd(voc_root: Path, voc: Path, name: str) -> None:
    lines = "/JPEGImages/2007_000003.jpg /SegmentationClassAug/2007_000003.png\n\n"
    (voc / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(lines)
    assert ids(VOC2012DataModule(voc_root), "train_aug") == ["2007_000003"]
    assert ids(VOC2012DataModule(voc_root), "trainaug") == ["2007_000003"]


def test_a_list_file_is_a_split(voc_root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("2008_000005\n2007_000001\n")
    assert ids(VOC2012DataModule(voc_root), str(mine)) == ["2008_000005", "2007_000001"]


def test_labels_of_records_are_the_boxes(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root)
    for record in datamodule.records("train_aug"):
        names = {datamodule.class_names[index] for index in np.flatnonzero(record.labels)}
        assert names == set(VOC_OBJECTS[record.image_id])
        assert record.labels.dtype == np.float32
    assert "boxes in Annotations" in datamodule.describe("train_aug")


def test_official_masks_are_read_exactly(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root)
    assert datamodule.ground_truth == "SegmentationClass"
    for record in datamodule.records("val"):
        expected = draw(record.image_id, VOC_OBJECTS[record.image_id])[1]
        np.testing.assert_array_equal(datamodule.read_mask(record), expected)
        with Image.open(record.image) as image:
            np.testing.assert_array_equal(datamodule.read_image(record), np.array(image))


def test_segmentation_class_takes_sbd_only_for_images_of_sbd(voc_root: Path, voc: Path) -> None:
    (voc / "SegmentationClass" / "2007_000001.png").unlink()  # SBD has a mask of it, too
    datamodule = VOC2012DataModule(voc_root, ground_truth="SegmentationClass")
    masks = {record.image_id: record.mask for record in datamodule.records("train_aug")}
    assert masks["2007_000001"] is None
    assert masks["2007_000002"] == voc / "SegmentationClass" / "2007_000002.png"
    assert masks["2008_000005"] == voc_root / "sbd" / "cls" / "2008_000005.mat"


def test_sbd_masks_are_read(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, ground_truth="SegmentationClassAug")
    record = next(r for r in datamodule.records("train_aug") if r.image_id == "2007_000001")
    assert record.mask is not None
    assert record.mask.suffix == ".mat"
    mask = datamodule.read_mask(record)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 8}
    assert "SegmentationClassAug" in datamodule.describe("train_aug")


def test_augmented_folder_is_the_only_source_where_it_is(voc_root: Path, voc: Path) -> None:
    save_mask(voc / "SegmentationClassAug" / "2007_000001.png", np.full((25, 38), 3, np.uint8))
    datamodule = VOC2012DataModule(voc_root, ground_truth="SegmentationClassAug")
    masks = {record.image_id: record.mask for record in datamodule.records("train")}
    assert masks["2007_000001"] == voc / "SegmentationClassAug" / "2007_000001.png"
    assert masks["2007_000002"] is None


def test_fingerprint_tells_the_ground_truth_apart_but_not_the_place(voc_root: Path) -> None:
    first = VOC2012DataModule(voc_root).fingerprint("train")
    other = VOC2012DataModule(voc_root, ground_truth="SegmentationClassAug").fingerprint("train")
    moved = voc_root.rename(voc_root.with_name("moved"))
    assert first != other
    assert VOC2012DataModule(moved).fingerprint("train") == first
    assert VOC2012DataModule(moved).fingerprint("val") != first


def test_partial_copy_is_told_once(voc_root: Path, voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    (voc / "JPEGImages" / "2007_000002.jpg").unlink()
    datamodule = VOC2012DataModule(voc_root)
    with caplog.at_level(logging.WARNING, logger="wsss_zoo"):
        assert ids(datamodule, "train") == ["2007_000001", "2007_000003"]
        datamodule.records("train")
    assert len(caplog.records) == 1
    assert f"2 of 3 images of train are in {voc_root}" in caplog.text
    assert datamodule.describe("train").startswith("2 of 3 images of train are in")


def test_no_image_at_all_names_the_folder(voc_root: Path, voc: Path) -> None:
    for image_id in VOC_TRAIN:
        (voc / "JPEGImages" / f"{image_id}.jpg").unlink()
    with pytest.raises(DataError, match=r"JPEGImages: holds none of the 3 images.*2007_000001\.jpg"):
        VOC2012DataModule(voc_root).records("train")


def test_test_split_needs_no_labels(voc_root: Path, voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    (voc / "Annotations" / "2008_000006.xml").unlink()
    (voc_root / "sbd" / "cls" / "2008_000006.mat").unlink()
    datamodule = VOC2012DataModule(voc_root, val_split="test")
    assert not datamodule.records("test")[0].labels.any()
    assert "image-level labels: none" in datamodule.describe("test")
    with pytest.raises(DataError, match="no labels"):
        datamodule.val_dataloader()


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no PASCAL VOC here; looked for .*VOCdevkit"):
        VOC2012DataModule(tmp_path).prepare_data()


def test_unknown_split_is_answered_with_the_nearest(voc_root: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'train_aug'"):
        VOC2012DataModule(voc_root).records("train_agu")


def test_train_aug_without_sbd_tells_what_to_add(voc_root: Path) -> None:
    (voc_root / "sbd").rename(voc_root / "elsewhere")
    with pytest.raises(DataError, match=r"train_aug needs .*SBD with cls/"):
        VOC2012DataModule(voc_root).records("train_aug")
    assert len(VOC2012DataModule(voc_root, sbd_root=str(voc_root / "elsewhere")).records("train_aug")) == 6
    with pytest.raises(DataError, match=r"sbd_root: .* holds no SBD"):
        VOC2012DataModule(voc_root, sbd_root=str(voc_root / "VOCdevkit")).records("train_aug")


def test_id_listed_twice(voc_root: Path, voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000001\n2007_000001\n")
    with pytest.raises(DataError, match="'train': 2007_000001 is listed more than once"):
        VOC2012DataModule(voc_root).records("train")


def test_empty_list(voc_root: Path, voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt: this list of images is empty"):
        VOC2012DataModule(voc_root).records("train")


def test_truncated_image_is_named(voc_root: Path, voc: Path) -> None:
    path = voc / "JPEGImages" / "2007_000001.jpg"
    path.write_bytes(path.read_bytes()[:400])
    datamodule = VOC2012DataModule(voc_root)
    with pytest.raises(DataError, match=r"2007_000001\.jpg: truncated or broken JPEG .*re-download"):
        datamodule.read_image(datamodule.records("train")[0])


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_file_that_is_no_image(voc_root: Path, voc: Path, content: bytes) -> None:
    (voc / "JPEGImages" / "2007_000001.jpg").write_bytes(content)
    datamodule = VOC2012DataModule(voc_root)
    with pytest.raises(DataError, match=r"2007_000001\.jpg: not an image"):
        datamodule.read_image(datamodule.records("train")[0])


def test_mask_of_other_classes(voc_root: Path, voc: Path) -> None:
    save_mask(voc / "SegmentationClass" / "2007_000001.png", np.full((25, 38), 21, np.uint8))
    datamodule = VOC2012DataModule(voc_root)
    with pytest.raises(DataError, match=r"2007_000001\.png: expected labels .* 1\.\.20 .*found also 21"):
        datamodule.read_mask(datamodule.records("train")[0])


def test_colour_mask_is_refused(voc_root: Path, voc: Path) -> None:
    Image.new("RGB", (38, 25), (128, 0, 0)).save(voc / "SegmentationClass" / "2007_000001.png")
    datamodule = VOC2012DataModule(voc_root)
    with pytest.raises(DataError, match=r"2007_000001\.png: .*mode RGB"):
        datamodule.read_mask(datamodule.records("train")[0])


def test_truncated_mask_is_named(voc_root: Path, voc: Path) -> None:
    path = voc / "SegmentationClass" / "2007_000001.png"
    path.write_bytes(path.read_bytes()[:-60])
    datamodule = VOC2012DataModule(voc_root)
    with pytest.raises(DataError, match=r"2007_000001\.png: this ground-truth mask cannot be used"):
        datamodule.read_mask(datamodule.records("train")[0])


@pytest.mark.parametrize("content", [None, b"not matlab", {"other": np.zeros(3)}])
def test_broken_sbd_file(voc_root: Path, content: object) -> None:
    path = voc_root / "sbd" / "cls" / "2008_000005.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is None:
        path.write_bytes(path.read_bytes()[:200])
    else:
        savemat(path, content)
    datamodule = VOC2012DataModule(voc_root)
    record = next(r for r in datamodule.records("train_aug") if r.image_id == "2008_000005")
    with pytest.raises(DataError, match=r"2008_000005\.mat: expected a MATLAB file of SBD"):
        datamodule.read_mask(record)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_source": "xlm"}, "label_source: .*did you mean 'xml'"),
        ({"ground_truth": "SegmentationClas"}, "ground_truth: .*did you mean 'SegmentationClass'"),
        ({"label_source": "xml", "label_table": "t.npz"}, "label_table .* but label_source is 'xml'"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_wrong_arguments(voc_root: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        VOC2012DataModule(voc_root, **arguments)  # type: ignore[arg-type]
