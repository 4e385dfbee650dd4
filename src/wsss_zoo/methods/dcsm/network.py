"""The classifier whose derivatives are DCSM's maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.dcsm.derivatives import class_derivatives
from wsss_zoo.methods.dcsm.guided_relu import GuidedReLUs

#: Name of the layer that is the input of the network (Simonyan et al.'s maps are derivatives there).
IMAGE = "image"


class Traced(NamedTuple):
    """An image that went through the network and can be gone back once.

    Attributes:
        score_map: `(1, C, h, w)`, with its graph.
        maps: layer -> feature map `(1, channels, h, w)`, shallow to deep.
    """

    score_map: Tensor
    maps: dict[str, Tensor]

    @property
    def logits(self) -> Tensor:
        """`(C,)`: the maximum of each class over positions."""
        return self.score_map.detach()[0].amax((1, 2))


class DCSMNetwork(nn.Module):
    """Backbone, 1x1 classifier at every position, global max pooling (Shimoda & Yanai, ECCV 2016).

    Args:
        backbone: the feature extractor; its deepest map is classified. Guided back-propagation wants ReLUs.
        num_classes: foreground classes C.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.out_channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]
        # a backbone may know how to leave out the graph below a map, as VGG16FCN does
        self._cuts = "graph_from" in signature(backbone.forward).parameters

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.classifier,)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers at which DCSM takes derivatives: all maps of the backbone but the classified one."""
        return tuple(stage.name for stage in self.backbone.stages[:-1])

    def require_layers(self, layers: Sequence[str]) -> tuple[str, ...]:
        """The layers in the order of the network, shallow to deep.

        Raises:
            WsssZooError: there are none, or the backbone does not expose one of them.
        """
        known = (IMAGE, *(stage.name for stage in self.backbone.stages))
        for layer in layers:
            if layer not in known:
                raise WsssZooError(f"DCSM: the backbone has no layer {layer!r}; {suggest(layer, known)}")
        if not layers:
            raise WsssZooError(f"DCSM: there are no layers; name some of {', '.join(known)}")
        return tuple(name for name in known if name in layers)

    def forward(self, images: Tensor) -> Tensor:
        """The score map `(B, C, h, w)`; logits are its maxima over positions."""
        return self.classifier(self.backbone(images)[self.backbone.stages[-1].name])

    def trace(self, image: Tensor, layers: Sequence[str] | None = None, guided: bool = True) -> Traced:
        """Run an image and record what the way back to the given layers needs.

        With the VGG16 of DCSM nothing is recorded below the shallowest layer; other backbones record from the
        image on, which costs memory and no time.

        Args:
            image: `(1, 3, H, W)`, normalised.
            layers: names of maps of the backbone, and `image`; None takes `self.layers`.
            guided: guided back-propagation; otherwise plain derivatives.

        Raises:
            WsssZooError: unknown layer, or guided back-propagation in a network without ReLUs.
        """
        names = self.require_layers(self.layers if layers is None else layers)
        relus = GuidedReLUs() if guided else None
        # tensors of inference mode have no graph; a copy made outside it is an ordinary one
        with torch.inference_mode(False), torch.enable_grad(), relus or nullcontext():
            image = image.clone() if image.is_inference() else image
            if self._cuts and names[0] != IMAGE:
                maps = self.backbone(image.detach(), graph_from=names[0])
            else:
                image = image.detach().requires_grad_()
                maps = {IMAGE: image, **self.backbone(image)}
            score_map = self.classifier(maps[self.backbone.stages[-1].name])
        if relus is not None and relus.count == 0:
            raise WsssZooError(
                "DCSM: guided back-propagation works on ReLUs, and this backbone has none; choose a backbone "
                "with ReLU or ReLU6, or set guided to false for plain derivatives"
            )
        return Traced(score_map, {name: maps[name] for name in names})

    def derivatives(
        self,
        image: Tensor,
        classes: Sequence[int] | Tensor,
        layers: Sequence[str] | None = None,
        guided: bool = True,
    ) -> dict[str, Tensor]:
        """Derivatives of the summed scores of classes with respect to feature maps.

        Args:
            image: `(1, 3, H, W)`, normalised.
            classes: K indices.
            layers: see `trace`.
            guided: see `trace`.

        Returns:
            Layer -> derivative `(K, channels, h, w)`, the deepest first.

        Raises:
            WsssZooError: see `trace` and `class_derivatives`.
        """
        traced = self.trace(image, layers, guided)
        return dict(class_derivatives(traced.score_map, traced.maps, classes))
