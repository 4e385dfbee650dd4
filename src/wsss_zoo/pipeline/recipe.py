"""The recipe: what is run, on which data, stage by stage. Checked whole before anything runs.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.errors import RecipeError, suggest
from wsss_zoo.pipeline import recipe_files
from wsss_zoo.pipeline.checking import MAPPING, UNCHECKED, Mistakes, Parameter, check_mapping, join
from wsss_zoo.pipeline.inputs import GROUND_TRUTH, check_inputs, is_folder, source_stage
from wsss_zoo.pipeline.signatures import parameters_of, trainer_parameters

#: Arguments of the Trainer that belong to the runner: a recipe that gives one is refused.
RUNNER_TRAINER_KEYS = ("logger", "default_root_dir", "callbacks", "enable_checkpointing")
#: What the pipeline hands to a data module itself, from the stage and from the method.
LINKED_DATA_KEYS = ("train_split", "val_split", "inputs", "normalization")


@dataclass(frozen=True)
class ClassSpec:
    """A class and its keyword arguments, as in LightningCLI."""

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """Train a method.

    Attributes:
        method: the LightningModule. `num_classes` is taken from the data where it is not given.
        split: training images.
        val_split: images of the validation loop, null for none.
        weights: what the whole network starts from: a stage that trained the same one, or a weights file;
            null for the initial weights of the method (its backbone's are `init_args.backbone_weights`).
        inputs: what samples hold besides image and labels, role -> source. `masks: pseudo_labels` trains on
            the masks of that stage, `masks: deeplab.masks_crf` on a certain kind of them,
            `masks: ground_truth` on the data set's own. Roles are the data module's.
        data: changes of the data module's arguments for this stage (batch_size, crop_size, ...).
        trainer: arguments of `lightning.Trainer`, over the recipe's own `trainer`.
    """

    method: ClassSpec
    split: str = "train"
    val_split: str | None = None
    weights: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Predict:
    """Run a trained method over splits; writes localization maps, masks or saliency, one file an image.

    Attributes:
        splits: images to predict.
        weights: the stage that trained the method (default: this stage), or a weights file.
        init_args: hyper-parameters of the method changed for inference; nothing is trained again.
        inputs: what a method that refines others' results reads, role -> stage (or stage.kind).
        outputs: kinds of artifacts to write, where the method makes several: `masks` and `scores` of a
            refining method, `saliency`, `body` and `detail` of LDF, `maps` and `features` (of the whole
            image, at the original size) of a localizer that has `image_features`, `maps` and `maps_max` of
            FickleNet. Default: the first.
        scales: factors of the image size, averaged.
        flip: average with the mirrored image at every scale.
        average: what a segmenter averages over scales: softmax probabilities or logits; `logit_sum` adds
            the logits up instead (DSRG).
        label_filter: segmenters only: classes that the image-level label does not name are left out before
            the dense CRF and the argmax. For pseudo labels of training images, never for scores on others.
        image_labels: localizers only: maps of the classes in the image-level label. If false, of the
            classes that the network itself scores above 0.5.
        stride: localization maps are stored at this stride of the image, in half precision (FickleNet's on
            the grid that they were made on).
        crf: for masks: parameter set of a dense CRF; its masks are written beside the plain ones.
        crf_workers: threads of the dense CRF.
    """

    splits: tuple[str, ...]
    weights: str | None = None
    init_args: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    average: Literal["probabilities", "logits", "logit_sum"] = "probabilities"
    label_filter: bool = False
    image_labels: bool = True
    stride: int = 4
    crf: str | None = None
    crf_workers: int = 2


@dataclass(frozen=True)
class Cluster:
    """Split every class into sub-categories by image features.

    Attributes:
        inputs: `features: <stage>`, a stage whose `predict` writes them.
        splits: images that are clustered together.
        clusterer: a class whose instances have `k`, the sub-categories of every class, and are called with
            (features, labels), arrays with one row an image.
    """

    inputs: dict[str, str]
    splits: tuple[str, ...]
    clusterer: ClassSpec


@dataclass(frozen=True)
class Refine:
    """Turn results of other stages into pseudo labels, image by image.

    Attributes:
        inputs: what is refined, role -> stage (or stage.kind); roles are what the refiner is called with.
        splits: images to refine.
        refiner: a class whose instances are called with (image, role=artifact, ...) and return a mask, or
            artifacts by kind.
        workers: processes.
    """

    inputs: dict[str, str]
    splits: tuple[str, ...]
    refiner: ClassSpec
    workers: int = 2


@dataclass(frozen=True)
class Evaluate:
    """Score what this stage made against ground truth.

    Attributes:
        splits: images to score.
        threshold: fixed background threshold of localization maps (the oracle one is searched besides).
        thresholds: first, last and step of the searched thresholds (default: the field's 0.00 to 0.59).
    """

    splits: tuple[str, ...]
    threshold: float = 0.2
    thresholds: tuple[float, float, float] = (0.0, 0.59, 0.01)


@dataclass(frozen=True)
class Stage:
    """One node of a recipe: `fit` and/or `predict`, `cluster` or `refine`, and/or `evaluate`, in order."""

    name: str
    title: str
    fit: Fit | None = None
    predict: Predict | None = None
    cluster: Cluster | None = None
    refine: Refine | None = None
    evaluate: Evaluate | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the stages whose results this stage reads."""
        sources = [source for step in self.reading_steps for source in step.inputs.values()]
        stages = [source for source in sources if source != GROUND_TRUTH and not is_folder(source)]
        names = [source_stage(source) for source in stages]
        for step in (self.fit, self.predict):
            weights = step.weights if step is not None else None
            if weights is not None and not _is_file(weights):
                names.append(weights)
        return tuple(dict.fromkeys(names))

    @property
    def reading_steps(self) -> tuple[Fit | Predict | Cluster | Refine, ...]:
        """The steps that have `inputs`."""
        steps = (self.fit, self.predict, self.cluster, self.refine)
        return tuple(step for step in steps if step is not None)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: `minivoc/cam`; also the folder below the output folder.
        data: the data module of all stages.
        stages: in the order in which they run.
        trainer: arguments of `lightning.Trainer` for every stage.
        seed: seeds data order, augmentation, initial weights and dropout.
        content: the resolved YAML, as written to the run folder.
    """

    name: str
    title: str
    description: str
    data: ClassSpec
    stages: tuple[Stage, ...]
    trainer: dict[str, Any]
    seed: int
    content: dict[str, Any]

    def stage(self, name: str) -> Stage:
        """The stage of that name; RecipeError with the nearest name if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise RecipeError(f"the recipe {self.name} has no stage {name!r}; {suggest(name, names)}")


def _is_file(weights: str) -> bool:
    return "/" in weights or Path(weights).suffix != ""


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Find, read and check a recipe.

    Args:
        name_or_path: see `find_recipe`.
        overrides: `key=value` texts, applied in order.

    Raises:
        RecipeError: names every wrong key with what was expected, what was given and the nearest valid name.
    """
    name, path = recipe_files.find_recipe(name_or_path)
    content = recipe_files.resolve_extends(path)
    if "variants" in content:
        raise RecipeError(f"{name} is an ablation (it has variants), not a single recipe")
    for override in overrides:
        content = recipe_files.apply_override(content, *recipe_files.parse_override(override))
    return build_recipe(name, content, source=f"recipe {name}")


def build_recipe(name: str, content: Mapping[str, Any], source: str) -> Recipe:
    """Check a resolved mapping and build the recipe; `source` names it in messages."""
    mistakes = Mistakes(source)
    top = check_mapping(
        content,
        {
            "title": Parameter(str),
            "description": Parameter(str),
            "seed": Parameter(int),
            "data": Parameter(UNCHECKED, required=True),
            "trainer": Parameter(UNCHECKED),
            "stages": Parameter(MAPPING, required=True),
        },
        "",
        mistakes,
    )
    data = _check_class(top.get("data"), "data", mistakes, linked=LINKED_DATA_KEYS) if "data" in top else None
    trainer = _check_trainer(top.get("trainer"), "trainer", mistakes)
    stages: list[Stage] = []
    for stage_name, block in top.get("stages", {}).items():
        if block is None:
            continue  # a stage of the extended recipe, taken out with `name: null`
        prefix = f"stages.{stage_name}"
        before = len(mistakes.lines)
        stage = _check_stage(stage_name, block, prefix, data, mistakes)
        if stage is None:
            continue
        if len(mistakes.lines) == before:
            check_inputs(stage, stages, data, prefix, mistakes)
        stages.append(stage)
    if not stages and not mistakes.lines:
        mistakes.add("stages", "there is none; a recipe needs at least one stage")
    mistakes.raise_if_any()
    assert data is not None
    return Recipe(
        name=name,
        title=top.get("title", name),
        description=top.get("description", ""),
        data=data,
        stages=tuple(stages),
        trainer=trainer,
        seed=top.get("seed", 0),
        content=dict(content),
    )


def _field_parameters(cls: type) -> dict[str, Parameter]:
    hints = typing.get_type_hints(cls)
    parameters = {}
    for item in dataclasses.fields(cls):
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        annotation = UNCHECKED if hints[item.name] is ClassSpec else hints[item.name]
        parameters[item.name] = Parameter(annotation, required)
    return parameters


def _check_class(value: Any, prefix: str, mistakes: Mistakes, linked: Sequence[str] = ()) -> ClassSpec | None:
    """A class_path with its init_args; `linked` arguments are set by the pipeline and refused here."""
    block = check_mapping(
        value,
        {"class_path": Parameter(str, required=True), "init_args": Parameter(UNCHECKED)},
        prefix,
        mistakes,
    )
    if "class_path" not in block:
        return None
    try:
        parameters = parameters_of(block["class_path"])
    except RecipeError as error:
        mistakes.add(join(prefix, "class_path"), str(error))
        return None
    allowed = {key: item for key, item in parameters.items() if key not in linked}
    arguments = check_mapping(block.get("init_args"), allowed, join(prefix, "init_args"), mistakes)
    return ClassSpec(block["class_path"], arguments)


def _check_trainer(value: Any, prefix: str, mistakes: Mistakes) -> dict[str, Any]:
    checked = check_mapping(value, trainer_parameters(), prefix, mistakes)
    for key in RUNNER_TRAINER_KEYS:
        if checked.pop(key, None) is not None:
            mistakes.add(
                join(prefix, key), "is set by the runner (checkpoints and logs of a stage); remove it"
            )
    return checked


def _check_stage(
    name: str, block: Any, prefix: str, data: ClassSpec | None, mistakes: Mistakes
) -> Stage | None:
    keys = ("fit", "predict", "cluster", "refine", "evaluate")
    checked = check_mapping(
        block, {"title": Parameter(str), **{key: Parameter() for key in keys}}, prefix, mistakes
    )
    checked = {key: _without_removed_inputs(value) for key, value in checked.items()}
    present = [key for key in keys if checked.get(key) is not None]
    if not present:
        mistakes.add(prefix, "is empty; a stage has fit, predict, cluster, refine or evaluate")
        return None
    making = [key for key in ("predict", "cluster", "refine") if key in present]
    if len(making) > 1:
        mistakes.add(
            prefix, f"has {' and '.join(making)}; each makes one kind of result: use {len(making)} stages"
        )
    fit = predict = cluster = refine = evaluate = None
    if "fit" in present:
        fit = _check_fit(checked["fit"], join(prefix, "fit"), data, mistakes)
    if "predict" in present:
        arguments = check_mapping(
            checked["predict"], _field_parameters(Predict), join(prefix, "predict"), mistakes
        )
        predict = Predict(**arguments) if "splits" in arguments else None
        if predict is not None and predict.weights is None and "fit" not in present:
            mistakes.add(
                join(prefix, "predict.weights"), "is missing; name the stage that trained the method"
            )
    if "cluster" in present:
        arguments = check_mapping(
            checked["cluster"], _field_parameters(Cluster), join(prefix, "cluster"), mistakes
        )
        clusterer = _check_class(arguments.get("clusterer"), join(prefix, "cluster.clusterer"), mistakes)
        if clusterer is not None and {"inputs", "splits"} <= arguments.keys():
            cluster = Cluster(**{**arguments, "clusterer": clusterer})
    if "refine" in present:
        arguments = check_mapping(
            checked["refine"], _field_parameters(Refine), join(prefix, "refine"), mistakes
        )
        refiner = _check_class(arguments.get("refiner"), join(prefix, "refine.refiner"), mistakes)
        if refiner is not None and {"inputs", "splits"} <= arguments.keys():
            refine = Refine(**{**arguments, "refiner": refiner})
    if "evaluate" in present:
        arguments = check_mapping(
            checked["evaluate"], _field_parameters(Evaluate), join(prefix, "evaluate"), mistakes
        )
        evaluate = Evaluate(**arguments) if "splits" in arguments else None
        if not {"predict", "refine"} & set(present):
            mistakes.add(
                join(prefix, "evaluate"), "has nothing to score: the stage neither predicts nor refines"
            )
    for key, step in (
        ("predict", predict),
        ("cluster", cluster),
        ("refine", refine),
        ("evaluate", evaluate),
    ):
        if step is not None and not step.splits:
            mistakes.add(join(prefix, f"{key}.splits"), "is empty; name at least one split")
    return Stage(name, checked.get("title", name), fit, predict, cluster, refine, evaluate)


def _without_removed_inputs(step: Any) -> Any:
    """A step without the inputs that a recipe took out of the one it extends (`role: null`)."""
    if not isinstance(step, Mapping) or not isinstance(step.get("inputs"), Mapping):
        return step
    return {**step, "inputs": {role: item for role, item in step["inputs"].items() if item is not None}}


def _check_fit(value: Any, prefix: str, data: ClassSpec | None, mistakes: Mistakes) -> Fit | None:
    arguments = check_mapping(value, _field_parameters(Fit), prefix, mistakes)
    method = _check_class(arguments.get("method"), join(prefix, "method"), mistakes)
    if data is not None:
        allowed = {
            key: item for key, item in parameters_of(data.class_path).items() if key not in LINKED_DATA_KEYS
        }
        allowed = {key: Parameter(item.type) for key, item in allowed.items()}
        arguments["data"] = check_mapping(arguments.get("data"), allowed, join(prefix, "data"), mistakes)
    arguments["trainer"] = _check_trainer(arguments.get("trainer"), join(prefix, "trainer"), mistakes)
    return Fit(**{**arguments, "method": method}) if method is not None else None
