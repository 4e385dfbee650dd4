"""From an image at several sizes to evidence for its classes: DCSM's inference but for the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.dcsm.candidates import choose_candidates
from wsss_zoo.methods.dcsm.derivatives import class_derivatives
from wsss_zoo.methods.dcsm.maps import Variant, channel_maxima, layer_evidence
from wsss_zoo.methods.dcsm.network import DCSMNetwork, Traced


@dataclass(frozen=True)
class SaliencySettings:
    """The constants of the maps.

    Attributes:
        variant: see `wsss_zoo.methods.dcsm.maps.Variant`.
        layers: where derivatives are taken; None: `DCSMNetwork.layers`.
        guided: guided back-propagation; otherwise plain derivatives.
        alpha: of the tanh, above 0.
        compared_classes: least number of classes that are compared, targets included; 0: nothing is
            subtracted.
        threshold: of a class's probability, in [0, 1].
        fallback: see `choose_candidates`.

    Raises:
        WsssZooError: a value is out of range.
    """

    variant: Variant = "reference"
    layers: tuple[str, ...] | None = None
    guided: bool = True
    alpha: float = 3.0
    compared_classes: int = 4
    threshold: float = 0.5
    fallback: Literal["best", "background"] = "best"

    def __post_init__(self) -> None:
        for name, choices in (("variant", ("reference", "caffe")), ("fallback", ("best", "background"))):
            value = getattr(self, name)
            if value not in choices:
                raise WsssZooError(f"DCSM: there is no {name} {value!r}; {suggest(str(value), choices)}")
        if not self.alpha > 0:
            raise WsssZooError(f"DCSM: alpha, the factor in the tanh, is above 0, got {self.alpha!r}")
        if self.compared_classes < 0:
            raise WsssZooError(f"DCSM: compared_classes is 0 or more, got {self.compared_classes!r}")
        if not 0 <= self.threshold <= 1:
            raise WsssZooError(f"DCSM: threshold is a probability in [0, 1], got {self.threshold!r}")


def class_evidence(
    network: DCSMNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: SaliencySettings,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Evidence for the classes of an image, summed over its scales and layers (see `layer_evidence`).

    Each scale goes forward once; then, with the classes of all scales known, back once for all classes.

    Args:
        network: in evaluation mode.
        images: the image at each scale, `(1, 3, h_s, w_s)`.
        size: height and width of the result, to which all scales are enlarged.
        settings: the constants.
        labels: `(C,)`; None: classes are found by their scores.

    Returns:
        The classes that were looked for, `(C,)` with 0 and 1, and their evidence `(C, H, W)`, not cropped and
        not normalised; zero for all others.
    """
    traces = [network.trace(image, settings.layers, settings.guided) for image in images]
    targets, compared = choose_candidates(
        torch.stack([trace.logits for trace in traces]),
        labels,
        variant=settings.variant,
        threshold=settings.threshold,
        compared_classes=settings.compared_classes,
        fallback=settings.fallback,
    )
    evidence = torch.zeros(targets.shape[1], *size, device=targets.device)
    for scale in reversed(range(len(traces))):
        trace = traces.pop()  # its graph is freed with it
        chosen = torch.nonzero(targets[scale, compared]).flatten()
        if len(chosen):
            evidence[compared[chosen]] += _of_scale(trace, compared, chosen.tolist(), size, settings)
    return targets.any(0).float(), evidence


def _of_scale(
    trace: Traced, compared: Tensor, targets: Sequence[int], size: tuple[int, int], settings: SaliencySettings
) -> Tensor:
    # one class alone: there is nothing to subtract from it, and its own derivatives are the map
    subtract = settings.compared_classes > 0 and len(compared) > 1
    total = torch.zeros(len(targets), *size, device=compared.device)
    for _, derivative in class_derivatives(trace.score_map, trace.maps, compared):
        maxima = channel_maxima(derivative, settings.variant).float()
        total += layer_evidence(
            maxima, size, settings.variant, targets=targets, alpha=settings.alpha, subtract=subtract
        )
    return total
