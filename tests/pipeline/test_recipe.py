"""Recipes: finding, extending, overriding, and the answers to mistakes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.recipe import load_recipe
from wsss_zoo.pipeline.recipe_files import (
    apply_override,
    find_recipe,
    list_recipes,
    merge,
    parse_override,
    parse_yaml,
    resolve_extends,
)
from wsss_zoo.pipeline.run import load


def test_every_shipped_recipe_is_valid():
    for name in list_recipes():
        assert load(name).title


def test_bare_names_mean_voc2012_where_several_data_sets_have_the_recipe():
    assert find_recipe("cam")[0] == "voc2012/cam"
    assert find_recipe("minivoc/cam")[0] == "minivoc/cam"


def test_overrides_reach_init_args_without_naming_them():
    recipe = load_recipe("minivoc/cam", ["data.root=/somewhere", "stages.cam.fit.method.lr=1e-3", "seed=4"])
    assert recipe.data.init_args["root"] == "/somewhere"
    assert recipe.stage("cam").fit.method.init_args["lr"] == 1e-3
    assert recipe.seed == 4


def test_a_stage_can_be_taken_out():
    recipe = load_recipe("minivoc/cam", ["stages.deeplab=null"])
    assert [stage.name for stage in recipe.stages] == ["cam", "pseudo_labels"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.cam.fit.method.learning_rate=1",
            r"stages\.cam\.fit\.method\.init_args\.learning_rate: unknown key",
        ),
        ("stages.cam.fit.method.lr=fast", r"lr: expected float, got 'fast'"),
        (
            "stages.cam.predict.scale=[1]",
            r"stages\.cam\.predict\.scale: unknown key; did you mean 'scales'\?",
        ),
        ("stages.cam.fit.trainer.max_epoch=3", r"did you mean 'max_epochs'\?"),
        ("stages.cam.fit.trainer.logger=true", r"trainer\.logger: is set by the runner"),
        ("stages.cam.fit.data.crop_sise=3", r"did you mean 'crop_size'\?"),
        ("data.normalization=x", r"data\.init_args\.normalization: unknown key"),
        ("stages.cam.fit.method.class_path=wsss_zoo.methods.CAMM", r"did you mean 'CAM'\?"),
        ("stages.cam.fit.method.class_path=nowhere.Model", r"cannot import nowhere\.Model"),
        ("stages.deeplab.fit.inputs.masks=pseudo_label", r"did you mean 'pseudo_labels'\?"),
        (
            "stages.pseudo_labels.refine.inputs.maps=deeplab",
            r"reads the stage 'deeplab', which does not stand before",
        ),
        ("stages.cam.predict.splits=[]", r"splits: is empty"),
        ("stages.new.title=x", r"stages\.new: is empty"),
        ("stage.cam=null", r"stage: unknown key; did you mean 'stages'\?"),
    ],
)
def test_mistakes_name_key_expectation_and_nearest_name(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("minivoc/cam", [override])


def test_all_mistakes_are_told_at_once():
    with pytest.raises(RecipeError) as error:
        load_recipe("minivoc/cam", ["stages.cam.fit.method.lr=x", "stages.cam.predict.scale=1", "sed=3"])
    assert len(str(error.value).splitlines()) == 4


@pytest.mark.parametrize("name", ["minivoc/can", "camm", "no/such.yaml"])
def test_unknown_recipe(name):
    with pytest.raises(RecipeError, match="there is no recipe"):
        find_recipe(name)


def test_files_extend_one_another(tmp_path):
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nb: [1]\nm: {class_path: A, init_args: {p: 1}}\n")
    (tmp_path / "child.yaml").write_text(
        "extends: base\na: {y: 3}\nb: [2]\nm: {class_path: B, init_args: {q: 1}}\n"
    )
    assert resolve_extends(tmp_path / "child.yaml") == {
        "a": {"x": 1, "y": 3},
        "b": [2],
        "m": {"class_path": "B", "init_args": {"q": 1}},
    }


def test_a_circle_of_extends_is_told(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(RecipeError, match="in a circle"):
        resolve_extends(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not valid YAML"), ("- 1", "must hold a mapping"), ("a: 1\na: 2", "stands twice")],
)
def test_broken_files(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(tmp_path / "r.yaml"))


def test_yaml_reads_scientific_notation_as_numbers():
    assert parse_yaml("[1e-4, 5E-4, 1.5e3, 1, '1e-4']") == [1e-4, 5e-4, 1500.0, 1, "1e-4"]


_trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abcd"), _trees), st.dictionaries(st.sampled_from("abcd"), _trees))
def test_merging_twice_changes_nothing(base, change):
    merged = merge(base, change)
    assert merge(merged, change) == merged
    assert set(merged) == set(base) | set(change)


@given(st.dictionaries(st.sampled_from("abcd"), _trees), st.integers())
def test_an_override_changes_one_value_of_a_copy(content, value):
    before = repr(content)
    changed = apply_override(content, ["new", "key"], value)
    assert changed["new"] == {"key": value}
    assert {key: item for key, item in changed.items() if key != "new"} == content
    assert repr(content) == before


def test_override_needs_an_equals_sign():
    with pytest.raises(RecipeError, match="key=value"):
        parse_override("seed")


def test_validation_does_not_import_torch():
    code = (
        "import sys; from wsss_zoo.pipeline.run import load; load('minivoc/cam'); load('voc2012/cam');"
        "import wsss_zoo.cli; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
