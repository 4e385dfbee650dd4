"""The scores of PySODMetrics 1.6.2, pair by pair and as means of a set."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.saliency_pairs import saliency_pairs
from wsss_zoo.metrics import MAE, EMeasure, FMeasure, SaliencyMetrics, SMeasure, WeightedFMeasure

PAIRS = saliency_pairs()
with np.load(Path(__file__).parents[1] / "parity" / "saliency_metrics.npz", allow_pickle=False) as archive:
    PUBLISHED = dict(archive)
NAMES = ("mae", "adp_f", "f", "precision", "recall", "adp_e", "e", "s", "wf")
# The centroid lies in the last row: two quadrants are empty and the published S is NaN.
WITHOUT_PUBLISHED_S = "last_row"


def published(pair, score):
    return PUBLISHED[f"{pair}/{score}"]


def test_every_pair_was_published():
    assert {key.split("/")[0] for key in PUBLISHED} == PAIRS.keys()
    nan = [key for key, values in PUBLISHED.items() if np.isnan(values).any()]
    assert nan == [f"{WITHOUT_PUBLISHED_S}/s"]


@pytest.mark.parametrize("pair", PAIRS)
def test_every_score_of_every_pair(pair):
    levels, mask = PAIRS[pair]
    metrics = SaliencyMetrics()
    metrics.update([levels / 255], [mask])
    result = metrics.compute()
    for name in NAMES:
        if (pair, name) == (WITHOUT_PUBLISHED_S, "s"):
            assert 0 < float(result["s"]) < 1
            continue
        np.testing.assert_allclose(result[name], published(pair, name), rtol=0, atol=1e-12, err_msg=name)


def test_means_of_the_set_and_what_follows_from_them():
    pairs = [pair for pair in PAIRS if pair != WITHOUT_PUBLISHED_S]
    expected = {name: np.mean([published(pair, name) for pair in pairs], axis=0) for name in NAMES}
    metrics = SaliencyMetrics()
    metrics.update([PAIRS[pair][0] for pair in pairs], [PAIRS[pair][1] for pair in pairs])
    result = metrics.compute()
    for name in NAMES:
        np.testing.assert_allclose(result[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
    precision, recall = expected["precision"], expected["recall"]
    assert float(result["mean_f"]) == pytest.approx(expected["f"].mean(), abs=1e-12)
    assert float(result["max_f"]) == pytest.approx(expected["f"].max(), abs=1e-12)
    assert float(result["mean_e"]) == pytest.approx(expected["e"].mean(), abs=1e-12)
    assert float(result["max_e"]) == pytest.approx(expected["e"].max(), abs=1e-12)
    of_means = (1.3 * precision * recall / (0.3 * precision + recall)).max()
    assert float(result["max_f_of_mean_pr"]) == pytest.approx(of_means, abs=1e-12)
    assert abs(of_means - expected["f"].max()) > 1e-3  # two different numbers
    assert int(result["skipped"]) == 2


def test_single_metrics_give_the_numbers_of_the_combined_one():
    maps, masks = zip(*PAIRS.values(), strict=True)
    together = SaliencyMetrics()
    together.update(list(maps), list(masks))
    expected = together.compute()
    found = {}
    for metric, names in (
        (MAE(), "mae"),
        (SMeasure(), "s"),
        (WeightedFMeasure(), "wf"),
        (
            FMeasure(),
            {
                "adaptive": "adp_f",
                "mean": "mean_f",
                "max": "max_f",
                "max_of_mean_pr": "max_f_of_mean_pr",
                "curve": "f",
                "precision": "precision",
                "recall": "recall",
            },
        ),
        (
            EMeasure(),
            {
                "adaptive": "adp_e",
                "adaptive_strict": "adp_e_strict",
                "mean": "mean_e",
                "max": "max_e",
                "curve": "e",
            },
        ),
    ):
        metric.update(list(maps), list(masks))
        result = metric.compute()
        if isinstance(names, str):
            found[names] = result
        else:
            assert result.keys() == names.keys()
            found |= {names[key]: value for key, value in result.items()}
    assert found.keys() == expected.keys() - {"skipped"}
    for name, value in found.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-15)
