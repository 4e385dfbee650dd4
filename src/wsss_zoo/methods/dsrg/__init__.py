"""SEC and DSRG: segmentation networks trained on seeds; importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.methods.dsrg.boundary import crf_images, crf_log_marginals, pass_surrogate_gradient
    from wsss_zoo.methods.dsrg.growing import grow
    from wsss_zoo.methods.dsrg.losses import (
        balanced_seed,
        constrain,
        expand,
        full,
        sec_seed,
        smooth_probabilities,
    )

_LOCATIONS = {
    "balanced_seed": "losses",
    "constrain": "losses",
    "crf_images": "boundary",
    "crf_log_marginals": "boundary",
    "expand": "losses",
    "full": "losses",
    "grow": "growing",
    "pass_surrogate_gradient": "boundary",
    "sec_seed": "losses",
    "smooth_probabilities": "losses",
}

__all__ = [
    "balanced_seed",
    "constrain",
    "crf_images",
    "crf_log_marginals",
    "expand",
    "full",
    "grow",
    "pass_surrogate_gradient",
    "sec_seed",
    "smooth_probabilities",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.methods.dsrg.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.methods.dsrg' has no attribute {name!r}")
