"""The dense CRF in the training loop of SEC and DSRG: marginals of the network's own score maps."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.normalization import Normalization
from wsss_zoo.refine.dense_crf import DenseCRF

CrfEnergy: TypeAlias = Literal["neg_prob", "neg_log_prob"]
CRF_ENERGIES = ("neg_prob", "neg_log_prob")
#: Marginals are raised to it and normalised again, so that their logarithm is bounded (both releases).
_SMALLEST_MARGINAL = 1e-4


def crf_images(images: Tensor, size: tuple[int, int], normalization: Normalization) -> Tensor:
    """Network input as the 8-bit images that the CRF looks at, at the size of a score map.

    Args:
        images: float `(B, 3, H, W)`, normalised.
        size: `(h, w)`; linear interpolation with aligned corners, as SciPy's `zoom` of the releases.
        normalization: that was applied, and is undone.

    Returns:
        uint8 `(B, 3, h, w)`, RGB.
    """
    small = F.interpolate(images.detach().float(), size, mode="bilinear", align_corners=True)
    mean, std = (
        torch.tensor(values, device=small.device)[:, None, None]
        for values in (normalization.mean, normalization.std)
    )
    pixels = (small * std + mean).round().clamp(0, 255).to(torch.uint8)
    return pixels.flip(1) if normalization.bgr else pixels


@torch.no_grad()
def crf_log_marginals(
    images: Tensor,
    probabilities: Tensor,
    crf_energy: CrfEnergy = "neg_prob",
    crf: DenseCRF | None = None,
) -> Tensor:
    """Log marginals of the dense CRF over score maps.

    Args:
        images: uint8 `(B, 3, h, w)`, RGB, see `crf_images`.
        probabilities: `(B, C + 1, h, w)` in [0, 1], all classes and not only those of the image.
        crf_energy: the unary term. `neg_prob`, -P, as DSRG's code has it: so weak beside the pairwise terms
            that the marginals are smooth and almost 0 or 1. `neg_log_prob`, -log P, as SEC's, which follow
            the network more closely (the release takes negative logits: the same but for a constant).
        crf: kernels and engine; None is the setting `dsrg_loss`, which is also SEC's: kernels of full-size
            images with spatial deviations divided by 12, ten iterations.

    Returns:
        log Q `(B, C + 1, h, w)` on the device of the probabilities, Q at least about 1e-4; no gradient.

    Raises:
        WsssZooError: unknown energy.
        DataError: images that are not uint8, other sizes, NaN.
    """
    if crf_energy not in CRF_ENERGIES:
        raise WsssZooError(f"there is no crf_energy {crf_energy!r}; {suggest(crf_energy, CRF_ENERGIES)}")
    planes = probabilities.float()
    if crf_energy == "neg_log_prob":
        # the smallest normal number: nothing that softmax gives is changed, but log 0 has no value
        energies = -planes.clamp(min=torch.finfo(torch.float32).tiny).log()
    else:
        energies = -planes
    marginals = torch.stack((crf or DenseCRF("dsrg_loss"))(images, energies=energies))
    marginals = marginals.clamp(min=_SMALLEST_MARGINAL)
    return (marginals / marginals.sum(1, keepdim=True)).log()


def pass_surrogate_gradient(log_marginals: Tensor, crf_input: Tensor) -> Tensor:
    """Log marginals that hand their gradient to the input of the CRF as DSRG's code does.

    The gradient of the input is set to `(1 - Q) * dL / d log Q`, entry by entry. That is no derivative of
    the CRF; with it the release trains.

    Args:
        log_marginals: log Q `(B, C + 1, h, w)`, without gradient.
        crf_input: what the CRF was given, of the same shape.
    """
    factor = 1 - log_marginals.exp()
    return log_marginals + factor * (crf_input - crf_input.detach())
