"""A backbone whose last three levels give each cell an embedding; like cells have like embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.affinitynet.affinities import pair_affinities
from wsss_zoo.refine.pixel_pairs import PixelPairs, affinity_matrix, fitting_radius

#: Channels to which the three levels are reduced, shallow to deep (PSA: f8_3, f8_4, f8_5).
_WIDTHS = (64, 128, 256)
#: Channels of a group of the group norms (PSA: 8, 16 and 32 groups).
_GROUP = 8


class AffinityHead(nn.Module):
    """Three levels, each through a 1x1 convolution and ELU, concatenated, and through another such.

    Args:
        stages: the three levels, shallow to deep.
        norm: `group` puts group norm between each of the three convolutions and its ELU (PSA on VGG16).
    """

    def __init__(self, stages: Sequence[Stage], norm: Literal["none", "group"]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.levels = nn.ModuleList()
        for stage, width in zip(stages, _WIDTHS, strict=True):
            level = nn.Sequential()
            level.add_module("conv", nn.Conv2d(stage.channels, width, 1, bias=False))
            if norm == "group":
                level.add_module("norm", nn.GroupNorm(width // _GROUP, width))
            self.levels.append(level)
        self.embedding = nn.Conv2d(sum(_WIDTHS), sum(_WIDTHS), 1, bias=False)
        for convolution in self.convolutions()[:-1]:
            nn.init.kaiming_normal_(convolution.weight)
        nn.init.xavier_uniform_(self.embedding.weight, gain=4)

    def convolutions(self) -> list[nn.Conv2d]:
        """The four convolutions."""
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """The backbone's maps -> `(B, 448, h, w)` on the grid of the deepest level."""
        size = maps[self.stages[-1].name].shape[2:]
        reduced = []
        for stage, level in zip(self.stages, self.levels, strict=True):
            x = F.elu(level(maps[stage.name]))
            if x.shape[2:] != size:
                x = F.interpolate(x, size, mode="bilinear", align_corners=False)
            reduced.append(x)
        return F.elu(self.embedding(torch.cat(reduced, 1)))


class AffinityNetwork(nn.Module):
    """Affinities between neighbouring cells of an image (Ahn & Kwak, PSA, CVPR 2018, section 3.2).

    Args:
        backbone: the feature extractor.
        stages: names of three maps of the backbone, shallow to deep; None takes the three deepest. Maps of
            other sizes are resized (bilinear) to the grid of the last one.
        norm: form of the head, see `AffinityHead`.
        radius: affinities of cells closer than this are given.
        shrink_radius: less radius on grids that are too small for it, as in SEAM (`fitting_radius`);
            otherwise such grids are an error, as in PSA.

    Attributes:
        stride: pixels of the image for one cell of the grid.

    Raises:
        WsssZooError: the backbone does not expose three such maps.
    """

    def __init__(
        self,
        backbone: Backbone,
        stages: Sequence[str] | None = None,
        norm: Literal["none", "group"] = "none",
        radius: int = 5,
        shrink_radius: bool = False,
    ) -> None:
        super().__init__()
        chosen = _choose(backbone, stages)
        if norm not in ("none", "group"):
            raise WsssZooError(f"AffinityNet: norm is 'none' or 'group', got {norm!r}")
        self.backbone = backbone
        self.head = AffinityHead(chosen, norm)
        self.radius = radius
        self.shrink_radius = shrink_radius
        self.stride = chosen[-1].stride

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that learn as new: the convolutions of the head (PSA leaves its group norms out)."""
        return self.head.convolutions()

    def pairs(self, height: int, width: int) -> PixelPairs:
        """The pairs on a grid of this many rows and columns.

        Raises:
            DataError: the grid is too small for the radius.
        """
        radius = fitting_radius(height, width, self.radius) if self.shrink_radius else self.radius
        return PixelPairs(height, width, radius)

    def embed(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` -> `(B, 448, h, w)`."""
        return self.head(self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """Affinities `(B, offsets, sources)` in (0, 1], 34 offsets for radius 5 (see `PixelPairs`)."""
        embedding = self.embed(images)
        return pair_affinities(embedding, self.pairs(*embedding.shape[2:]))

    def forward_dense(self, images: Tensor) -> Tensor:
        """Affinities of one image `(1, 3, H, W)` as a matrix `(h w, h w)`, 1 on the diagonal.

        Raises:
            WsssZooError: more than one image.
        """
        if len(images) != 1:
            raise WsssZooError(f"AffinityNet: the dense matrix is made of one image, got {len(images)}")
        embedding = self.embed(images)
        pairs = self.pairs(*embedding.shape[2:])
        return affinity_matrix(pair_affinities(embedding, pairs)[0], pairs)


def _choose(backbone: Backbone, names: Sequence[str] | None) -> tuple[Stage, ...]:
    known = {stage.name: stage for stage in backbone.stages}
    if names is None:
        names = list(known)[-3:]
    for name in names:
        if name not in known:
            raise WsssZooError(f"AffinityNet: the backbone has no map {name!r}; {suggest(name, known)}")
    if len(names) != len(_WIDTHS):
        raise WsssZooError(
            f"AffinityNet reads three maps of its backbone, here are {len(names)}: {', '.join(names)}; name "
            f"three of {', '.join(known)} as `stages`, or choose a backbone that exposes as many"
        )
    return tuple(known[name] for name in names)
