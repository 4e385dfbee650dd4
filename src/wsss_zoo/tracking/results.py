"""The rows of a run's `metrics.json`: one figure each, with everything that says how it came about.

Every value may be missing in the file; it is then None here and shown as "–". A value of the wrong
type is a mistake in the file and is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wsss_zoo.errors import ArtifactError

MISSING = "–"


@dataclass(frozen=True)
class Curve:
    """mIoU over the background threshold of localization maps.

    Attributes:
        thresholds: ascending, in [0, 1].
        miou: fractions, one a threshold.
        fixed: the threshold that was fixed beforehand, where there is one.
    """

    thresholds: tuple[float, ...]
    miou: tuple[float, ...]
    fixed: float | None = None

    @property
    def best(self) -> int:
        """Index of the highest mIoU (the first of equals)."""
        return max(range(len(self.miou)), key=lambda i: self.miou[i])


@dataclass(frozen=True)
class Result:
    """One row of `metrics.json`.

    Attributes:
        stage: name of the stage that was scored.
        artifact: `maps`, `masks`, `masks_crf` or `saliency`.
        split: the images.
        label: how people call the row: "CAM (best threshold)".
        miou: fraction in [0, 1].
        iou: fractions, one a class with background first; None for a class that does not occur.
        scores: of saliency maps: `mae`, `adp_f`, ... (see `wsss_zoo.metrics.SaliencyMetrics`), fractions.
        n_images: scored images.
        details: what else was measured (`pxap`, `curve`, ...).
        paper: the figure that the paper prints for this row, in percent.
        provenance: what the figure rests on (ground truth, list file, weights, scales, threshold, seed, ...).
    """

    stage: str = MISSING
    artifact: str = MISSING
    split: str = MISSING
    label: str = MISSING
    miou: float | None = None
    iou: tuple[float | None, ...] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    n_images: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    paper: float | None = None

    @property
    def figure(self) -> float | None:
        """The one number a result is known by: mIoU, of saliency maps the F-measure that papers call mF."""
        return self.scores.get("adp_f") if self.scores else self.miou

    @property
    def figure_name(self) -> str:
        """What `figure` is called."""
        return "adaptive F" if self.scores else "mIoU"

    @property
    def threshold(self) -> float | None:
        """Background threshold of localization maps; None for results without one."""
        value = self.provenance.get("threshold", self.details.get("threshold"))
        return float(value) if isinstance(value, int | float) else None

    @property
    def threshold_kind(self) -> str | None:
        """`fixed`, or `oracle` where ground truth chose it; None without a threshold."""
        if self.threshold is None:
            return None
        return "oracle" if self.provenance.get("threshold_chosen_on") else "fixed"

    @property
    def threshold_text(self) -> str:
        """The threshold and how it was chosen, in words."""
        if self.threshold is None:
            return MISSING
        if self.threshold_kind == "fixed":
            return f"{self.threshold:.2f}, fixed"
        chosen_on = str(self.provenance["threshold_chosen_on"]).removesuffix("(oracle)").strip()
        return f"{self.threshold:.2f}, oracle: best on {chosen_on}"

    @property
    def error_by_distance(self) -> tuple[list[int], list[float | None]] | None:
        """Distances from the edge of the object in pixels, and the saliency error at each where measured."""
        curve = self.details.get("error_by_distance")
        if not isinstance(curve, Mapping):
            return None
        where = f"the error by distance of {self.label!r}"
        return list(curve["distance"]), list(_numbers(curve.get("error"), where))

    @property
    def curve(self) -> Curve | None:
        """The threshold curve, where the row carries one."""
        curve = self.details.get("curve")
        if not isinstance(curve, Mapping):
            return None
        where = f"the threshold curve of {self.label!r}"
        thresholds = _numbers(curve.get("thresholds"), f"{where}, thresholds")
        miou = _numbers(curve.get("miou"), f"{where}, miou")
        if len(thresholds) != len(miou):
            raise ArtifactError(f"{where} has {len(thresholds)} thresholds, but {len(miou)} mIoU values")
        pairs = [(t, v) for t, v in zip(thresholds, miou, strict=True) if t is not None and v is not None]
        if not pairs:
            return None
        fixed = number(self.details.get("fixed_threshold"), f"{where}, fixed threshold")
        return Curve(tuple(t for t, _ in pairs), tuple(v for _, v in pairs), fixed)


def parse_results(rows: Sequence[Any], where: str) -> list[Result]:
    """Check the rows of `metrics.json`.

    A row of localization maps that was scored at a fixed threshold as well gives two results: the oracle
    one and, after it, the fixed one.

    Args:
        rows: the parsed JSON.
        where: file and key, for messages.

    Raises:
        ArtifactError: a value has the wrong type.
    """
    results = []
    for i, row in enumerate(rows):
        result = _parse_result(row, f"{where}[{i}]")
        results.append(result)
        if result.details.get("fixed_miou") is not None and result.threshold_kind == "oracle":
            results.append(_at_fixed_threshold(result, f"{where}[{i}].details"))
    return results


def _parse_result(row: Any, where: str) -> Result:
    row = expect(row, dict, where) or {}
    texts = {
        key: expect(row.get(key), str, f"{where}.{key}") for key in ("stage", "artifact", "split", "label")
    }
    n_images = number(row.get("n_images"), f"{where}.n_images")
    details = expect(row.get("details"), dict, f"{where}.details") or {}
    scores = expect(row.get("scores"), dict, f"{where}.scores") or {}
    return Result(
        **{key: value if value is not None else MISSING for key, value in texts.items()},
        miou=number(row.get("miou"), f"{where}.miou"),
        iou=_numbers(row.get("iou"), f"{where}.iou"),
        scores={name: number(value, f"{where}.scores.{name}") for name, value in scores.items()},
        n_images=None if n_images is None else int(n_images),
        details={**details, "pxap": number(details.get("pxap"), f"{where}.details.pxap")},
        provenance=expect(row.get("provenance"), dict, f"{where}.provenance") or {},
        paper=number(row.get("paper"), f"{where}.paper"),
    )


def _at_fixed_threshold(result: Result, where: str) -> Result:
    details = result.details
    return replace(
        result,
        label=f"{result.label.removesuffix('(best threshold)').strip()} (fixed threshold)",
        miou=number(details["fixed_miou"], f"{where}.fixed_miou"),
        iou=_numbers(details.get("fixed_iou"), f"{where}.fixed_iou"),
        details={key: value for key, value in details.items() if key != "curve"},
        provenance={
            **result.provenance,
            "threshold": number(details.get("fixed_threshold"), f"{where}.fixed_threshold"),
            "threshold_chosen_on": None,
        },
        paper=None,
    )


def _numbers(values: Any, where: str) -> tuple[float | None, ...]:
    values = expect(values, list, where) or []
    return tuple(number(value, f"{where}[{i}]") for i, value in enumerate(values))


def expect(value: Any, kind: type, where: str) -> Any:
    """Return `value` if it is None or of type `kind`, else raise ArtifactError that names `where`."""
    if value is None or isinstance(value, kind):
        return value
    raise ArtifactError(f"{where}: expected {kind.__name__} or null, got {value!r}")


def number(value: Any, where: str) -> float | None:
    """Return a finite number; None for null and NaN; ArtifactError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArtifactError(f"{where}: expected a number or null, got {value!r}")
    return float(value) if math.isfinite(value) else None


def class_rows(results: Sequence[Result], class_names: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    """Turn per-class IoU so that classes are rows: (class name, one fraction a result).

    Classes without a name in `class_names` are called "class 7".
    """
    count = max((len(result.iou) for result in results), default=0)
    names = [class_names[i] if i < len(class_names) else f"class {i}" for i in range(count)]
    return [
        (name, [result.iou[i] if i < len(result.iou) else None for result in results])
        for i, name in enumerate(names)
    ]


def percent(fraction: float | None, digits: int = 1) -> str:
    """Show a fraction as percent without the sign: 0.4823 -> `48.2`; None -> `–`."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}"
