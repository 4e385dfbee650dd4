"""Label assembly in the official order: class by class, each image where it comes first."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import DataError
from wsss_zoo.methods import sccam
from wsss_zoo.methods.sccam import assemble_labels, rows_of_classes

LABELS = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
NAMES = ["sea", "cat", "none", "dog"]


def test_by_hand():
    assert [rows.tolist() for rows in rows_of_classes(LABELS)] == [[1, 3], [0, 1], [3]]
    ids, subcategories, classes = assemble_labels(NAMES, LABELS, [[1, 0], [2, 0], [1]], k=3)
    assert ids == ("cat", "dog", "sea")
    assert (subcategories.dtype, classes.dtype) == (np.float32, np.float32)
    columns = [np.flatnonzero(row).tolist() for row in subcategories]
    assert columns == [[0 * 3 + 1, 1 * 3 + 0], [0 * 3 + 0, 2 * 3 + 1], [1 * 3 + 2]]
    assert classes.tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 0]]


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 5), st.integers(1, 4))
def test_summing_one_hot_vectors_of_all_occurrences(seed, count, classes, k):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, classes))
    clusters = [rng.integers(0, k, len(rows)) for rows in rows_of_classes(labels)]
    names = [f"2007_{index:06d}" for index in range(count)]
    # as the sheet says it: pairs class by class, one-hot, summed by name in the order of first occurrence
    summed: dict[str, np.ndarray] = {}
    for index in range(classes):
        members = [name for name, row in zip(names, labels, strict=True) if row[index]]
        for name, cluster in zip(members, clusters[index], strict=True):
            vector = np.zeros(classes * k)
            vector[index * k + cluster] = 1
            summed[name] = summed.get(name, 0) + vector
    assembled = assemble_labels(names, labels, clusters, k)
    assert list(assembled.image_ids) == list(summed)
    for row, name in enumerate(assembled.image_ids):
        np.testing.assert_array_equal(assembled.subcategories[row], summed[name])
        np.testing.assert_array_equal(assembled.classes[row], labels[names.index(name)])
    grouped = assembled.subcategories.reshape(-1, classes, k).sum(2)
    np.testing.assert_array_equal(grouped, assembled.classes)  # exactly one 1 for each class present


@pytest.mark.parametrize(
    ("names", "clusters", "message"),
    [
        (["a", "b", "a", "c"], [[0, 0], [0, 0], [0]], "'a' comes twice"),
        (NAMES[:3], [[0, 0], [0, 0], [0]], r"expected \(3, C\), one row an image, got \(4, 3\)"),
        (NAMES, [[0, 0], [0, 0]], r"one array a class \(3\), got 2"),
        (NAMES, [[0, 0], [0], [0]], r"clusters\[1\]: the class has 2 images"),
        (NAMES, [[0, 3], [0, 0], [0]], r"clusters\[0\]: expected 0\.\.2, got 0\.\.3"),
        (NAMES, [[0, -1], [0, 0], [0]], r"expected 0\.\.2, got -1\.\.0"),
    ],
)
def test_what_does_not_fit(names, clusters, message):
    with pytest.raises(DataError, match=message):
        assemble_labels(names, LABELS, clusters, k=3)


def test_importing_needs_no_torch():
    code = "import sys, wsss_zoo.methods.sccam as m; m.assemble_labels; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(sccam, name) is not None for name in sccam.__all__)
    with pytest.raises(AttributeError, match="no attribute 'merge'"):
        _ = sccam.merge
