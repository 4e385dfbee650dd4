"""Dense CRF settings of the published methods, each with where it comes from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import MappingProxyType

from wsss_zoo.errors import RecipeError, suggest


@dataclass(frozen=True)
class CrfParameters:
    """One setting of the fully connected CRF with Potts compatibility.

    Attributes:
        iterations: parallel mean-field updates T; 0 leaves the softmax of the negative unary.
        sxy_gauss: standard deviation of the smoothness kernel, pixels.
        compat_gauss: weight of the smoothness kernel.
        sxy_bilateral: standard deviation of the appearance kernel in space, pixels.
        srgb: standard deviation of the appearance kernel in colour, on values 0..255.
        compat_bilateral: weight of the appearance kernel.
        scale_factor: both spatial deviations are divided by it, for images that were shrunk by this
            factor; colours are not.
        gt_prob: confidence in the given label where the unary comes from hard labels; None: the unary
            comes from probabilities or energies.
        source: publication or code the values come from.
    """

    iterations: int = 10
    sxy_gauss: float = 3.0
    compat_gauss: float = 3.0
    sxy_bilateral: float = 80.0
    srgb: float = 13.0
    compat_bilateral: float = 10.0
    scale_factor: float = 1.0
    gt_prob: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 0:
            raise RecipeError(f"dense CRF: iterations is a whole number from 0, got {self.iterations!r}.")
        for name in ("sxy_gauss", "sxy_bilateral", "srgb", "scale_factor"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise RecipeError(f"dense CRF: {name} must be above 0, got {getattr(self, name)!r}.")
        for name in ("compat_gauss", "compat_bilateral"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise RecipeError(f"dense CRF: {name} must not be negative, got {getattr(self, name)!r}.")
        if self.gt_prob is not None and not 0 < self.gt_prob < 1:
            raise RecipeError(f"dense CRF: gt_prob lies between 0 and 1, got {self.gt_prob!r}.")


#: Settings by name. Planes and size are the caller's: present classes and background at full size unless
#: the entry says otherwise.
CRF_PARAMETERS: MappingProxyType[str, CrfParameters] = MappingProxyType(
    {
        "psa": CrfParameters(
            source="PSA, SEAM and SC-CAM code: CAM with background power (alpha 4, 24 or 32)"
        ),
        "seam_walk": CrfParameters(iterations=1, source="SEAM code: result of the random walk, 21 planes"),
        "irn": CrfParameters(
            sxy_bilateral=50.0, srgb=5.0, gt_prob=0.7, source="IRN code: confident labels from hard labels"
        ),
        "ssdd_offline": CrfParameters(source="SSDD code: random-walk result, planes not renormalised"),
        "ssdd_online": CrfParameters(
            iterations=3, source="SSDD code: in training at 112 x 112, softmax over the present classes"
        ),
        "ssdd_final": CrfParameters(source="SSDD code: test, softmax of the summed maps, 21 planes"),
        "sec_loss": CrfParameters(
            scale_factor=12.0, source="SEC code: boundary loss at 41 x 41, energies are negative logits"
        ),
        "dsrg_loss": CrfParameters(
            scale_factor=12.0,
            source="DSRG code, also FickleNet: boundary loss and region growing at 41 x 41, "
            "energies are negative probabilities",
        ),
        "sec_test": CrfParameters(source="SEC and DSRG code: test at full size, 21 planes"),
        "deeplab_v2": CrfParameters(
            sxy_gauss=1.0,
            sxy_bilateral=67.0,
            srgb=3.0,
            compat_bilateral=4.0,
            source="DeepLab v2 (Chen et al. 2016) as in deeplab-pytorch: test at full size, 21 planes",
        ),
        "seam_retrain": CrfParameters(
            iterations=1, sxy_bilateral=32.0, source="SEAM's retraining code: test at full size, 21 planes"
        ),
        "dcsm": CrfParameters(
            source="DCSM (Shimoda & Yanai 2016): not published, taken to be the values of the PSA family"
        ),
    }
)


def crf_parameters(name: str, **overrides: float | int | None) -> CrfParameters:
    """Look up a setting and change single values of it.

    Args:
        name: key of `CRF_PARAMETERS`.
        **overrides: fields of `CrfParameters`.

    Raises:
        RecipeError: unknown name or field, or a value out of range.
    """
    if name not in CRF_PARAMETERS:
        raise RecipeError(f"dense CRF: no setting named '{name}'; {suggest(name, CRF_PARAMETERS)}")
    fields = [field.name for field in dataclasses.fields(CrfParameters)]
    for key in overrides:
        if key not in fields:
            raise RecipeError(f"dense CRF: no parameter named '{key}'; {suggest(key, fields)}")
    return dataclasses.replace(CRF_PARAMETERS[name], **overrides)  # type: ignore[arg-type]
