import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.artifacts.resampling import reduce_bilinear, resample_bilinear
from wsss_zoo.errors import ArtifactError


def smooth_maps(size, classes=2):
    """Waves of 64 pixels, the scale on which localization maps of stride-16 features change."""
    y, x = np.mgrid[: size[0], : size[1]] * (2 * np.pi / 64)
    waves = [0.5 + 0.25 * np.sin(y + shift) + 0.25 * np.cos(x + shift) for shift in range(classes)]
    return np.stack(waves).astype(np.float32)


@pytest.fixture
def stored():
    return LocalizationMaps.from_full_size([2, 14], smooth_maps((61, 83)))


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(0, 10**6))
def test_resampling_is_torch_interpolation(source, target, seed):
    maps = np.random.default_rng(seed).random((2, *source), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], size=target, mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(resample_bilinear(maps, target), expected.numpy(), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 9), st.integers(0, 10**6))
def test_reducing_is_the_least_squares_inverse_of_enlarging(size, stride, seed):
    maps = np.random.default_rng(seed).random((1, *size), dtype=np.float32)
    small = tuple(-(-side // stride) for side in size)
    enlarge = [
        resample_bilinear(np.eye(n, dtype=np.float32)[None], (side, n))[0]
        for n, side in zip(small, size, strict=True)
    ]
    expected = np.linalg.pinv(enlarge[0]) @ maps @ np.linalg.pinv(enlarge[1]).T
    np.testing.assert_allclose(reduce_bilinear(maps, small), expected, atol=2e-5)


@pytest.mark.parametrize("size", [(375, 500), (374, 501), (61, 83)])
def test_full_size_comes_back_close(size):
    maps = smooth_maps(size)
    stored = LocalizationMaps.from_full_size(np.array([0, 19]), maps)
    assert stored.maps.shape == (2, -(-size[0] // 4), -(-size[1] // 4))
    assert (stored.maps.dtype, stored.classes.dtype, stored.size) == (np.float16, np.int16, size)
    restored = stored.full_size()
    assert restored.dtype == np.float32
    assert np.abs(restored - maps).mean() < 4e-3
    # within half a cell of the border a map is constant by definition
    assert np.abs(restored - maps)[:, 8:-8, 8:-8].max() < 6e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 4), (5, 4)])
def test_constant_maps_of_tiny_images_come_back_exactly(size):
    stored = LocalizationMaps.from_full_size([0], np.full((1, *size), 0.75, np.float32))
    np.testing.assert_allclose(stored.full_size(), 0.75, atol=1e-3)
    assert stored.full_size().shape == (1, *size)


def test_stride_one_is_the_map_in_half_precision():
    maps = smooth_maps((20, 30))
    stored = LocalizationMaps.from_full_size([0, 1], maps, stride=1)
    np.testing.assert_array_equal(stored.maps, maps.astype(np.float16))


def test_round_trip_without_pickle_and_without_classes(tmp_path, stored):
    stored.save(tmp_path / "maps" / "a.npz")
    with np.load(tmp_path / "maps" / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"classes", "maps", "size"}
    back = LocalizationMaps.load(tmp_path / "maps" / "a.npz")
    np.testing.assert_array_equal(back.maps, stored.maps)
    np.testing.assert_array_equal(back.classes, [2, 14])
    assert back.size == (61, 83)

    LocalizationMaps.from_full_size([], np.zeros((0, 9, 7), np.float32)).save(tmp_path / "none.npz")
    assert LocalizationMaps.load(tmp_path / "none.npz").full_size().shape == (0, 9, 7)


def test_rounding_beyond_the_range_is_clipped_but_more_is_refused():
    maps = smooth_maps((16, 16), classes=1)
    maps[0, 0, 0], maps[0, 8, 8] = -1.3e-6, 1 + 1e-6
    stored = LocalizationMaps.from_full_size([0], maps).maps
    assert stored.min() >= 0
    assert stored.max() <= 1
    for value in (1.01, -0.01, np.nan, np.inf):
        maps[0, 3, 3] = value
        with pytest.raises(ArtifactError, match=r"values lie in \[0, 1\]"):
            LocalizationMaps.from_full_size([0], maps)


GOOD = {
    "classes": np.array([2, 14], np.int16),
    "maps": np.zeros((2, 4, 5), np.float16),
    "size": np.array([16, 20], np.int32),
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"classes": np.array([2, 14], np.int64)}, "classes are int16"),
        ({"classes": np.array([14, 2], np.int16)}, "ascending order"),
        ({"classes": np.array([2, 2], np.int16)}, "ascending order"),
        ({"classes": np.array([-1, 2], np.int16)}, "0-based"),
        ({"classes": np.array([2], np.int16)}, "K=1"),
        ({"maps": np.zeros((2, 4, 5), np.float32)}, "maps are float16"),
        ({"maps": np.zeros((4, 5), np.float16)}, "maps are float16"),
        ({"maps": np.full((2, 4, 5), 1.5, np.float16)}, r"\[0, 1\], got 1.5"),
        ({"maps": np.full((2, 4, 5), np.nan, np.float16)}, r"\[0, 1\], got nan"),
        ({"maps": np.zeros((2, 17, 5), np.float16)}, "not larger than the image"),
        ({"maps": np.zeros((2, 0, 5), np.float16)}, "not larger than the image"),
        ({"size": np.array([16, 20, 3])}, r"two integers \(H, W\)"),
        ({"size": np.array([16.0, 20.0])}, r"two integers \(H, W\)"),
        ({"size": np.array([0, 20])}, "not larger than the image"),
        ({"maps": np.array([{"a": 1}], dtype=object)}, "pickle"),
        ({"maps": None}, "keys missing: maps"),
    ],
)
def test_a_broken_file_is_named_with_the_way_out(tmp_path, change, complaint):
    path = tmp_path / "2007_000032.npz"
    content = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    np.savez_compressed(path, **content)
    with pytest.raises(ArtifactError, match=complaint) as caught:
        LocalizationMaps.load(path)
    assert str(path) in str(caught.value)
    assert "Delete it and run again" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_artifact_error(tmp_path, stored, keep):
    path = tmp_path / "a.npz"
    stored.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ArtifactError, match=r"a\.npz: .*Delete it and run again"):
        LocalizationMaps.load(path)


def test_flipped_bytes_in_the_middle_are_an_artifact_error(tmp_path, stored):
    path = tmp_path / "a.npz"
    stored.save(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(255 - byte for byte in data[middle : middle + 40])
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="Delete it and run again"):
        LocalizationMaps.load(path)


def test_missing_or_other_files(tmp_path):
    with pytest.raises(ArtifactError, match="Run the stage that writes it"):
        LocalizationMaps.load(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ArtifactError, match=r"not an \.npz archive"):
        LocalizationMaps.load(tmp_path / "a.npy")
