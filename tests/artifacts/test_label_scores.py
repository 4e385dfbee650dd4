import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import Differences, LabelScores, LocalizationMaps, Seeds, Subcategories
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, ROLES, load_artifact, save_artifact
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.errors import ArtifactError


def scores(classes=(2, 7), height=10, width=14, seed=0):
    return np.random.default_rng(seed).random((len(classes) + 1, height, width), dtype=np.float32)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 4), height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_full_size_scores_survive_to_half_a_grey_level(tmp_path_factory, count, height, width, seed):
    path = tmp_path_factory.mktemp("scores") / "a.npz"
    planes = scores(range(count), height, width, seed)
    LabelScores.from_full_size(np.arange(count), planes).save(path)
    loaded = LabelScores.load(path)
    assert loaded.classes.tolist() == list(range(count))
    assert loaded.size == (height, width)
    np.testing.assert_allclose(loaded.full_size(), planes, atol=0.5 / 255 + 1e-6)


def test_reduced_scores_are_enlarged_bilinearly():
    coarse = scores(height=3, width=4).astype(np.float16)
    loaded = LabelScores(np.array([2, 7], np.int16), coarse, (12, 16))
    np.testing.assert_array_equal(loaded.full_size(), resample_bilinear(coarse, (12, 16)))
    smooth = resample_bilinear(coarse, (12, 16))
    again = LabelScores.from_full_size([2, 7], smooth, stride=4)
    assert again.scores.dtype == np.float16
    np.testing.assert_allclose(again.full_size(), smooth, atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.array([2], np.int16), np.zeros((3, 4, 4), np.uint8), (4, 4)), r"\(K \+ 1, h, w\) with K=1"),
        ((np.array([2], np.int32), np.zeros((2, 4, 4), np.uint8), (4, 4)), "int16"),
        ((np.array([7, 2], np.int16), np.zeros((3, 4, 4), np.uint8), (4, 4)), "ascending"),
        ((np.array([2], np.int16), np.zeros((2, 5, 4), np.uint8), (4, 4)), "not larger than the image"),
        ((np.array([2], np.int16), np.full((2, 4, 4), np.nan, np.float16), (4, 4)), r"\[0, 1\]"),
        ((np.array([2], np.int16), np.zeros((2, 4, 4), np.float32), (4, 4)), "float16 or uint8"),
    ],
)
def test_wrong_parts_are_refused(arguments, message):
    with pytest.raises(ArtifactError, match=message):
        LabelScores(*arguments)


def test_nan_is_refused_before_rounding():
    planes = scores()
    planes[0, 0, 0] = np.nan
    with pytest.raises(ArtifactError, match="NaN"):
        LabelScores.from_full_size([2, 7], planes)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "a.npz"
    LocalizationMaps.from_full_size([1], scores()[:1], stride=1).save(path)
    with pytest.raises(ArtifactError, match=r"a\.npz: expected label scores .*keys missing: scores"):
        LabelScores.load(path)
    LabelScores.from_full_size([2, 7], scores()).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"a\.npz: expected label scores"):
        LabelScores.load(path)


@pytest.mark.parametrize("kind", ARTIFACT_KINDS)
def test_every_kind_comes_back_as_it_was_written(tmp_path, kind):
    values = {
        "localization maps": LocalizationMaps.from_full_size([1], scores()[:1], stride=1),
        "label scores": LabelScores.from_full_size([2, 7], scores()),
        "masks": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "grey maps": (np.arange(12, dtype=np.float32) / 255).reshape(3, 4),
        "features": np.arange(12, dtype=np.float32),
        "sub-categories": Subcategories(np.array([2, 7], np.int16), np.array([4, 0], np.int16), k=5),
        "seeds": Seeds(np.array([2, 7], np.int16), scores() < 0.3, (10, 14)),
        "differences": Differences.from_logits(scores()[0], scores()[1], (10, 14)),
    }
    content, extension = ARTIFACT_KINDS[kind]
    path = tmp_path / f"a{extension}"
    save_artifact(kind, path, values[content])
    loaded = load_artifact(ROLES[kind], path)
    if isinstance(loaded, np.ndarray):
        np.testing.assert_allclose(loaded, values[content], atol=1e-7)
    elif isinstance(loaded, Subcategories):
        np.testing.assert_array_equal(loaded.multi_hot(8), values[content].multi_hot(8))
    elif isinstance(loaded, Seeds):
        np.testing.assert_array_equal(loaded.dense(8), values[content].dense(8))
    else:
        np.testing.assert_array_equal(loaded.full_size(), values[content].full_size())


def test_a_value_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="expected LabelScores, got ndarray"):
        save_artifact("scores", tmp_path / "a.npz", np.zeros((3, 4, 4)))
    with pytest.raises(ArtifactError, match="did you mean 'masks'"):
        save_artifact("mask", tmp_path / "a.png", np.zeros((4, 4), np.uint8))
