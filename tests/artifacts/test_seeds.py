import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import Seeds
from wsss_zoo.errors import ArtifactError


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 4), height=st.integers(1, 45), width=st.integers(1, 45), seed=st.integers(0, 99))
def test_seeds_survive_the_file(tmp_path_factory, count, height, width, seed):
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.choice(20, count, replace=False)).astype(np.int16)
    planes = rng.random((count + 1, height, width)) < 0.2
    path = tmp_path_factory.mktemp("seeds") / "a.npz"
    Seeds(classes, planes, (7, 9)).save(path)
    loaded = Seeds.load(path)
    assert (loaded.size, loaded.grid) == ((7, 9), (height, width))
    dense = loaded.dense(20)
    assert (dense.shape, dense.dtype) == ((21, height, width), bool)
    np.testing.assert_array_equal(dense[[0, *(classes + 1)]], planes)
    assert dense.sum() == planes.sum()


@pytest.mark.parametrize(
    ("classes", "planes", "message"),
    [
        (np.array([2], np.int16), np.zeros((3, 4, 4), bool), r"\(K \+ 1, h, w\) with K=1"),
        (np.array([2], np.int16), np.zeros((2, 4, 4), np.uint8), "bool"),
        (np.array([7, 2], np.int16), np.zeros((3, 4, 4), bool), "ascending"),
        (np.array([], np.int16), np.zeros((1, 0, 4), bool), r"\(1, 0, 4\)"),
    ],
)
def test_wrong_parts_are_refused(classes, planes, message):
    with pytest.raises(ArtifactError, match=message):
        Seeds(classes, planes, (4, 4))


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, classes=np.array([2], np.int16), maps=np.zeros((1, 4, 4), np.float16), size=[4, 4])
    with pytest.raises(ArtifactError, match=r"a\.npz: expected seeds .*keys missing: seeds"):
        Seeds.load(path)
