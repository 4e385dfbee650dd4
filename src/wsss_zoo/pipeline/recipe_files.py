"""Find recipe files, read their YAML, apply `extends` and command-line overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsss_zoo.errors import RecipeError, suggest


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with floats like `1e-4` (which YAML 1.1 reads as text) and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str) -> Any:
    """A YAML value, safely, with `1e-4` read as a number."""
    return yaml.load(text, Loader=_Loader)


def recipes_root() -> Path:
    """The folder of the recipes that come with the package."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "recipes", package.parents[1] / "recipes"):
        if candidate.is_dir():
            return candidate
    raise RecipeError(f"the package's recipes are missing (looked beside {package}); reinstall wsss-zoo")


def list_recipes() -> dict[str, str]:
    """Name -> title of every recipe that can be run (the shared parts in `base/` are left out)."""
    root = recipes_root()
    recipes = {}
    for path in sorted(root.rglob("*.yaml")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not name.startswith("base/"):
            recipes[name] = str(read_recipe_file(path).get("title", ""))
    return recipes


def find_recipe(name_or_path: str) -> tuple[str, Path]:
    """The recipe's name and file.

    Args:
        name_or_path: a YAML file, the full name of a shipped recipe (`voc2012/cam`), or its last part
            (`cam`), which means the one for `voc2012` where several data sets have it.

    Raises:
        RecipeError: when there is none, with the nearest name.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {path}")
        root = recipes_root()
        if path.resolve().is_relative_to(root):
            return path.resolve().relative_to(root).with_suffix("").as_posix(), path
        return path.stem, path
    root = recipes_root()
    names = {
        found.relative_to(root).with_suffix("").as_posix(): found for found in sorted(root.rglob("*.yaml"))
    }
    if name_or_path in names:
        return name_or_path, names[name_or_path]
    runnable = [name for name in names if not name.startswith("base/")]
    matches = [name for name in runnable if name.rpartition("/")[2] == name_or_path]
    if f"voc2012/{name_or_path}" in matches:
        matches = [f"voc2012/{name_or_path}"]
    if len(matches) == 1:
        return matches[0], names[matches[0]]
    if matches:
        raise RecipeError(f"{name_or_path!r} is the name of several recipes: {', '.join(matches)}")
    short = [name.rpartition("/")[2] for name in runnable]
    raise RecipeError(f"there is no recipe {name_or_path!r}; {suggest(name_or_path, [*runnable, *short])}")


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The YAML mapping of one file, without its `extends`.

    Raises:
        RecipeError: when the file is not YAML or not a mapping; names the line.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must hold a mapping (data:, stages:, ...), got {type(content).__name__}")
    return content


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` laid over `base`: mappings are merged, everything else is replaced.

    A mapping with another `class_path` replaces the whole mapping, because the arguments of one class
    mean nothing to another. A value of null removes a block (a stage, a `predict`).
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_class = "class_path" in value and value["class_path"] != old.get("class_path")
            merged[key] = dict(value) if other_class else merge(old, value)
        else:
            merged[key] = value
    return merged


def resolve_extends(path: Path, seen: Sequence[Path] = ()) -> dict[str, Any]:
    """One mapping from a recipe file and everything it extends, nearest file last."""
    if path.resolve() in seen:
        chain = " -> ".join(str(step) for step in [*seen, path.resolve()])
        raise RecipeError(f"recipes extend one another in a circle: {chain}")
    content = read_recipe_file(path)
    parents = content.pop("extends", None) or []
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise RecipeError(f"{path}: extends: expected a recipe name or a list of names, got {parents!r}")
    merged: dict[str, Any] = {}
    for parent in parents:
        merged = merge(merged, resolve_extends(_parent_file(parent, path), [*seen, path.resolve()]))
    return merge(merged, content)


def _parent_file(parent: str, child: Path) -> Path:
    beside = child.parent / (parent if parent.endswith((".yaml", ".yml")) else parent + ".yaml")
    if beside.is_file():
        return beside
    try:
        return find_recipe(parent)[1]
    except RecipeError as error:
        raise RecipeError(f"{child}: extends: {error}") from error


def parse_override(text: str) -> tuple[list[str], Any]:
    """`"stages.cam.fit.trainer.max_epochs=2"` -> (path of keys, value read as YAML)."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise RecipeError(f"an override is written key=value (data.root=/path/to/VOC), got {text!r}")
    try:
        return key.strip().split("."), parse_yaml(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of the override {text!r} is not valid YAML: {error}") from error


def apply_override(content: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `content` with the value at a path of keys replaced.

    `init_args` may be left out: `data.root` means `data.init_args.root`. Whether the key is understood is
    checked afterwards together with the rest of the recipe.
    """
    key, rest = keys[0], keys[1:]
    content = dict(content)
    if "class_path" in content and key not in {"class_path", "init_args", *content}:
        arguments = content.get("init_args") or {}
        content["init_args"] = apply_override(dict(arguments), keys, value)
        return content
    if not rest:
        old = content.get(key)
        keep = isinstance(old, Mapping) and isinstance(value, Mapping)
        content[key] = merge(old, value) if keep else value  # type: ignore[arg-type]
        return content
    child = content.get(key)
    if child is not None and not isinstance(child, Mapping):
        raise RecipeError(f"override {'.'.join(keys)}: {key} holds {child!r}, not a mapping of further keys")
    content[key] = apply_override(dict(child or {}), rest, value)
    return content
