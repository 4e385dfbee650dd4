"""What steps read of other stages: `inputs: {role: stage}`, or `{role: stage.kind}` for a certain artifact.

A source with a slash is a folder on disk, with one file an image. Checked before anything runs: the stage
stands before, it makes that kind, and the role is understood by who reads it. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, OF_ONE_KIND, ROLES
from wsss_zoo.errors import RecipeError, suggest
from wsss_zoo.pipeline.checking import Mistakes, join
from wsss_zoo.pipeline.signatures import class_attribute, parameters_of, role_parameters

if TYPE_CHECKING:
    from wsss_zoo.pipeline.recipe import ClassSpec, Stage

#: The source of masks that come with the data set.
GROUND_TRUTH = "ground_truth"
#: What a method makes in a `predict` step, by its `kind`; the first is written where nothing is said.
OUTPUTS_OF_KIND: dict[str, tuple[str, ...]] = {
    "localizer": ("maps", "features"),
    "segmenter": ("masks",),
    "refiner": ("masks", "scores"),
    "saliency": ("saliency", "body", "detail"),
}


def is_folder(source: str) -> bool:
    """Whether an input is a folder on disk (`data/saliency/`), not a stage."""
    return "/" in source


def folder_identity(source: str) -> str:
    """What stands for a folder in the hash of a step: SHA-256 of its files' names, sizes and times of change.

    Contents are not read, so that planning stays fast. A copy that keeps the times (`cp -p`, `rsync -a`) is
    the same folder; where it lies does not matter.

    Raises:
        RecipeError: there is no such folder.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise RecipeError(f"there is no folder {source}; name one, or a stage")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    digest = hashlib.sha256()
    for path in files:
        facts = path.stat()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def source_stage(source: str) -> str:
    """The stage that an input names: `seeds` of both `seeds` and `seeds.scores_low`."""
    return source.partition(".")[0]


def input_kind(role: str, source: str, stages: Sequence[Stage]) -> str:
    """The kind of artifact (folder of the stage) that an input reads.

    Args:
        role: the name under which it is read.
        source: `stage` or `stage.kind`.
        stages: the stages of the recipe.

    Raises:
        RecipeError: the stage makes nothing of that kind, or several that would fit.
    """
    name, _, kind = source.partition(".")
    made = made_kinds(next(stage for stage in stages if stage.name == name), stages)
    if kind:
        if kind not in ARTIFACT_KINDS:
            raise RecipeError(f"there is no artifact {kind!r}; {suggest(kind, ARTIFACT_KINDS)}")
        if kind not in made:
            raise RecipeError(f"the stage {name!r} makes {_listed(made)}, no {kind}")
    else:
        fitting = [item for item in made if ARTIFACT_KINDS[item].content == ROLES.get(role)]
        if role in made or (role in ROLES and len(fitting) == 1 and role not in OF_ONE_KIND):
            kind = role if role in made else fitting[0]
        else:
            several = len(fitting) > 1 or role not in ROLES
            which = "several could be meant" if several else "none is meant for it"
            raise RecipeError(f"the stage {name!r} makes {_listed(made)}: {which}; write {name}.<kind>")
    if role in ROLES and ARTIFACT_KINDS[kind].content != ROLES[role]:
        raise RecipeError(f"reads {ROLES[role]}, but {name}.{kind} are {ARTIFACT_KINDS[kind].content}")
    return kind


def made_kinds(stage: Stage, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The kinds of artifacts that a stage writes."""
    if stage.refine is not None:
        return refiner_outputs(stage.refine.refiner)
    if stage.cluster is not None:
        return ("subcategories",)
    if stage.predict is None:
        return ()
    method = predicting_method(stage, stages)
    kind = None if method is None else class_attribute(method.class_path, "kind")
    # of a weights file nothing is known before it is read
    made = stage.predict.outputs or (
        possible_outputs(method)[:1] if kind in OUTPUTS_OF_KIND else tuple(ARTIFACT_KINDS)
    )
    return (*made, "masks_crf") if stage.predict.crf and "masks_crf" not in made else made


def refiner_outputs(refiner: ClassSpec) -> tuple[str, ...]:
    """What a refiner makes: its class attribute `outputs`, without one a mask."""
    return tuple(class_attribute(refiner.class_path, "outputs") or ("masks",))


def possible_outputs(method: ClassSpec | None) -> tuple[str, ...]:
    """What a method can make in a `predict` step: its class attribute `outputs`, without one as its kind."""
    if method is None:
        return ()
    own = class_attribute(method.class_path, "outputs")
    return tuple(own or OUTPUTS_OF_KIND.get(str(class_attribute(method.class_path, "kind")), ()))


def predicting_method(stage: Stage, stages: Sequence[Stage]) -> ClassSpec | None:
    """The method of a stage's `predict`; None where it comes out of a weights file."""
    assert stage.predict is not None
    source = stage.predict.weights or stage.name
    fits = {item.name: item.fit for item in stages if item.fit is not None}
    return fits[source].method if source in fits else None


def check_inputs(
    stage: Stage, earlier: Sequence[Stage], data: ClassSpec | None, prefix: str, mistakes: Mistakes
) -> None:
    """Note every input of a stage that cannot be read.

    Args:
        stage: a stage that is right in itself.
        earlier: the stages before it.
        data: the data module.
        prefix: dotted key of the stage.
        mistakes: receives what is wrong.
    """
    stages = [*earlier, stage]
    names = {item.name: item for item in earlier}
    if stage.fit is not None:
        roles = None if data is None else class_attribute(data.class_path, "roles")
        known = None if roles is None else dict.fromkeys(roles, False)
        key = join(prefix, "fit.inputs")
        _check_roles(stage.fit.inputs, known, data.class_path if data else "the data module", key, mistakes)
        _check_sources(stage.fit.inputs, stages, names, key, mistakes, ground_truth=True)
        _check_k(stage, names, key, mistakes)
        _check_weights(stage.fit.weights, names, join(prefix, "fit.weights"), mistakes)
    if stage.predict is not None:
        _check_predict(stage, stages, names, join(prefix, "predict"), mistakes)
    if stage.cluster is not None:
        clusterer = stage.cluster.clusterer.class_path
        key = join(prefix, "cluster.inputs")
        _check_roles(stage.cluster.inputs, {"features": True}, clusterer, key, mistakes)
        _check_sources(stage.cluster.inputs, stages, names, key, mistakes)
    if stage.refine is not None:
        refiner = stage.refine.refiner.class_path
        key = join(prefix, "refine.inputs")
        _check_roles(stage.refine.inputs, role_parameters(refiner, "__call__"), refiner, key, mistakes)
        _check_sources(stage.refine.inputs, stages, names, key, mistakes)


def _check_predict(
    stage: Stage, stages: Sequence[Stage], names: Mapping[str, Stage], prefix: str, mistakes: Mistakes
) -> None:
    assert stage.predict is not None
    _check_weights(stage.predict.weights, names, join(prefix, "weights"), mistakes)
    method = predicting_method(stage, stages)
    key = join(prefix, "inputs")
    if method is not None:
        known = parameters_of(method.class_path)
        for argument in stage.predict.init_args:
            if argument not in known:
                problem = f"unknown key; {suggest(argument, known)}"
                mistakes.add(join(prefix, f"init_args.{argument}"), problem)
        kind = class_attribute(method.class_path, "kind")
        if kind == "refiner":
            roles = role_parameters(method.class_path, "refine")
            _check_roles(stage.predict.inputs, roles, method.class_path, key, mistakes)
        elif stage.predict.inputs:
            mistakes.add(key, f"{method.class_path} reads images alone; remove it")
        if stage.predict.label_filter and kind != "segmenter":
            problem = f"is for segmenters, the method is a {kind}; remove it"
            mistakes.add(join(prefix, "label_filter"), problem)
        for output in stage.predict.outputs or ():
            possible = possible_outputs(method)
            if output not in possible:
                mistakes.add(join(prefix, "outputs"), f"there is no {output!r}; {suggest(output, possible)}")
            elif output == "features" and role_parameters(method.class_path, "image_features") is None:
                mistakes.add(join(prefix, "outputs"), f"{method.class_path} has no image_features")
    _check_sources(stage.predict.inputs, stages, names, key, mistakes)


def _check_weights(source: str | None, names: Mapping[str, Stage], key: str, mistakes: Mistakes) -> None:
    if source is not None and source in names and names[source].fit is None:
        mistakes.add(key, f"the stage {source!r} trains nothing")
    elif source is not None and "/" not in source and "." not in source and source not in names:
        mistakes.add(key, _unknown_stage(source, names))


def _check_k(stage: Stage, names: Mapping[str, Stage], key: str, mistakes: Mistakes) -> None:
    """The method has as many sub-categories as the clustering that it learns makes."""
    assert stage.fit is not None
    source = names.get(source_stage(stage.fit.inputs.get("subcategories", "")))
    if source is None or source.cluster is None:
        return
    made = source.cluster.clusterer.init_args.get("k")
    learnt = stage.fit.method.init_args.get("k")
    if None not in (made, learnt) and made != learnt:
        mistakes.add(
            join(key, "subcategories"),
            f"the stage {source.name!r} makes k={made} sub-categories of every class, the method has "
            f"k={learnt}; give both the same",
        )


def _check_roles(
    inputs: Mapping[str, str], known: Mapping[str, bool] | None, reader: str, key: str, mistakes: Mistakes
) -> None:
    if known is None:
        return
    for role in inputs:
        if role not in known:
            mistakes.add(join(key, role), f"{reader} reads nothing of that name; {suggest(role, known)}")
    for role, required in known.items():
        if required and role not in inputs:
            mistakes.add(join(key, role), f"is missing; {reader} needs it: name the stage that makes it")


def _check_sources(
    inputs: Mapping[str, str],
    stages: Sequence[Stage],
    names: Mapping[str, Stage],
    key: str,
    mistakes: Mistakes,
    ground_truth: bool = False,
) -> None:
    for role, source in inputs.items():
        name = source_stage(source)
        if is_folder(source):
            _check_folder(role, source, join(key, role), mistakes)
        elif name == GROUND_TRUTH and ground_truth:
            if ROLES.get(role) != "masks":
                mistakes.add(join(key, role), "ground truth is masks; name a stage")
        elif name not in names:
            mistakes.add(join(key, role), _unknown_stage(name, names))
        else:
            try:
                input_kind(role, source, stages)
            except RecipeError as error:
                mistakes.add(join(key, role), str(error))


def _check_folder(role: str, source: str, key: str, mistakes: Mistakes) -> None:
    if role not in ROLES:
        mistakes.add(key, f"what a folder holds follows from the role; {suggest(role, ROLES)}")
    elif not Path(source).is_dir():
        mistakes.add(key, f"there is no folder {source}; name one with a file for each image, or a stage")


def _unknown_stage(name: str, names: Mapping[str, Stage]) -> str:
    return f"reads the stage {name!r}, which does not stand before it; {suggest(name, names)}"


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(kinds) or "nothing that can be read"
