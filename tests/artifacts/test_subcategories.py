"""Features, sub-categories of one image and of all images, as files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.artifacts import ClusterTable, Subcategories, load_features, save_features
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, load_artifact, save_artifact
from wsss_zoo.errors import ArtifactError


def ints(*values):
    return np.array(values, np.int16)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 12))
def test_sub_categories_as_files_and_as_labels(tmp_path_factory, seed, num_classes, k):
    rng = np.random.default_rng(seed)
    classes = np.flatnonzero(rng.random(num_classes) < 0.4).astype(np.int16)
    clusters = rng.integers(0, k, len(classes)).astype(np.int16)
    path = tmp_path_factory.mktemp("a") / "a.npz"
    save_artifact("subcategories", path, Subcategories(classes, clusters, k))
    loaded = load_artifact(ARTIFACT_KINDS["subcategories"].content, path)
    assert (loaded.classes.tolist(), loaded.clusters.tolist(), loaded.k) == (
        classes.tolist(),
        clusters.tolist(),
        k,
    )
    labels = loaded.multi_hot(num_classes)
    assert (labels.dtype, labels.shape) == (np.float32, (num_classes * k,))
    pairs = zip(classes.tolist(), clusters.tolist(), strict=True)
    assert np.flatnonzero(labels).tolist() == [index * k + kind for index, kind in pairs]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ints(1, 0), ints(0, 0), 2), "ascending"),
        ((ints(0, 1), ints(0), 2), r"clusters are int16 \(2,\), one a class"),
        ((ints(0), np.array([0]), 2), "int16"),
        ((ints(0), ints(2), 2), r"clusters lie in 0\.\.1, got \[2\]"),
        ((ints(0), ints(-1), 2), r"clusters lie in 0\.\.1"),
        ((ints(), ints(), 0), "k is 1 or more"),
    ],
)
def test_wrong_sub_categories(arguments, message):
    with pytest.raises(ArtifactError, match=message):
        Subcategories(*arguments)


def test_features_as_files(tmp_path):
    features = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    save_artifact("features", tmp_path / "a.npz", features)
    np.testing.assert_array_equal(load_features(tmp_path / "a.npz"), features)
    for wrong, message in (
        (features[None], r"features are float32 \(D,\)"),
        (features.astype(np.float64), "float64"),
        (np.zeros(0, np.float32), r"\(0,\)"),
        (np.full(3, np.nan, np.float32), "NaN or infinity; the network that made them has diverged"),
    ):
        with pytest.raises(ArtifactError, match=message):
            save_features(tmp_path / "b.npz", wrong)
    assert not (tmp_path / "b.npz").exists()


def test_a_file_of_another_kind_is_named(tmp_path):
    save_features(tmp_path / "a.npz", np.ones(3, np.float32))
    with pytest.raises(
        ArtifactError, match=r"a\.npz: expected sub-categories .*missing: classes, clusters, k"
    ):
        Subcategories.load(tmp_path / "a.npz")
    with pytest.raises(ArtifactError, match=r"a\.npz: expected clusters .*keys missing: "):
        ClusterTable.load(tmp_path / "a.npz")
    with pytest.raises(ArtifactError, match="expected Subcategories, got ndarray"):
        save_artifact("subcategories", tmp_path / "b.npz", np.ones(3))


def table(**changes):
    parts = {
        "image_ids": ("one", "ecssd/0002"),
        "classes": np.array([[1, 0, 1], [0, 1, 0]]),
        "subcategories": np.array([[0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]]),
        "distances": np.array([[0.5, 0, 2], [0, 1, 0]], np.float32),
    }
    return ClusterTable(**{**parts, **changes})


def test_the_table_of_all_images(tmp_path):
    table().save(tmp_path / "a.npz")
    loaded = ClusterTable.load(tmp_path / "a.npz")
    assert (loaded.image_ids, loaded.k, loaded.num_classes) == (("one", "ecssd/0002"), 2, 3)
    assert loaded.clusters.tolist() == [[1, -1, 0], [-1, 0, -1]]
    np.testing.assert_array_equal(loaded.distances, table().distances)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": ("one",)}, r"expected classes and distances \(1, C\)"),
        ({"subcategories": np.zeros((2, 7))}, r"expected subcategories \(2, 3 \* K\), got \(2, 7\)"),
        ({"subcategories": np.zeros((2, 6))}, "each class present has one sub-category"),
        ({"subcategories": np.ones((2, 6))}, "each class present has one sub-category"),
    ],
)
def test_wrong_tables(changes, message):
    with pytest.raises(ArtifactError, match=message):
        table(**changes)
