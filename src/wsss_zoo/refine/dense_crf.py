"""The dense CRF on tensors, for lists of images of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine.crf_parameters import crf_parameters
from wsss_zoo.refine.mean_field import crf_marginals, unary_from_probabilities


class DenseCRF:
    """Sharpen per-pixel scores along image edges with a fully connected CRF.

    Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
    NeurIPS 2011. Runs on the CPU, one image after the other; `refine_folder` runs images in parallel.

    Args:
        params: name of a published setting, see `CRF_PARAMETERS`.
        backend: "pydensecrf", the permutohedral lattice of the authors' C++ code.
        **overrides: fields of `CrfParameters` that replace the setting's, such as `iterations=5`.

    Attributes:
        parameters: the resulting `CrfParameters`.

    Raises:
        RecipeError: unknown setting, backend or field, or a value out of range.

    Example:
        >>> crf = DenseCRF("psa", iterations=5)  # doctest: +SKIP
        >>> marginals = crf([image], [probabilities])[0]  # doctest: +SKIP
    """

    def __init__(
        self, params: str = "psa", backend: Literal["pydensecrf"] = "pydensecrf", **overrides: float | None
    ) -> None:
        if backend != "pydensecrf":
            raise RecipeError(f"dense CRF: no backend named '{backend}'; choose from: pydensecrf")
        self.backend = backend
        self.parameters = crf_parameters(params, **overrides)

    def __call__(
        self,
        images: Sequence[Tensor] | Tensor,
        probabilities: Sequence[Tensor] | Tensor | None = None,
        *,
        energies: Sequence[Tensor] | Tensor | None = None,
    ) -> list[Tensor]:
        """Infer the marginals of each image.

        Args:
            images: list of uint8 `(3, H, W)` RGB, or a batch `(B, 3, H, W)`.
            probabilities: list of float `(K, H, W)`, or a batch. Clipped to [1e-5, 1]; planes need not sum
                to 1. K may differ between images.
            energies: unary energies instead (lower = more likely), for hard labels (`unary_from_labels`)
                or losses that take negative logits.

        Returns:
            list of float32 `(K, H, W)` on the device of the scores, summing to 1 over K.

        Raises:
            DataError: both or none of `probabilities` and `energies`, numbers or sizes that do not fit,
                images that are not uint8, NaN.
            WsssZooError: pydensecrf is not installed.
        """
        if (probabilities is None) == (energies is None):
            raise DataError("dense CRF: give either probabilities or energies.")
        scores = probabilities if probabilities is not None else energies
        assert scores is not None
        if len(images) != len(scores):
            raise DataError(f"dense CRF: {len(images)} images, but scores for {len(scores)}.")
        return [
            self._marginals(image, plane, is_energy=energies is not None)
            for image, plane in zip(images, scores, strict=True)
        ]

    def _marginals(self, image: Tensor, scores: Tensor, is_energy: bool) -> Tensor:
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise DataError(
                f"dense CRF: images are uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}; "
                "undo the normalisation of network input first (Normalization.invert)."
            )
        values = scores.detach().float().cpu().numpy()
        unary = values if is_energy else unary_from_probabilities(values)
        marginals = crf_marginals(image.permute(1, 2, 0).cpu().numpy(), unary, self.parameters)
        return torch.from_numpy(marginals).to(scores.device)
