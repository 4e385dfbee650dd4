"""Ablations: variants share what does not differ, and stand beside the paper."""

from __future__ import annotations

import json

import pytest

from wsss_zoo import run_recipe
from wsss_zoo.errors import RecipeError
from wsss_zoo.pipeline.ablation import load_ablation
from wsss_zoo.pipeline.plan import Selection
from wsss_zoo.pipeline.run import dry_run, load

ABLATION = """
title: background score
base: {base}
variants:
  low: {{stages.pseudo_labels.refine.refiner.value: 0.1}}
  high: {{stages.pseudo_labels.refine.refiner.value: 0.8}}
result: {{stage: pseudo_labels, split: train}}
paper:
  source: Table 1 of a paper
  values: {{low: 12.5}}
"""


@pytest.fixture
def ablation(tmp_path, small_recipe):
    path = tmp_path / "background.yaml"
    path.write_text(ABLATION.format(base=small_recipe))
    return path


def test_variants_share_the_classifier_and_the_paper_stands_beside(ablation, tmp_path, capsys):
    metrics = run_recipe(str(ablation), output_dir=tmp_path / "runs", wandb="off")
    assert [(row["variant"], row["paper"]) for row in metrics["rows"]] == [("low", 12.5), ("high", None)]
    assert metrics["rows"][0]["value"] != metrics["rows"][1]["value"]
    assert metrics["rows"][0]["spread"] is None
    folder = tmp_path / "runs" / "background"
    assert (folder / "low" / "cam" / "maps").is_dir()
    assert not (folder / "high" / "cam").exists()
    assert not (folder / "low" / "deeplab").exists()
    assert "Table 1 of a paper" in (folder / "report.html").read_text()
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    plans = dry_run(load(str(ablation)), tmp_path / "runs", Selection())
    assert {plan.action for steps in plans.values() for plan in steps} == {"reuse"}
    from wsss_zoo.pipeline.console import print_run

    print_run(metrics, folder)
    assert "12.5" in capsys.readouterr().out


def test_seeds_give_a_mean_and_its_spread_and_a_variant_may_be_scored_elsewhere(
    small_recipe, tmp_path, capsys
):
    path = tmp_path / "spread.yaml"
    path.write_text(
        f"title: spread\nbase: {small_recipe}\nseeds: [3, 4]\n"
        "variants:\n"
        "  maps: {result: {stage: cam, split: val, artifact: maps, metric: fixed_miou}}\n"
        "  masks: {}\n"
        "result: {stage: pseudo_labels, split: train}\n"
    )
    metrics = run_recipe(str(path), output_dir=tmp_path / "runs", wandb="off")
    maps, masks = metrics["rows"]
    assert maps["runs"] == ["maps-seed3", "maps-seed4"]
    assert (maps["metric"], maps["artifact"], maps["stage"]) == ("fixed_miou", "maps", "cam")
    for row in (maps, masks):
        assert len(row["values"]) == 2
        assert row["value"] == pytest.approx(sum(row["values"]) / 2)
        assert row["spread"] == pytest.approx(abs(row["values"][0] - row["values"][1]) / 2**0.5)
    folder = tmp_path / "runs" / "spread"
    stage = json.loads((folder / "maps-seed4" / "cam" / "stage.json").read_text())
    assert stage["steps"]["fit"]["seed"] == 4
    assert not (folder / "masks-seed4" / "cam").exists()  # shared with the maps of this seed
    scored = json.loads((folder / "maps-seed3" / "metrics.json").read_text())["rows"]
    fixed = [row["details"]["fixed_miou"] for row in scored if row["split"] == "val"]
    assert fixed == [maps["values"][0]]
    from wsss_zoo.pipeline.console import print_run

    print_run(metrics, folder)
    assert "(2 seeds)" in capsys.readouterr().out
    assert "2 seeds" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": {}}, "variants: there are 0"),
        ({"variants": {"low": {}}, "paper": None}, "variants: there are 1"),
        ({"paper": {"source": "x", "values": {"lo": 1.0}}}, r"did you mean 'low'\?"),
        ({"result": {"stage": "pseudo_labels"}}, r"result\.split: is missing"),
        (
            {"variants": {"low": {"stages.cam.fit.method.lrr": 1}, "b": {}}},
            r"variant 'low' .*lrr: unknown key",
        ),
        ({"variants": {"low": 3, "b": {}}}, "expected overrides"),
        ({"results": {}}, r"did you mean 'result'\?"),
        ({"seeds": [1, 1]}, r"seeds: expected one or more different seeds"),
        ({"seeds": []}, r"seeds: expected one or more different seeds"),
        (
            {"variants": {"low": {"result": {"stage": "cam"}}, "b": {}}},
            r"variants\.low\.result\.split: is missing",
        ),
    ],
)
def test_mistakes(small_recipe, change, message):
    content = {
        "base": str(small_recipe),
        "variants": {"low": {}, "high": {}},
        "result": {"stage": "pseudo_labels", "split": "train"},
        **change,
    }
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        load_ablation("a", content)


def test_overrides_choose_another_base_and_other_seeds(ablation, tmp_path, small_recipe):
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {small_recipe}\ntitle: other\n")
    loaded = load(str(ablation), [f"base={other}", "seeds=[1, 2]", "data.flip=0.25"])
    assert loaded.base == "other"
    assert list(loaded.runs) == ["low-seed1", "low-seed2", "high-seed1", "high-seed2"]
    assert {recipe.seed for recipe in loaded.runs.values()} == {1, 2}
    assert {recipe.data.init_args["flip"] for recipe in loaded.runs.values()} == {0.25}
    with pytest.raises(RecipeError, match=r"seeds: expected .*list"):
        load(str(ablation), ["seeds=1"])
