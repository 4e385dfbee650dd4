"""`read_state_dict`: PyTorch and safetensors files, wrappers, and what is refused."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.weights.writers import mxnet_bytes
from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.files import read_state_dict

TENSORS = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def same(read):
    assert set(read) == set(TENSORS)
    return all(torch.equal(read[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize("extension", [".pth", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch(tmp_path, extension, zipped):
    path = tmp_path / f"weights{extension}"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net"])
def test_the_state_dict_inside_a_checkpoint(tmp_path, wrapper):
    path = tmp_path / "checkpoint.ckpt"
    torch.save({"epoch": 3, wrapper: {f"module.{key}": value for key, value in TENSORS.items()}}, path)
    assert same(read_state_dict(str(path)))


def test_module_is_kept_where_it_is_a_name(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"module.a": torch.ones(1), "head.b": torch.ones(1)}, path)
    assert set(read_state_dict(path)) == {"module.a", "head.b"}


@pytest.mark.parametrize("name", ["weights.safetensors", "renamed.pth", "without_extension"])
def test_safetensors_is_recognised_by_its_content(tmp_path, name):
    path = tmp_path / name
    safetensors.torch.save_file(TENSORS, path)
    assert same(read_state_dict(path))


def test_mxnet_and_pytorch_are_recognised_by_their_content(tmp_path):
    path = tmp_path / "renamed.dat"
    path.write_bytes(mxnet_bytes({"arg:a": np.ones(2, np.float32)}))
    assert set(read_state_dict(path)) == {"arg:a"}
    torch.save(TENSORS, path)
    assert same(read_state_dict(path))


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, capsys, zipped):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Payload()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth holds more than tensors .* could run code"):
        read_state_dict(path)
    (tmp_path / "evil.pickle.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(WeightsError, match=r"evil\.pickle\.pth"):
        read_state_dict(tmp_path / "evil.pickle.pth")
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "is empty"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.params", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("a.pth", b"some text that is no pickle", "cannot be read as PyTorch weights"),
        ("a.safetensors", b"some text that is no header", "cannot be read as safetensors"),
        ("a.h5", b"\x89HDF\r\n", r"unknown kind of weights '.h5'; expected .pth"),
        ("a.params", b"text", "start with 0x112|ends too early"),
    ],
)
def test_what_is_refused_and_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be read as PyTorch weights"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(WeightsError, match="cannot be read as PyTorch weights"):
        read_state_dict(path)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        read_state_dict(path)


def test_content_without_tensors_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds list, expected a mapping"):
        read_state_dict(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match=r"holds no tensors; .* found the keys epoch"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match="there is no weights file"):
        read_state_dict(tmp_path / "nowhere.pth")
