from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.data import ImageFolderDataModule
from wsss_zoo.errors import DataError


def members(root: Path, split: str, **arguments: object) -> list[str]:
    return [r.image_id for r in ImageFolderDataModule(root, **arguments).records(split)]  # type: ignore[arg-type]


def test_labels_classes_and_masks(photos: Path) -> None:
    datamodule = ImageFolderDataModule(photos)
    assert datamodule.class_names == ("cat", "dog")
    assert datamodule.num_classes == 2
    labels = {record.image_id: record.labels.tolist() for record in datamodule.records("labeled")}
    assert (labels["p0"], labels["p1"], labels["p2"], labels["p3"]) == ([1, 0], [1, 1], [0, 1], [0, 0])
    records = {record.image_id: record for record in datamodule.records("all")}
    assert records["p1"].image.name == "p1.png"
    assert records["p2"].mask is None
    assert set(np.unique(datamodule.read_mask(records["p1"]))) == {0, 2}
    with pytest.raises(DataError, match=r"p2\.jpg: this image has no ground-truth mask"):
        datamodule.read_mask(records["p2"])


def test_splits_are_a_partition_that_only_split_seed_changes(photos: Path) -> None:
    train, val = members(photos, "train"), members(photos, "val")
    assert len(val) == 2  # 0.2 of 9, rounded
    assert sorted(train + val) == [f"p{number}" for number in range(9)]
    assert members(photos, "val", seed=5) == val
    assert any(members(photos, "val", split_seed=seed) != val for seed in range(1, 6))
    assert len(members(photos, "val", val_fraction=0.999)) == 8  # training keeps one image


def test_unlabelled_images_can_be_predicted_but_not_trained_on(photos: Path) -> None:
    datamodule = ImageFolderDataModule(photos, train_split="unlabeled", batch_size=1)
    assert [record.image_id for record in datamodule.records("unlabeled")] == ["p9"]
    with pytest.raises(DataError, match="'unlabeled' have no labels"):
        datamodule.train_dataloader()


def test_empty_labels_are_unlabelled(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,labels\np0,cat\np1,\n")
    assert "p1" in members(photos, "unlabeled")
    assert members(photos, "labeled") == ["p0"]


def test_split_column(photos: Path) -> None:
    (photos / "labels.csv").write_text("split,image,labels\ntrain,p0,cat\nval,p1,dog\nholdout,p2,dog\n")
    assert members(photos, "holdout") == ["p2"]
    assert members(photos, "train") == ["p0"]
    (photos / "labels.csv").write_text("split,image,labels\ntrain,p0,cat\n,p1,dog\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 3: the split is missing"):
        members(photos, "train")


def test_unknown_split(photos: Path) -> None:
    with pytest.raises(
        DataError, match=r"no split 'vla' \(labels.csv has no column 'split'\); did you mean 'val'"
    ):
        members(photos, "vla")


def test_order_of_the_class_sources(photos: Path) -> None:
    assert ImageFolderDataModule(photos, class_names=["dog", "cat"]).class_names == ("dog", "cat")
    (photos / "classes.txt").write_text("dog\ncat\nsofa\n")
    assert ImageFolderDataModule(photos).class_names == ("dog", "cat", "sofa")
    with pytest.raises(DataError, match=r"classes\.txt: lists dog, cat, sofa, but class_names is cat, dog"):
        _ = ImageFolderDataModule(photos, class_names=["cat", "dog"]).class_names


def test_label_outside_the_classes_names_line_and_nearest(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,labels\np0.jpg,cat\np1.png,dgo\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 3: unknown class 'dgo'; did you mean 'dog'"):
        members(photos, "labeled", class_names=["cat", "dog"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "image,labels\np0.jpg,cat\np0.jpg,dog\n",
            r"line 3: p0\.jpg is listed a second time \(first in line 2\)",
        ),
        ("image,labels\np0.jpg,cat\np0,dog\n", r"line 3: p0 is the same image as p0\.jpg in line 2"),
        ("image,labels\np0.png,cat\n", r"line 2: there is no image images/p0\.png; did you mean 'p0\.jpg'"),
        ("image,labels\nzebra.png,cat\n", r"line 2: there is no image images/zebra\.png\. Add"),
        ("image,labels\np0.jpg,cat,dog\n", r"line 2: expected 2 fields .*separated by `;`"),
        ("image,labels\np0.jpg\n", "line 2: expected 2 fields"),
        ("image,labels\n,cat\n", "line 2: the image is missing"),
        ("image;labels\np0.jpg;cat\n", "must name the columns image,labels; it names image;labels"),
        ("", "it names nothing"),
        ("image,labels\np0.jpg,cat;background\n", "`background` means that no class"),
    ],
)
def test_broken_csv(photos: Path, content: str, message: str) -> None:
    (photos / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        ImageFolderDataModule(photos).prepare_data()


def test_csv_of_a_spreadsheet(photos: Path) -> None:
    # byte order mark, CRLF, quotes, blanks around names
    text = '\ufeffimage,labels\r\n"p0.jpg"," cat ; dog"\r\n'
    (photos / "labels.csv").write_bytes(text.encode())
    datamodule = ImageFolderDataModule(photos)
    assert datamodule.records("labeled")[0].labels.tolist() == [1, 1]


def test_csv_in_another_encoding(photos: Path) -> None:
    (photos / "labels.csv").write_bytes("image,labels\np0.jpg,café\n".encode("latin1"))
    with pytest.raises(DataError, match="UTF-8"):
        ImageFolderDataModule(photos).prepare_data()


def test_missing_parts(photos: Path, tmp_path: Path) -> None:
    (photos / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: no such file\. Write one line an image"):
        ImageFolderDataModule(photos).prepare_data()
    (tmp_path / "labels.csv").write_text("image,labels\na,b\n")
    with pytest.raises(DataError, match="there is no folder images/"):
        ImageFolderDataModule(tmp_path).prepare_data()
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        ImageFolderDataModule(tmp_path).prepare_data()


def test_names_that_differ_only_in_the_extension(photos: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "images" / "p0.png")
    with pytest.raises(DataError, match=r"p0\.jpg and p0\.png differ only in their extension"):
        ImageFolderDataModule(photos).prepare_data()


def test_mask_of_another_size_names_both(photos: Path) -> None:
    save_mask(photos / "masks" / "p0.png", np.zeros((30, 20), np.uint8))
    datamodule = ImageFolderDataModule(photos)
    record = next(r for r in datamodule.records("labeled") if r.image_id == "p0")
    with pytest.raises(DataError, match=r"masks/p0\.png: the mask is 20 x 30, .*p0\.jpg is 30 x 20"):
        datamodule.read_mask(record)


def test_mask_with_values_outside_the_classes(photos: Path) -> None:
    save_mask(photos / "masks" / "p0.png", np.full((20, 30), 3, np.uint8))
    datamodule = ImageFolderDataModule(photos)
    record = next(r for r in datamodule.records("labeled") if r.image_id == "p0")
    with pytest.raises(DataError, match=r"p0\.png: expected labels .*1\.\.2 and 255 .*found also 3"):
        datamodule.read_mask(record)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_8_bit_mode_becomes_rgb(photos: Path, mode: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).convert(
        mode
    )
    path = photos / "images" / ("p0.jpg" if mode == "CMYK" else "p1.png")
    picture.save(path)
    datamodule = ImageFolderDataModule(photos)
    record = next(r for r in datamodule.records("all") if r.image == path)
    image = datamodule.read_image(record)
    assert (image.shape, image.dtype) == ((20, 30, 3), np.uint8)


def test_16_bit_image_is_refused_instead_of_clipped(photos: Path) -> None:
    Image.fromarray(np.full((20, 30), 3000, np.uint16)).save(photos / "images" / "p1.png")
    datamodule = ImageFolderDataModule(photos)
    record = next(r for r in datamodule.records("all") if r.image_id == "p1")
    with pytest.raises(DataError, match=r"p1\.png: expected an image with 8 bits a channel"):
        datamodule.read_image(record)


@pytest.mark.parametrize("arguments", [{"val_fraction": 0.0}, {"val_fraction": 1.0}, {"split_seed": -1}])
def test_wrong_arguments(photos: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(arguments))):
        ImageFolderDataModule(photos, **arguments)  # type: ignore[arg-type]
