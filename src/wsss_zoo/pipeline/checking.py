"""Check the keys and values of a recipe against types, and report every mistake at once."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonargparse

from wsss_zoo.errors import RecipeError, suggest


class _Placeholder:
    """Stands where a type stands and is printed as `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


#: Stands for "any value": the annotation could not be evaluated without importing heavy packages.
UNCHECKED = _Placeholder("anything")
#: Any mapping, left as it is (jsonargparse would import the classes that stand in it as `class_path`).
MAPPING = _Placeholder("a mapping")


@dataclass(frozen=True)
class Parameter:
    """A key that is understood: its type (or `UNCHECKED`) and whether it has to be given."""

    type: Any = UNCHECKED
    required: bool = False


def type_name(annotation: Any) -> str:
    """A type as a person would write it: `tuple[int, int]`, `int or null`, `'a' or 'b'`."""
    origin = typing.get_origin(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(annotation))
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " or ".join(type_name(argument) for argument in typing.get_args(annotation))
    if isinstance(annotation, type) and origin is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def parse_value(value: Any, annotation: Any) -> Any:
    """`value` converted to `annotation` (a list to a tuple, "1e-4" to a float).

    Raises:
        ValueError: when the value does not fit.
    """
    if annotation is UNCHECKED:
        return value
    if annotation is MAPPING:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected {MAPPING}, got {value!r}")
        return value
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=annotation)
    try:
        return parser.parse_object({"value": value}).value
    except jsonargparse.ArgumentError as error:
        raise ValueError(f"expected {type_name(annotation)}, got {value!r}") from error


class Mistakes:
    """Collects what is wrong with a recipe, so that one answer names everything."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: list[str] = []

    def add(self, key: str, problem: str) -> None:
        """Note a problem of the value at a dotted key."""
        self.lines.append(f"{key}: {problem}" if key else problem)

    def raise_if_any(self) -> None:
        """Raise one `RecipeError` that lists all problems noted so far."""
        if self.lines:
            listing = "\n  ".join(self.lines)
            raise RecipeError(f"{self.source} cannot be run:\n  {listing}")


def join(prefix: str, key: str) -> str:
    """A dotted key."""
    return f"{prefix}.{key}" if prefix else key


def check_mapping(
    value: Any, parameters: Mapping[str, Parameter], prefix: str, mistakes: Mistakes
) -> dict[str, Any]:
    """Check the keys and value types of a mapping.

    Args:
        value: what the recipe holds at `prefix`; None counts as an empty mapping.
        parameters: the keys that are understood.
        prefix: the dotted key of the mapping, for messages.
        mistakes: receives unknown keys (with the nearest valid one), missing keys and wrong types.

    Returns:
        The converted values of the keys that are right.
    """
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        mistakes.add(prefix, f"expected a mapping of keys, got {value!r}")
        return {}
    checked: dict[str, Any] = {}
    for key, item in value.items():
        parameter = parameters.get(key)
        if parameter is None:
            mistakes.add(join(prefix, str(key)), f"unknown key; {suggest(str(key), parameters)}")
            continue
        try:
            checked[key] = parse_value(item, parameter.type)
        except ValueError as error:
            mistakes.add(join(prefix, key), str(error))
    for key, parameter in parameters.items():
        if parameter.required and key not in value:
            mistakes.add(join(prefix, key), f"is missing; expected {type_name(parameter.type)}")
    return checked
