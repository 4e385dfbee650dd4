"""VGG16 with its fully connected layers slid over the map: nothing is thinned out, nothing dilated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.normalization import Normalization

_CONVOLUTIONS = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}
#: Mean of blue, green and red over ImageNet, as Caffe's VGG16 states it.
_MEAN = (104.00699, 116.66877, 122.67892)
#: fc6 looks at windows of 7 x 7 cells.
_WINDOW = 7


class VGG16FCN(Backbone):
    """VGG16 (Simonyan & Zisserman, 2015) made fully convolutional, stride 32: the network of DCSM.

    Pools are 2x2 with stride 2 and round sizes up, as Caffe's; fc6 has no padding, so that 512 pixels
    (16 x 16 cells) become 10 x 10 positions. Exposes the inputs of conv3_1 to conv5_3, each under the name of
    the convolution that reads it (`conv3_1` is pool2's output, stride 4; `conv5_3` is conv5_2 after ReLU),
    and the end, `fc7`.

    fc6 is computed as a matrix product over windows and not as a 7x7 convolution: the same numbers, and its
    derivative for four classes was measured 1.6 (19 x 19 cells) to 2.2 times (13 x 13) faster on two cores.

    Args:
        fc_channels: outputs of fc6 and fc7; fewer make a small network without published weights.
        dropout: of single activations after fc6 and fc7, in training.
        bgr: input is BGR. False is for weights that were trained on RGB; the three means (104.0, 116.7,
            122.7) are then subtracted from red, green, blue in this order, as DCSM's MatConvNet release does
            (a file of that release does not set this: what its weights expect is not certain).
    """

    def __init__(self, fc_channels: int = 4096, dropout: float = 0.5, bgr: bool = True) -> None:
        super().__init__()
        self.normalization = Normalization(_MEAN, (1.0, 1.0, 1.0), bgr)
        inputs, stages = 3, []
        for group, widths in _CONVOLUTIONS.items():
            for index, width in enumerate(widths, 1):
                name = f"conv{group}_{index}"
                self.add_module(name, nn.Conv2d(inputs, width, 3, padding=1))
                if group >= 3:
                    stages.append(Stage(name, inputs, 2 ** (group - 1)))
                inputs = width
        self.fc6 = nn.Linear(inputs * _WINDOW**2, fc_channels)
        self.fc7 = nn.Linear(fc_channels, fc_channels)
        self.dropout = nn.Dropout(dropout)
        self.stages = (*stages, Stage("fc7", fc_channels, 32))

    def forward(self, images: Tensor, graph_from: str | None = None) -> dict[str, Tensor]:
        """Maps by name.

        Args:
            images: `(B, 3, H, W)`, at least 193 pixels along each side.
            graph_from: name of a map. Autograd records nothing before it, and the map is a leaf that requires
                gradients: derivatives down to it cost no memory for the large maps below, which are left out
                of the result. None records as usual.

        Raises:
            WsssZooError: the images are too small, or there is no such map.
        """
        names = [stage.name for stage in self.stages]
        if graph_from is not None and graph_from not in names:
            raise WsssZooError(f"vgg16_fcn has no map {graph_from!r}; {suggest(graph_from, names)}")
        maps: dict[str, Tensor] = {}
        x, recorded = images, graph_from is None
        for name, step in self._steps():
            if name == graph_from:
                x, recorded = x.detach().requires_grad_(), True
            if name in names and recorded:
                maps[name] = x
            with torch.set_grad_enabled(recorded and torch.is_grad_enabled()):
                x = step(x)
        return maps

    def _steps(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        """The network in order, each step with the name under which its input may be exposed."""
        for group, widths in _CONVOLUTIONS.items():
            for index in range(1, len(widths) + 1):
                name = f"conv{group}_{index}"
                yield name, partial(self._convolve, name, pool=index == len(widths))
        yield "fc6", self._slide
        yield "fc7", nn.Identity()

    def _convolve(self, name: str, x: Tensor, pool: bool) -> Tensor:
        x = F.relu(self.get_submodule(name)(x))
        return F.max_pool2d(x, 2, stride=2, ceil_mode=True) if pool else x

    def _slide(self, x: Tensor) -> Tensor:
        """fc6 and fc7 at every window of pool5: `(B, 512, h, w)` -> `(B, 4096, h - 6, w - 6)`."""
        height, width = (length - _WINDOW + 1 for length in x.shape[2:])
        if height < 1 or width < 1:
            raise WsssZooError(
                "vgg16_fcn needs images of at least 193 pixels along each side (7 x 7 cells of stride 32), "
                f"got {x.shape[2]} x {x.shape[3]} cells; enlarge the images"
            )
        # contiguous: then the derivatives of several classes go through the weights in one product (DCSM)
        windows = F.unfold(x, _WINDOW).transpose(1, 2).contiguous()
        x = self.dropout(F.relu(self.fc6(windows)))
        x = self.dropout(F.relu(self.fc7(x)))
        return x.transpose(1, 2).unflatten(2, (height, width))
