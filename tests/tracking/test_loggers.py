from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from wsss_zoo.errors import RecipeError
from wsss_zoo.tracking.loggers import (
    close_loggers,
    has_wandb_key,
    log_panels,
    log_results,
    resolve_wandb_mode,
    stage_loggers,
)
from wsss_zoo.tracking.training_log import read_rows

from .conftest import metrics


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")


class Line(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = (self.layer(batch[0]) - 3 * batch[0]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val/error", self.layer(batch[0]).abs().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class KilledAt(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            raise SystemExit  # nothing after this statement runs, as after a kill


def train(folder: Path, killed_at: int | None = None) -> list[dict[str, str]]:
    L.seed_everything(0, verbose=False)
    data = DataLoader(TensorDataset(torch.linspace(0, 1, 40)[:, None]), batch_size=4)
    checkpoints = ModelCheckpoint(folder / "checkpoints", filename="last", enable_version_counter=False)
    trainer = L.Trainer(
        max_epochs=4,
        accelerator="cpu",
        log_every_n_steps=3,
        logger=stage_loggers(folder, "toy", "cam", "off", {}),
        callbacks=[
            LearningRateMonitor("step"),
            checkpoints,
            *([KilledAt(killed_at)] if killed_at is not None else []),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(Line(), data, data, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit:
        assert killed_at is not None
    return read_rows(folder / "cam" / "logs" / "metrics.csv")


@pytest.mark.filterwarnings("ignore")
def test_log_of_a_killed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "unbroken")
    cut = train(tmp_path / "killed", killed_at=27)  # in the third epoch of ten steps
    assert len(cut) < len(unbroken)
    continued = train(tmp_path / "killed")
    assert continued == unbroken
    steps = [int(row["step"]) for row in continued if "train/loss" in row]
    assert steps == sorted(set(steps))
    assert sum("val/error" in row for row in continued) == 4


def test_off_does_not_import_wandb(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from wsss_zoo.tracking.loggers import *;"
        "loggers = stage_loggers(Path(sys.argv[1]), 'toy', 'cam', 'off', {});"
        "log_results(loggers, [{'label': 'CAM', 'miou': 0.5}]); close_loggers(loggers);"
        "print(len(loggers), 'wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


def test_offline_leaves_pictures_tables_and_figures_in_the_run_folder(tmp_path: Path) -> None:
    import wandb

    rng = np.random.default_rng(0)
    panels = {f"2007_{i:06d}": rng.integers(0, 255, (20, 60, 3), dtype=np.uint8) for i in range(3)}
    tiles = {name: {"CAM": panel[:, :20], "DeepLab": panel[:, 20:40]} for name, panel in panels.items()}
    loggers = stage_loggers(tmp_path, "voc2012/cam", "summary", "offline", {"seed": 3}, kind="summary")
    assert wandb.run is None  # a run that the user has open is not touched
    loggers[1].log_metrics({"train/loss": 0.5}, step=3)
    log_panels(loggers, panels, tiles)
    log_results(loggers, metrics("voc2012/cam")["rows"])
    close_loggers(loggers)
    log_panels(loggers, panels)  # after the end: nothing to log to, and no error

    (folder,) = (tmp_path / "summary" / "logs" / "wandb").glob("offline-run-*")
    pictures = sorted(p.name for p in (folder / "files" / "media" / "images" / "panels").glob("*.png"))
    assert [name[:11] for name in pictures] == sorted(panels)
    assert {p.name.split("_")[0] for p in (folder / "files" / "media" / "table").glob("*.json")} == {
        "pictures",
        "results",
    }
    record = next(folder.glob("run-*.wandb"))
    wait_until(lambda: b"results/deeplab/masks_crf/val/miou" in record.read_bytes())
    assert b"results/cam/maps/train/miou_fixed" in record.read_bytes()
    assert b"voc2012/cam" in record.read_bytes()


def wait_until(written: Callable[[], bool], seconds: float = 20) -> None:
    """wandb's own process writes the record a moment after `finish` has returned."""
    end = time.monotonic() + seconds
    while not written():
        assert time.monotonic() < end, "wandb has not written its record"
        time.sleep(0.05)


def test_stages_are_runs_of_one_group_and_go_on_under_their_id(tmp_path: Path) -> None:
    opened = []
    for stage in ("cam", "deeplab", "cam"):
        loggers = stage_loggers(tmp_path, "voc2012/cam", stage, "offline", {})
        run = loggers[1].experiment  # type: ignore[attr-defined]
        opened.append((run.id, run.group, run.name, run.job_type))
        close_loggers(loggers)
    first, second, again = opened
    assert again == first
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert first[1].startswith("voc2012/cam ")
    assert (first[2], second[2]) == ("voc2012/cam/cam", "voc2012/cam/deeplab")
    assert (tmp_path / "cam" / "logs" / "wandb_id.txt").read_text().strip() == first[0]


def test_default_is_online_only_with_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve_wandb_mode(None) == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert resolve_wandb_mode(None) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert resolve_wandb_mode(None) == "offline"  # the key is for another host
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert resolve_wandb_mode(None) == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_wandb_mode(None) == "off"
    assert resolve_wandb_mode("offline") == "offline"


def test_online_without_a_key_says_how_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs an API key for api\.wandb\.ai.*`wandb login`"):
        stage_loggers(tmp_path, "toy", "cam", "online", {})
    with pytest.raises(RecipeError, match="expected online, offline or off, got 'on'"):
        stage_loggers(tmp_path, "toy", "cam", "on", {})  # type: ignore[arg-type]


def test_broken_netrc_is_named(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine\n")
    with pytest.raises(RecipeError, match="netrc: cannot be read for the wandb API key"):
        has_wandb_key()
