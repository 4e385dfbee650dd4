from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.data.minivoc import files as minivoc_files
from wsss_zoo.data.minivoc.files import generate_minivoc
from wsss_zoo.data.minivoc.render import void_ring
from wsss_zoo.data.minivoc.scene import CLASS_NAMES, MIN_VISIBLE, PREFERENCE, Scene, render_scene
from wsss_zoo.data.minivoc.shapes import SHAPES
from wsss_zoo.data.minivoc.textures import PLACES
from wsss_zoo.errors import DataError

N_TRAIN, N_VAL, SIZE = 24, 8, 80


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def boxes(annotation: Path) -> list[tuple[str, list[int]]]:
    found = []
    for element in ElementTree.parse(annotation).iterfind("object"):
        corners = [int(element.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax")]
        found.append((element.findtext("name", ""), corners))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minivoc")
    generate_minivoc(folder, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    return folder


@pytest.fixture(scope="module")
def devkit(root: Path) -> Path:
    return root / "VOCdevkit" / "VOC2012"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(1, "train", index, 96) for index in range(160)]


def test_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    assert contents(tmp_path) == contents(root)


def test_another_seed_gives_other_pictures() -> None:
    pictures = [render_scene(seed, "train", 0, SIZE).image for seed in (0, 1)]
    assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).mean() > 0.5


def test_splits_do_not_share_pictures() -> None:
    train, val = (render_scene(0, split, 0, SIZE).image for split in ("train", "val"))
    assert train.shape != val.shape or (train != val).mean() > 0.5


def test_first_images_do_not_depend_on_how_many_follow(root: Path, tmp_path: Path) -> None:
    generate_minivoc(tmp_path, 8, 8, SIZE, seed=3, progress=False)
    few, many = contents(tmp_path), contents(root)
    images = [name for name in few if name.endswith((".jpg", ".png", ".xml"))]
    assert len(images) == 16 * 5
    assert all(few[name] == many[name] for name in images)


def test_lists_name_every_image_once(devkit: Path) -> None:
    lists = {p.stem: p.read_text().split() for p in (devkit / "ImageSets" / "Segmentation").glob("*.txt")}
    assert (len(lists["train"]), len(lists["val"])) == (N_TRAIN, N_VAL)
    assert lists["trainval"] == lists["train"] + lists["val"]
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Saliency", "Annotations"):
        assert sorted(path.stem for path in (devkit / folder).iterdir()) == sorted(lists["trainval"])


def test_boxes_and_names_are_those_of_the_masks(devkit: Path) -> None:
    for annotation in (devkit / "Annotations").iterdir():
        mask = np.asarray(Image.open(devkit / "SegmentationClass" / f"{annotation.stem}.png"))
        instances = np.asarray(Image.open(devkit / "SegmentationObject" / f"{annotation.stem}.png"))
        with Image.open(devkit / "JPEGImages" / f"{annotation.stem}.jpg") as image:
            assert image.size == mask.shape[::-1] == instances.shape[::-1]
        objects = boxes(annotation)
        assert {CLASS_NAMES.index(name) + 1 for name, _ in objects} == set(np.unique(mask)) - {0, 255}
        assert len(objects) == instances[instances < 255].max()
        np.testing.assert_array_equal(mask == 255, instances == 255)
        for number, (name, corners) in enumerate(objects, 1):
            rows, columns = np.nonzero(instances == number)
            extent = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
            assert corners == extent, annotation.name
            assert set(mask[rows, columns]) == {CLASS_NAMES.index(name) + 1}


def test_saliency_is_the_union_of_the_objects(devkit: Path) -> None:
    for path in (devkit / "Saliency").iterdir():
        saliency = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(devkit / "SegmentationClass" / path.name))
        assert set(np.unique(saliency)) == {0, 255}
        np.testing.assert_array_equal(saliency[mask != 255] == 255, mask[mask != 255] > 0)
        # the ring lies on both sides of the true outline
        assert {0, 255} == set(np.unique(saliency[mask == 255]))


def test_void_ring_is_two_pixels_wide_between_any_two_labels() -> None:
    instances = np.array([[0, 0, 0, 0, 1, 1, 1, 2, 2, 2]], np.uint8).repeat(3, 0)
    np.testing.assert_array_equal(np.flatnonzero(void_ring(instances)[1]), [3, 4, 6, 7])
    assert not void_ring(np.ones((4, 4), np.uint8)).any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("split", "number"), [("train", 16), ("val", 8)])
def test_every_class_occurs_in_both_splits(seed: int, split: str, number: int) -> None:
    found = {item.name for i in range(number) for item in render_scene(seed, split, i, 64).objects}
    assert found == set(CLASS_NAMES)


def test_sizes_and_counts_vary(scenes: list[Scene]) -> None:
    assert all(max(scene.mask.shape) == 96 and min(scene.mask.shape) >= 67 for scene in scenes)
    assert len({scene.mask.shape for scene in scenes}) > 20
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {1, 2, 3}
    assert counts[1] > counts[2] > counts[3] >= 5
    several = [len({item.name for item in scene.objects}) for scene in scenes]
    assert 0.2 < np.mean(np.array(several) > 1) < 0.5


def test_objects_differ_three_times_in_scale(scenes: list[Scene]) -> None:
    whole = [item for scene in scenes for item in scene.objects if not item.truncated and not item.occluded]
    lengths = [max(x1 - x0, y1 - y0) + 1 for x0, y0, x1, y1 in (item.box for item in whole)]
    # truncation and crowding cut the largest, so the two ends are taken between whole objects
    assert np.quantile(lengths, 0.99) > 2.0 * np.quantile(lengths, 0.01)
    assert np.mean([item.occluded for scene in scenes for item in scene.objects]) > 0.2


def test_key_part_is_a_small_share_of_every_class(scenes: list[Scene]) -> None:
    shares: dict[str, list[float]] = {name: [] for name in CLASS_NAMES}
    for scene in scenes:
        if len(scene.objects) == 1:
            shares[scene.objects[0].name].append(float(scene.key.sum() / scene.silhouette.sum()))
    for name, values in shares.items():
        assert 0.08 < np.mean(values) < 0.5, name
    assert 0.15 < np.mean([share for values in shares.values() for share in values]) < 0.35


@pytest.mark.parametrize(("one", "other"), [("cat", "dog"), ("cat", "cow"), ("bus", "train")])
def test_plain_parts_do_not_tell_the_class(one: str, other: str) -> None:
    plain = [[p for p in SHAPES[name](np.random.default_rng(5)) if not p.key] for name in (one, other)]
    assert len(plain[0]) == len(plain[1]) > 5
    for a, b in zip(*plain, strict=True):
        assert a.colour == b.colour
        np.testing.assert_array_equal(a.points, b.points)
    keys = [[p for p in SHAPES[name](np.random.default_rng(5)) if p.key] for name in (one, other)]
    assert [p.colour for p in keys[0]] != [p.colour for p in keys[1]]


def test_places_are_evidence_but_no_proof(scenes: list[Scene]) -> None:
    for name, place in (("boat", "water"), ("train", "rails"), ("bus", "road"), ("aeroplane", "airfield")):
        with_class = [scene for scene in scenes if name in {item.name for item in scene.objects}]
        in_place = [scene for scene in scenes if scene.place == place]
        both = [scene for scene in with_class if scene.place == place]
        lift = (len(both) / len(with_class)) / (len(in_place) / len(scenes))
        assert 0.35 < len(both) / len(with_class) < 0.95, name
        assert lift > 2.0, name
        assert len(both) < len(in_place), f"{place} without {name} must occur"
    for shares in PREFERENCE.values():
        assert sum(shares.values()) == pytest.approx(1.0)
        assert set(shares) <= set(PLACES)


def test_objects_show_themselves(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert all((scene.instances == number).any() for number in range(1, len(scene.objects) + 1))
        assert scene.key.any()
        assert not (scene.key & ~scene.silhouette).any()
    assert MIN_VISIBLE >= 0.5


def test_a_stopped_generation_is_continued(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def counted(seed: int, split: str, index: int, image_size: int) -> Scene:
        drawn.append((split, index))
        if len(drawn) == 11:
            raise KeyboardInterrupt
        return render_scene(seed, split, index, image_size)

    monkeypatch.setattr(minivoc_files, "render_scene", counted)
    with pytest.raises(KeyboardInterrupt):
        generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    assert not (tmp_path / minivoc_files.FINISHED).exists()
    # as if the kill had come between an image's files: the annotation is the last of them
    devkit = tmp_path / minivoc_files.DEVKIT
    (devkit / "Annotations" / "train_00004.xml").unlink()
    (devkit / "JPEGImages" / "train_00004.jpg").write_bytes(b"cut")

    generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    assert contents(tmp_path) == contents(root)
    assert len(drawn) == 11 + (N_TRAIN + N_VAL - 10) + 1

    generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    assert len(drawn) == 11 + (N_TRAIN + N_VAL - 10) + 1, "a finished set is not drawn again"


def test_a_stopped_generation_with_other_arguments_is_redone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, value: object) -> None:
        if Path(path).name == minivoc_files.FINISHED:
            raise KeyboardInterrupt
        write_json(path, value)

    write_json = minivoc_files.write_json
    monkeypatch.setattr(minivoc_files, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=4, progress=False)
    monkeypatch.setattr(minivoc_files, "write_json", write_json)
    generate_minivoc(tmp_path, N_TRAIN, N_VAL, SIZE, seed=3, progress=False)
    assert contents(tmp_path) == contents(root)


def test_another_set_in_the_folder_is_refused(root: Path) -> None:
    before = contents(root)
    with pytest.raises(DataError, match=r"image_size is 80, asked for 96"):
        generate_minivoc(root, N_TRAIN, N_VAL, 96, seed=3, progress=False)
    assert contents(root) == before


def test_a_folder_with_the_real_voc_is_left_alone(tmp_path: Path) -> None:
    photo = tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2007_000033.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"photo")
    with pytest.raises(DataError, match="not from MiniVOC"):
        generate_minivoc(tmp_path, 8, 8, progress=False)
    assert contents(tmp_path) == {str(photo.relative_to(tmp_path)): b"photo"}


@pytest.mark.parametrize("arguments", [{"n_train": 7}, {"n_val": 0}, {"image_size": 32}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{next(iter(arguments))} must be between"):
        generate_minivoc(tmp_path, **arguments, progress=False)
    assert not list(tmp_path.iterdir())


def test_marker_tells_the_arguments(root: Path) -> None:
    told = json.loads((root / "minivoc.json").read_text())
    assert told == {
        "version": minivoc_files.GENERATOR_VERSION,
        "n_train": N_TRAIN,
        "n_val": N_VAL,
        "image_size": SIZE,
        "seed": 3,
        "class_names": list(CLASS_NAMES),
    }


def test_generation_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from wsss_zoo.data.minivoc.files import generate_minivoc; "
        f"generate_minivoc({str(tmp_path)!r}, 8, 8, 64, progress=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_image_is_drawn_in_a_few_hundredths_of_a_second() -> None:
    start = time.process_time()
    for index in range(16):
        render_scene(0, "train", index, 112)
    assert (time.process_time() - start) / 16 < 0.15


def test_data_module_reads_it_like_voc(root: Path) -> None:
    from wsss_zoo.data import MiniVOCDataModule, VOC2012DataModule

    data = MiniVOCDataModule(
        root,
        n_train=N_TRAIN,
        n_val=N_VAL,
        image_size=SIZE,
        generator_seed=3,
        inputs={"masks": "ground_truth"},
        batch_size=4,
    )
    assert isinstance(data, VOC2012DataModule)
    before = contents(root)
    data.prepare_data()
    data.setup("fit")
    assert contents(root) == before
    assert data.class_names == CLASS_NAMES
    assert (len(data.records("train")), len(data.records("val"))) == (N_TRAIN, N_VAL)
    for record in data.records("val"):
        mask = data.read_mask(record)
        assert data.read_image(record).shape == (*mask.shape, 3)
        assert set(np.flatnonzero(record.labels) + 1) == set(np.unique(mask)) - {0, 255}
        assert data.saliency_path(record.image_id).is_file()
    batch = next(iter(data.train_dataloader()))
    assert tuple(batch["image"].shape) == (4, 3, 112, 112)
    assert tuple(batch["labels"].shape) == (4, len(CLASS_NAMES))
    assert batch["mask"].shape[1:] == (112, 112)


def test_data_module_draws_what_is_missing(tmp_path: Path) -> None:
    from wsss_zoo.data import MiniVOCDataModule

    data = MiniVOCDataModule(tmp_path / "new", n_train=8, n_val=8, image_size=64)
    data.prepare_data()
    assert len(data.records("train")) == 8
    with pytest.raises(DataError, match="n_train is 8, asked for 9"):
        MiniVOCDataModule(tmp_path / "new", n_train=9, n_val=8, image_size=64).prepare_data()
