"""Mean-field inference of the dense CRF with pydensecrf, on numpy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from wsss_zoo.errors import DataError, WsssZooError
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
    return -np.log(np.clip(probabilities.astype(np.float32, copy=False), np.float32(clip), np.float32(1)))


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


def crf_marginals(
    image: npt.NDArray[np.uint8], unary: npt.NDArray[np.floating], parameters: CrfParameters
) -> npt.NDArray[np.float32]:
    """Marginals of the fully connected CRF of Krähenbühl & Koltun (NeurIPS 2011).

    `Q = softmax(-U)`, then T parallel updates `Q = softmax(-U + w_g N_g(Q) + w_b N_b(Q))` with
    symmetrically normalised Gaussian filters on the permutohedral lattice; a pixel's own contribution is
    part of both filter and normaliser.

    Args:
        image: uint8 `(H, W, 3)`.
        unary: float `(K, H, W)`, energies (lower = more likely), finite.
        parameters: kernels and number of updates.

    Returns:
        float32 `(K, H, W)`, sums to 1 over K.

    Raises:
        DataError: image or unary of another type, shape or size, or energies that are not finite.
        WsssZooError: pydensecrf is not installed.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"dense CRF: the image is uint8 (H, W, 3), got {image.dtype} {image.shape}.")
    if unary.ndim != 3 or len(unary) == 0 or unary.shape[1:] != image.shape[:2] or 0 in unary.shape:
        raise DataError(
            f"dense CRF: unary energies are (K, H, W) at the size of the image {image.shape[:2]}, "
            f"got {unary.shape}."
        )
    if not np.isfinite(unary).all():
        raise DataError("dense CRF: unary energies hold NaN or infinity; clip probabilities before the log.")
    energies = np.ascontiguousarray(unary, dtype=np.float32)
    if parameters.iterations == 0 or len(energies) == 1:
        return softmax(-energies, axis=0)
    return _infer(np.ascontiguousarray(image), energies, parameters)


def _infer(
    image: npt.NDArray[np.uint8], energies: npt.NDArray[np.float32], parameters: CrfParameters
) -> npt.NDArray[np.float32]:
    try:
        # Here and not on top: it is an optional extra, and the unary functions work without it.
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise WsssZooError(
            'the dense CRF needs pydensecrf: pip install "wsss-zoo[crf]" (needs a C++ compiler), '
            "or set crf to null."
        ) from error
    planes, height, width = energies.shape
    crf = DenseCRF2D(width, height, planes)
    crf.setUnaryEnergy(energies.reshape(planes, -1))
    scale = parameters.scale_factor
    # Diagonal kernels and symmetric normalisation are the library's defaults, which every source uses.
    crf.addPairwiseGaussian(sxy=parameters.sxy_gauss / scale, compat=parameters.compat_gauss)
    crf.addPairwiseBilateral(
        sxy=parameters.sxy_bilateral / scale,
        srgb=parameters.srgb,
        rgbim=image,
        compat=parameters.compat_bilateral,
    )
    marginals = crf.inference(parameters.iterations)
    return np.array(marginals, dtype=np.float32).reshape(planes, height, width)
