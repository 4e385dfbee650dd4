"""Real MXNet and Caffe files of the same networks, where a folder of test data is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wsss_zoo.weights.files import read_state_dict

ROOT = os.environ.get("WSSS_ZOO_TEST_DATA")
SAMPLES = Path(ROOT) / "weights" / "format_samples" if ROOT else None
PAIRS = sorted(SAMPLES.glob("*.caffemodel")) if SAMPLES else []

pytestmark = pytest.mark.skipif(
    not PAIRS, reason="needs real files: set WSSS_ZOO_TEST_DATA to a folder with weights/format_samples"
)


@pytest.mark.parametrize("caffe_file", PAIRS, ids=lambda path: path.stem)
def test_both_formats_hold_the_same_numbers(caffe_file):
    caffe = read_state_dict(caffe_file)
    mxnet = read_state_dict(next(caffe_file.parent.glob(f"{caffe_file.stem}-*.params")))
    compared = 0
    for name, theirs in mxnet.items():
        layer, _, kind = name.removeprefix("arg:").rpartition("_")
        places = {key.lower().replace("-", "_"): key for key in caffe}
        ours = caffe[places[f"{layer.lower()}.{'weight' if kind == 'gamma' else kind}"]]
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == torch.float32
        if ours.dim() == 1:
            assert torch.equal(ours, theirs)
        # the published MXNet files were converted: image axes swapped, BGR turned to RGB
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
        if ours.dim() == 4:
            swapped = ours.transpose(2, 3)
            assert torch.equal(swapped.flip(1) if ours.shape[1] == 3 else swapped, theirs)
        compared += 1
    assert compared == len(mxnet) > 10
