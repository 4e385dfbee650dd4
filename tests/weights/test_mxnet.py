"""Reading MXNet `.params` files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.weights.writers import mxnet_bytes
from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.files import read_state_dict
from wsss_zoo.weights.mxnet import read_mxnet

ARRAYS = {
    "arg:conv_weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) - 3.5,
    "aux:bn_moving_var": np.array([0.5, 2.0], np.float32),
    "arg:größe": np.array([[-7]], np.int64),
}


def write(tmp_path, content):
    path = tmp_path / "net.params"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("layout", ["legacy", "v1", "v2", "v3"])
def test_every_layout(tmp_path, layout):
    read = read_state_dict(write(tmp_path, mxnet_bytes(ARRAYS, layout)))
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert torch.equal(read[name], torch.from_numpy(array))
        assert read[name].dtype == torch.from_numpy(array).dtype


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=st.sampled_from(["f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2"]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=1, max_dims=5, max_side=4))
    ),
    layout=st.sampled_from(["legacy", "v1", "v2", "v3"]),
)
def test_any_number_type_and_shape(tmp_path, array, layout):
    read = read_mxnet(write(tmp_path, mxnet_bytes({"a": array}, layout)))["a"].numpy()
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_bfloat16(tmp_path):
    values = torch.tensor([1.0, -2.5, 3e20], dtype=torch.bfloat16)
    content = mxnet_bytes({"a": values.view(torch.int16).numpy()}, "v2")
    position = content.index(struct.pack("<iii", 1, 0, 8)) + 8
    content = content[:position] + struct.pack("<i", 12) + content[position + 4 :]
    assert torch.equal(read_mxnet(write(tmp_path, content))["a"], values)


def test_a_single_number_in_the_newest_layout(tmp_path):
    read = read_mxnet(write(tmp_path, mxnet_bytes({"a": np.array(2.5, np.float32)}, "v3")))
    assert read["a"].shape == ()
    assert read["a"].item() == 2.5


@pytest.mark.parametrize(
    "array",
    [
        struct.pack("<I", 0),
        struct.pack("<II", 0xF993FAC8, 0),
        struct.pack("<Iii", 0xF993FAC9, 0, 0),
        struct.pack("<Iii", 0xF993FACA, 0, -1),
    ],
    ids=["legacy", "v1", "v2", "v3"],
)
def test_an_absent_array_is_empty(tmp_path, array):
    rest = mxnet_bytes({"b": np.ones(3, np.float32)}, "v2")[24:]
    content = struct.pack("<QQQ", 0x112, 0, 2) + array + rest[: 4 + 4 + 4 + 8 + 12 + 12]
    content += struct.pack("<Q", 2) + b"".join(struct.pack("<Q", 1) + name for name in (b"a", b"b"))
    read = read_mxnet(write(tmp_path, content))
    assert read["a"].numel() == 0
    assert torch.equal(read["b"], torch.ones(3))


def test_a_list_without_names_is_numbered(tmp_path):
    read = read_mxnet(write(tmp_path, mxnet_bytes(ARRAYS, "legacy", names=False)))
    assert list(read) == ["0", "1", "2"]


@pytest.mark.parametrize("layout", ["legacy", "v2"])
def test_a_cut_file_is_refused_wherever_it_ends(tmp_path, layout):
    whole = mxnet_bytes(ARRAYS, layout)
    for length in range(8, len(whole)):
        with pytest.raises(WeightsError, match=r"net\.params"):
            read_mxnet(write(tmp_path, whole[:length]))


def test_other_content_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="not an MXNet parameter file"):
        read_mxnet(write(tmp_path, b"somethingelse"))
    sparse = struct.pack("<QQQIi", 0x112, 0, 1, 0xF993FAC9, 1)
    with pytest.raises(WeightsError, match="sparse"):
        read_mxnet(write(tmp_path, sparse))
    unknown = struct.pack("<QQQIIiii", 0x112, 0, 1, 1, 2, 1, 0, 99)
    with pytest.raises(WeightsError, match="unknown number type 99"):
        read_mxnet(write(tmp_path, unknown))
