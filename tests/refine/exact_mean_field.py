"""Mean field of the dense CRF with the full N x N kernels in float64: what the lattice approximates."""

import numpy as np
from scipy.special import softmax


def exact_marginals(image, unary, parameters):
    """Marginals `(K, H, W)`; the pixel's own contribution counts, symmetric normalisation."""
    planes, height, width = unary.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
    colours = image.reshape(-1, 3).astype(np.float64)
    distance = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    colour_distance = ((colours[:, None] - colours) ** 2).sum(-1)

    def normalised(kernel):
        n = 1 / np.sqrt(kernel.sum(1))
        return n[:, None] * kernel * n

    f = parameters.scale_factor
    smooth = normalised(np.exp(-distance / (2 * (parameters.sxy_gauss / f) ** 2)))
    appearance = normalised(
        np.exp(
            -distance / (2 * (parameters.sxy_bilateral / f) ** 2) - colour_distance / (2 * parameters.srgb**2)
        )
    )
    kernel = parameters.compat_gauss * smooth + parameters.compat_bilateral * appearance
    energies = unary.reshape(planes, -1).astype(np.float64)
    q = softmax(-energies, axis=0)
    for _ in range(parameters.iterations):
        q = softmax(-energies + q @ kernel, axis=0)
    return q.reshape(unary.shape)
