"""The plot of the error against the distance from the edge."""

from __future__ import annotations

import re

from wsss_zoo.tracking.figures import distance_curves_svg

DISTANCES = [-3, -2, -1, 1, 2, 3]
ERROR = [0.01, 0.05, 0.2, 0.3, 0.1, 0.02]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def strokes(svg: str, colour: str) -> list[str]:
    return re.findall(rf'<path d="([^"]*)"[^>]*stroke: {colour}', svg)


def test_one_curve_needs_no_legend_and_two_have_one() -> None:
    alone = texts(distance_curves_svg({"LDF": (DISTANCES, ERROR)}))
    assert "mean absolute error" in alone
    assert "LDF" not in alone
    both = distance_curves_svg({"LDF": (DISTANCES, ERROR), "no decoupling": (DISTANCES, ERROR[::-1])})
    assert {"LDF", "no decoupling"} <= set(texts(both))


def test_distances_without_a_pixel_leave_a_gap() -> None:
    whole = distance_curves_svg({"LDF": (DISTANCES, ERROR)})
    gap = distance_curves_svg({"LDF": (DISTANCES, [*ERROR[:2], None, float("nan"), *ERROR[4:]])})
    [line], [broken] = strokes(whole, "#3b82d6"), strokes(gap, "#3b82d6")
    assert line.count("M") == 1
    assert broken.count("M") == 2
