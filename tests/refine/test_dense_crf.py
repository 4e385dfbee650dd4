import builtins
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.refine.exact_mean_field import exact_marginals
from wsss_zoo.errors import DataError, RecipeError, WsssZooError
from wsss_zoo.refine import (
    CRF_PARAMETERS,
    CrfParameters,
    DenseCRF,
    background_power,
    crf_marginals,
    unary_from_labels,
    unary_from_probabilities,
)

PYDENSECRF = importlib.util.find_spec("pydensecrf")
PARITY = Path(__file__).parents[1] / "parity"
# The references are stored in half precision.
HALF = 5e-4


def parity(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as archive:
        return dict(archive)


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)


SETTINGS = {
    "ssdd_offline": "ssdd_offline",
    "ssdd_online": "ssdd_online",
    "deeplab": "deeplab_v2",
    "sec_train": "sec_loss",
    "sec_test": "sec_test",
    "irn": "irn",
}


BACKENDS = [
    "numba",
    "torch",
    pytest.param(
        "pydensecrf", marks=pytest.mark.skipif(PYDENSECRF is None, reason="pydensecrf not installed")
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scene", ["easy", "hard"])
@pytest.mark.parametrize(("reference", "name"), SETTINGS.items())
def test_published_settings(scene, reference, name, backend):
    arrays = parity("dense_crf_scenes")
    prefix = "hard_" if scene == "hard" else ""
    expected = arrays[("hardQ_" if scene == "hard" else "Q_") + reference].astype(np.float32)
    image, probabilities = arrays[f"{prefix}image"], arrays[f"{prefix}prob"]
    (marginals,) = DenseCRF(name, backend)([to_tensor(image)], [torch.from_numpy(probabilities)])
    assert marginals.dtype == torch.float32
    assert marginals.is_contiguous()
    assert (marginals.numpy().argmax(0) == expected.argmax(0)).mean() >= 0.999
    np.testing.assert_allclose(marginals.numpy(), expected, atol=HALF)
    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)

    # and the lattice is as close to the exact model as its authors' code is
    exact = exact_marginals(image, unary_from_probabilities(probabilities), CRF_PARAMETERS[name])
    assert (exact.argmax(0) == marginals.numpy().argmax(0)).mean() >= (0.97 if scene == "hard" else 0.995)
    assert np.abs(exact - marginals.numpy()).mean() <= np.abs(exact - expected).mean() + 1e-4 <= 0.02


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "reference"),
    [("sec_loss", "Q41_sec_energy_minus_score"), ("dsrg_loss", "Q41_dsrg_energy_minus_prob")],
)
def test_settings_of_training_losses(name, reference, backend):
    arrays = parity("dense_crf_loss_41")
    probabilities = torch.from_numpy(arrays["prob41"])
    energies = -probabilities.log() if name == "sec_loss" else -probabilities
    marginals = DenseCRF(name, backend)([to_tensor(arrays["image41"])], energies=[energies])[0].numpy()
    clipped = np.clip(marginals, 1e-4, None)
    np.testing.assert_allclose(clipped / clipped.sum(0), arrays[reference].astype(np.float32), atol=HALF)


@pytest.mark.parametrize("backend", BACKENDS)
def test_online_setting_of_ssdd(backend):
    arrays = parity("dense_crf_online_112")
    images = to_tensor(arrays["image112"])[None]
    probabilities = torch.from_numpy(arrays["logits112"])[None].softmax(1)
    (marginals,) = DenseCRF("ssdd_online", backend)(images, probabilities)
    np.testing.assert_allclose(marginals, arrays["Q112_ssdd_online"].astype(np.float32), atol=HALF)


@pytest.mark.parametrize(
    ("reference", "overrides"),
    [("crf_t10", {}), ("crf_t1", {"iterations": 1}), ("crf_t10_scale12", {"scale_factor": 12.0})],
)
def test_overrides(reference, overrides):
    arrays = parity("dense_crf_cam")
    crf = DenseCRF("psa", **overrides)
    (marginals,) = crf([to_tensor(arrays["image"])], [torch.from_numpy(arrays["crf_prob_in"])])
    np.testing.assert_allclose(marginals, arrays[reference].astype(np.float32), atol=HALF)


@pytest.mark.parametrize("alpha", [4, 24])
def test_background_power_and_crf_of_seam(alpha):
    arrays = parity("dense_crf_cam")
    maps = np.stack([arrays["seam_norm_cam_2"], arrays["seam_norm_cam_14"]])
    scores = np.concatenate([background_power(maps, alpha)[None], maps])
    marginals = crf_marginals(arrays["image"], unary_from_probabilities(scores), CRF_PARAMETERS["psa"])
    np.testing.assert_allclose(marginals, arrays[f"crf_alpha{alpha}"].astype(np.float32), atol=HALF)


def test_table_of_settings():
    def kernels(name):
        p = CRF_PARAMETERS[name]
        return p.sxy_gauss, p.compat_gauss, p.sxy_bilateral, p.srgb, p.compat_bilateral, p.iterations

    expected = dict.fromkeys(
        ["psa", "ssdd_offline", "ssdd_final", "sec_test", "dcsm"], (3, 3, 80, 13, 10, 10)
    )
    expected |= dict.fromkeys(["sec_loss", "dsrg_loss"], (3, 3, 80, 13, 10, 10))
    expected |= {"seam_walk": (3, 3, 80, 13, 10, 1), "ssdd_online": (3, 3, 80, 13, 10, 3)}
    expected |= {"irn": (3, 3, 50, 5, 10, 10), "deeplab_v2": (1, 3, 67, 3, 4, 10)}
    expected |= {"seam_retrain": (3, 3, 32, 13, 10, 1)}
    assert {name: kernels(name) for name in CRF_PARAMETERS} == expected
    scales = {name: p.scale_factor for name, p in CRF_PARAMETERS.items() if p.scale_factor != 1}
    assert scales == {"sec_loss": 12, "dsrg_loss": 12}
    assert {name: p.gt_prob for name, p in CRF_PARAMETERS.items() if p.gt_prob} == {"irn": 0.7}
    assert all(p.source for p in CRF_PARAMETERS.values())


def test_lists_of_different_sizes_and_numbers_of_planes():
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (3, *s)).astype(np.uint8)) for s in ((9, 13), (20, 7))]
    scores = [torch.from_numpy(rng.random((k, *i.shape[1:]))) for k, i in zip((2, 4), images, strict=True)]
    crf = DenseCRF()
    together = crf(images, scores)
    for image, score, marginals in zip(images, scores, together, strict=True):
        assert marginals.shape == score.shape
        torch.testing.assert_close(crf([image], [score])[0], marginals, rtol=0, atol=0)


def test_degenerate_cases():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    unary = rng.random((3, 6, 5)).astype(np.float32)
    psa = CRF_PARAMETERS["psa"]
    np.testing.assert_array_equal(crf_marginals(image, unary[:1], psa), np.ones((1, 6, 5)))
    np.testing.assert_allclose(
        crf_marginals(image, unary, CrfParameters(iterations=0)), softmax(-unary, axis=0), atol=1e-6
    )
    uniform = crf_marginals(image, np.full((3, 6, 5), 2.0), psa)
    np.testing.assert_allclose(uniform, 1 / 3, atol=1e-5)
    for size in ((6, 1), (1, 5), (1, 1)):
        small = crf_marginals(image[: size[0], : size[1]], unary[:, : size[0], : size[1]], psa)
        assert small.shape == (3, *size)
        np.testing.assert_allclose(small.sum(0), 1, atol=1e-5)
    constant = np.full_like(image, 127)
    exact = exact_marginals(constant, unary, psa)
    assert np.abs(crf_marginals(constant, unary, psa) - exact).max() < 0.02


def test_arrays_in_any_memory_layout():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (8, 9, 3)).astype(np.uint8)
    unary = rng.random((2, 8, 9)).astype(np.float32)
    psa = CRF_PARAMETERS["psa"]
    expected = crf_marginals(image, unary, psa)
    view = np.repeat(image, 2, axis=1)[::-1, ::2][::-1]
    assert not view.flags.c_contiguous
    again = crf_marginals(view, np.asfortranarray(unary.astype(np.float64)), psa)
    np.testing.assert_array_equal(again, expected)


def test_unary_energies():
    energies = unary_from_probabilities(np.array([[[0.0, 1e-6]], [[1.0, 0.5]], [[1.5, 0.1]]]))
    assert energies.dtype == np.float32
    expected = [[[-np.log(1e-5)] * 2], [[0, -np.log(0.5)]], [[0, -np.log(0.1)]]]
    np.testing.assert_allclose(energies, expected, rtol=1e-5)

    hard = unary_from_labels(np.array([[0, 2]]), 3, 0.7)
    other = -np.log(0.15)
    np.testing.assert_allclose(
        hard, [[[-np.log(0.7), other]], [[other, other]], [[other, -np.log(0.7)]]], rtol=1e-6
    )
    np.testing.assert_array_equal(unary_from_labels(np.zeros((2, 2), int), 1, 0.7), np.zeros((1, 2, 2)))
    with pytest.raises(DataError, match=r"plane numbers 0\.\.2, got 0\.\.3"):
        unary_from_labels(np.array([[0, 3]]), 3, 0.7)
    with pytest.raises(DataError, match="between 0 and 1"):
        unary_from_labels(np.array([[0, 1]]), 3, 1.0)


@pytest.mark.parametrize(
    ("image", "scores", "complaint"),
    [
        (torch.zeros(3, 4, 5), torch.rand(2, 4, 5), r"uint8 \(3, H, W\), got torch.float32"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), torch.rand(2, 4, 5), r"uint8 \(3, H, W\)"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(2, 5, 4), "at the size of the image"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.full((2, 4, 5), torch.nan), "NaN"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(2, 0, 5), "at the size of the image"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(1, 2, 4, 5), "at the size of the image"),
    ],
)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_mistakes_are_told(image, scores, complaint, backend):
    with pytest.raises(DataError, match=complaint):
        DenseCRF(backend=backend)([image], [scores])


def test_scores_are_given_once_and_for_every_image():
    image, scores = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(2, 4, 5)
    with pytest.raises(DataError, match="either probabilities or energies"):
        DenseCRF()([image])
    with pytest.raises(DataError, match="either probabilities or energies"):
        DenseCRF()([image], [scores], energies=[scores])
    with pytest.raises(DataError, match="2 images, but scores for 1"):
        DenseCRF()([image, image], [scores])
    with pytest.raises(DataError, match="an image has no scores"):
        DenseCRF()([image], [[]])
    with pytest.raises(DataError, match="an image has no scores"):
        DenseCRF()([image], [torch.rand(0, 4, 5)])


@pytest.mark.parametrize(
    ("name", "overrides", "complaint"),
    [
        ("pas", {}, "no setting named 'pas'; did you mean 'psa'"),
        ("psa", {"iteration": 3}, "did you mean 'iterations'"),
        ("psa", {"iterations": -1}, "whole number"),
        ("psa", {"iterations": 2.5}, "whole number"),
        ("psa", {"srgb": 0}, "srgb must be above 0"),
        ("psa", {"sxy_gauss": float("nan")}, "sxy_gauss must be above 0"),
        ("psa", {"compat_gauss": -1}, "compat_gauss must not be negative"),
        ("psa", {"gt_prob": 1.0}, "gt_prob lies between"),
        ("psa", {"backend": "cuda"}, "no backend named 'cuda'"),
    ],
)
def test_unknown_settings_are_told(name, overrides, complaint):
    with pytest.raises(RecipeError, match=complaint):
        DenseCRF(name, **overrides)


def test_missing_library_says_how_to_install_it(monkeypatch):
    real_import = builtins.__import__

    def without_pydensecrf(name, *args, **kwargs):
        if name.startswith("pydensecrf"):
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pydensecrf)
    image, scores = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.rand(2, 4, 5)
    with pytest.raises(WsssZooError, match=r'pip install "wsss-zoo\[crf\]" \(needs a C\+\+ compiler\)'):
        DenseCRF(backend="pydensecrf")([image], [scores])
    assert DenseCRF()([image], [scores])[0].shape == (2, 4, 5)
    assert DenseCRF(iterations=0)([image], [scores])[0].shape == (2, 4, 5)
