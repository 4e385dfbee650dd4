"""Unary energies and mean-field inference of the dense CRF, on numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from wsss_zoo.errors import DataError
from wsss_zoo.refine.crf_parameters import CrfParameters

#: Probabilities below are raised to it before the logarithm (`unary_from_softmax` of pydensecrf).
SMALLEST_PROBABILITY = 1e-5


def unary_from_probabilities(
    probabilities: npt.NDArray[np.floating], clip: float = SMALLEST_PROBABILITY
) -> npt.NDArray[np.float32]:
    """Energies `-log p` of scores that need not sum to one.

    Args:
        probabilities: float `(K, H, W)`; clipped to [clip, 1].
        clip: smallest probability, 1e-5 bounds the energy at 11.5; training losses of SEC and DSRG use 1e-4.

    Returns:
        float32 `(K, H, W)`, 0 .. -log(clip).
    """
    energies = np.clip(probabilities.astype(np.float32, copy=False), np.float32(clip), np.float32(1))
    np.log(energies, out=energies)
    return np.negative(energies, out=energies)


def unary_from_labels(
    labels: npt.NDArray[np.integer], num_labels: int, gt_prob: float
) -> npt.NDArray[np.float32]:
    """Energies of hard labels: the given label has probability `gt_prob`, the others share the rest.

    Args:
        labels: integers `(H, W)`, 0..num_labels-1, plane numbers and not class indices.
        num_labels: number of planes K.
        gt_prob: between 0 and 1.

    Returns:
        float32 `(K, H, W)`.

    Raises:
        DataError: a label is outside 0..num_labels-1 or `gt_prob` is not between 0 and 1.
    """
    if not 0 < gt_prob < 1:
        raise DataError(f"gt_prob lies between 0 and 1, got {gt_prob}.")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < num_labels:
        raise DataError(
            f"hard labels are plane numbers 0..{num_labels - 1}, "
            f"got {int(labels.min())}..{int(labels.max())}."
        )
    if num_labels == 1:
        return np.zeros((1, *labels.shape), dtype=np.float32)  # nothing to choose from
    given = labels[None] == np.arange(num_labels)[:, None, None]
    return np.where(given, -np.log(gt_prob), -np.log((1 - gt_prob) / (num_labels - 1))).astype(np.float32)


@overload
def crf_marginals(
    image: npt.NDArray[np.uint8],
    unary: npt.NDArray[np.floating],
    parameters: CrfParameters,
    backend: Literal["numba", "pydensecrf"] = "numba",
) -> npt.NDArray[np.float32]: ...


@overload
def crf_marginals(
    image: npt.NDArray[np.uint8],
    unary: Sequence[npt.NDArray[np.floating]],
    parameters: CrfParameters,
    backend: Literal["numba", "pydensecrf"] = "numba",
) -> list[npt.NDArray[np.float32]]: ...


def crf_marginals(
    image: npt.NDArray[np.uint8],
    unary: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]],
    parameters: CrfParameters,
    backend: Literal["numba", "pydensecrf"] = "numba",
) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
    """Marginals of the fully connected CRF of Krähenbühl & Koltun (NeurIPS 2011).

    `Q = softmax(-U)`, then T parallel updates `Q = softmax(-U + w_g N_g(Q) + w_b N_b(Q))` with
    symmetrically normalised Gaussian filters on the permutohedral lattice; a pixel's own contribution is
    part of both filter and normaliser. Runs on the calling thread.

    Args:
        image: uint8 `(H, W, 3)`.
        unary: float `(K, H, W)`, energies (lower = more likely), finite; or a list of several such sets
            (K may differ), which share the lattice of the image.
        parameters: kernels and number of updates.
        backend: "numba", or "pydensecrf", the authors' C++ code.

    Returns:
        float32 `(K, H, W)`, sums to 1 over K; a list where `unary` is one.

    Raises:
        DataError: image or unary of another type, shape or size, energies that are not finite, or kernels
            too narrow for the lattice.
        WsssZooError: pydensecrf is asked for but not installed.
    """
    sets = [unary] if isinstance(unary, np.ndarray) else list(unary)
    marginals = infer_sets(image, sets, parameters, backend, probabilities=False)
    return marginals[0] if isinstance(unary, np.ndarray) else marginals


def infer_sets(
    image: npt.NDArray[np.uint8],
    sets: Sequence[npt.NDArray[np.floating]],
    parameters: CrfParameters,
    backend: Literal["numba", "pydensecrf"],
    *,
    probabilities: bool,
) -> list[npt.NDArray[np.float32]]:
    """Marginals of several sets of planes over one image, see `crf_marginals`.

    Args:
        image: uint8 `(H, W, 3)`.
        sets: float `(K, H, W)` each; K may differ.
        parameters: kernels and number of updates.
        backend: "numba" or "pydensecrf".
        probabilities: the sets are probabilities and no energies.

    Returns:
        float32 `(K, H, W)` each.

    Raises:
        DataError: as `crf_marginals`.
        WsssZooError: as `crf_marginals`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"dense CRF: the image is uint8 (H, W, 3), got {image.dtype} {image.shape}.")
    for planes in sets:
        require_planes(planes.shape, image.shape[:2])
        if not (np.isfinite(planes.min()) and np.isfinite(planes.max())):
            raise DataError(NOT_FINITE)

    def energies(index: int) -> npt.NDArray[np.float32]:
        planes = sets[index]
        return unary_from_probabilities(planes) if probabilities else planes.astype(np.float32, copy=False)

    choices = [index for index, planes in enumerate(sets) if len(planes) > 1]
    if parameters.iterations == 0 or not choices:
        return [softmax(-energies(index), axis=0) for index in range(len(sets))]
    # Here and not on top: numba takes a moment to import, and the unary functions work without both.
    if backend == "pydensecrf":
        from wsss_zoo.refine.crf.pydensecrf_mean_field import pydensecrf_marginals

        inferred = [pydensecrf_marginals(image, energies(index), parameters) for index in choices]
    else:
        from wsss_zoo.refine.crf.numba_mean_field import numba_marginals

        inferred = numba_marginals(image, [sets[index] for index in choices], parameters, probabilities)
    results = iter(inferred)
    return [next(results) if len(planes) > 1 else np.ones(planes.shape, np.float32) for planes in sets]


#: What is said about scores that are not finite.
NOT_FINITE = "dense CRF: scores hold NaN or infinity; clip probabilities before the logarithm."


def require_planes(shape: Sequence[int], size: tuple[int, int]) -> None:
    """Refuse scores that do not fit their image.

    Args:
        shape: of the scores.
        size: height and width of the image.

    Raises:
        DataError: the shape is not `(K, H, W)` with at least one plane and one pixel.
    """
    if len(shape) != 3 or tuple(shape[1:]) != tuple(size) or 0 in shape:
        raise DataError(
            f"dense CRF: probabilities and unary energies are (K, H, W) at the size of the image "
            f"{tuple(size)}, got {tuple(shape)}."
        )
