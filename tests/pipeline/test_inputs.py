"""What a stage may read of another, told before anything runs."""

from __future__ import annotations

import pytest

from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.inputs import input_kind, made_kinds
from wsss_zoo.pipeline.recipe import load_recipe


class OwnRefiner:
    """Joins masks; a class outside the package."""

    outputs = ("masks", "scores")

    def __call__(self, image, *, before, after, hint=None):
        """Not called: only its signature is read."""


OWN = f"{__name__}.OwnRefiner"
REFINE = "stages.joined={refine: {splits: [train], refiner: {class_path: " + OWN + "}, inputs: %s}}"


def joined(inputs: str):
    return load_recipe("minivoc/cam", [REFINE % inputs])


def test_a_stage_makes_what_its_method_makes():
    recipe = load_recipe("minivoc/cam", ["stages.deeplab.predict.crf=deeplab_v2"])
    made = {stage.name: made_kinds(stage, recipe.stages) for stage in recipe.stages}
    assert made == {"cam": ("maps",), "pseudo_labels": ("masks",), "deeplab": ("masks", "masks_crf")}


def test_the_kind_follows_from_the_role_or_is_named():
    recipe = joined("{before: pseudo_labels, after: pseudo_labels.masks}")
    assert recipe.stage("joined").inputs == ("pseudo_labels",)
    assert input_kind("before", "pseudo_labels", recipe.stages) == "masks"
    assert input_kind("masks", "joined", recipe.stages) == "masks"
    assert input_kind("anything", "joined.scores", recipe.stages) == "scores"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{before: pseudo_labels}", r"inputs\.after: is missing; .*OwnRefiner needs it"),
        ("{before: pseudo_labels, after: cam}", r"inputs\.after: the stage 'cam' makes maps: none is meant"),
        (
            "{before: pseudo_labels, after: cam.maps}",
            r"after: reads masks, but cam\.maps are localization maps",
        ),
        ("{before: pseudo_labels, after: pseudo_labels.scores}", r"makes masks, no scores"),
        ("{before: pseudo_labels, after: pseudo_labels.mask}", r"no artifact 'mask'; did you mean 'masks'"),
        ("{before: pseudo_labels, after: later}", r"'later', which does not stand before it"),
        ("{before: pseudo_labels, after: ground_truth}", r"'ground_truth', which does not stand before"),
        (
            "{before: pseudo_labels, after: pseudo_labels, hints: pseudo_labels}",
            r"inputs\.hints: .*reads nothing of that name; did you mean 'hint'",
        ),
        ("{before: pseudo_labels, after: pseudo_labels, hint: deeplab}", r"several could be meant"),
    ],
)
def test_inputs_that_cannot_be_read(inputs, message):
    overrides = [REFINE % inputs]
    if "hint:" in inputs:
        overrides.insert(0, "stages.deeplab.predict.crf=deeplab_v2")
    with pytest.raises(RecipeError, match=message):
        load_recipe("minivoc/cam", overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.deeplab.fit.inputs.mask=pseudo_labels", r"fit\.inputs\.mask: .*did you mean 'masks'"),
        ("stages.deeplab.fit.inputs.saliency=ground_truth", r"ground truth is masks; name a stage"),
        (
            "stages.deeplab.predict.init_args.lr_=1",
            r"predict\.init_args\.lr_: unknown key; did you mean 'lr'",
        ),
        ("stages.deeplab.predict.inputs={maps: cam}", r"reads images alone; remove it"),
        ("stages.deeplab.predict.outputs=[maps]", r"predict\.outputs: there is no 'maps'"),
        (
            "stages.deeplab.predict.weights=camm",
            r"'camm', which does not stand before it; did you mean 'cam'",
        ),
        ("stages.deeplab.predict.weights=pseudo_labels", r"the stage 'pseudo_labels' trains nothing"),
    ],
)
def test_steps_that_cannot_be_run(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("minivoc/cam", [override])
