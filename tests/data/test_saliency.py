from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.saliency_root import DUTS_TRAIN, draw, write_saliency_root
from wsss_zoo.data import MiniVOCDataModule, MiniVOCSaliencyDataModule, SaliencyDataModule
from wsss_zoo.data.check import check
from wsss_zoo.data.label_decoupling import decouple, edge_map
from wsss_zoo.data.saliency_dataset import SaliencyDataset
from wsss_zoo.data.saliency_targets import SaliencyTargets
from wsss_zoo.data.saliency_transforms import RandomWindow, ResizeBatch, resize
from wsss_zoo.errors import DataError
from wsss_zoo.methods import create_model
from wsss_zoo.normalization import DUTS, IMAGENET

SMALL: dict[str, Any] = {"sizes": [32, 64], "test_size": 32, "batch_size": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_saliency_root(tmp_path / "data")


def epoch(datamodule: SaliencyDataModule, number: int = 0) -> list[dict[str, Any]]:
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return len(first) == len(second) and all(
        a["image_id"] == b["image_id"]
        and all(
            a[key].shape == b[key].shape and torch.equal(a[key], b[key]) for key in a if key != "image_id"
        )
        for a, b in zip(first, second, strict=True)
    )


def whole_images(datamodule: SaliencyDataModule, split: str) -> SaliencyDataset:
    """Samples that are neither cut nor mirrored."""
    return SaliencyDataset(datamodule, datamodule.records(split), datamodule.targets)


# --- windows ---------------------------------------------------------------------------------------------


def windows(height: int, width: int, seeds: range) -> list[tuple[int, int, int, int, bool]]:
    """Cut rows, cut columns, top, left, mirrored: read off an image that holds its own coordinates."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    drawn = []
    for seed in seeds:
        cut = RandomWindow()({"image": rows, "columns": columns}, seed)
        line = cut["columns"][0].astype(int)
        mirrored = bool(line[0] > line[-1])
        column = np.sort(line)
        np.testing.assert_array_equal(np.diff(column), 1)
        drawn.append(
            (height - len(cut["image"]), width - len(line), int(cut["image"][0, 0]), int(column[0]), mirrored)
        )
    return drawn


def test_window_draws_what_the_release_draws_and_nothing_else() -> None:
    drawn = windows(32, 40, range(4000))
    # floor(32 / 8) - 1 = 3 rows at most; offsets stay below the number of rows that are cut
    rows = {(cut, top) for cut in range(4) for top in range(max(cut, 1))}
    columns = {(cut, left) for cut in range(5) for left in range(max(cut, 1))}
    assert {(cut, top) for cut, _, top, _, _ in drawn} == rows
    assert {(cut, left) for _, cut, _, left, _ in drawn} == columns
    cuts = Counter(cut for cut, *_ in drawn)
    assert all(count == pytest.approx(1000, abs=120) for count in cuts.values())
    assert sum(mirrored for *_, mirrored in drawn) == pytest.approx(2000, abs=150)
    # independent of each other: every pair of cuts is drawn, and a mirror image of each
    assert len({(high, wide, mirrored) for high, wide, _, _, mirrored in drawn}) == 4 * 5 * 2


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**63))
def test_window_cuts_all_layers_alike(height: int, width: int, seed: int) -> None:
    layers = {"image": np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)}
    layers["mask"] = layers["image"][..., 1].copy()
    cut = RandomWindow()(layers, seed)
    np.testing.assert_array_equal(cut["image"][..., 1], cut["mask"])
    for length, full in zip(cut["mask"].shape, (height, width), strict=True):
        assert full - max(full // 8 - 1, 0) <= length <= full


def test_window_can_be_switched_off() -> None:
    image = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    for seed in range(20):
        np.testing.assert_array_equal(RandomWindow(crop=0, flip=0)({"image": image}, seed)["image"], image)
        mirrored = RandomWindow(crop=0, flip=1)({"image": image}, seed)["image"]
        np.testing.assert_array_equal(mirrored, image[:, ::-1])


# --- batches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(17, 60), (90, 31), (37, 41), (200, 24)])
def test_resizing_equals_torch_bilinear_without_antialias(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(size=(37, 41, 3)).astype(np.float32)
    tensor = (
        torch.from_numpy(image).double().permute(2, 0, 1)[None]
    )  # torch's float32 is less exact than OpenCV
    expected = F.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    np.testing.assert_allclose(resize(image, size), expected, atol=2e-6)
    np.testing.assert_allclose(resize(image[..., 0], size), expected[..., 0], atol=2e-6)


def test_one_side_a_batch_drawn_from_its_seeds() -> None:
    collate = ResizeBatch((224, 256, 288, 320, 352))
    sides = Counter(collate.side([seed, seed + 7]) for seed in range(2000))
    assert set(sides) == {224, 256, 288, 320, 352}
    assert all(count == pytest.approx(400, abs=80) for count in sides.values())
    assert collate.side([3, 4, 5]) == collate.side([3, 4, 5])


def test_batches_hold_the_sample_contract(root: Path) -> None:
    datamodule = SaliencyDataModule(root, **SMALL)
    batches = epoch(datamodule)
    assert [len(batch["image_id"]) for batch in batches] == [2, 2, 1]  # the last batch is kept
    for batch in batches:
        count, side = len(batch["image_id"]), batch["image"].shape[-1]
        assert side in (32, 64)
        assert (batch["image"].shape, batch["image"].dtype) == ((count, 3, side, side), torch.float32)
        for name in ("mask", "body", "detail"):
            assert (batch[name].shape, batch[name].dtype) == ((count, side, side), torch.float32)
            assert 0 <= batch[name].min() < batch[name].max() <= 1
        assert batch["size"].shape == (count, 2)
    assert {batch["image"].shape[-1] for number in range(4) for batch in epoch(datamodule, number)} == {
        32,
        64,
    }


def test_pixels_are_rgb_on_the_scale_of_duts(root: Path) -> None:
    datamodule = SaliencyDataModule(root)
    record = datamodule.records("hku_is")[0]
    image, mask = draw(4)
    sample = whole_images(datamodule, "hku_is")[0]
    mean, std = np.array([124.55, 118.90, 102.94]), np.array([56.77, 55.97, 57.50])
    np.testing.assert_allclose(sample["image"], (image - mean) / std, atol=1e-5)
    np.testing.assert_allclose(sample["mask"], mask / 255.0, atol=1e-7)
    assert sample["size"] == image.shape[:2]
    assert sample["image_id"] == record.image_id
    assert datamodule.normalization == DUTS
    assert SaliencyDataModule(root, normalization=IMAGENET).normalization == IMAGENET


def test_grey_levels_stay_as_they_are(root: Path) -> None:
    datamodule = SaliencyDataModule(root)
    grey = whole_images(datamodule, "pascal_s")[0]["mask"]
    assert set(np.unique(np.rint(grey * 255))) == {0, 85}
    np.testing.assert_array_equal(datamodule.read_mask(datamodule.records("pascal_s")[0]), draw(1)[1] // 3)


def test_workers_do_not_change_the_data(root: Path) -> None:
    assert same(*(epoch(SaliencyDataModule(root, num_workers=workers, **SMALL), 3) for workers in (0, 2)))


def test_epochs_and_seeds_differ_and_repeat(root: Path) -> None:
    def run(number: int, seed: int) -> list[dict[str, Any]]:
        return epoch(SaliencyDataModule(root, seed=seed, **SMALL), number)

    assert same(run(1, 0), run(1, 0))
    assert not same(run(1, 0), run(2, 0))
    assert not same(run(1, 0), run(1, 7))


def test_validation_shows_whole_images_in_order(root: Path) -> None:
    datamodule = SaliencyDataModule(root, val_split="hku_is", **SMALL)
    first, second = (next(iter(datamodule.val_dataloader())) for _ in range(2))
    assert first["image_id"] == ["hku_is/0004", "hku_is/9057"]
    assert same([first], [second])
    assert set(first) == {"image", "mask", "image_id", "size"}
    mask = torch.from_numpy(draw(4)[1] / 255.0)[None, None]
    expected = F.interpolate(mask, (32, 32), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(first["mask"][0], expected, atol=1e-6)


# --- targets ---------------------------------------------------------------------------------------------


def test_targets_are_derived_from_the_mask(root: Path) -> None:
    datamodule = SaliencyDataModule(root, targets=["detail", "edge", "body"])
    sample = whole_images(datamodule, "hku_is")[0]
    body, detail = decouple(draw(4)[1])
    for name, expected in (("body", body), ("detail", detail), ("edge", edge_map(draw(4)[1]))):
        np.testing.assert_allclose(sample[name], expected / np.float32(255), atol=1e-7)
    assert set(epoch(SaliencyDataModule(root, targets=[], **SMALL))[0]) == {
        "image",
        "mask",
        "image_id",
        "size",
    }


def test_targets_on_disk_are_those_derived_on_the_fly(root: Path, tmp_path: Path) -> None:
    names = ["body", "detail", "edge"]
    plain = epoch(SaliencyDataModule(root, targets=names, **SMALL), 2)
    cached = SaliencyDataModule(root, targets=names, target_cache=str(tmp_path / "cache"), **SMALL)
    assert same(epoch(cached, 2), plain)
    files = {path.relative_to(tmp_path / "cache").as_posix() for path in (tmp_path / "cache").rglob("*.png")}
    assert files == {f"{name}-origin/duts_tr/{stem}.png" for name in names for stem in DUTS_TRAIN}
    assert same(epoch(cached, 2), plain)  # now they are read
    path = tmp_path / "cache" / "body-origin" / "duts_tr" / "sun_abc.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    assert not same(epoch(cached, 2), plain)  # they really are


@pytest.mark.parametrize("folder", ["duts_tr", "."])
def test_predicted_maps_take_the_place_of_derived_ones(root: Path, tmp_path: Path, folder: str) -> None:
    """The fine stage: files named by image id as stages write them, or by stem as in the release."""
    rng = np.random.default_rng(0)
    datamodule = SaliencyDataModule(root, inputs={"body": str(tmp_path / "body")})
    maps = {}
    for record in datamodule.records("duts_tr"):
        stem = record.image_id.removeprefix("duts_tr/")
        maps[record.image_id] = rng.integers(0, 256, datamodule.read_image(record).shape[:2], dtype=np.uint8)
        path = tmp_path / "body" / folder / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(maps[record.image_id]).save(path)
    datamodule.setup("fit")
    plain = whole_images(SaliencyDataModule(root), "duts_tr")
    for sample, derived in zip(whole_images(datamodule, "duts_tr"), plain, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(np.rint(sample["body"] * 255), maps[sample["image_id"]])
        np.testing.assert_array_equal(sample["detail"], derived["detail"])
        np.testing.assert_array_equal(sample["mask"], derived["mask"])
    path.unlink()
    with pytest.raises(DataError, match=r"1 of 5 images have no body map .*first duts_tr/n02_5"):
        datamodule.setup("fit")


def test_predicted_saliency_takes_the_place_of_masks_in_training_only(root: Path, tmp_path: Path) -> None:
    saliency = np.zeros(draw(4)[1].shape, np.uint8)
    saliency[10:30, 20:40] = 200
    for stem in ("0004", "9057"):
        path = tmp_path / "saliency" / "hku_is" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(saliency).save(path)
    arguments = {
        "train_split": "hku_is",
        "val_split": "hku_is",
        "inputs": {"saliency": str(tmp_path / "saliency")},
    }
    datamodule = SaliencyDataModule(root, **arguments, **SMALL)
    sample = whole_images(datamodule, "hku_is")[0]
    np.testing.assert_array_equal(np.rint(sample["mask"] * 255), saliency)
    np.testing.assert_array_equal(np.rint(sample["body"] * 255), decouple(saliency)[0])
    validation = next(iter(datamodule.val_dataloader()))["mask"]
    assert torch.equal(
        validation, next(iter(SaliencyDataModule(root, val_split="hku_is", **SMALL).val_dataloader()))["mask"]
    )
    with pytest.raises(DataError, match=r"takes the place of the masks\. Remove one"):
        SaliencyDataModule(root, **arguments, target_cache="x")


def test_mask_of_another_size_is_resized_before_anything_is_cut(root: Path) -> None:
    datamodule = SaliencyDataModule(root)
    record = datamodule.records("duts_tr")[0]
    height, width = datamodule.read_image(record).shape[:2]
    stored = datamodule.read_mask(record)
    assert stored.shape == (48, 70) != (height, width)  # evaluation gets the mask as it is
    sample = whole_images(datamodule, "duts_tr")[0]
    tensor = torch.tensor(stored)[None, None].double()
    expected = F.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)[0, 0]
    assert np.abs(sample["mask"] * 255 - expected.numpy()).max() <= 1
    mask = np.rint(sample["mask"] * 255).astype(np.uint8)
    np.testing.assert_array_equal(np.rint(sample["body"] * 255), decouple(mask)[0])


def test_images_with_a_mask_of_another_size_can_be_dropped(root: Path) -> None:
    shown = [
        name
        for batch in epoch(SaliencyDataModule(root, size_mismatch="drop", **SMALL))
        for name in batch["image_id"]
    ]
    assert sorted(shown) == sorted(f"duts_tr/{stem}" for stem in DUTS_TRAIN[1:])


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": ["boddy"]}, "there is no target 'boddy'; did you mean 'body'"),
        ({"inputs": {"masks": "x"}}, "there is no role 'masks'"),
        ({"size_mismatch": "crop"}, "size_mismatch must be resize or drop, got 'crop'"),
        ({"sizes": []}, r"sizes must be one or more sides .*got \[\]"),
        ({"test_size": 0}, "sizes must be"),
        ({"crop": 1.0}, r"crop must be a share of the side in \[0, 1\), got 1.0"),
        ({"flip": 2}, "flip must be a probability"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
    ],
)
def test_values_out_of_range(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SaliencyDataModule(tmp_path, **arguments)


def test_missing_inputs_are_told_before_training(root: Path, tmp_path: Path) -> None:
    datamodule = SaliencyDataModule(root, inputs={"detail": str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match=r"inputs\.detail: there is no folder .*nowhere"):
        datamodule.setup("fit")
    with pytest.raises(DataError, match="inputs: there is no role 'scores'"):
        SaliencyTargets(inputs={"scores": "x"})


# --- MiniVOC and training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minivoc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    arguments = {"root": tmp_path_factory.mktemp("minivoc"), "n_train": 8, "n_val": 8, "image_size": 64}
    MiniVOCSaliencyDataModule(**arguments).prepare_data()
    return arguments


def test_minivoc_shares_its_image_ids(minivoc: dict[str, Any]) -> None:
    saliency, classes = MiniVOCSaliencyDataModule(**minivoc), MiniVOCDataModule(**minivoc)
    assert saliency.split_names == ("train", "trainval", "val")
    for split in saliency.split_names:
        ids = [[record.image_id for record in data.records(split)] for data in (saliency, classes)]
        assert ids[0] == ids[1]
    record, labelled = saliency.records("val")[0], classes.records("val")[0]
    np.testing.assert_array_equal(saliency.read_image(record), classes.read_image(labelled))
    objects = classes.read_mask(labelled)
    assert (saliency.read_mask(record)[(objects > 0) & (objects < 255)] == 255).all()
    assert "8 of 8 images of train" in saliency.describe("train")


def test_minivoc_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no MiniVOC here\. Draw it with .*minivoc_saliency --root"):
        check("minivoc_saliency", tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ldf_trains_on_the_samples_and_predicts_the_images(minivoc: dict[str, Any]) -> None:
    datamodule = MiniVOCSaliencyDataModule(**minivoc, sizes=[32, 64], test_size=64, batch_size=5)
    model = create_model(
        "ldf",
        backbone="timm/test_resnet",
        backbone_args={"out_indices": [1, 2, 3, 4]},
        channels=8,
        test_size=64,
    )
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=datamodule)
    assert trainer.global_step == 2  # 5 and 3 images
    assert 0 < trainer.callback_metrics["val/mae"] < 1
    image = datamodule.read_image(datamodule.records("val")[0])
    normalised = torch.from_numpy(datamodule.normalization(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        assert model.eval().saliency(normalised).shape == (1, 1, *image.shape[:2])
