"""Whatever is put in: both engines agree with each other, batches with loops, sets with single calls."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.refine.exact_mean_field import exact_marginals
from wsss_zoo.errors import DataError
from wsss_zoo.refine import CRF_PARAMETERS, CrfParameters, DenseCRF, crf_marginals, unary_from_probabilities

ENGINES = ["numba", "torch"]


@st.composite
def pictures(draw, smallest_side=1):
    """An image, smooth, noisy or constant, and probabilities, among them 0 and 1."""
    height, width = draw(st.integers(smallest_side, 14)), draw(st.integers(smallest_side, 14))
    planes = draw(st.integers(1, 11))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["noise", "ramp", "constant"]))
    image = {
        "noise": rng.integers(0, 256, (3, height, width)),
        "ramp": np.linspace(0, 255, 3 * height * width).reshape(3, height, width),
        "constant": np.full((3, height, width), draw(st.integers(0, 255))),
    }[kind].astype(np.uint8)
    scores = rng.random((planes, height, width), dtype=np.float32)
    if draw(st.booleans()):
        scores = np.round(scores)  # exactly 0 and 1
    return torch.from_numpy(image), torch.from_numpy(scores)


@given(pictures(), st.integers(0, 5))
def test_any_picture(picture, iterations):
    image, scores = picture
    engines = {e: DenseCRF("psa", e, iterations=iterations)([image], [scores])[0] for e in ENGINES}
    for marginals in engines.values():
        assert marginals.shape == scores.shape
        assert marginals.dtype == torch.float32
        assert bool(((marginals >= 0) & (marginals <= 1 + 1e-6)).all())
        torch.testing.assert_close(marginals.sum(0), torch.ones(scores.shape[1:]), rtol=0, atol=1e-5)
    # on random scores tiny differences grow with each update, pixels on the fence first
    difference = (engines["numba"] - engines["torch"]).abs()
    assert float(difference.mean()) < 1e-4
    if iterations == 0:
        expected = (-torch.from_numpy(unary_from_probabilities(scores.numpy()))).softmax(0)
        torch.testing.assert_close(engines["numba"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf not installed")
@given(pictures(smallest_side=2))
@settings(max_examples=25)
def test_any_picture_as_pydensecrf_labels_it(picture):
    image, scores = picture
    if (
        scores[0].numel() % 4
    ):  # its blocks of four pixels add vertices of black corner pixels that are not there
        image, scores = (t[:, : t.shape[1] // 2 * 2, : t.shape[2] // 2 * 2] for t in (image, scores))
    (ours,) = DenseCRF("psa", "numba", iterations=3)([image], [scores])
    (theirs,) = DenseCRF("psa", "pydensecrf", iterations=3)([image], [scores])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("backend", ENGINES)
@given(st.lists(pictures(), min_size=1, max_size=5))
@settings(max_examples=15)
def test_batch_is_a_loop(backend, batch):
    crf = DenseCRF("ssdd_online", backend)
    images, scores = zip(*batch, strict=True)
    together = crf(images, scores)
    for image, planes, marginals in zip(images, scores, together, strict=True):
        alone = crf([image], [planes])[0]
        # numba: the very same; torch: planes are padded, and sums over them may be taken in another order
        torch.testing.assert_close(alone, marginals, rtol=0, atol=0 if backend == "numba" else 1e-4)


def test_threads_do_not_change_results():
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (3, 20, 30)).astype(np.uint8)) for _ in range(7)]
    scores = [torch.from_numpy(rng.random((3, 20, 30), dtype=np.float32)) for _ in range(7)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(torch.stack(DenseCRF()(images, scores)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("backend", [*ENGINES, "pydensecrf"])
def test_several_sets_of_one_image(backend):
    if backend == "pydensecrf":
        pytest.importorskip("pydensecrf")
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, 12, 15)).astype(np.uint8))
    low, high, many = (torch.from_numpy(rng.random((k, 12, 15), dtype=np.float32)) for k in (3, 3, 9))
    single = torch.ones(1, 12, 15)
    crf = DenseCRF("psa", backend)
    together, alone = crf([image, image], [[low, high, many, single], low])
    assert [len(marginals) for marginals in together] == [3, 3, 9, 1]
    for planes, marginals in zip((low, high, many, single), together, strict=True):
        torch.testing.assert_close(crf([image], [planes])[0], marginals, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together[0], rtol=0, atol=1e-5)

    energies = [unary_from_probabilities(planes.numpy()) for planes in (low, high)]
    pixels = image.permute(1, 2, 0).numpy()
    for expected, marginals in zip(together, crf_marginals(pixels, energies, crf.parameters), strict=False):
        np.testing.assert_allclose(marginals, expected, atol=1e-4)


@pytest.mark.parametrize("backend", ENGINES)
def test_stream_reads_on_demand_and_keeps_the_order(backend, capsys):
    rng = np.random.default_rng(0)
    read = []

    def pairs():
        for index in range(80):
            read.append(index)
            image = torch.full((3, 4, 5 + index % 3), index, dtype=torch.uint8)
            yield image, torch.from_numpy(rng.random((2, 4, 5 + index % 3)))

    results = DenseCRF(iterations=1, backend=backend).stream(pairs(), progress="dense CRF")
    assert next(results).shape == (2, 4, 5)
    assert len(read) < 40  # not all of the folder
    assert [marginals.shape[2] for marginals in results] == [5 + index % 3 for index in range(1, 80)]
    assert "dense CRF: 80img" in capsys.readouterr().err
    assert list(DenseCRF(backend=backend).stream([])) == []


def test_mistake_in_a_stream_ends_it():
    good = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(2, 4, 5)
    bad = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.full((2, 4, 5), torch.nan)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = DenseCRF().stream([good, bad, good, good])
        next(results)
        with pytest.raises(DataError, match="NaN"):
            next(results)
    finally:
        torch.set_num_threads(before)


def test_large_batches_are_cut(monkeypatch):
    from wsss_zoo.refine.crf import torch_mean_field

    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (3, 6, 7)).astype(np.uint8)) for _ in range(5)]
    scores = [torch.from_numpy(rng.random((2, 6, 7), dtype=np.float32)) for _ in range(5)]
    whole = DenseCRF(backend="torch")(images, scores)
    monkeypatch.setattr(torch_mean_field, "_NUMBERS_A_BATCH", 6 * 7 * 2 * 2)
    cut = [last - first for first, last in torch_mean_field._batches([[planes] for planes in scores])]
    assert cut == [2, 2, 1]
    for one, other in zip(whole, DenseCRF(backend="torch")(images, scores), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_come_back_as_float32(dtype):
    scores = torch.tensor([[[0.25, 0.75]], [[0.75, 0.25]]], dtype=dtype, requires_grad=True)
    image = torch.zeros(3, 1, 2, dtype=torch.uint8)
    for backend in ENGINES:
        (marginals,) = DenseCRF(backend=backend)([image], [scores])
        assert marginals.dtype == torch.float32
        assert not marginals.requires_grad


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("planes", [2, 4, 5, 8, 9, 21])
def test_numbers_of_planes(backend, planes):
    rng = np.random.default_rng(planes)
    image = rng.integers(0, 256, (16, 18, 3)).astype(np.uint8)
    scores = rng.random((planes, 16, 18), dtype=np.float32) ** 4
    parameters = CrfParameters(iterations=2, sxy_bilateral=8, srgb=60)
    exact = exact_marginals(image, unary_from_probabilities(scores), parameters)
    crf = DenseCRF("psa", backend, iterations=2, sxy_bilateral=8, srgb=60)
    (marginals,) = crf([torch.from_numpy(image).permute(2, 0, 1)], [torch.from_numpy(scores)])
    assert np.abs(marginals.numpy() - exact).mean() < 0.02


def test_engine_is_read_when_it_is_used():
    # scores on a GPU or pydensecrf do not need numba, and importing the package does not read it
    code = (
        "import sys, torch, wsss_zoo, wsss_zoo.refine; assert 'numba' not in sys.modules;"
        "from wsss_zoo.refine import DenseCRF, crf_marginals; assert 'numba' not in sys.modules;"
        "DenseCRF(backend='torch')([torch.zeros(3, 4, 5, dtype=torch.uint8)], [torch.rand(2, 4, 5)]);"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.run(
        [sys.executable, "-c", "import sys, wsss_zoo.refine; assert 'torch' not in sys.modules"], check=True
    )


def test_energies_are_not_changed():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    unary = rng.random((3, 6, 7), dtype=np.float32)
    before = unary.copy()
    crf_marginals(image, unary, CRF_PARAMETERS["psa"])
    np.testing.assert_array_equal(unary, before)
    scores = torch.from_numpy(unary)
    DenseCRF()([torch.from_numpy(image).permute(2, 0, 1)], [scores])
    np.testing.assert_array_equal(scores.numpy(), before)
