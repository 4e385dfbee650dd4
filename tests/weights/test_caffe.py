"""Reading Caffe `.caffemodel` files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.weights.writers import caffe_bytes, field
from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.caffe import read_caffe
from wsss_zoo.weights.files import read_state_dict

RNG = np.random.default_rng(0)


def random(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


LAYERS = {
    "data": ("Input", []),
    "conv1": ("Convolution", [random(4, 3, 3, 3), random(4)]),
    "relu1": ("PReLU", [random(4)]),
    "fc6": ("InnerProduct", [random(5, 16), random(5)]),
}
NUMBERS = {"Input": 0, "Convolution": 4, "PReLU": 39, "InnerProduct": 14}
EXPECTED = {
    "conv1.weight": LAYERS["conv1"][1][0],
    "conv1.bias": LAYERS["conv1"][1][1],
    "relu1.weight": LAYERS["relu1"][1][0],
    "fc6.weight": LAYERS["fc6"][1][0],
    "fc6.bias": LAYERS["fc6"][1][1],
}


def write(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_both_formats(tmp_path, legacy, packed):
    layers = {n: (NUMBERS[kind], blobs) for n, (kind, blobs) in LAYERS.items()} if legacy else LAYERS
    read = read_state_dict(write(tmp_path, caffe_bytes(layers, legacy, packed)))
    assert list(read) == list(EXPECTED)
    for key, array in EXPECTED.items():
        assert read[key].dtype == torch.float32
        np.testing.assert_array_equal(read[key].numpy(), array)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 200), min_size=1, max_size=4).filter(lambda s: np.prod(s) < 50_000),
    name=st.text(min_size=1, max_size=30),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_shape_and_name(tmp_path, shape, name, dtype):
    array = random(*shape, dtype=dtype)
    read = read_caffe(write(tmp_path, caffe_bytes({name: ("Convolution", [array])})))
    np.testing.assert_array_equal(read[f"{name}.weight"].numpy(), array)
    assert read[f"{name}.weight"].numpy().dtype == dtype


def test_batch_norm_statistics_are_divided_by_their_scale(tmp_path):
    mean, variance = random(3), abs(random(3))
    layers = {
        "bn": ("BatchNorm", [mean, variance, np.array([4.0], np.float32)]),
        "unused": ("BatchNorm", [mean, variance, np.array([0.0], np.float32)]),
        "scale": ("Scale", [random(3), random(3)]),
    }
    read = read_caffe(write(tmp_path, caffe_bytes(layers)))
    np.testing.assert_allclose(read["bn.running_mean"].numpy(), mean / 4)
    np.testing.assert_allclose(read["bn.running_var"].numpy(), variance / 4)
    assert not read["unused.running_mean"].any()
    assert {"scale.weight", "scale.bias"} < set(read)


def test_a_cut_file_is_refused_inside_every_layer(tmp_path):
    whole = caffe_bytes(LAYERS)
    refused = []
    for length in range(1, len(whole)):
        try:
            read = read_caffe(write(tmp_path, whole[:length]))
        except WeightsError as error:
            refused.append(str(error))
        else:  # cut between two layers: protobuf has no end mark
            assert set(read) < set(EXPECTED)
            assert all(np.array_equal(value.numpy(), EXPECTED[key]) for key, value in read.items())
    assert len(refused) >= len(whole) - 1 - len(LAYERS)
    assert all("net.caffemodel" in message for message in refused)


def test_other_content_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no layer with weights"):
        read_caffe(write(tmp_path, field(1, b"a network")))
    with pytest.raises(WeightsError, match="cannot be read as a Caffe model"):
        read_caffe(write(tmp_path, b'name: "PNet"\ninput: "data"\n'))
    wrong = caffe_bytes({"a": ("Convolution", [random(2, 3)])}).replace(b"\x02\x03", b"\x02\x04")
    with pytest.raises(WeightsError, match=r"shape \(2, 4\) holds 6 values"):
        read_caffe(write(tmp_path, wrong))
