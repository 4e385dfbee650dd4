"""The classifier of FickleNet: a large convolution, each window of which sees a random part of its cells."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.errors import WsssZooError, suggest

#: What is dropped. `centre_preserving`: cells of windows, never the centre; `general`: elements of the map.
Selection: TypeAlias = Literal["centre_preserving", "general"]
_SELECTIONS = ("centre_preserving", "general")


class FickleHead(nn.Module):
    """Stochastic hidden unit selection, a convolution and the average (Lee et al., CVPR 2019, section 3).

    With p > 0 every window of the convolution drops each of its cells with probability p, independently of
    the other windows and of the other images; its centre always stays. p = 0 is the deterministic classifier,
    an ordinary convolution. The selection is drawn in training and at inference alike: nothing here depends
    on `train()` and `eval()`.

    The published computation lays all windows side by side and drops positions of that `s^2` times larger map
    (`expansion.py`). Nothing is expanded here, and the results are the same. A cell v of the map is at offset
    k of the window around `v - k`, so that a selection is a mask `m[v, k]` over cells and offsets, and the
    score is linear in it:

        score_c = b_c + 1/(hw) sum over v, k, d of m[v, k] W[c, d, k] x[d, v].

    Summing over cells first gives `(D, s^2)` numbers an image, whatever C, and then one product with W:
    for 20 classes a 20th of the multiplications of the convolution itself. Summing over channels first gives
    what every cell adds for every offset, from which the localization maps follow without a backward pass
    (`parts`, and `localization.py`).

    Args:
        in_channels: channels D of the map.
        num_classes: foreground classes C.
        kernel: side s of the window, odd (published: 9).
        p: probability that a unit is dropped, in [0, 1) (published: 0.9).
        share_channels: one selection for all channels of a cell. Otherwise channels are dropped on their own,
            which takes as much memory as the expanded map.
        rescale: kept units are divided by `1 - p`, so that the expected score is that of the deterministic
            classifier. The centre, which always stays, is not. (The paper does not say.)
        selection: `centre_preserving`; or `general`, ordinary dropout of single elements of the map, before
            the windows and without preserved centres: the comparison of the paper's table 5.

    Raises:
        WsssZooError: a value is out of range.
    """

    def __init__(
        self,
        in_channels: int = 512,
        num_classes: int = 20,
        kernel: int = 9,
        p: float = 0.9,
        share_channels: bool = True,
        rescale: bool = True,
        selection: Selection = "centre_preserving",
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise WsssZooError(f"FickleNet: kernel is odd, so that a window has a centre, got {kernel}")
        if not 0 <= p < 1:
            raise WsssZooError(f"FickleNet: p is a probability in [0, 1) that a unit is dropped, got {p}")
        if selection not in _SELECTIONS:
            hint = suggest(selection, _SELECTIONS)
            raise WsssZooError(f"FickleNet: there is no selection {selection!r}; {hint}")
        self.kernel = kernel
        self.p = p
        self.share_channels = share_channels
        self.rescale = rescale
        self.selection = selection
        convolution = nn.Conv2d(in_channels, num_classes, kernel)
        self.weight = convolution.weight
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, x: Tensor, generator: torch.Generator | None = None, stochastic: bool = True) -> Tensor:
        """Class scores.

        Args:
            x: `(B, D, h, w)`.
            generator: of the selection, on the device of `x`; None: torch's own.
            stochastic: draw a selection; otherwise the expectation over all selections (with `rescale` the
                score of the deterministic classifier).

        Returns:
            Logits `(B, C)`, at least float32.
        """
        kept = self.draw(len(x), x, generator) if stochastic and self.p > 0 else None
        return self.scores(x, kept)

    @torch.no_grad()
    def draw(self, count: int, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw selections for maps like `x`.

        One selection is drawn after the other: the first n of N are the same whatever N, and however many
        are drawn at once.

        Args:
            count: how many.
            x: `(B, D, h, w)`; its size, its channels and its device count.
            generator: on the device of `x`; None: torch's own.

        Returns:
            Units that are kept, 0 and 1, `(count, hw, J)`: of every cell the offsets (J = s^2), for `general`
            the channels (J = D), without `share_channels` both (J = s^2 D).
        """
        height, width = x.shape[2:]
        dtype = torch.promote_types(x.dtype, torch.float32)
        kept = torch.empty(count, height * width, self._units(x.shape[1]), dtype=dtype, device=x.device)
        for one in kept:
            one.uniform_(generator=generator).ge_(self.p)
        if self.selection == "centre_preserving":
            kept.unflatten(2, (self.kernel**2, -1))[:, :, self.kernel**2 // 2] = 1
        return kept

    def scores(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """Class scores of given selections.

        Args:
            x: `(B, D, h, w)`.
            kept: one selection an image, see `draw`; None: the expectation.

        Returns:
            Logits `(B, C)`.
        """
        with torch.autocast(x.device.type, enabled=False):  # sums over 100,000 units, in float32 at least
            cells = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2)
            gain = self.gain(x.shape[2:], cells, expected=kept is None)
            if kept is None:
                pooled = cells @ gain
            elif self.selection == "general":
                pooled = (cells * kept.transpose(1, 2)) @ gain
            elif self.share_channels:
                pooled = cells @ (kept * gain)
            else:
                units = kept.unflatten(2, (self.kernel**2, -1)) * gain[..., None]
                pooled = torch.einsum("bdv,bvkd->bdk", cells, units)
            summed = pooled.flatten(1) @ self.weight.flatten(1).T.to(pooled.dtype)
            return self.bias + summed / cells.shape[2]

    def score_maps(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """Scores of the windows, of which `scores` is the mean.

        Args:
            x: `(B, D, h, w)`.
            kept: one selection an image, see `draw`; None: the expectation.

        Returns:
            `(B, C, h, w)`, what the convolution says at every position.
        """
        size = x.shape[2:]
        if self.selection == "general":
            factor = self.gain(size, x, expected=kept is None).amax()
            seen = x * factor if kept is None else x * factor * kept.transpose(1, 2).unflatten(2, size)
            return F.conv2d(seen, self.weight, self.bias, padding=self.kernel // 2)
        rows = []
        for index, one in enumerate(x):
            parts = self.parts(one[None], expected=kept is None)
            parts = parts if kept is None else parts * kept[index]
            offsets = parts.unflatten(2, (self.kernel**2, -1)).sum(3)
            # the cell at offset k of the window around u is u + k: `fold` adds each part where its window is
            shifted = offsets.flip(2).transpose(1, 2)
            rows.append(F.fold(shifted, size, self.kernel, padding=self.kernel // 2)[:, 0])
        return self.bias[:, None, None] + torch.stack(rows)

    def parts(self, x: Tensor, classes: Tensor | None = None, expected: bool = False) -> Tensor:
        """What each unit of an image adds to the score of each window that it is in, if it is kept.

        Args:
            x: `(1, D, h, w)`.
            classes: indices `(K,)`; None: all.
            expected: times the probability that it is kept.

        Returns:
            `(K, hw, J)` with the units of `draw`; for `general`, where a unit is in many windows, the sum
            over them.
        """
        with torch.autocast(x.device.type, enabled=False):
            cells = x.to(torch.promote_types(x.dtype, torch.float32))[0].flatten(1)
            gain = self.gain(x.shape[2:], cells, expected)
            weight = (self.weight if classes is None else self.weight[classes]).flatten(2).to(cells.dtype)
            if self.selection == "general":
                return torch.einsum("cdk,vk,dv->cvd", weight, gain, cells)
            if self.share_channels:
                return torch.einsum("cdk,dv->cvk", weight, cells) * gain
            return torch.einsum("cdk,vk,dv->cvkd", weight, gain, cells).flatten(2)

    def gain(self, size: torch.Size | tuple[int, int], like: Tensor, expected: bool = False) -> Tensor:
        """Factors of kept units: 0 where a window would lie outside the map.

        Args:
            size: `(h, w)` of the map.
            like: gives device and type.
            expected: times the probability that a unit is kept.

        Returns:
            `(hw, s^2)`, for cells and offsets.
        """
        offsets = torch.arange(self.kernel, device=like.device) - self.kernel // 2
        inside = []
        for length in size:
            window = torch.arange(length, device=like.device)[:, None] - offsets  # its centre
            inside.append((window >= 0) & (window < length))
        reached = inside[0][:, None, :, None] & inside[1][None, :, None, :]
        factors = like.new_full((self.kernel**2,), 1 / (1 - self.p) if self.rescale else 1.0)
        if expected:
            factors *= 1 - self.p
        if self.selection == "centre_preserving":
            factors[self.kernel**2 // 2] = 1
        return reached.flatten(2).flatten(0, 1) * factors

    def _units(self, channels: int) -> int:
        if self.selection == "general":
            return channels
        return self.kernel**2 * (1 if self.share_channels else channels)
