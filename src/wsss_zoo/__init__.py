"""wsss-zoo: weakly supervised segmentation from image-level labels.

The public API. Importing the package is cheap; torch is imported when something that needs it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wsss_zoo.version import __version__

if TYPE_CHECKING:
    from wsss_zoo import artifacts, data, metrics, refine
    from wsss_zoo.methods import create_model, list_models
    from wsss_zoo.pipeline.run import run_recipe

__all__ = [
    "__version__",
    "artifacts",
    "create_model",
    "data",
    "list_models",
    "metrics",
    "refine",
    "run_recipe",
]

_FUNCTIONS = {
    "create_model": "wsss_zoo.methods",
    "list_models": "wsss_zoo.methods",
    "run_recipe": "wsss_zoo.pipeline.run",
}
_PACKAGES = ("artifacts", "backbones", "data", "methods", "metrics", "refine", "weights")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in _PACKAGES:
        return import_module(f"wsss_zoo.{name}")
    raise AttributeError(f"module 'wsss_zoo' has no attribute {name!r}")
