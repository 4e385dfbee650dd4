"""K-means inside classes: what it minimises, and images, clusters and features that make trouble."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import KMeansInClasses
from wsss_zoo.refine.kmeans import kmeans
from wsss_zoo.refine.subcategories import distances_to_centre, inertia


def blobs(count=300, dimensions=16, kinds=7, seed=0):
    """Non-negative features of a few kinds, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((kinds, dimensions))
    rows = centres[rng.integers(0, kinds, count)] + rng.standard_normal((count, dimensions))
    return np.maximum(rows, 0).astype(np.float32)


def labels_of(count, classes=3, seed=0):
    labels = (np.random.default_rng(seed).random((count, classes)) < 0.5).astype(np.float32)
    labels[0] = 0  # an image without any class
    return labels


@pytest.mark.parametrize("engine", ["sklearn", "torch"])
def test_every_class_is_clustered_by_itself(engine):
    features, labels = blobs(), labels_of(300)
    clusters = KMeansInClasses(k=4, engine=engine)(features, labels)
    for index, found in enumerate(clusters):
        rows = features[labels[:, index] > 0]
        assert (found.shape, found.dtype) == ((len(rows),), np.int16)
        assert set(found.tolist()) == {0, 1, 2, 3}
        by_hand = KMeans(4, init="k-means++", n_init=10, max_iter=300, random_state=0).fit(rows)
        assert inertia(rows, found) == pytest.approx(by_hand.inertia_, rel=1e-3)
        if engine == "sklearn":
            np.testing.assert_array_equal(found, by_hand.labels_)


@given(st.integers(0, 2**16), st.integers(2, 40), st.integers(1, 6), st.integers(1, 8))
def test_the_engines_agree(seed, count, dimensions, k):
    features, labels = blobs(count, dimensions, seed=seed), np.ones((count, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn warns where there are too few different rows
        one, other = (
            KMeansInClasses(k=k, n_init=4, seed=seed, engine=engine)(features, labels)[0]
            for engine in ("sklearn", "torch")
        )
    assert inertia(features, other) == pytest.approx(inertia(features, one), rel=0.01, abs=1e-3)
    assert max(one.max(), other.max()) < k


def test_the_same_seed_gives_the_same_clusters_and_more_starts_never_worse_ones():
    features, labels = blobs(kinds=20), np.ones((300, 1), np.float32)
    runs = [KMeansInClasses(k=10, n_init=n, seed=3)(features, labels)[0] for n in (1, 10, 10)]
    np.testing.assert_array_equal(runs[1], runs[2])
    assert inertia(features, runs[1]) <= inertia(features, runs[0]) + 1e-6


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 6), st.sampled_from(["sklearn", "torch"]))
def test_few_images_and_equal_features(seed, different, k, engine):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((max(1, different), 5)).astype(np.float32)
    which = rng.integers(0, len(values), 3 * different)
    labels = np.ones((len(which), 1), np.float32)
    (found,) = KMeansInClasses(k=k, engine=engine)(values[which], labels)
    assert found.shape == which.shape
    for value in range(len(values)):
        assert len(set(found[which == value].tolist())) <= 1  # equal features stay together
    if len(np.unique(which)) <= k:
        first = list(dict.fromkeys(which.tolist()))
        assert found.tolist() == [first.index(value) for value in which]
        assert inertia(values[which], found) == pytest.approx(0, abs=1e-9)


def test_a_class_without_images_has_no_clusters():
    labels = np.array([[1, 0, 0], [1, 0, 1]], np.float32)
    clusters = KMeansInClasses(k=5)(np.eye(2, dtype=np.float32), labels)
    assert [found.tolist() for found in clusters] == [[0, 1], [], [0]]


def test_zero_has_no_sign():
    features = np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)
    assert KMeansInClasses(k=2)(features, np.ones((2, 1), np.float32))[0].tolist() == [0, 0]


def test_a_start_that_loses_all_its_rows(monkeypatch):
    # two starts on one spot: one of them has no rows after the first assignment and must come back
    spots = np.repeat([[5.0, 5.0], [-5.0, -5.0], [30.0, 30.0]], [20, 20, 3], axis=0)
    rows = (spots + np.random.default_rng(0).normal(0, 0.01, spots.shape)).astype(np.float32)
    starts = np.stack([rows[0], rows[0], rows[1]]) - rows.mean(0)
    monkeypatch.setattr("wsss_zoo.refine.kmeans.kmeans_plusplus", lambda *args, **kwargs: (starts, None))
    clusters = kmeans(rows, 3, n_init=1)
    assert [len(set(clusters[start:end].tolist())) for start, end in ((0, 20), (20, 40), (40, 43))] == [1] * 3
    assert len(set(clusters.tolist())) == 3


def test_features_are_taken_as_they_are():
    # without normalisation length tells more than direction
    short, long = np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([[100.0, 10.0], [10.0, 100.0]])
    features = np.concatenate([short, long[:1]]).astype(np.float32)
    assert KMeansInClasses(k=2)(features, np.ones((3, 1), np.float32))[0].tolist() in ([0, 0, 1], [1, 1, 0])


def test_distance_to_the_centre():
    rows = np.array([[0.0, 0], [2, 0], [7, 7]], np.float32)
    clusters = np.array([4, 4, 1], np.int16)
    assert distances_to_centre(rows, clusters).tolist() == [1, 1, 0]
    assert inertia(rows, clusters) == 2


def test_what_cannot_be_clustered():
    features, labels = blobs(6), labels_of(6)
    with pytest.raises(DataError, match=r"features \(N, D\) and labels \(N, C\), got \(5, 16\), \(6, 3\)"):
        KMeansInClasses()(features[:5], labels)
    features[4, 2] = np.nan
    with pytest.raises(DataError, match="feature of row 4 holds NaN"):
        KMeansInClasses()(features, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 1 or more, got 0"),
        ({"k": 40000}, "k is at most 32767"),
        ({"n_init": 0}, "n_init is 1 or more"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"max_iter": 0}, "max_iter is 1 or more"),
        ({"engine": "faiss"}, "'sklearn' or 'torch', got 'faiss'"),
    ],
)
def test_settings_out_of_range(arguments, message):
    with pytest.raises(RecipeError, match=message):
        KMeansInClasses(**arguments)
