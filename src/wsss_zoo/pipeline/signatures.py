"""What a class takes, read from its source without importing it.

A recipe names classes (`class_path`) and their arguments (`init_args`). Importing a method or a
data module imports torch and lightning, which takes seconds; reading the signature from the syntax
tree takes milliseconds, so that a recipe is checked before anything heavy is loaded. Classes outside
this package are imported and inspected.
"""

from __future__ import annotations

import ast
import collections.abc
import functools
import importlib
import importlib.util
import inspect
import pathlib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsss_zoo.errors import RecipeError, suggest
from wsss_zoo.pipeline.checking import UNCHECKED, Parameter

_OWN = "wsss_zoo"
_NAMES: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Optional", "Union")},
    **{name: getattr(collections.abc, name) for name in ("Sequence", "Mapping", "Iterable")},
    "Path": pathlib.Path,
}


def parameters_of(class_path: str) -> dict[str, Parameter]:
    """The keyword arguments that `class_path` takes.

    Raises:
        RecipeError: when the module or the class does not exist or cannot be imported.
    """
    module_name, _, class_name = class_path.rpartition(".")
    if not module_name:
        raise RecipeError(
            f"class_path must be a full dotted path like {_OWN}.methods.CAM, got {class_path!r}"
        )
    if module_name == _OWN or module_name.startswith(_OWN + "."):
        module, definition = _find_class(module_name, class_name)
        return _class_parameters(module, definition)
    return _imported_parameters(module_name, class_name)


def class_attribute(class_path: str, name: str) -> Any:
    """A constant of a class body, such as `kind = "localizer"`; None where the class has none.

    Raises:
        RecipeError: when the module or the class does not exist or cannot be imported.
    """
    module_name, _, class_name = class_path.rpartition(".")
    if module_name.split(".")[0] != _OWN:
        return getattr(import_class(class_path), name, None)
    for _, definition in _with_bases(*_find_class(module_name, class_name)):
        for node in definition.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            if value is not None and any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return ast.literal_eval(value)
    return None


def role_parameters(class_path: str, method: str) -> dict[str, bool] | None:
    """What a method reads besides `image` and `labels` -> whether it must; None without such a method.

    Raises:
        RecipeError: when the module or the class does not exist or cannot be imported.
    """
    module_name, _, class_name = class_path.rpartition(".")
    required: dict[str, bool] = {}
    if module_name.split(".")[0] != _OWN:
        function = getattr(import_class(class_path), method, None)
        if function is None:
            return None
        for item in inspect.signature(function).parameters.values():
            if item.kind is item.VAR_KEYWORD:
                return None  # takes whatever it is given
            required[item.name] = item.default is item.empty
    else:
        classes = _with_bases(*_find_class(module_name, class_name))
        found = next((node for _, base in classes if (node := _method(base, method))), None)
        if found is None:
            return None
        positional, defaults = found.args.args, found.args.defaults
        for index, argument in enumerate(positional):
            required[argument.arg] = index < len(positional) - len(defaults)
        for argument, default in zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True):
            required[argument.arg] = default is None
    return {name: needed for name, needed in required.items() if name not in ("self", "image", "labels")}


def trainer_parameters() -> dict[str, Parameter]:
    """The arguments of `lightning.Trainer`, by name only (their types are Lightning's own business)."""
    spec = importlib.util.find_spec("lightning")
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError('the package "lightning" is not installed: pip install wsss-zoo')
    source = Path(spec.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            init = _method(node, "__init__")
            assert init is not None
            return {argument.arg: Parameter() for argument in init.args.kwonlyargs}
    raise RecipeError(f"cannot read the arguments of lightning.Trainer from {source}")


@functools.cache
def _module_tree(module_name: str) -> ast.Module:
    root = Path(__file__).resolve().parents[1]
    path = root.joinpath(*module_name.split(".")[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return ast.parse(candidate.read_text(encoding="utf-8"), filename=str(candidate))
    raise RecipeError(f"there is no module {module_name}")


def _imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Names bound by `from MODULE import NAME`, at top level or below `if TYPE_CHECKING`."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                bound[alias.asname or alias.name] = (node.module, alias.name)
    return bound


def _find_class(module_name: str, class_name: str) -> tuple[str, ast.ClassDef]:
    tree = _module_tree(module_name)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name in classes:
        return module_name, classes[class_name]
    imports = {name: origin for name, origin in _imports(tree).items() if origin[0].startswith(_OWN)}
    if class_name in imports and imports[class_name][0] != module_name:
        return _find_class(*imports[class_name])
    known = [name for name in {*classes, *imports} if name[:1].isupper()]
    raise RecipeError(f"{module_name} has no class {class_name!r}; {suggest(class_name, known)}")


def _method(definition: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def _class_parameters(module: str, definition: ast.ClassDef) -> dict[str, Parameter]:
    init = _method(definition, "__init__")
    if init is None:
        if any(ast.unparse(decorator).startswith("dataclass") for decorator in definition.decorator_list):
            return {
                node.target.id: Parameter(_evaluate(node.annotation, module), node.value is None)
                for node in definition.body
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            }
        return _inherited_parameters(module, definition)
    parameters: dict[str, Parameter] = {}
    positional = init.args.args[1:]
    missing = len(positional) - len(init.args.defaults)
    for index, argument in enumerate(positional):
        parameters[argument.arg] = Parameter(_evaluate(argument.annotation, module), index < missing)
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        parameters[argument.arg] = Parameter(_evaluate(argument.annotation, module), default is None)
    if init.args.kwarg is not None:
        parameters = {**_inherited_parameters(module, definition), **parameters}
    return parameters


def _inherited_parameters(module: str, definition: ast.ClassDef) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for base_module, base in reversed(list(_with_bases(module, definition))[1:]):
        parameters.update(_class_parameters(base_module, base))
    return parameters


def _with_bases(module: str, definition: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef]]:
    """A class and, after it, those of its bases that are classes of this package."""
    yield module, definition
    imports = _imports(_module_tree(module))
    for base in definition.bases:
        name = ast.unparse(base)
        base_module, base_name = imports.get(name, (module, name))
        if base_module.startswith(_OWN) and (base_module, base_name) != (module, definition.name):
            try:
                found = _find_class(base_module, base_name)
            except RecipeError:
                continue  # not a class of this package
            yield from _with_bases(*found)


def _evaluate(annotation: ast.expr | None, module: str) -> Any:
    """The annotation as a type, or `UNCHECKED` where it names something heavy (a tensor, a module)."""
    if annotation is None:
        return UNCHECKED
    namespace = dict(_NAMES)
    tree = _module_tree(module)
    aliases = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    imports = _imports(tree)
    for node in ast.walk(annotation):
        if not isinstance(node, ast.Name) or node.id in namespace:
            continue
        if node.id in aliases:
            namespace[node.id] = _evaluate(aliases[node.id], module)
        elif node.id in imports and imports[node.id][0].startswith(_OWN):
            origin, name = imports[node.id]
            namespace[node.id] = _evaluate(ast.Name(name, ast.Load()), origin)
    try:
        expression = ast.fix_missing_locations(ast.Expression(annotation))
        value = eval(compile(expression, "<annotation>", "eval"), namespace)
    except (NameError, AttributeError, TypeError):
        return UNCHECKED
    return UNCHECKED if _holds_unchecked(value) else value


def _holds_unchecked(annotation: Any) -> bool:
    if annotation is UNCHECKED:
        return True
    return any(_holds_unchecked(argument) for argument in typing.get_args(annotation))


def _imported_parameters(module_name: str, class_name: str) -> dict[str, Parameter]:
    cls = import_class(f"{module_name}.{class_name}")
    try:
        hints: Mapping[str, Any] = typing.get_type_hints(cls.__init__)
    except NameError:
        hints = {}
    parameters = {}
    for name, parameter in list(inspect.signature(cls).parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is inspect.Parameter.empty
        parameters[name] = Parameter(hints.get(name, UNCHECKED), required)
    return parameters


def import_class(class_path: str) -> Any:
    """Import the class (or function) at a dotted path.

    Raises:
        RecipeError: when it does not import, with the reason.
    """
    module_name, _, class_name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, class_name, None)
    except ImportError as error:
        raise RecipeError(
            f"cannot import {class_path}: {error}; install the package or put its folder on PYTHONPATH"
        ) from error
    if found is None:
        public = [name for name in dir(module) if name[:1].isupper()]
        raise RecipeError(f"{module_name} has no class {class_name!r}; {suggest(class_name, public)}")
    return found
