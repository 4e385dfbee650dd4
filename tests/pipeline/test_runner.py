"""The runner: what a run leaves, what is reused, and that a kill at any moment changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wsss_zoo import run_recipe
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.errors import DataError, RecipeError, WsssZooError
from wsss_zoo.pipeline.lock import locked
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.pretrained import read_metadata


def figures(run: Path) -> list:
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    return [(row["stage"], row["artifact"], row["split"], row["miou"], row["iou"]) for row in rows]


def test_what_a_run_leaves(finished_run):
    for name in ("recipe.yaml", "metrics.json", "report.html"):
        assert (finished_run / name).stat().st_size > 0
    assert len(list((finished_run / "cam" / "maps").iterdir())) == 20
    assert len(list((finished_run / "pseudo_labels" / "masks").iterdir())) == 12
    assert len(list((finished_run / "deeplab" / "masks").iterdir())) == 8
    maps = LocalizationMaps.load(finished_run / "cam" / "maps" / "train_00000.npz")
    assert maps.full_size().shape[1:] == load_mask(finished_run / "pseudo_labels/masks/train_00000.png").shape
    assert [row[:3] for row in figures(finished_run)] == [
        ("cam", "maps", "train"),
        ("cam", "maps", "val"),
        ("pseudo_labels", "masks", "train"),
        ("deeplab", "masks", "val"),
    ]
    state = json.loads((finished_run / "cam" / "stage.json").read_text())
    fit = state["steps"]["fit"]
    assert (fit["status"], fit["epochs"], fit["optimizer_steps"], fit["images"]) == ("done", 2, 6, 12)
    assert {"seconds", "peak_memory_mb", "host", "seed", "software", "fingerprints"} <= fit.keys()
    provenance = json.loads((finished_run / "metrics.json").read_text())["rows"][0]["provenance"]
    assert provenance["scales"] == [1.0, 1.5]
    assert provenance["threshold_chosen_on"] == "ground truth of train (oracle)"
    assert provenance["networks"][0]["backbone"] == "timm/test_efficientnet"


def test_the_same_seed_gives_the_same_figures_and_nothing_is_left_of_a_finished_run(
    tmp_path, small_recipe, finished_run
):
    run_recipe(str(small_recipe), ["data.num_workers=1"], output_dir=tmp_path, wandb="off")
    assert figures(tmp_path / "small") == figures(finished_run)
    assert not list((tmp_path / "small").rglob("*.tmp"))


def test_unchanged_stages_are_reused_and_changed_ones_run(tmp_path, small_recipe):
    run_recipe(str(small_recipe), ["stages.deeplab=null"], output_dir=tmp_path, wandb="off")
    run = tmp_path / "small"
    weights = run / "cam" / "checkpoints" / "weights.safetensors"
    a_map, a_mask = run / "cam/maps/train_00000.npz", run / "pseudo_labels/masks/train_00000.png"
    before = [path.stat().st_mtime_ns for path in (weights, a_map, a_mask)]
    run_recipe(str(small_recipe), ["stages.deeplab=null"], output_dir=tmp_path, wandb="off")
    assert [path.stat().st_mtime_ns for path in (weights, a_map, a_mask)] == before

    change = ["stages.deeplab=null", "stages.pseudo_labels.refine.refiner.value=0.9"]
    old = load_mask(a_mask)
    run_recipe(str(small_recipe), change, output_dir=tmp_path, wandb="off")
    assert [path.stat().st_mtime_ns for path in (weights, a_map)] == before[:2]
    assert (load_mask(a_mask) == 0).sum() > (old == 0).sum()

    # going back to the first settings brings the first results back
    run_recipe(str(small_recipe), ["stages.deeplab=null"], output_dir=tmp_path, wandb="off")
    assert a_mask.stat().st_mtime_ns == before[2]


def test_only_from_and_force(tmp_path, small_recipe):
    with pytest.raises(RecipeError, match=r"needs the fit of 'cam', which has not been run"):
        run_recipe(str(small_recipe), output_dir=tmp_path, only=["pseudo_labels"], wandb="off")
    run_recipe(str(small_recipe), output_dir=tmp_path, only=["cam"], wandb="off")
    assert not (tmp_path / "small" / "pseudo_labels").exists()
    with pytest.raises(RecipeError, match=r"did you mean 'pseudo_labels'"):
        run_recipe(str(small_recipe), output_dir=tmp_path, start="pseudo_label", wandb="off")
    only = {"only": ["pseudo_labels"], "output_dir": tmp_path, "wandb": "off"}
    run_recipe(str(small_recipe), **only)
    mask = tmp_path / "small/pseudo_labels/masks/train_00000.png"
    before = mask.stat().st_mtime_ns
    run_recipe(str(small_recipe), **only)
    assert mask.stat().st_mtime_ns == before
    run_recipe(str(small_recipe), force=True, **only)
    assert mask.stat().st_mtime_ns > before


def _killed_when(condition, command: list[str]) -> bool:
    """Run a command and SIGKILL its whole process group once the condition holds; False if it finished."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    while process.poll() is None:
        if condition():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    assert process.returncode == 0
    return False


def test_a_killed_run_continues_and_ends_with_the_same_figures(tmp_path, small_recipe, finished_run):
    run = tmp_path / "small"
    command = [
        sys.executable,
        "-m",
        "wsss_zoo.cli",
        "run",
        str(small_recipe),
        "-o",
        str(tmp_path),
        "--wandb",
        "off",
    ]

    def count(folder: str) -> int:
        path = run / folder
        return len(list(path.glob("[!.]*"))) if path.is_dir() else 0

    moments = [
        lambda: (run / "cam/checkpoints/last.ckpt").exists(),
        lambda: count("cam/maps") >= 5,
        lambda: count("pseudo_labels/masks") >= 3,
        lambda: (run / "deeplab/checkpoints/last.ckpt").exists(),
    ]
    killed, seen = 0, {}
    for moment in moments:
        killed += _killed_when(moment, command)
        for path in [*run.glob("cam/maps/*.npz"), *run.glob("pseudo_labels/masks/*.png")]:
            assert seen.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns, path
            if path.suffix == ".npz":
                LocalizationMaps.load(path)
    assert killed >= 3
    _killed_when(lambda: False, command)
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in seen.items())
    assert figures(run) == figures(finished_run)


def test_two_runs_in_one_folder(tmp_path, small_recipe):
    with locked(tmp_path / "small"), pytest.raises(RecipeError, match="in use by another run"):
        run_recipe(str(small_recipe), output_dir=tmp_path, wandb="off")


def test_a_full_disk_keeps_finished_images(tmp_path, small_recipe, finished_run, monkeypatch):
    """`write` fails as it does on a full disk after a few maps; with room again the run goes on."""
    import errno

    from wsss_zoo.artifacts import files

    real_fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(list((tmp_path / "small/cam/maps").glob("*.npz"))) >= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(WsssZooError, match="no space left") as error:
        run_recipe(str(small_recipe), output_dir=tmp_path, wandb="off")
    assert "Finished files are kept" in str(error.value)
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "small/cam/maps").glob("*.npz")}
    assert len(kept) == 4
    run_recipe(str(small_recipe), output_dir=tmp_path, wandb="off")
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in kept.items())
    assert figures(tmp_path / "small") == figures(finished_run)


def test_a_stage_without_images_is_an_error(tmp_path, small_recipe, small_data):
    empty = tmp_path / "empty.txt"
    empty.write_text("nothing_here\n")
    with pytest.raises(DataError, match="none of the 1 images"):
        run_recipe(
            str(small_recipe),
            [f"stages.cam.fit.split={empty}"],
            output_dir=tmp_path,
            only=["cam"],
            wandb="off",
        )


def test_training_without_a_step_is_an_error(tmp_path, small_recipe):
    with pytest.raises(WsssZooError, match="trained nothing"):
        run_recipe(
            str(small_recipe),
            ["stages.cam.fit.trainer.limit_train_batches=0"],
            output_dir=tmp_path,
            only=["cam"],
            wandb="off",
        )


def test_number_of_classes_is_linked_and_a_conflict_is_refused(tmp_path, small_recipe):
    with pytest.raises(RecipeError, match="num_classes is 3, but the data has 8"):
        run_recipe(
            str(small_recipe),
            ["stages.cam.fit.method.num_classes=3"],
            output_dir=tmp_path,
            only=["cam"],
            wandb="off",
        )


def test_evaluating_a_split_that_was_not_predicted(tmp_path, small_recipe):
    with pytest.raises(DataError, match="images of 'val' have no result"):
        run_recipe(
            str(small_recipe),
            ["stages.cam.predict.splits=[train]"],
            output_dir=tmp_path,
            only=["cam"],
            wandb="off",
        )


def test_maps_are_those_of_the_method(finished_run, small_data):
    """What the runner wrote equals calling the method by hand."""
    import torch

    from wsss_zoo.data import MiniVOCDataModule
    from wsss_zoo.methods.multi_scale import image_pyramid, multi_scale_localize
    from wsss_zoo.methods.published import load_pretrained

    method = load_pretrained(finished_run / "cam/checkpoints/weights.safetensors")
    data = MiniVOCDataModule(small_data, n_train=12, n_val=8, image_size=64)
    data.setup()
    record = data.records("val")[0]
    image = data.read_image(record)
    pyramid = image_pyramid(image, (1.0, 1.5), method.normalization)
    by_hand = multi_scale_localize(method, pyramid, torch.tensor(record.labels), image.shape[:2]).numpy()
    stored = LocalizationMaps.load(finished_run / "cam/maps" / f"{record.image_id}.npz")
    expected = LocalizationMaps.from_full_size(stored.classes, by_hand[stored.classes], stride=2)
    assert np.abs(expected.full_size() - stored.full_size()).max() < 2e-3


def test_a_network_starts_from_what_another_stage_trained(tmp_path, small_recipe, finished_run):
    trained = finished_run / "cam" / "checkpoints" / "weights.safetensors"
    hparams = read_metadata(trained)["hparams"] | {"lr": 0.0}
    fit = {
        "method": {"class_path": "wsss_zoo.methods.CAM", "init_args": hparams},
        "data": {"batch_size": 4, "crop_size": 64},
        "trainer": {"max_epochs": 1, "enable_model_summary": False},
    }
    del hparams["num_classes"]
    recipe = yaml.safe_load(small_recipe.read_text())
    recipe["stages"] = {"cam": None, "pseudo_labels": None, "deeplab": None}
    recipe["stages"] |= {
        "first": {"fit": fit | {"weights": str(trained)}},
        "second": {"fit": fit | {"weights": "first"}},
    }
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    run_recipe(str(path), output_dir=tmp_path, wandb="off")
    expected = read_state_dict(trained)["classifier.weight"]
    for stage in ("first", "second"):
        found = read_state_dict(tmp_path / "again" / stage / "checkpoints" / "weights.safetensors")
        assert torch.equal(found["classifier.weight"], expected)  # nothing was learnt at a rate of 0
    with pytest.raises(RecipeError, match=r"fit.weights: .*'firs', which does not stand before it"):
        run_recipe(str(path), ["stages.second.fit.weights=firs"], output_dir=tmp_path, wandb="off")
