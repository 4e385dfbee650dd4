"""Reading MatConvNet's `.mat` files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.io import savemat

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.files import read_state_dict


def cells(*layers):
    """A cell array 1 x N of structures, as MATLAB's `net.layers`."""
    array = np.empty((1, len(layers)), object)
    for index, layer in enumerate(layers):
        array[0, index] = layer
    return array


@pytest.fixture
def layers():
    rng = np.random.default_rng(0)
    return (
        {"type": "conv", "filters": rng.random((3, 2, 5, 4), np.float32), "biases": rng.random((1, 4))},
        {"type": "relu"},
        {"type": "conv", "filters": rng.random((1, 1, 4, 1), np.float32), "biases": rng.random((1, 1))},
    )


@pytest.mark.parametrize("inside", ["net", None])
def test_layers_are_numbered_from_1(tmp_path, layers, inside):
    content = {"layers": cells(*layers), "normalization": {"imageSize": [224, 224, 3]}}
    savemat(tmp_path / "a.mat", {inside: content} if inside else content)
    read = read_state_dict(tmp_path / "a.mat")
    assert list(read) == ["layers.1.filters", "layers.1.biases", "layers.3.filters", "layers.3.biases"]
    for number in (1, 3):
        theirs = layers[number - 1]
        filters, biases = read[f"layers.{number}.filters"], read[f"layers.{number}.biases"]
        assert (filters.dtype, biases.dtype) == (torch.float32, torch.float32)
        np.testing.assert_array_equal(filters.numpy(), theirs["filters"])
        np.testing.assert_array_equal(biases.numpy(), theirs["biases"][0].astype(np.float32))


def test_sizes_of_1_that_matlab_drops(tmp_path):
    savemat(tmp_path / "a.mat", {"layers": cells({"filters": np.ones((2, 3, 4)), "biases": np.ones((1, 1))})})
    assert read_state_dict(tmp_path / "a.mat")["layers.1.filters"].shape == (2, 3, 4, 1)


def test_a_number_is_a_place_and_not_a_count(tmp_path, layers):
    savemat(tmp_path / "a.mat", {"net": {"layers": cells(np.zeros((0, 0)), layers[0])}})
    assert list(read_state_dict(tmp_path / "a.mat")) == ["layers.2.filters", "layers.2.biases"]


@pytest.mark.parametrize(
    "content",
    [
        {"GTcls": {"Segmentation": np.ones((2, 2))}},
        {"net": np.ones((1, 1))},
        {"layers": cells({"type": "relu"})},
    ],
)
def test_other_matlab_files(tmp_path, content):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(WeightsError, match=r"a\.mat holds no net\.layers with filters and biases"):
        read_state_dict(tmp_path / "a.mat")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"no matlab file at all" * 20)
    with pytest.raises(WeightsError, match="cannot be read as a MATLAB file"):
        read_state_dict(tmp_path / "a.mat")
    # version 7.3 is HDF5 after a header of MATLAB's own
    header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM"
    (tmp_path / "b.mat").write_bytes(header + bytes(400))
    with pytest.raises(WeightsError, match="save it in MATLAB with -v7"):
        read_state_dict(tmp_path / "b.mat")
