"""Lightning's wandb logger with a run of its own, which ends with the stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    import wandb

#: What wandb takes as the x axis of every metric.
_STEP = "trainer/global_step"


class StageWandbLogger(WandbLogger):
    """Logs one stage to one wandb run.

    `WandbLogger` alone joins whatever wandb run is open in the process, so the stages of a recipe (or a
    run that the user opened) would flow into each other. This one opens its own.

    Args:
        folder: wandb's files go to `<folder>/wandb`.
        mode: send or store.
        project: wandb project.
        group: one for all stages of a run.
        run_name: shown name.
        run_id: identity; the same id again continues the wandb run.
        job_type: kind of the stage.
        config: settings to show.

    Attributes:
        is_open: whether this process writes to the wandb run: the first rank, until `finalize`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Literal["online", "offline"],
        project: str,
        group: str,
        run_name: str,
        run_id: str,
        job_type: str,
        config: Mapping[str, Any],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        run = _open_run(
            dir=folder,
            mode=mode,
            project=project,
            group=group,
            name=run_name,
            id=run_id,
            # offline there is no server to ask what the run holds; `wandb sync --append` joins the parts
            resume="allow" if mode == "online" else None,
            job_type=job_type,
            config=dict(config),
            reinit="create_new",
        )
        super().__init__(name=run_name, save_dir=folder, project=project, id=run_id, experiment=run)
        self.is_open = run is not None

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the wandb run; a status other than `success` marks it as failed."""
        super().finalize(status)
        self.experiment.finish(exit_code=0 if status == "success" else 1)
        self.is_open = False


@rank_zero_only
def _open_run(**settings: Any) -> wandb.Run:
    import wandb

    # quiet: its summary after every stage would bury the run's own table
    run = wandb.init(**settings, settings=wandb.Settings(quiet=True))
    run.define_metric(_STEP)
    run.define_metric("*", step_metric=_STEP, step_sync=True)
    return run
