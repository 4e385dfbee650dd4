"""The dense CRF on tensors, for lists of images of different sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Literal, TypeAlias, cast, get_args, overload

import torch
from torch import Tensor
from tqdm import tqdm

from wsss_zoo.errors import DataError, RecipeError, suggest
from wsss_zoo.refine.crf_parameters import crf_parameters
from wsss_zoo.refine.mean_field import (
    NOT_FINITE,
    SMALLEST_PROBABILITY,
    infer_sets,
    require_planes,
)

Backend: TypeAlias = Literal["auto", "numba", "torch", "pydensecrf"]
#: Planes (K, H, W) of an image, or several sets of them.
Scores: TypeAlias = Tensor | Sequence[Tensor]

# Images that a GPU is given at once by `stream`.
_IMAGES_A_BATCH = 32


class DenseCRF:
    """Sharpen per-pixel scores along image edges with a fully connected CRF.

    Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
    NeurIPS 2011, on the permutohedral lattice of Adams, Baek & Davis (Eurographics 2010): labels as from
    the authors' code. On the CPU each image runs on one thread and `torch.get_num_threads()` images at
    once, so a list is faster than a loop; the results are the same. See docs/performance.md.

    Args:
        params: name of a published setting, see `CRF_PARAMETERS`.
        backend: "numba" (CPU), "torch" (on the device of the scores), "auto" (torch for scores on a GPU,
            otherwise numba), or "pydensecrf", the authors' C++ code, for comparison.
        **overrides: fields of `CrfParameters` that replace the setting's, such as `iterations=5`.

    Attributes:
        parameters: the resulting `CrfParameters`.

    Raises:
        RecipeError: unknown setting, backend or field, or a value out of range.

    Example:
        >>> crf = DenseCRF("psa", iterations=5)
        >>> image, probabilities = torch.zeros(3, 4, 6, dtype=torch.uint8), torch.rand(2, 4, 6)
        >>> crf([image], [probabilities])[0].shape
        torch.Size([2, 4, 6])
    """

    def __init__(self, params: str = "psa", backend: Backend = "auto", **overrides: float | None) -> None:
        if backend not in get_args(Backend):
            raise RecipeError(
                f"dense CRF: no backend named '{backend}'; {suggest(backend, get_args(Backend))}"
            )
        self.backend = backend
        self.parameters = crf_parameters(params, **overrides)

    @overload
    def __call__(
        self, images: Sequence[Tensor] | Tensor, probabilities: Sequence[Tensor] | Tensor
    ) -> list[Tensor]: ...

    @overload
    def __call__(
        self, images: Sequence[Tensor] | Tensor, probabilities: Sequence[Sequence[Tensor]]
    ) -> list[list[Tensor]]: ...

    @overload
    def __call__(
        self, images: Sequence[Tensor] | Tensor, *, energies: Sequence[Tensor] | Tensor
    ) -> list[Tensor]: ...

    @overload
    def __call__(
        self, images: Sequence[Tensor] | Tensor, *, energies: Sequence[Sequence[Tensor]]
    ) -> list[list[Tensor]]: ...

    def __call__(
        self,
        images: Sequence[Tensor] | Tensor,
        probabilities: Sequence[Scores] | Tensor | None = None,
        *,
        energies: Sequence[Scores] | Tensor | None = None,
    ) -> list[Tensor] | list[list[Tensor]]:
        """Infer the marginals of each image.

        Args:
            images: list of uint8 `(3, H, W)` RGB, or a batch `(B, 3, H, W)`.
            probabilities: list of float `(K, H, W)`, or a batch. Clipped to [1e-5, 1]; planes need not sum
                to 1. K may differ between images. Several sets of planes of one image (PSA's scores with
                low and with high background) are given as a list of them in its place and share the
                image's lattice.
            energies: unary energies instead (lower = more likely), for hard labels (`unary_from_labels`)
                or losses that take negative logits.

        Returns:
            list of float32 `(K, H, W)` on the device of the scores, summing to 1 over K; a list of them for
            an image with several sets.

        Raises:
            DataError: both or none of `probabilities` and `energies`, numbers or sizes that do not fit,
                images that are not uint8, NaN, or kernels too narrow for the lattice.
            WsssZooError: pydensecrf is asked for but not installed.
        """
        if (probabilities is None) == (energies is None):
            raise DataError("dense CRF: give either probabilities or energies.")
        scores = probabilities if probabilities is not None else energies
        assert scores is not None
        if len(images) != len(scores):
            raise DataError(f"dense CRF: {len(images)} images, but scores for {len(scores)}.")
        pairs = zip(images, scores, strict=True)
        marginals = self.stream(pairs, energies=energies is not None)
        # which of both is told by the overloads
        return cast("list[Tensor] | list[list[Tensor]]", list(marginals))

    def stream(
        self, pairs: Iterable[tuple[Tensor, Scores]], *, energies: bool = False, progress: str | None = None
    ) -> Iterator[Tensor | list[Tensor]]:
        """Infer image after image without holding all of them, for folders.

        Args:
            pairs: image and its scores, as for calling; read a few images ahead of what is asked for.
            energies: scores are unary energies, not probabilities.
            progress: title of a progress bar; None shows none.

        Yields:
            Marginals of each image, in order.

        Raises:
            DataError: as for calling.
            WsssZooError: as for calling.
        """
        total = len(pairs) if isinstance(pairs, Sequence) else None
        pending = iter(pairs)
        first = next(pending, None)
        if first is None:
            return
        on_gpu = self.backend == "auto" and _sets(first[1])[0].is_cuda
        run = self._on_device if on_gpu or self.backend == "torch" else self._on_threads
        with tqdm(total=total, desc=progress, unit="img", disable=progress is None) as bar:
            for marginals in run(chain([first], pending), energies):
                bar.update()
                yield marginals

    def _on_threads(
        self, pairs: Iterator[tuple[Tensor, Scores]], energies: bool
    ) -> Iterator[Tensor | list[Tensor]]:
        threads = torch.get_num_threads()
        if threads == 1:
            for image, scores in pairs:
                yield self._on_cpu(image, scores, energies)
            return
        running: deque[Future[Tensor | list[Tensor]]] = deque()
        # A pool for each call: threads that are kept do not survive the fork of a DataLoader's workers.
        with ThreadPoolExecutor(threads) as pool:
            for image, scores in pairs:
                running.append(pool.submit(self._on_cpu, image, scores, energies))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _on_cpu(self, image: Tensor, scores: Scores, energies: bool) -> Tensor | list[Tensor]:
        _require_image(image)
        results = infer_sets(
            image.permute(1, 2, 0).cpu().numpy(),
            [planes.detach().float().cpu().numpy() for planes in _sets(scores)],
            self.parameters,
            "pydensecrf" if self.backend == "pydensecrf" else "numba",
            probabilities=not energies,
        )
        pairs = zip(results, _sets(scores), strict=True)
        marginals = [torch.from_numpy(result).to(planes.device) for result, planes in pairs]
        return marginals[0] if isinstance(scores, Tensor) else marginals

    def _on_device(
        self, pairs: Iterator[tuple[Tensor, Scores]], energies: bool
    ) -> Iterator[Tensor | list[Tensor]]:
        # Here and not on top: most never need it.
        from wsss_zoo.refine.crf.torch_mean_field import torch_marginals

        while batch := list(islice(pairs, _IMAGES_A_BATCH)):
            unary = [
                [_energies(image, planes, energies) for planes in _sets(scores)] for image, scores in batch
            ]
            results = torch_marginals([image for image, _ in batch], unary, self.parameters)
            for (_, scores), marginals in zip(batch, results, strict=True):
                yield marginals[0] if isinstance(scores, Tensor) else marginals


def _sets(scores: Scores) -> Sequence[Tensor]:
    if len(scores) == 0:
        raise DataError("dense CRF: an image has no scores; give (K, H, W) or a list of such sets.")
    return [scores] if isinstance(scores, Tensor) else scores


def _require_image(image: Tensor) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise DataError(
            f"dense CRF: images are uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}; "
            "undo the normalisation of network input first (Normalization.invert)."
        )


def _energies(image: Tensor, scores: Tensor, is_energy: bool) -> Tensor:
    """Unary energies of one set on its device, checked."""
    _require_image(image)
    require_planes(scores.shape, (image.shape[1], image.shape[2]))
    values = scores.detach().float()
    if not bool(torch.isfinite(values).all()):
        raise DataError(NOT_FINITE)
    return values if is_energy else -values.clamp(SMALLEST_PROBABILITY, 1).log()
