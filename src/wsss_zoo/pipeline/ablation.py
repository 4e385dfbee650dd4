"""Ablations: one base recipe, named variants of it, stages shared where they do not differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.errors import RecipeError, suggest
from wsss_zoo.pipeline import recipe_files
from wsss_zoo.pipeline.checking import MAPPING, UNCHECKED, Mistakes, Parameter, check_mapping
from wsss_zoo.pipeline.recipe import Recipe, build_recipe


@dataclass(frozen=True)
class Result:
    """Which number of a variant stands in the table."""

    stage: str
    split: str
    artifact: Literal["maps", "masks", "masks_crf"] = "masks"


@dataclass(frozen=True)
class PaperTable:
    """The published column: values in percent by variant, and where they were published."""

    source: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """A checked ablation.

    Attributes:
        variants: name -> the recipe with the variant's overrides.
        result: the number that is compared.
        paper: the published column, if there is one.
    """

    name: str
    title: str
    description: str
    base: str
    variants: dict[str, Recipe]
    result: Result
    paper: PaperTable | None


def is_ablation(content: Mapping[str, Any]) -> bool:
    """Whether a recipe file describes an ablation."""
    return "variants" in content


def load_ablation(name: str, content: Mapping[str, Any], overrides: Sequence[str] = ()) -> Ablation:
    """Check an ablation and build the recipe of every variant.

    Args:
        name: the ablation's name.
        content: its YAML: `base`, `variants` (name -> {dotted key: value}), `result`, `paper`.
        overrides: `key=value` texts that hold for every variant, applied before the variant's own.

    Raises:
        RecipeError: names the wrong keys of the ablation or of a variant.
    """
    mistakes = Mistakes(f"ablation {name}")
    top = check_mapping(
        content,
        {
            "title": Parameter(str),
            "description": Parameter(str),
            "base": Parameter(str, required=True),
            "variants": Parameter(MAPPING, required=True),
            "result": Parameter(UNCHECKED, required=True),
            "paper": Parameter(UNCHECKED),
        },
        "",
        mistakes,
    )
    result = check_mapping(
        top.get("result"),
        {
            "stage": Parameter(str, required=True),
            "split": Parameter(str, required=True),
            "artifact": Parameter(Literal["maps", "masks", "masks_crf"]),
        },
        "result",
        mistakes,
    )
    paper = None
    if top.get("paper") is not None:
        block = check_mapping(
            top["paper"],
            {"source": Parameter(str, required=True), "values": Parameter(dict[str, float], required=True)},
            "paper",
            mistakes,
        )
        for key in block.get("values", {}):
            if key not in top.get("variants", {}):
                mistakes.add(f"paper.values.{key}", f"is no variant; {suggest(key, top.get('variants', {}))}")
        if {"source", "values"} <= block.keys():
            paper = PaperTable(**block)
    if "variants" in top and len(top["variants"]) < 2:
        mistakes.add("variants", f"there are {len(top['variants'])}; an ablation compares two or more")
    mistakes.raise_if_any()
    _, base_path = recipe_files.find_recipe(top["base"])
    base = recipe_files.resolve_extends(base_path)
    for override in overrides:
        base = recipe_files.apply_override(base, *recipe_files.parse_override(override))
    ablation = Ablation(
        name=name,
        title=top.get("title", name),
        description=top.get("description", ""),
        base=recipe_files.find_recipe(top["base"])[0],
        variants={
            variant: _variant(name, variant, base, changes, result["stage"])
            for variant, changes in top["variants"].items()
        },
        result=Result(**result),
        paper=paper,
    )
    return ablation


def _variant(name: str, variant: str, base: dict[str, Any], changes: Any, result_stage: str) -> Recipe:
    source = f"variant {variant!r} of the ablation {name}"
    if changes is not None and not isinstance(changes, Mapping):
        raise RecipeError(f"{source}: expected overrides (dotted key: value), got {changes!r}")
    content = base
    for key, value in (changes or {}).items():
        content = recipe_files.apply_override(content, str(key).split("."), value)
    recipe = build_recipe(f"{name}/{variant}", content, source)
    needed = _needed(recipe, result_stage)
    content = {**content, "stages": {k: v for k, v in content["stages"].items() if k in needed}}
    return build_recipe(f"{name}/{variant}", content, source)


def _needed(recipe: Recipe, stage: str) -> set[str]:
    """A stage and everything it reads."""
    names = {stage}
    for name in recipe.stage(stage).inputs:
        names |= _needed(recipe, name)
    return names


def run_ablation(ablation: Ablation, output_dir: Path, **options: Any) -> dict[str, Any]:
    """Run every variant and set the table beside the paper's.

    Args:
        ablation: the checked ablation.
        output_dir: the folder of all runs; variants go to `<output_dir>/<ablation>/<variant>`.
        **options: passed to `run_stages`.

    Returns:
        The content of the ablation's `metrics.json`.
    """
    from wsss_zoo.artifacts.files import write_json
    from wsss_zoo.pipeline.ranks import is_first_rank
    from wsss_zoo.pipeline.runner import run_stages
    from wsss_zoo.tracking.report import write_comparison

    folder = output_dir / ablation.name
    folders = {name: folder / name for name in ablation.variants}
    rows = []
    for name, recipe in ablation.variants.items():
        others = [output_dir / ablation.base, *(path for other, path in folders.items() if other != name)]
        metrics = run_stages(recipe, folders[name], shared=others, **options)
        wanted = ablation.result
        for row in metrics.get("rows", []):
            if (row["stage"], row["split"], row["artifact"]) == (wanted.stage, wanted.split, wanted.artifact):
                published = ablation.paper.values.get(name) if ablation.paper else None
                rows.append({"variant": name, "paper": published, **row})
    summary = {
        "recipe": ablation.name,
        "title": ablation.title,
        "description": ablation.description,
        "ablation": {
            "result": ablation.result.__dict__,
            "source": ablation.paper.source if ablation.paper else None,
        },
        "rows": rows,
    }
    if not is_first_rank():
        return {}
    write_json(folder / "metrics.json", summary)
    write_comparison(list(folders.values()), folder / "report.html")
    return summary
