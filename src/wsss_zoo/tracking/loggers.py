"""The loggers of a stage: `metrics.csv` in its folder, and Weights & Biases.

One wandb group a run, one wandb run a stage. A stage that is continued goes on in its wandb run. What is
logged offline lies in `<stage>/logs/wandb` and can be sent later with `wandb sync --append`.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.errors import RecipeError
from wsss_zoo.tracking.results import Result, parse_results

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from wsss_zoo.tracking.wandb_logger import StageWandbLogger

WandbMode = Literal["online", "offline", "off"]
Pixels = npt.NDArray[np.uint8]

#: wandb project where neither WANDB_PROJECT nor the user's wandb settings name one.
PROJECT = "wsss-zoo"


def stage_loggers(
    run_dir: Path,
    recipe_name: str,
    stage: str,
    wandb_mode: WandbMode | None,
    config: Mapping[str, Any],
    *,
    kind: str | None = None,
) -> list[Logger]:
    """Open the loggers of one stage.

    Args:
        run_dir: the run's folder; logs go to `<run_dir>/<stage>/logs`.
        recipe_name: names the wandb group.
        stage: names the wandb run.
        wandb_mode: `online`, `offline` or `off`; None is what the environment variable WANDB_MODE says,
            else online where an API key is configured, else offline.
        config: settings shown with the wandb run.
        kind: the wandb job type (`localizer`, `segmenter`, ...); None for the stage's name.

    Returns:
        The CSV logger and, unless off, the wandb logger. `close_loggers` ends them.

    Raises:
        RecipeError: `online` without an API key, or a mode that does not exist.
    """
    from wsss_zoo.tracking.csv_logger import ContinuedCSVLogger

    mode = resolve_wandb_mode(wandb_mode)
    folder = Path(run_dir) / stage / "logs"
    loggers: list[Logger] = [ContinuedCSVLogger(folder)]
    if mode != "off":
        from wsss_zoo.tracking.wandb_logger import StageWandbLogger

        group_file = Path(run_dir) / "wandb_group.txt"
        loggers.append(
            StageWandbLogger(
                folder,
                mode=mode,
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                group=_remembered(group_file, lambda: f"{recipe_name} {uuid4().hex[:6]}"),
                run_name=f"{recipe_name}/{stage}",
                run_id=_remembered(folder / "wandb_id.txt", lambda: uuid4().hex[:12]),
                job_type=kind or stage,
                config=config,
            )
        )
    return loggers


def resolve_wandb_mode(mode: WandbMode | None) -> WandbMode:
    """Decide whether wandb sends, stores or is left out.

    Raises:
        RecipeError: `online` without an API key, or a mode that does not exist.
    """
    if mode is None:
        known: dict[str, WandbMode] = {"online": "online", "offline": "offline", "disabled": "off"}
        wanted = os.environ.get("WANDB_MODE", "").lower()
        if wanted in known:
            mode = known[wanted]
        else:
            return "online" if has_wandb_key() else "offline"
    if mode not in ("online", "offline", "off"):
        raise RecipeError(f"wandb: expected online, offline or off, got {mode!r}")
    if mode == "online" and not has_wandb_key():
        raise RecipeError(
            f"wandb: online needs an API key for {_wandb_host()}, and none is configured. "
            "Run `wandb login` or set WANDB_API_KEY; or choose offline (`wandb sync` sends it later) or off."
        )
    return mode


def has_wandb_key() -> bool:
    """Whether WANDB_API_KEY is set or the netrc file has an entry for the wandb host.

    Raises:
        RecipeError: the netrc file cannot be read.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in candidates:
        if file.is_file():
            try:
                return netrc.netrc(str(file)).authenticators(_wandb_host()) is not None
            except (netrc.NetrcParseError, OSError) as error:
                raise RecipeError(f"{file}: cannot be read for the wandb API key ({error})") from error
    return False


def log_panels(
    loggers: Sequence[Logger],
    panels: Mapping[str, Pixels],
    tiles: Mapping[str, Mapping[str, Pixels]] | None = None,
) -> None:
    """Show composed pictures in wandb; other loggers are left alone.

    Every panel is a plain image with a key of its own, `panels/<image id>`, so that the same image of
    several runs stands side by side, and because images inside a Table are not stored offline.

    Args:
        loggers: from `stage_loggers`.
        panels: image id -> uint8 `(H, W, 3)`.
        tiles: image id -> method -> uint8 `(H, W, 3)`, for a Table with one row an image and one column
            a method; None for a Table of whole panels.
    """
    for logger in _open_wandb_loggers(loggers):
        if not panels:
            continue
        import wandb

        pictures: dict[str, Any] = {
            f"panels/{name}": wandb.Image(panel, caption=name) for name, panel in panels.items()
        }
        rows = tiles if tiles is not None else {name: {"panel": panel} for name, panel in panels.items()}
        methods = list(dict.fromkeys(method for row in rows.values() for method in row))
        table = wandb.Table(columns=["image_id", *methods], allow_mixed_types=True)
        for name, row in rows.items():
            table.add_data(name, *(wandb.Image(row[m]) if m in row else None for m in methods))
        logger.experiment.log({**pictures, "pictures": table})


def log_results(loggers: Sequence[Logger], rows: Sequence[Mapping[str, Any]]) -> None:
    """Show the figures of a run in wandb: a Table and, for sorting runs, summary values.

    Args:
        loggers: from `stage_loggers`.
        rows: the `rows` of `metrics.json`. The summary is named `results/<stage>/<artifact>/<split>/miou`,
            with `_fixed` or `_oracle` behind where there is a threshold; of saliency maps every score has its
            name in place of `miou`, and the Table holds the adaptive F-measure.

    Raises:
        ArtifactError: a row holds a value of the wrong type.
    """
    results = parse_results(rows, "rows")
    for logger in _open_wandb_loggers(loggers):
        if not results:
            continue
        import wandb

        columns: list[str | int] = ["result", "stage", "artifact", "split", "images", "mIoU %", "threshold"]
        table = wandb.Table(columns=columns, allow_mixed_types=True)
        for result in results:
            miou = None if result.figure is None else 100 * result.figure
            what = (result.label, result.stage, result.artifact, result.split, result.n_images)
            table.add_data(*what, miou, result.threshold_text)
            if result.miou is not None:
                logger.experiment.summary[_summary_name(result, "miou")] = result.miou
            for name, value in result.scores.items():
                logger.experiment.summary[_summary_name(result, name)] = value
        logger.experiment.log({"results": table})


def close_loggers(loggers: Sequence[Logger], status: str = "success") -> None:
    """End the loggers of a stage, with their wandb run. Lightning's Trainer does so itself after `fit`.

    Args:
        loggers: from `stage_loggers`.
        status: `success`, or anything else for a stage that failed.
    """
    for logger in loggers:
        logger.finalize(status)


def _summary_name(result: Result, figure: str) -> str:
    suffix = f"_{result.threshold_kind}" if result.threshold_kind else ""
    return f"results/{result.stage}/{result.artifact}/{result.split}/{figure}{suffix}"


def _open_wandb_loggers(loggers: Sequence[Logger]) -> list[StageWandbLogger]:
    from wsss_zoo.tracking.wandb_logger import StageWandbLogger

    return [logger for logger in loggers if isinstance(logger, StageWandbLogger) and logger.is_open]


def _wandb_host() -> str:
    return urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc


def _remembered(file: Path, make: Callable[[], str]) -> str:
    """The text of a small file, which the first call writes."""
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    text = make()
    with atomic_write(file) as stream:
        stream.write(f"{text}\n".encode())
    return text
