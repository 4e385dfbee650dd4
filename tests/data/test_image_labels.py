from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.data.labels import labels_from_mask, labels_from_xml, read_label_table, save_label_table
from wsss_zoo.data.voc import VOC_CLASSES
from wsss_zoo.errors import DataError

from .conftest import VOC_OBJECTS


def vector(classes: list[str]) -> np.ndarray:
    return np.array([name in classes for name in VOC_CLASSES], dtype=np.float32)


TABLE = {image_id: vector(classes) for image_id, classes in VOC_OBJECTS.items()}


def same(found: dict[str, np.ndarray]) -> bool:
    return found.keys() == TABLE.keys() and all(
        found[key].dtype == np.float32 and np.array_equal(found[key], TABLE[key]) for key in TABLE
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_dictionary_is_read_without_numpy_or_pickle_running_it(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "cls_labels.npy"
    # np.save fixes the protocol: write the header by NumPy and the rest by hand, as older releases did
    np.save(path, np.array(TABLE, dtype=object), allow_pickle=True)  # type: ignore[arg-type]
    header = path.read_bytes()[:128].split(b"\n")[0] + b"\n"
    path.write_bytes(header + pickle.dumps(np.array(TABLE, dtype=object), protocol))
    assert same(read_label_table(path, VOC_CLASSES))


def test_dictionary_written_by_np_save_with_numpy_ids(tmp_path: Path) -> None:
    path = tmp_path / "cls_labels.npy"
    table = {np.str_(key): value.astype(np.float64) for key, value in TABLE.items()}
    np.save(path, table, allow_pickle=True)  # type: ignore[arg-type]
    assert same(read_label_table(path, VOC_CLASSES))


class Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_harmful_file_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, target = tmp_path / "cls_labels.npy", tmp_path / "ran"
    table = np.array({"2007_000001": TABLE["2007_000001"], "x": Harm(target)}, dtype=object)
    np.save(path, table, allow_pickle=True)
    header = path.read_bytes()[:128].split(b"\n")[0] + b"\n"
    path.write_bytes(header + pickle.dumps(table, protocol))
    with pytest.raises(
        DataError, match=r"refused: this file asks to load (posix|nt)\.system.*nothing of it was run"
    ):
        read_label_table(path, VOC_CLASSES)
    assert not target.exists()
    np.load(path, allow_pickle=True)  # the same file does run with an ordinary reader
    assert target.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "builtins getattr", "numpy load", "numpy.core.multiarray fromfile", "wsss_zoo cli"],
)
def test_every_other_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cls_labels.npy"
    np.save(path, np.array({}, dtype=object), allow_pickle=True)
    header = path.read_bytes()[:128].split(b"\n")[0] + b"\n"
    path.write_bytes(header + b"c" + name.replace(" ", "\n").encode() + b"\n(S'1'\ntR.")
    with pytest.raises(DataError, match="refused"):
        read_label_table(path, VOC_CLASSES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_pickle_ends_in_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cls_labels.npy"
    np.save(path, {"a": TABLE["2007_000001"]}, allow_pickle=True)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        table = read_label_table(path, VOC_CLASSES)
    except DataError:
        return
    assert all(labels.shape == (20,) for labels in table.values())


def test_npz_round_trip_and_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "labels.npz"
    save_label_table(path, TABLE, VOC_CLASSES)
    assert same(read_label_table(path, VOC_CLASSES))
    with np.load(path, allow_pickle=False) as content:
        assert sorted(content) == ["class_names", "ids", "labels"]
    with pytest.raises(DataError, match="this table is for the classes aeroplane"):
        read_label_table(path, VOC_CLASSES[::-1])


def test_csv_table(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "image,labels\n" + "".join(f"{key}.jpg,{';'.join(v)}\n" for key, v in VOC_OBJECTS.items())
    )
    assert same(read_label_table(path, VOC_CLASSES))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros((1, 20))}, "expected an .npz file with `ids`"),
        ({"ids": np.array(["a"]), "labels": np.zeros((1, 3))}, "a has 3 labels, expected .* 20 classes"),
        ({"ids": np.array(["a", "b"]), "labels": np.zeros((1, 20))}, "expected `ids`"),
        ({"ids": np.array(["a"]), "labels": np.full((1, 20), 0.5)}, "the labels of a are not 0 or 1"),
        ({"ids": np.array(["a"], dtype=object), "labels": np.zeros((1, 20))}, "expected an .npz file"),
    ],
)
def test_wrong_npz(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        read_label_table(path, VOC_CLASSES)


@pytest.mark.parametrize("name", ["labels.npy", "labels.npz", "labels.csv", "labels.txt"])
def test_missing_or_unknown_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such label table"):
        read_label_table(tmp_path / name, VOC_CLASSES)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_label_table(tmp_path / name, VOC_CLASSES)


def test_plain_array_of_labels_has_no_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "cls_labels.npy", np.zeros((3, 20), np.float32))
    with pytest.raises(DataError, match="without ids"):
        read_label_table(tmp_path / "cls_labels.npy", VOC_CLASSES)


def test_xml_mask_and_table_agree(voc_root: Path, voc: Path) -> None:
    # boxes and masks of the drawn set name the same classes, difficult objects included
    save_label_table(voc / "cls_labels.npz", TABLE, VOC_CLASSES)
    vectors = {}
    for source in ("xml", "table", "masks"):
        datamodule = VOC2012DataModule(voc_root, label_source=source)  # type: ignore[arg-type]
        vectors[source] = np.stack([record.labels for record in datamodule.records("train_aug")])
        assert {"xml": "boxes", "table": "cls_labels.npz", "masks": "masks of"}[
            source
        ] in datamodule.describe("train_aug")
    np.testing.assert_array_equal(vectors["xml"], vectors["table"])
    np.testing.assert_array_equal(vectors["xml"], vectors["masks"])


def test_auto_takes_the_documented_order(voc_root: Path, voc: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.npz"
    save_label_table(given, TABLE, VOC_CLASSES)
    assert "given.npz" in VOC2012DataModule(voc_root, label_table=str(given)).describe("train")
    assert "boxes" in VOC2012DataModule(voc_root).describe("train")
    (voc / "Annotations" / "2007_000001.xml").unlink()
    assert "masks of SegmentationClass" in VOC2012DataModule(voc_root).describe("train")
    save_label_table(voc / "cls_labels.npz", TABLE, VOC_CLASSES)
    assert "cls_labels.npz" in VOC2012DataModule(voc_root).describe("train")
    assert "boxes" in VOC2012DataModule(voc_root).describe("val")  # complete there
    (voc / "cls_labels.npz").unlink()
    (voc / "SegmentationClass" / "2007_000002.png").unlink()
    with pytest.raises(DataError, match="no image-level labels for all 3 images"):
        VOC2012DataModule(voc_root).records("train")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("xml", r"2007_000001\.xml: no such annotation"),
        ("table", "label_source is 'table', but there is no cls_labels.npz"),
        ("masks", "label_source is 'masks', but 1 of 3 images have no mask .*first 2007_000001"),
    ],
)
def test_source_asked_for_is_not_replaced(voc_root: Path, voc: Path, source: str, message: str) -> None:
    (voc / "Annotations" / "2007_000001.xml").unlink()
    (voc / "SegmentationClass" / "2007_000001.png").unlink()
    with pytest.raises(DataError, match=message):
        VOC2012DataModule(voc_root, label_source=source).records("train")  # type: ignore[arg-type]


def test_incomplete_table_names_the_first_missing_image(voc_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    save_label_table(path, {"2007_000001": TABLE["2007_000001"]}, VOC_CLASSES)
    with pytest.raises(DataError, match=r"2 of 3 images are not in this table, first 2007_000002"):
        VOC2012DataModule(voc_root, label_table=str(path)).records("train")


def test_xml_with_unknown_class_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation><object><name>cta</name></object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: unknown class 'cta'; did you mean 'cat'"):
        labels_from_xml(path, VOC_CLASSES)
    path.write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"a\.xml: broken XML"):
        labels_from_xml(path, VOC_CLASSES)


def test_mask_labels_leave_out_background_and_ignore(voc: Path) -> None:
    labels = labels_from_mask(voc / "SegmentationClass" / "2007_000004.png", 20)
    np.testing.assert_array_equal(labels, vector(["tvmonitor", "sofa"]))
