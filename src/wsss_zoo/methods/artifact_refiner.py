"""Refiners that learn, and have more to hand on than scores."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ArtifactRefiner(Protocol):
    """A method of kind `refiner` that makes artifacts itself, as refiners without learning do.

    A `predict` step then writes what `outputs` of the step names, out of what `outputs` of the class names.

    Attributes:
        outputs: the kinds that it makes (`wsss_zoo.artifacts.kinds.ARTIFACT_KINDS`); the first is written
            where nothing is said.
    """

    outputs: tuple[str, ...]

    def refine_artifacts(self, image: Tensor, labels: Tensor, **inputs: Tensor) -> dict[str, Any]:
        """Refine what other stages made of an image.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`.
            **inputs: as `refine` of the same class, by role.

        Returns:
            Artifacts by kind, as `wsss_zoo.artifacts.kinds.save_artifact` takes them.
        """
        ...
