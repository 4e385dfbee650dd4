from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.saliency_root import DUTS_TEST, DUTS_TRAIN, draw, write_pair, write_saliency_root
from wsss_zoo.data import DATASETS, SaliencyDataModule
from wsss_zoo.data.check import check
from wsss_zoo.data.saliency_layout import read_stems
from wsss_zoo.data.saliency_sets import PUBLISHED_SETS, find_sets
from wsss_zoo.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_saliency_root(tmp_path / "data")


def stems(datamodule: SaliencyDataModule, split: str) -> list[str]:
    return [record.image_id for record in datamodule.records(split)]


def test_every_set_is_found_in_its_own_layout(root: Path) -> None:
    datamodule = SaliencyDataModule(root)
    assert set(datamodule.sets) == set(PUBLISHED_SETS)
    assert stems(datamodule, "duts_tr") == [f"duts_tr/{stem}" for stem in DUTS_TRAIN]  # the list's order
    assert stems(datamodule, "duts_te") == [f"duts_te/{stem}" for stem in DUTS_TEST]
    assert stems(datamodule, "ecssd") == [f"ecssd/000{number}" for number in range(1, 5)]
    assert stems(datamodule, "ecssd/small") == ["ecssd/0003", "ecssd/0001"]
    assert stems(datamodule, "pascal_s") == ["pascal_s/1", "pascal_s/2"]
    assert stems(datamodule, "hku_is") == ["hku_is/0004", "hku_is/9057"]
    assert stems(datamodule, "dut_omron") == [f"dut_omron/im00{number}" for number in range(3)]
    names = ["Butterfly1", "Butterfly2", "Plane1", "Plane2"]  # Plane, though its folder is called plane
    assert stems(datamodule, "thur15k") == [f"thur15k/{name}" for name in names]


def test_images_and_masks_belong_together(root: Path) -> None:
    datamodule = SaliencyDataModule(root)
    for name in datamodule.sets:
        for record in datamodule.records(name):
            assert record.mask is not None
            assert record.mask.stem == record.image.stem
            assert record.mask != record.image
    assert [record.image.suffix for record in datamodule.records("pascal_s")] == [".jpg"] * 2
    assert [record.image.suffix for record in datamodule.records("hku_is")] == [".png"] * 2
    plane = datamodule.records("thur15k")[2]
    assert plane.image.parts[-3:] == ("plane", "Src", "1.jpg")


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("DUTS-TR/DUTS-TR/DUTS-TR-Image/a.jpg", "DUTS-TR/DUTS-TR/DUTS-TR-Mask/a.png", "duts_tr"),
        ("DUTS/DUTS-TE/DUTS-TE-Image/a.jpg", "DUTS/DUTS-TE/DUTS-TE-Mask/a.png", "duts_te"),
        ("DUTS-TE/image/a.jpg", "DUTS-TE/mask/a.png", "duts_te"),
        ("images/a.jpg", "ground_truth_mask/a.png", "ecssd"),
        ("salObj/datasets/imgs/pascal/a.jpg", "salObj/datasets/masks/pascal/a.png", "pascal_s"),
        ("pascal-s/image/a.jpg", "pascal-s/mask/a.png", "pascal_s"),
        ("HKU-IS/Img/a.png", "HKU-IS/GT/a.png", "hku_is"),
        ("HKU-IS/Imgs/a.jpg", "HKU-IS/Imgs/a.png", "hku_is"),
        ("DUT-OMRON-image/a.jpg", "pixelwiseGT-new-PNG/a.png", "dut_omron"),
        ("THUR15K/Giraffe/Src/7.jpg", "THUR15K/Giraffe/GT/7.png", "thur15k"),
        ("THUR15K/image/Giraffe7.jpg", "THUR15K/mask/Giraffe7.png", "thur15k"),
        ("My Photos!/image/a.JPG", "My Photos!/mask/a.PNG", "my_photos"),
        ("photos/images/a.webp", "photos/masks/a.png", "photos"),
    ],
)
def test_layouts(tmp_path: Path, image: str, mask: str, name: str) -> None:
    write_pair(tmp_path / image, tmp_path / mask, 0)
    found = find_sets(tmp_path)
    assert list(found) == [name]
    (stem,) = found[name].stems()
    assert found[name].image_files[stem] == tmp_path / image
    assert found[name].mask_files[stem] == tmp_path / mask


def test_root_may_be_the_set_itself(root: Path) -> None:
    assert stems(SaliencyDataModule(root / "ECSSD"), "ecssd/small") == ["ecssd/0003", "ecssd/0001"]
    assert list(find_sets(root / "THUR15000")) == ["thur15k"]


def test_listed_images_that_are_missing_are_told(root: Path) -> None:
    (root / "DUTS" / "image" / "sun_abc.jpg").unlink()
    datamodule = SaliencyDataModule(root)
    assert len(stems(datamodule, "duts_tr")) == 4
    assert datamodule.split("duts_tr").missing == ("duts_tr/sun_abc",)
    assert "4 of 5 images of duts_tr" in datamodule.describe("duts_tr")
    assert "the published set has 10,553" in datamodule.describe("duts_tr")
    assert "2 more images have no mask and are left out" in datamodule.describe("thur15k")


def test_a_listed_image_without_mask_is_kept_for_prediction(root: Path) -> None:
    (root / "DUTS" / "mask" / "sun_xyz.png").unlink()
    datamodule = SaliencyDataModule(root, train_split="duts_te")
    assert [record.mask is None for record in datamodule.records("duts_te")] == [False, True, False]
    assert "1 have no mask and are not scored" in datamodule.describe("duts_te")
    with pytest.raises(DataError, match=r"1 of 3 images have no mask, first duts_te/sun_xyz"):
        datamodule.setup("fit")


def test_fingerprint_tells_splits_apart_and_copies_alike(root: Path, tmp_path: Path) -> None:
    one = SaliencyDataModule(root)
    other = SaliencyDataModule(write_saliency_root(tmp_path / "copy"))
    prints = [one.fingerprint(name) for name in ("ecssd", "ecssd/small", "hku_is")]
    assert prints == [other.fingerprint(name) for name in ("ecssd", "ecssd/small", "hku_is")]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    "lines",
    [
        "b.c\na b\n",
        "b.c.jpg\na b.jpg\n",
        "image/b.c.jpg mask/b.c.png\n\nimage/a b.jpg\n",
        "/data/x/image/b.c.jpg\r\n./image/a b.jpg\r\n",
        "\ufeffb.c\na b",
    ],
)
def test_lists_hold_stems_names_paths_or_pairs(tmp_path: Path, lines: str) -> None:
    images = {stem: tmp_path / "image" / f"{stem}.jpg" for stem in ("a b", "b.c", "d")}
    (tmp_path / "list.txt").write_text(lines, encoding="utf-8")
    assert read_stems(tmp_path / "list.txt", images) == ["b.c", "a b"]


def test_paths_in_lists_tell_classes_apart(root: Path) -> None:
    (root / "THUR15000" / "some.lst").write_text("plane/Src/2.jpg plane/Src/2.png\nButterfly/Src/2.jpg\n")
    datamodule = SaliencyDataModule(root)
    assert stems(datamodule, "thur15k/some") == ["thur15k/Plane2", "thur15k/Butterfly2"]


def test_sets_of_ones_own(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name in ("one", "two"):
        write_pair(own / "rgb" / f"img_{name}_left.jpeg", own / "gt" / f"{name}.gt.png", len(name))
    write_pair(own / "rgb" / "img_three_left.jpeg", None, 3)
    (own / "index.txt").write_text("two\n")
    image = {"path": str(own / "rgb"), "prefix": "img_", "suffix": "_left.jpeg"}
    mask = {"path": str(own / "gt"), "suffix": ".gt.png"}
    sets = {
        "pair": {"image": image, "mask": mask},
        "listed": {"image": image, "mask": mask, "index_file": str(own / "index.txt")},
        "unlabelled": {"image": image},
        "hku_is": "ECSSD",  # goes before the one that is found
    }
    (root / "sets.json").write_text(json.dumps(sets))
    for given in (sets, "sets.json"):
        datamodule = SaliencyDataModule(root, sets=given)
        assert stems(datamodule, "pair") == ["pair/one", "pair/two"]
        assert stems(datamodule, "listed") == ["listed/two"]
        assert stems(datamodule, "unlabelled") == ["unlabelled/one", "unlabelled/three", "unlabelled/two"]
        assert stems(datamodule, "hku_is")[0] == "hku_is/0001"
        assert {"ecssd", "thur15k"} <= set(datamodule.sets)
    assert datamodule.records("pair")[0].mask == own / "gt" / "one.gt.png"
    assert datamodule.records("unlabelled")[0].mask is None


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"mine": {"images": "DUTS/image"}}, r"sets\.mine: expected a folder, or image, mask and index_file"),
        ({"mine": {"image": "DUTS/img"}}, r"sets\.mine\.image: there is no folder .*DUTS/img"),
        (
            {"mine": {"image": {"path": "DUTS/image", "sufix": "x"}}},
            r"unknown key 'sufix'; did you mean 'suffix'",
        ),
        ({"mine": {"image": "DUTS/image", "masks": "m"}}, r"unknown key 'masks'; did you mean 'mask'"),
        ({"mine": "DUTS/image"}, r"sets\.mine: .*DUTS/image holds 0 pairs"),
        ("sets.json", r"sets\.json cannot be read as JSON"),
        ({"mine": {"image": {"suffix": "x"}}}, r"sets\.mine\.image: expected a folder or path"),
    ],
)
def test_sets_that_cannot_be_used(root: Path, sets: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SaliencyDataModule(root, sets=sets).prepare_data()  # type: ignore[arg-type]


def test_wrong_names(root: Path, tmp_path: Path) -> None:
    datamodule = SaliencyDataModule(root)
    with pytest.raises(DataError, match=r"there is no set 'escsd'; did you mean 'ecssd'"):
        datamodule.records("escsd")
    with pytest.raises(DataError, match=r"no list smal\.txt .*did you mean 'ecssd/small'"):
        datamodule.records("ecssd/smal")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no saliency set here"):
        SaliencyDataModule(tmp_path / "empty").prepare_data()


def test_a_set_that_is_there_twice_must_be_named(root: Path) -> None:
    write_pair(root / "old" / "HKU-IS" / "image" / "a.jpg", root / "old" / "HKU-IS" / "mask" / "a.png", 1)
    with pytest.raises(DataError, match=r"'hku_is' is there twice, in .*HKU-IS and in .*old/HKU-IS"):
        SaliencyDataModule(root).prepare_data()
    datamodule = SaliencyDataModule(root, sets={"hku_is": "old/HKU-IS"})
    assert stems(datamodule, "hku_is") == ["hku_is/a"]


def test_duts_needs_its_lists(root: Path) -> None:
    (root / "DUTS" / "test.txt").unlink()
    datamodule = SaliencyDataModule(root)
    assert len(stems(datamodule, "duts_tr")) == 5
    with pytest.raises(DataError, match=r"DUTS/test\.txt: this list of the set 'duts_te' is missing"):
        datamodule.records("duts_te")


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("0001\n0001.jpg\n", "0001 is listed more")]
)
def test_lists_that_cannot_be_used(root: Path, content: str, message: str) -> None:
    (root / "ECSSD" / "small.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        SaliencyDataModule(root).records("ecssd/small")


def test_check_finds_every_pitfall(root: Path) -> None:
    copy = (root / "HKU-IS" / "imgs" / "0004.png").read_bytes()
    (root / "HKU-IS" / "imgs" / "9057.png").write_bytes(copy)
    write_pair(root / "unused.jpg", root / "HKU-IS" / "gt" / "0005.png", 5)
    report = check("saliency", root, progress=False)
    found = report.problems
    assert found["masks of 0 and 1 (multiply by 255 to train on them)"] == ["ecssd/0001"]
    assert any("hku_is/9057" in case for case in found["images that are identical"])
    assert [Path(path).name for path in found["masks without image"]] == ["0005.png"]
    assert any(DUTS_TRAIN[0] in case for case in found["masks of another size than their image"])
    text = str(report)
    for words in (
        "4 of 4 images of ecssd",
        "1 masks without any object (all 0), first ecssd/0002",
        "1 masks with grey levels (values besides 0 and 255), first pascal_s/1",
        "note: thur15k: the published set has 6,232",
        "note: dut_omron: 1 more images have no mask and are left out",
    ):
        assert words in text


def test_published_counts_and_stems_agree() -> None:
    for published in PUBLISHED_SETS.values():
        assert sum(count for _, count in published.stems) == published.images


def test_a_list_of_other_images_is_told() -> None:
    ecssd = PUBLISHED_SETS["ecssd"]
    right = [f"{number:04d}" for number in range(1, 1001)]
    assert ecssd.other_images(right) is None
    assert "999 stems like" in str(ecssd.other_images([*right[:-1], "x"]))
    duts = PUBLISHED_SETS["duts_te"]
    names = [f"ILSVRC2012_test_{number:08d}" for number in range(3202)]
    assert duts.other_images([*names, *(f"sun_{number}" for number in range(1817))]) is None


def test_data_set_names() -> None:
    assert {"saliency", "minivoc_saliency"} <= set(DATASETS)


def test_masks_are_one_grey_channel_whatever_the_file(tmp_path: Path) -> None:
    mask = draw(1)[1]
    files = {
        "grey": Image.fromarray(mask),
        "rgb": Image.fromarray(mask).convert("RGB"),
        "alpha": Image.fromarray(mask).convert("RGBA"),
        "bits": Image.fromarray(mask).convert("1"),
        "palette": Image.fromarray(mask).convert("P"),
    }
    for name, image in files.items():
        write_pair(tmp_path / "s" / "image" / f"{name}.png", tmp_path / "s" / "mask" / f"{name}.png", 1)
        image.save(tmp_path / "s" / "mask" / f"{name}.png")
    datamodule = SaliencyDataModule(tmp_path)
    assert {record.image_id.split("/")[1] for record in datamodule.records("s")} == set(files)
    for record in datamodule.records("s"):
        np.testing.assert_array_equal(datamodule.read_mask(record), mask, err_msg=record.image_id)


def test_broken_mask_is_named(root: Path) -> None:
    path = root / "HKU-IS" / "gt" / "0004.png"
    path.write_bytes(path.read_bytes()[:60])
    datamodule = SaliencyDataModule(root)
    with pytest.raises(DataError, match=re.escape(str(path))):
        datamodule.read_mask(datamodule.records("hku_is")[0])
