"""Curves of the report as SVG text that follows the colours of the page it stands in."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss_zoo.tracking.results import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Middle tones, told apart by colour-blind readers, legible on white and on black.
COLOURS = ("#3b82d6", "#e0762f", "#2f9e77", "#c05aa8", "#b08a1e", "#7a6fd0", "#d64f5b", "#5f8f9f")

# matplotlib knows no "colour of the page": text and axes get this colour, which is replaced at the end
_INK = "#010203"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wsss-zoo",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
}
_MOST_POINTS = 800
_MOST_LINES = 8
_SMOOTH_FROM = 60


def threshold_curves_svg(curves: Mapping[str, Curve]) -> str:
    """Draw mIoU over the background threshold; the best point is a dot, the fixed threshold a diamond.

    Args:
        curves: legend text -> curve.
    """
    with _style():
        figure, (axes,) = _figure(1, width=7.2, height=3.3)
        alone = len(curves) == 1
        for colour, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
            values = 100 * np.asarray(curve.miou)
            best = (curve.thresholds[curve.best], float(values[curve.best]))
            texts = [f"best {best[1]:.1f} at {best[0]:.2f}"]
            axes.plot(*best, "o", color=colour, markersize=6)
            if alone:
                _annotate(axes, texts[0], best, (0, 7), "center")
            if curve.fixed is not None:
                fixed = (curve.fixed, float(np.interp(curve.fixed, curve.thresholds, values)))
                texts.append(f"fixed {fixed[1]:.1f} at {fixed[0]:.2f}")
                axes.plot(*fixed, "D", color=colour, markersize=5.5, markerfacecolor="none")
                if alone:
                    _annotate(axes, texts[1], fixed, *_free_side(fixed[0] - best[0], curve))
            label = None if alone else f"{name}: {', '.join(texts)}"
            axes.plot(curve.thresholds, values, color=colour, linewidth=1.6, label=label)
        axes.margins(y=0.18)
        axes.set_xlabel("background threshold")
        axes.set_ylabel("mIoU in %")
        if not alone:
            figure.legend(loc="outside lower left", fontsize=8.5)
        return _svg(figure)


def training_curves_svg(runs: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> str:
    """Draw the log of one stage: losses, learning rates and everything else side by side over the step.

    Args:
        runs: name of the run -> metric -> (step, value). With one run every metric has its own colour;
            with several runs every run has its own colour and every metric its own dashes.
    """
    panes: dict[str, list[str]] = {}
    for metric in dict.fromkeys(metric for metrics in runs.values() for metric in metrics):
        panes.setdefault(_pane(metric), []).append(metric)
    titles = [title for title in ("loss", "learning rate", "validation", "other") if title in panes]
    with _style():
        figure, all_axes = _figure(max(1, len(titles)), width=3.3 * max(1, len(titles)), height=2.7)
        for axes, title in zip(all_axes, titles, strict=False):
            _draw_pane(axes, title, panes[title], runs)
        return _svg(figure)


def distance_curves_svg(curves: Mapping[str, tuple[Sequence[int], Sequence[float | None]]]) -> str:
    """Draw the saliency error over the distance from the edge of the object, which is a vertical line.

    Args:
        curves: legend text -> distances in pixels, negative outside the object, and the mean absolute error
            in [0, 1] at each (None or NaN: no pixel), as `wsss_zoo.metrics.ErrorByDistance` gives them.
    """
    with _style():
        figure, (axes,) = _figure(1, width=7.2, height=3.3)
        for colour, (name, (distances, error)) in zip(_cycle(len(curves)), curves.items(), strict=True):
            values = np.array(error, dtype=float)  # None becomes NaN, which leaves a gap
            axes.plot(distances, values, color=colour, linewidth=1.6, label=name)
        axes.axvline(0, color=_INK, linewidth=0.6, linestyle="--")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("pixels from the edge (outside < 0 < inside)")
        axes.set_ylabel("mean absolute error")
        if len(curves) > 1:
            figure.legend(loc="outside lower left", fontsize=8.5)
        return _svg(figure)


def _annotate(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], align: str
) -> None:
    axes.annotate(text, point, xytext=offset, textcoords="offset points", ha=align, fontsize=8.5)


def _free_side(from_best: float, curve: Curve) -> tuple[tuple[float, float], str]:
    """Where a text beside the fixed threshold does not cross the curve: below the top, else outwards."""
    if abs(from_best) < 0.12 * (curve.thresholds[-1] - curve.thresholds[0]):
        return (0, -16), "center"
    return ((7, 5), "left") if from_best > 0 else ((-7, 5), "right")


def _draw_pane(
    axes: Axes,
    title: str,
    metrics: Sequence[str],
    runs: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> None:
    dashes = ("-", "--", ":", "-.")
    metrics, left_out = metrics[:_MOST_LINES], len(metrics) - _MOST_LINES
    for run_colour, (run, logged) in zip(_cycle(len(runs)), runs.items(), strict=True):
        for i, metric in enumerate(metrics):
            if metric not in logged:
                continue
            colour = run_colour if len(runs) > 1 else COLOURS[i % len(COLOURS)]
            label = metric if len(runs) == 1 else run if len(metrics) == 1 else f"{run}: {metric}"
            points = np.asarray(logged[metric])
            _draw_line(axes, points, colour, dashes[i % 4] if len(runs) > 1 else "-", label)
    axes.set_title(title if left_out <= 0 else f"{title} ({left_out} more not shown)")
    axes.set_xlabel("step")
    if title == "learning rate":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.legend(fontsize=7.5, handlelength=1.4)


def _draw_line(axes: Axes, points: np.ndarray, colour: str, dashes: str, label: str) -> None:
    stride = max(1, len(points) // _MOST_POINTS)
    shown = points[::stride]
    if len(points) < _SMOOTH_FROM or np.ptp(np.diff(points[:, 1])) < 1e-12:
        marker = "o" if len(points) < 25 else None
        axes.plot(*shown.T, dashes, color=colour, linewidth=1.4, marker=marker, markersize=3, label=label)
        return
    axes.plot(*shown.T, color=colour, linewidth=0.6, alpha=0.35)
    window = max(5, len(points) // 25)
    padded = np.pad(points[:, 1], (window // 2, window - 1 - window // 2), mode="edge")
    mean = np.convolve(padded, np.full(window, 1 / window), mode="valid")
    axes.plot(shown[:, 0], mean[::stride], dashes, color=colour, linewidth=1.6, label=label)


def _pane(metric: str) -> str:
    lower = metric.lower()
    if lower.startswith("lr") or "learning_rate" in lower:
        return "learning rate"
    if lower.startswith(("val", "test")):
        return "validation"
    return "loss" if "loss" in lower else "other"


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _style() -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    # Figure instead of pyplot: needs no display and leaves the user's backend alone
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    all_axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axes in all_axes:
        axes.patch.set_alpha(0)
    return figure, all_axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    # Inside HTML neither the XML head, nor the licence block, nor the name spaces are needed.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([^"]*)pt"', r'\1 style="width:100%;max-width:\2pt"', svg, count=1)
    return svg.replace(_INK, "currentColor")
