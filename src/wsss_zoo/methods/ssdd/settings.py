"""Hyper-parameters that both stages of SSDD share: what a backbone needs, and what values may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.errors import WsssZooError, suggest

#: What the published network changes in its backbone.
_BACKBONE_ARGS: dict[str, dict[str, Any]] = {"resnet38d": {"frozen": "stem", "maps": "ssdd"}}
_PREFERENCES = ("after", "before")


def backbone_arguments(backbone: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of the backbone's class: SSDD's own, over which lie those given."""
    return {**_BACKBONE_ARGS.get(backbone, {}), **(given or {})}


def require_settings(hparams: Mapping[str, Any]) -> None:
    """Tell a wrong setting now, not after the training.

    Raises:
        WsssZooError: a value is out of range.
    """
    if hparams["prefer"] not in _PREFERENCES:
        raise WsssZooError(
            f"SSDD: prefer is no {hparams['prefer']!r}; {suggest(hparams['prefer'], _PREFERENCES)}"
        )
    for name in ("head_channels", "head_dilation", "detector_channels", "test_size", "ramp_epochs"):
        value = hparams[name]
        if value is not None and value < 1:
            raise WsssZooError(f"SSDD: {name} is 1 or more, got {value!r}")
