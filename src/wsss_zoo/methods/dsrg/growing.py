"""Seeded region growing: seeds spread over the connected regions where the network is sure of their class."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from wsss_zoo.errors import WsssZooError

Engine = Literal["auto", "scipy", "torch"]

#: Pixels of a plane touch along sides and corners; planes of a stack do not touch.
_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS[1] = True
#: Steps between looks at whether anything still spreads, each of which waits for the GPU.
_STEPS_A_LOOK = 8


@torch.no_grad()
def grow(
    seeds: Tensor,
    probabilities: Tensor,
    labels: Tensor,
    bg: float = 0.99,
    fg: float = 0.85,
    engine: Engine = "auto",
) -> Tensor:
    """Grow the seeds of a batch once (DSRG, Huang et al., CVPR 2018, section 3.3; rules of its code).

    Of every pixel the most probable class of the image is its label where it is surer than the threshold;
    elsewhere the label is that of the pixel's seed (of the highest index, where it has several), or none.
    Connected pixels of one label, corners included, become seeds of that class if one of them is a seed of
    it, but for those that are a seed of exactly one other class. Seeds stay what they are.

    Args:
        seeds: S `(B, C + 1, h, w)`, 0 or 1.
        probabilities: R `(B, C + 1, h, w)`; DSRG gives the marginals of the dense CRF, not those of the
            network.
        labels: `(B, C + 1)`, 0 and 1; the first, background, counts as 1 in any case.
        bg: what the probability of background must exceed.
        fg: what the probability of another class must exceed.
        engine: `scipy` labels components on the CPU, `torch` spreads seeds by repeated 3x3 maxima on the
            device, with equal results; `auto` is the one for the device of `seeds`.

    Returns:
        The grown seeds `(B, C + 1, h, w)`, in the type of `seeds`; without gradient.

    Raises:
        WsssZooError: shapes that do not go together.
    """
    _require_shapes(seeds, probabilities, labels)
    given = seeds > 0
    present = labels > 0
    present[:, 0] = True
    candidates = _candidates(given, probabilities, present, bg, fg)
    image, plane = present.nonzero(as_tuple=True)
    regions = candidates[image] == plane[:, None, None]
    # One plane for each class of each image. A seed outside its region cannot start anything.
    starts = given[image, plane] & regions
    on_cpu = engine == "scipy" or (engine == "auto" and not seeds.is_cuda)
    grown = (_fill_components if on_cpu else _spread)(starts, regions)
    single = given.view(torch.uint8).sum(1, dtype=torch.uint8) == 1
    only_other = single[image] & ~given[image, plane]
    result = given.clone()
    result[image, plane] |= grown & ~only_other
    return result.to(seeds.dtype)


def _candidates(given: Tensor, probabilities: Tensor, present: Tensor, bg: float, fg: float) -> Tensor:
    """The label of every pixel before connection, `(B, h, w)`; -1 for none."""
    value, best = _most_probable(probabilities, present)
    # 8 bits are enough for any number of classes of a mask, and a fraction of the time
    ranks = torch.arange(1, given.shape[1] + 1, dtype=torch.uint8, device=given.device)
    highest_seed = (given * ranks[:, None, None]).amax(1).long() - 1
    sure = torch.where(best == 0, value > bg, value > fg)
    return torch.where(sure, best, highest_seed)


def _most_probable(probabilities: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and index of the best class of the image, each `(B, h, w)`."""
    counts = present.sum(1)
    most = int(counts.max())
    # Of twenty classes an image has one or two: its own planes first, and no look at the others.
    planes = (~present).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    filler = torch.arange(most, device=present.device) >= counts[:, None]
    index = planes[:, :, None, None].expand(-1, -1, *probabilities.shape[2:])
    scores = probabilities.gather(1, index).masked_fill(filler[:, :, None, None], -torch.inf)
    value, rank = scores.max(1)
    return value, planes.gather(1, rank.flatten(1)).view_as(rank)


def _fill_components(starts: Tensor, regions: Tensor) -> Tensor:
    """The connected components of `regions (N, h, w)` that hold a start, on the CPU."""
    components, count = ndimage.label(regions.cpu().numpy(), structure=_EIGHT_NEIGHBOURS)
    holds_start = np.zeros(count + 1, dtype=bool)
    holds_start[components[starts.cpu().numpy()]] = True
    return torch.from_numpy(holds_start[components]).to(starts.device)


def _spread(starts: Tensor, regions: Tensor) -> Tensor:
    """As `_fill_components`, on the device: starts take their neighbours until nothing changes."""
    room = regions[:, None].to(torch.float32)
    reached = starts[:, None].to(torch.float32)
    before = -1
    # a count tells enough: what is reached never leaves again
    while (count := int(reached.sum(dtype=torch.float64))) != before:
        before = count
        for _ in range(_STEPS_A_LOOK):
            reached = F.max_pool2d(reached, 3, stride=1, padding=1) * room
    return reached[:, 0] > 0


def _require_shapes(seeds: Tensor, probabilities: Tensor, labels: Tensor) -> None:
    if seeds.ndim != 4 or seeds.shape != probabilities.shape or labels.shape != seeds.shape[:2]:
        raise WsssZooError(
            "region growing takes seeds and probabilities (B, C + 1, h, w) and labels (B, C + 1), background "
            f"included, got {tuple(seeds.shape)}, {tuple(probabilities.shape)} and {tuple(labels.shape)}"
        )
