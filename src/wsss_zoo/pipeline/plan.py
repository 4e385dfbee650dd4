"""What a run will do: which steps run, which continue, which are reused, and why.

A step is identified by the hash of its settings and of the identities of its inputs. Paths, worker
counts and devices are not part of it: they change where and how fast a step runs, not what it makes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.inputs import (
    GROUND_TRUTH,
    folder_identity,
    input_kind,
    is_folder,
    source_stage,
)
from wsss_zoo.pipeline.recipe import Recipe, Stage
from wsss_zoo.pipeline.stage_folder import RESULT_STEPS, STEPS, StageFolder, StepName

Action = Literal["run", "continue", "reuse", "leave out"]

_SPEED_DATA_KEYS = ("root", "num_workers", "sbd_root", "target_cache")
_SPEED_TRAINER_KEYS = (
    "accelerator",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "profiler",
    "benchmark",
)
_SPEED_STEP_KEYS = ("workers", "crf_workers", "splits")


@dataclass(frozen=True)
class StepPlan:
    """One step of one stage.

    Attributes:
        hash: identity of settings and inputs.
        identity: the hash with the attempt, as consumers see it.
        folder: where its results are or will be; another run's folder when shared.
        action: what will be done.
        reason: why, for people.
        splits: the splits it covers.
        settings: what the hash stands for.
    """

    stage: str
    step: StepName
    hash: str
    identity: str
    folder: Path
    action: Action
    reason: str
    splits: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which stages a person asked for (`--only`, `--from`, `--force`)."""

    only: tuple[str, ...] = ()
    start: str | None = None
    force: bool = False

    def covers(self, recipe: Recipe, stage: str) -> bool:
        """Whether the stage is to be run."""
        names = [item.name for item in recipe.stages]
        if self.only and stage not in self.only:
            return False
        return self.start is None or names.index(stage) >= names.index(self.start)

    def check(self, recipe: Recipe) -> None:
        """Raise RecipeError when a named stage does not exist."""
        for name in (*self.only, *([self.start] if self.start else [])):
            recipe.stage(name)


EVERYTHING = Selection()


def plan_run(
    recipe: Recipe,
    folder: Path,
    selection: Selection = EVERYTHING,
    *,
    fingerprints: Mapping[str, str] | None = None,
    shared: Sequence[Path] = (),
) -> list[StepPlan]:
    """Plan every step of a recipe.

    Args:
        recipe: the checked recipe.
        folder: the run's folder.
        selection: the stages asked for.
        fingerprints: split -> fingerprint of its images and labels; None to leave the data uncompared.
        shared: folders of other runs whose finished steps may be used.
    """
    selection.check(recipe)
    plans: dict[tuple[str, StepName], StepPlan] = {}
    rerun: set[str] = set()
    for stage in recipe.stages:
        for step in STEPS:
            if getattr(stage, step) is None:
                continue
            settings = _settings(recipe, stage, step, plans)
            digest = hash_of(settings)
            splits = _splits(recipe, stage, step)
            if selection.covers(recipe, stage.name):
                forced = selection.force or any(name in rerun for name in stage.inputs) or stage.name in rerun
                plan = _decide(stage, step, digest, settings, splits, folder, fingerprints, shared, forced)
                if forced and selection.force:
                    rerun.add(stage.name)
            else:
                plan = _left_out(stage, step, digest, settings, splits, folder, shared)
            plans[stage.name, step] = plan
    return list(plans.values())


def hash_of(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a mapping."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _splits(recipe: Recipe, stage: Stage, step: StepName) -> tuple[str, ...]:
    if step == "fit":
        assert stage.fit is not None
        strong = stage.fit.data.get("strong_split", recipe.data.init_args.get("strong_split"))
        splits = (stage.fit.split, stage.fit.val_split, strong)
        return tuple(dict.fromkeys(split for split in splits if split))
    return tuple(getattr(stage, step).splits)


def _settings(
    recipe: Recipe, stage: Stage, step: StepName, plans: Mapping[tuple[str, StepName], StepPlan]
) -> dict[str, Any]:
    values = {
        key: value for key, value in asdict(getattr(stage, step)).items() if key not in _SPEED_STEP_KEYS
    }
    data = {key: value for key, value in recipe.data.init_args.items() if key not in _SPEED_DATA_KEYS}
    settings: dict[str, Any] = {"step": step, "data": {"class_path": recipe.data.class_path, **data}}
    inputs: dict[str, str] = {}

    def result_of(name: str) -> str:
        made = (plans.get((name, step)) for step in RESULT_STEPS)
        return next(plan.identity for plan in made if plan is not None)

    for role, source in values.pop("inputs", {}).items():
        if source == GROUND_TRUTH:
            inputs[role] = source
        elif is_folder(source):
            inputs[role] = f"folder {folder_identity(source)}"
        else:
            kind = input_kind(role, source, recipe.stages)
            inputs[role] = f"{kind} of {result_of(source_stage(source))}"
    if step == "fit":
        source = values.pop("weights")
        if source is not None:
            inputs["weights"] = plans[source, "fit"].identity if (source, "fit") in plans else source
        data.update({key: value for key, value in values.pop("data").items() if key not in _SPEED_DATA_KEYS})
        settings["data"] = {"class_path": recipe.data.class_path, **data}
        trainer = {**recipe.trainer, **values.pop("trainer")}
        values["trainer"] = {key: value for key, value in trainer.items() if key not in _SPEED_TRAINER_KEYS}
        values["seed"] = recipe.seed
    elif step == "predict":
        assert stage.predict is not None
        if not stage.predict.label_filter:
            del values["label_filter"]  # results from before there was one are still good
        source = stage.predict.weights or stage.name
        inputs["weights"] = plans[source, "fit"].identity if (source, "fit") in plans else source
        settings["data"] = {"class_path": recipe.data.class_path}
    elif step == "cluster":
        assert stage.cluster is not None
        settings["data"] = {"class_path": recipe.data.class_path}
        # unlike maps and masks, a cluster depends on all images that were there
        settings["splits"] = list(stage.cluster.splits)
    elif step == "refine":
        settings["data"] = {"class_path": recipe.data.class_path}
    else:
        assert stage.evaluate is not None
        inputs["result"] = result_of(stage.name)
        settings["splits"] = list(stage.evaluate.splits)
    return {**settings, step: values, "inputs": inputs}


def _decide(
    stage: Stage,
    step: StepName,
    digest: str,
    settings: dict[str, Any],
    splits: tuple[str, ...],
    folder: Path,
    fingerprints: Mapping[str, str] | None,
    shared: Sequence[Path],
    forced: bool,
) -> StepPlan:
    own = StageFolder(folder / stage.name)
    state = own.step(step)
    attempt = state.get("attempt", 0) if state else 0

    def plan(action: Action, reason: str, where: Path = own.path, attempt: int = attempt) -> StepPlan:
        identity = digest if attempt == 0 else f"{digest}+{attempt}"
        return StepPlan(stage.name, step, digest, identity, where, action, reason, splits, settings)

    same = state is not None and state["hash"] == digest
    if forced:
        return plan("run", "forced", attempt=attempt + 1 if same else 0)
    if state is not None and same:
        known = state.get("fingerprints", {})
        changed = changed_splits(known, splits, fingerprints)
        if changed:
            return plan("run", f"images or labels of {', '.join(changed)} changed", attempt=attempt + 1)
        if state["status"] != "done":
            return plan("continue", "was interrupted")
        if added := [split for split in splits if split not in known]:
            return plan("continue", f"adds {', '.join(added)}")
        return plan("reuse", "unchanged")
    for other in shared:
        candidate = StageFolder(other / stage.name)
        found = candidate.step(step)
        if found and found["hash"] == digest and found["status"] == "done":
            known = found.get("fingerprints", {})
            if set(splits) <= set(known) and not changed_splits(known, splits, fingerprints):
                return plan("reuse", f"shared with {other.name}", candidate.path, found.get("attempt", 0))
    if own.has_previous(step, digest):
        return plan("continue", "these settings ran before", attempt=0)
    if state is not None:
        return plan(
            "run", f"changed: {', '.join(changed_keys(state.get('settings', {}), settings))}", attempt=0
        )
    return plan("run", "not run yet", attempt=0)


def _left_out(
    stage: Stage,
    step: StepName,
    digest: str,
    settings: dict[str, Any],
    splits: tuple[str, ...],
    folder: Path,
    shared: Sequence[Path],
) -> StepPlan:
    decided = _decide(stage, step, digest, settings, splits, folder, None, shared, False)
    if decided.action == "reuse":
        return decided
    return StepPlan(
        stage.name,
        step,
        digest,
        decided.identity,
        decided.folder,
        "leave out",
        "not asked for",
        splits,
        settings,
    )


def changed_splits(
    known: Mapping[str, str], splits: Collection[str], fingerprints: Mapping[str, str] | None
) -> list[str]:
    """The splits whose fingerprint differs from the one recorded when they were processed."""
    if fingerprints is None:
        return []
    return [split for split in splits if split in known and known[split] != fingerprints[split]]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    keys: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            keys += changed_keys(left, right, f"{prefix}{key}.")
        elif json.dumps(left, sort_keys=True, default=str) != json.dumps(right, sort_keys=True, default=str):
            keys.append(f"{prefix}{key}")
    return keys


def require_inputs(plans: Sequence[StepPlan], recipe: Recipe) -> None:
    """Raise RecipeError when a step to run reads a stage that is left out and not finished."""
    by_key = {(plan.stage, plan.step): plan for plan in plans}
    for plan in plans:
        if plan.action not in ("run", "continue"):
            continue
        stage = recipe.stage(plan.stage)
        for name in dict.fromkeys((*stage.inputs, stage.name)):
            for step in ("fit", *RESULT_STEPS):
                source = by_key.get((name, step))
                if source is not None and source.action == "leave out":
                    raise RecipeError(
                        f"the stage {plan.stage!r} needs the {step} of {name!r}, which has not been run with "
                        "these settings; run it too (leave out --only or --from)"
                    )
