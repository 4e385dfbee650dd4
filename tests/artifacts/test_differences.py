"""Predicted differences: what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsss_zoo.artifacts import Differences
from wsss_zoo.artifacts.kinds import load_artifact, save_artifact
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.errors import ArtifactError


def test_round_trip_and_full_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(0, 20, (2, 7, 7))
    made = Differences.from_logits(before, after, (20, 31))
    save_artifact("differences", tmp_path / "a.npz", made)
    read = load_artifact("differences", tmp_path / "a.npz")
    assert (read.size, read.before.dtype) == ((20, 31), np.float16)
    assert np.abs(read.before).max() == 30
    np.testing.assert_array_equal(read.before, made.before)
    np.testing.assert_array_equal(read.after, np.clip(after, -30, 30).astype(np.float16))
    full = read.full_size()
    assert (full.shape, full.dtype) == ((2, 20, 31), np.float32)
    np.testing.assert_array_equal(full[1], resample_bilinear(read.after[None], (20, 31))[0])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float16), "before is float16"),
        (np.zeros((2, 3), np.float16), np.zeros((2, 3, 1), np.float16), "after is float16"),
        (np.zeros((2, 3), np.float16), np.zeros((3, 2), np.float16), "one grid"),
        (np.zeros((2, 3), np.float16), np.full((2, 3), np.nan, np.float16), "after holds NaN"),
    ],
)
def test_other_content_is_refused(before: np.ndarray, after: np.ndarray, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Differences(before, after, (4, 4))


def test_broken_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", before=np.zeros((2, 2)), after=np.zeros((2, 2)), size=np.array([4, 4]))
    with pytest.raises(ArtifactError, match=r"b\.npz: differences: before is float16 .* Delete it"):
        Differences.load(tmp_path / "b.npz")
    with pytest.raises(ArtifactError, match="expected Differences"):
        save_artifact("differences", tmp_path / "c.npz", np.zeros((2, 2)))
