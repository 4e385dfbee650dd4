"""All scores of salient object detection from one pass over the images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsss_zoo.metrics.e_measure import EMeasure, e_scores
from wsss_zoo.metrics.f_measure import FMeasure, f_scores
from wsss_zoo.metrics.functional.f_measure import f_measure
from wsss_zoo.metrics.functional.s_measure import s_measure
from wsss_zoo.metrics.functional.saliency_mae import saliency_mae
from wsss_zoo.metrics.functional.saliency_pairs import SaliencyProtocol
from wsss_zoo.metrics.functional.weighted_f_measure import weighted_f_measure
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs

#: The single numbers of `SaliencyMetrics.compute()`, in the order of its tables.
SCORES: tuple[str, ...] = (
    "mae",
    "adp_f",
    "mean_f",
    "max_f",
    "max_f_of_mean_pr",
    "adp_e",
    "adp_e_strict",
    "mean_e",
    "max_e",
    "s",
    "wf",
)
#: The 256-point curves of `SaliencyMetrics.compute()`.
CURVES: tuple[str, ...] = (*FMeasure.curves, *EMeasure.curves)


class SaliencyMetrics(SaliencyMetric):
    """MAE, F, E, S, weighted F and the precision-recall curve, sharing one histogram an image.

    Names say which of the numbers that papers call "mean F" or "max E" is meant. LDF prints `mae`,
    `adp_f` (as mF) and `adp_e_strict` (as E).

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import SaliencyMetrics
        >>> metrics = SaliencyMetrics()
        >>> metrics.update([torch.tensor([[0.0, 0.2], [0.8, 1.0]])], [torch.tensor([[0, 0], [1, 1]])])
        >>> metrics.compute()["adp_f"]
        tensor(0.8125, dtype=torch.float64)
    """

    scalars: ClassVar[tuple[str, ...]] = ("mae", *FMeasure.scalars, *EMeasure.scalars, "s", "wf")
    curves: ClassVar[tuple[str, ...]] = CURVES
    skipped: Tensor

    def __init__(self, protocol: SaliencyProtocol = "pysodmetrics", **kwargs: Any) -> None:
        super().__init__(protocol, **kwargs)
        self.add_state("skipped", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        histogram = pairs.histogram
        with ThreadPoolExecutor(1) as pool:  # SciPy's part of the work goes on beside torch's
            weighted_f = pool.submit(weighted_f_measure, pairs.batches, histogram, threads=pairs.threads)
            scores = {
                "mae": saliency_mae(histogram),
                **f_scores(histogram),
                **e_scores(histogram),
                "s": s_measure(histogram),
            }
            scores["wf"] = weighted_f.result()
        self.skipped += (~histogram.scored).sum()
        return scores

    def compute(self) -> dict[str, Tensor]:
        """Average over the images so far.

        Returns:
            float64 scalars: `mae`; `adp_f`, `mean_f`, `max_f`, `max_f_of_mean_pr` and `adp_e`,
            `adp_e_strict`, `mean_e`, `max_e`, see `FMeasure` and `EMeasure`; `s`; `wf`. float64 `(256,)`
            at the thresholds 255, 254 .. 0: `f`, `precision`, `recall`, `e`. int64 scalar `skipped`:
            pairs whose map or mask is all zero. The protocol "ldf" counts them as images that score 0, also
            in the MAE; times `count / (count - skipped)` its averages are over the other images alone.
        """
        curves = {name: self._mean(name) for name in CURVES}
        scores = {
            **{name: self._mean(name) for name in self.scalars},
            "mean_f": curves["f"].mean(),
            "max_f": curves["f"].max(),
            "max_f_of_mean_pr": f_measure(curves["precision"], curves["recall"]).max(),
            "mean_e": curves["e"].mean(),
            "max_e": curves["e"].max(),
        }
        return {**{name: scores[name] for name in SCORES}, **curves, "skipped": self.skipped.clone()}
