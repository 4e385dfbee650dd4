"""What the metrics of salient object detection have in common: sums over images of scores of one image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from wsss_zoo.metrics.functional.saliency_histogram import LEVELS, SaliencyHistogram
from wsss_zoo.metrics.functional.saliency_pairs import (
    ArrayLike,
    SaliencyBatch,
    SaliencyProtocol,
    require_protocol,
    saliency_batches,
)


class SaliencyPairs(NamedTuple):
    """What one update has to score."""

    batches: list[SaliencyBatch]
    #: Of the images of `batches`, in their order.
    histogram: SaliencyHistogram
    #: Images that may be worked on at a time.
    threads: int


class SaliencyMetric(Metric):
    """A mean over images, kept as float64 sums that add up over ranks.

    On a device without float64 (Apple's MPS) leave the metric on the CPU; maps and masks are brought to
    it.

    Args:
        protocol: whose rules decide what the score leaves open, see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DataError: unknown protocol; on update, where sizes differ or values are out of range.
    """

    is_differentiable = False
    full_state_update = False
    #: Scores of one image that are summed: single numbers and 256-point curves.
    scalars: ClassVar[tuple[str, ...]] = ()
    curves: ClassVar[tuple[str, ...]] = ()
    count: Tensor

    def __init__(self, protocol: SaliencyProtocol = "pysodmetrics", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_protocol(protocol)
        self.protocol: SaliencyProtocol = protocol
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for names, shape in ((self.scalars, ()), (self.curves, (LEVELS,))):
            for name in names:
                zeros = torch.zeros(shape, dtype=torch.float64)
                self.add_state(f"sum_{name}", default=zeros, dist_reduce_fx="sum")

    def update(self, preds: ArrayLike | Sequence[ArrayLike], target: ArrayLike | Sequence[ArrayLike]) -> None:
        """Score one image, a batch, or a list of images of different sizes.

        Args:
            preds: saliency `(H, W)`, `(B, H, W)` or `(B, 1, H, W)`, or a list of `(H, W)`; float in
                [0, 1], which is rounded to 8 bit as it would be saved, or uint8. Each map is stretched to
                [0, 1] before it is scored, as in both protocols.
            target: masks in the same form; bool, float in [0, 1], integers 0 and 1 or 0..255.
        """
        with _one_torch_thread() as threads:
            batches = saliency_batches(preds, target, self.protocol, self.device)
            histogram = SaliencyHistogram.count(batches, self.protocol)
            for name, scores in self._scores(SaliencyPairs(batches, histogram, threads)).items():
                if self.protocol == "ldf":  # pairs that it skips add 0
                    scores = scores[histogram.scored]
                state = f"sum_{name}"
                setattr(self, state, getattr(self, state) + scores.sum(0))
            self.count += len(histogram.quadrants)

    @abstractmethod
    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        """Give `(B,)` for each of `scalars` and `(B, 256)` for each of `curves`."""

    def _mean(self, name: str) -> Tensor:
        mean: Tensor = getattr(self, f"sum_{name}") / self.count
        return mean


@contextmanager
def _one_torch_thread() -> Iterator[int]:
    """Keep torch from splitting its work; yield the threads that it otherwise uses.

    Hundreds of short operations an image gain nothing from it, and between them torch's threads spin
    beside those that work on whole images.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
