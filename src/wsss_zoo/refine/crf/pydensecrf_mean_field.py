"""Mean-field inference by pydensecrf, the authors' C++ code, kept as the reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import WsssZooError
from wsss_zoo.refine.crf_parameters import CrfParameters


def pydensecrf_marginals(
    image: npt.NDArray[np.uint8], energies: npt.NDArray[np.float32], parameters: CrfParameters
) -> npt.NDArray[np.float32]:
    """Marginals of one CRF.

    Args:
        image: uint8 `(H, W, 3)`.
        energies: float32 `(K, H, W)`, finite.
        parameters: kernels and number of updates.

    Returns:
        float32 `(K, H, W)`.

    Raises:
        WsssZooError: pydensecrf is not installed.
    """
    try:
        # Here and not on top: it is an optional extra.
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise WsssZooError(
            'the dense CRF backend "pydensecrf" needs the package: pip install "wsss-zoo[crf]" (needs a C++ '
            'compiler), or leave out backend: "numba" gives the same labels faster.'
        ) from error
    planes, height, width = energies.shape
    crf = DenseCRF2D(width, height, planes)
    crf.setUnaryEnergy(np.ascontiguousarray(energies).reshape(planes, -1))
    scale = parameters.scale_factor
    # Diagonal kernels and symmetric normalisation are the library's defaults, which every source uses.
    crf.addPairwiseGaussian(sxy=parameters.sxy_gauss / scale, compat=parameters.compat_gauss)
    crf.addPairwiseBilateral(
        sxy=parameters.sxy_bilateral / scale,
        srgb=parameters.srgb,
        rgbim=np.ascontiguousarray(image),
        compat=parameters.compat_bilateral,
    )
    # planes are the columns of its result
    marginals = np.array(crf.inference(parameters.iterations), dtype=np.float32, order="C")
    return marginals.reshape(planes, height, width)
