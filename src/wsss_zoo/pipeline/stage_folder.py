"""What a stage leaves on disk, and how far each of its steps got.

<stage>/stage.json       state of the steps: hash, status, settings, seeds, seconds, host
<stage>/checkpoints/     fit: last.ckpt (to continue), weights.safetensors (the finished network)
<stage>/logs/            fit: metrics.csv
<stage>/maps/            predict (localizers)
<stage>/masks/           predict (segmenters), refine
<stage>/masks_crf/       predict with a dense CRF
<stage>/<kind>/          predict, cluster, refine: any other kind of artifact (artifacts.kinds)
<stage>/clusters.npz     cluster: the sub-categories of all images; contact_sheets/: images of each
<stage>/metrics.json     evaluate
<stage>/.previous/       results of earlier settings; they come back when the settings do
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.artifacts.files import read_json, write_json
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS
from wsss_zoo.errors import ArtifactError

StepName = Literal["fit", "predict", "cluster", "refine", "evaluate"]
STEPS: tuple[StepName, ...] = ("fit", "predict", "cluster", "refine", "evaluate")
#: The steps that make what other stages read; a stage has one of them at most.
RESULT_STEPS: tuple[StepName, ...] = ("predict", "cluster", "refine")
_OUTPUTS: dict[StepName, tuple[str, ...]] = {
    "fit": ("checkpoints", "logs"),
    "predict": tuple(ARTIFACT_KINDS),
    "cluster": ("subcategories", "clusters.npz", "contact_sheets"),
    "refine": tuple(ARTIFACT_KINDS),
    "evaluate": ("metrics.json",),
}


class StageFolder:
    """The folder of one stage.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state_file(self) -> Path:
        """`stage.json`."""
        return self.path / "stage.json"

    def state(self) -> dict[str, Any]:
        """The content of `stage.json`; a fresh state where the stage has not been started."""
        if not self.state_file.exists():
            return {"stage": self.path.name, "steps": {}}
        state = read_json(self.state_file)
        if not isinstance(state, dict) or not isinstance(state.get("steps"), dict):
            raise ArtifactError(f"{self.state_file} is not a stage state; delete it to run the stage again")
        return state

    def step(self, step: StepName) -> dict[str, Any] | None:
        """What is known of a step: `hash`, `status` (`started` or `done`), `settings`...; None if nothing."""
        return self.state()["steps"].get(step)

    def record(self, step: StepName, **facts: Any) -> None:
        """Add facts to a step's state and write it."""
        state = self.state()
        state["steps"][step] = {**state["steps"].get(step, {}), **facts}
        write_json(self.state_file, state)

    def begin(self, step: StepName, *, hash: str, settings: Mapping[str, Any], again: bool) -> None:
        """Mark a step as started; a kill at any point never leaves results under other settings.

        Args:
            step: the step.
            hash: identity of its settings and inputs. Results of another hash move to `.previous`; results of
                this hash that wait there come back.
            settings: what the hash stands for, kept to tell later what changed.
            again: drop results of this very hash and make them anew.
        """
        old = self.step(step)
        same = old is not None and old["hash"] == hash
        attempt = old.get("attempt", 0) if old is not None and same else 0
        if old is not None and same and again:
            attempt += 1
            self.record(step, status="started")
            self._discard(step)
        elif old is not None and not same:
            self.record(step, status="started")
            self._set_aside(step, old)
        previous = self._previous(step, hash)
        if again and previous.is_dir():
            shutil.rmtree(previous)
        elif (previous / "step.json").is_file():
            attempt = int(read_json(previous / "step.json").get("attempt", 0))
        state = self.state()
        state["steps"][step] = {
            **(old if old is not None and same and not again else {}),
            "hash": hash,
            "attempt": attempt,
            "status": "started",
            "settings": dict(settings),
        }
        write_json(self.state_file, state)
        self._bring_back(step, previous)

    def has_previous(self, step: StepName, hash: str) -> bool:
        """Whether finished or unfinished results of this hash wait in `.previous`."""
        return self._previous(step, hash).is_dir()

    def _previous(self, step: StepName, hash: str) -> Path:
        return self.path / ".previous" / f"{step}-{hash[:12]}"

    def _existing_outputs(self, step: StepName) -> list[Path]:
        return [self.path / name for name in _OUTPUTS[step] if (self.path / name).exists()]

    def _discard(self, step: StepName) -> None:
        for path in self._existing_outputs(step):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _set_aside(self, step: StepName, old: Mapping[str, Any]) -> None:
        target = self._previous(step, old["hash"])
        target.mkdir(parents=True, exist_ok=True)
        for path in self._existing_outputs(step):
            kept = target / path.name
            if kept.is_dir():
                shutil.rmtree(kept)
            path.rename(kept)
        write_json(target / "step.json", old)

    def _bring_back(self, step: StepName, previous: Path) -> None:
        for name in _OUTPUTS[step]:
            if (previous / name).exists() and not (self.path / name).exists():
                (previous / name).rename(self.path / name)
        if previous.is_dir():
            shutil.rmtree(previous)
