"""Ablations: one base recipe, named variants of it, stages shared where they do not differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.errors import RecipeError, suggest
from wsss_zoo.pipeline import recipe_files
from wsss_zoo.pipeline.checking import MAPPING, UNCHECKED, Mistakes, Parameter, check_mapping
from wsss_zoo.pipeline.recipe import Recipe, build_recipe

#: Keys of an ablation that overrides may change; all others belong to its recipes.
_ABLATION_KEYS = ("base", "seeds", "result")


@dataclass(frozen=True)
class Result:
    """Which number of a variant stands in the table.

    Attributes:
        stage: the stage that is scored.
        split: on which images.
        artifact: which of its results.
        metric: `miou` (of localization maps: at their best threshold), `fixed_miou`, `pxap`, or of saliency
            maps `mae`, `adp_f`, ... (see `metrics.SaliencyMetrics`).
    """

    stage: str
    split: str
    artifact: Literal["maps", "masks", "masks_crf", "saliency"] = "masks"
    metric: str = "miou"


@dataclass(frozen=True)
class PaperTable:
    """The published column: values in percent by variant, and where they were published."""

    source: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        result: the number that is compared.
        runs: name of the run's folder -> the recipe with the variant's overrides; one run a seed.
    """

    result: Result
    runs: dict[str, Recipe]


@dataclass(frozen=True)
class Ablation:
    """A checked ablation.

    Attributes:
        variants: name -> what is run for it.
        paper: the published column, if there is one.
    """

    name: str
    title: str
    description: str
    base: str
    variants: dict[str, Variant]
    paper: PaperTable | None

    @property
    def runs(self) -> dict[str, Recipe]:
        """Name of the run's folder -> recipe, over all variants and seeds."""
        return {name: recipe for variant in self.variants.values() for name, recipe in variant.runs.items()}


def is_ablation(content: Mapping[str, Any]) -> bool:
    """Whether a recipe file describes an ablation."""
    return "variants" in content


def load_ablation(name: str, content: Mapping[str, Any], overrides: Sequence[str] = ()) -> Ablation:
    """Check an ablation and build the recipe of every variant.

    Args:
        name: the ablation's name.
        content: its YAML: `base`, `variants` (name -> {dotted key: value}; its key `result` names another
            number for this variant), `result`, `paper`, and `seeds`, for a mean and its spread.
        overrides: `key=value` texts that hold for every variant, applied before the variant's own; those of
            `base`, `seeds` and `result` change the ablation: its table for another recipe, or other seeds.

    Raises:
        RecipeError: names the wrong keys of the ablation or of a variant.
    """
    mistakes = Mistakes(f"ablation {name}")
    changes_of_recipes = []
    for keys, value in map(recipe_files.parse_override, overrides):
        if keys[0] in _ABLATION_KEYS:
            content = recipe_files.apply_override(dict(content), keys, value)
        else:
            changes_of_recipes.append((keys, value))
    top = check_mapping(
        content,
        {
            "title": Parameter(str),
            "description": Parameter(str),
            "base": Parameter(str, required=True),
            "variants": Parameter(MAPPING, required=True),
            "seeds": Parameter(list[int]),
            "result": Parameter(UNCHECKED, required=True),
            "paper": Parameter(UNCHECKED),
        },
        "",
        mistakes,
    )
    result = _check_result(top.get("result"), "result", mistakes)
    overrides_of = {
        variant: dict(changes or {}) for variant, changes in _mappings(name, top.get("variants", {}))
    }
    results = {
        variant: _check_result(changes.pop("result"), f"variants.{variant}.result", mistakes)
        if "result" in changes
        else result
        for variant, changes in overrides_of.items()
    }
    seeds = top.get("seeds")
    if seeds is not None and len(set(seeds)) != max(1, len(seeds)):
        mistakes.add("seeds", f"expected one or more different seeds, got {seeds}")
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
    for keys, value in changes_of_recipes:
        base = recipe_files.apply_override(base, keys, value)
    variants = {}
    for variant, changes in overrides_of.items():
        runs = {variant: changes}
        if seeds is not None:
            runs = {f"{variant}-seed{seed}": {**changes, "seed": seed} for seed in seeds}
        wanted = Result(**results[variant])
        recipes = {run: _recipe(name, run, base, values, wanted.stage) for run, values in runs.items()}
        variants[variant] = Variant(wanted, recipes)
    return Ablation(
        name=name,
        title=top.get("title", name),
        description=top.get("description", ""),
        base=recipe_files.find_recipe(top["base"])[0],
        variants=variants,
        paper=paper,
    )


def _mappings(name: str, variants: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for variant, changes in variants.items():
        if changes is not None and not isinstance(changes, Mapping):
            raise RecipeError(
                f"variant {variant!r} of the ablation {name}: expected overrides (dotted key: value), got "
                f"{changes!r}"
            )
        yield variant, changes


def _check_result(value: Any, prefix: str, mistakes: Mistakes) -> dict[str, Any]:
    return check_mapping(
        value,
        {
            "stage": Parameter(str, required=True),
            "split": Parameter(str, required=True),
            "artifact": Parameter(Literal["maps", "masks", "masks_crf", "saliency"]),
            "metric": Parameter(str),
        },
        prefix,
        mistakes,
    )


def _recipe(
    name: str, run: str, base: dict[str, Any], changes: Mapping[str, Any], result_stage: str
) -> Recipe:
    source = f"variant {run!r} of the ablation {name}"
    content = base
    for key, value in changes.items():
        content = recipe_files.apply_override(content, str(key).split("."), value)
    recipe = build_recipe(f"{name}/{run}", content, source)
    needed = _needed(recipe, result_stage)
    content = {**content, "stages": {k: v for k, v in content["stages"].items() if k in needed}}
    return build_recipe(f"{name}/{run}", content, source)


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
        output_dir: the folder of all runs; variants go to `<output_dir>/<ablation>/<variant>`, with several
            seeds to `<variant>-seed<seed>`.
        **options: passed to `run_stages`.

    Returns:
        The content of the ablation's `metrics.json`. `rows` has one entry a variant: `value`, the mean over
        seeds; `spread`, their standard deviation (None for one seed); `values` and `runs`, one a seed.
    """
    from wsss_zoo.artifacts.files import write_json
    from wsss_zoo.pipeline.ranks import is_first_rank
    from wsss_zoo.pipeline.runner import run_stages
    from wsss_zoo.tracking.report import write_comparison

    folder = output_dir / ablation.name
    folders = {name: folder / name for name in ablation.runs}
    rows = []
    for name, variant in ablation.variants.items():
        values = []
        for run, recipe in variant.runs.items():
            others = [output_dir / ablation.base, *(path for other, path in folders.items() if other != run)]
            metrics = run_stages(recipe, folders[run], shared=others, **options)
            values += [
                _value(row, variant.result) for row in metrics.get("rows", []) if _is(row, variant.result)
            ]
        numbers = [value for value in values if value is not None]
        rows.append(
            {
                "variant": name,
                "paper": ablation.paper.values.get(name) if ablation.paper else None,
                "value": statistics.fmean(numbers) if numbers else None,
                "spread": statistics.stdev(numbers) if len(numbers) > 1 else None,
                "values": values,
                "runs": list(variant.runs),
                **asdict(variant.result),
            }
        )
    summary = {
        "recipe": ablation.name,
        "title": ablation.title,
        "description": ablation.description,
        "ablation": {
            "source": ablation.paper.source if ablation.paper else None,
        },
        "rows": rows,
    }
    if not is_first_rank():
        return {}
    write_json(folder / "metrics.json", summary)
    write_comparison(list(folders.values()), folder / "report.html")
    return summary


def _is(row: Mapping[str, Any], wanted: Result) -> bool:
    return (row["stage"], row["split"], row["artifact"]) == (wanted.stage, wanted.split, wanted.artifact)


def _value(row: Mapping[str, Any], wanted: Result) -> float | None:
    """The compared number of a row of `metrics.json`.

    Raises:
        RecipeError: the row has no such number.
    """
    numbers = {"miou": row["miou"], **row["details"], **row.get("scores", {})}
    if wanted.metric not in numbers:
        known = [key for key, value in numbers.items() if isinstance(value, float)]
        raise RecipeError(
            f"result.metric: no {wanted.metric!r} of {wanted.artifact}; {suggest(wanted.metric, known)}"
        )
    return numbers[wanted.metric]
