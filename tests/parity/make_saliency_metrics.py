"""Write saliency_metrics.npz and .json: what PySODMetrics says about the pairs of `saliency_pairs`.

Run from the root of the repository in an environment of its own (pip install pysodmetrics==1.6.2):

    python -m tests.parity.make_saliency_metrics
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.parity.saliency_pairs import saliency_pairs

FOLDER = Path(__file__).parent


def published_scores(pred: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Score one pair of uint8 images."""
    import py_sod_metrics

    metrics = {
        name: getattr(py_sod_metrics, name)()
        for name in ("MAE", "Fmeasure", "Emeasure", "Smeasure", "WeightedFmeasure")
    }
    for metric in metrics.values():
        metric.step(pred, mask)
    result = {name: metric.get_results() for name, metric in metrics.items()}
    f, e = result["Fmeasure"], result["Emeasure"]["em"]
    scores = {
        "mae": result["MAE"]["mae"],
        "adp_f": f["fm"]["adp"],
        "f": f["fm"]["curve"],
        "precision": f["pr"]["p"],
        "recall": f["pr"]["r"],
        "adp_e": e["adp"],
        "e": e["curve"],
        "s": result["Smeasure"]["sm"],
        "wf": result["WeightedFmeasure"]["wfm"],
    }
    return {name: np.asarray(value, np.float64) for name, value in scores.items()}


def main() -> None:
    """Write both files."""
    warnings.simplefilter("ignore")  # a deprecation, and the NaN of S where a quadrant is empty
    arrays = {
        f"{pair}/{score}": values
        for pair, images in saliency_pairs().items()
        for score, values in published_scores(*images).items()
    }
    np.savez_compressed(FOLDER / "saliency_metrics.npz", **arrays)
    packages = ("pysodmetrics", "numpy", "scipy")
    about = {
        "what": "scores of PySODMetrics for each pair: '<pair>/<score>', curves at thresholds 255 .. 0",
        "inputs": "tests/parity/saliency_pairs.py",
        "made_by": "python -m tests.parity.make_saliency_metrics",
        "packages": {name: version(name) for name in packages},
    }
    (FOLDER / "saliency_metrics.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
