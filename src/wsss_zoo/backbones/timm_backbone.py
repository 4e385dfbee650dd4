"""Any timm model as a feature extractor."""

from __future__ import annotations

from typing import Any, cast

import timm
from timm.models import FeatureInfo
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.normalization import IMAGENET, Normalization

#: EfficientNet-Lite was trained on (x - 127) / 128 (its reference implementation in tensorflow/tpu); timm
#: states 0.5 for mean and standard deviation, which is 127.5.
_LITE = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


class TimmBackbone(Backbone):
    """Feature maps of a timm model, named `stage1`, `stage2`, ... shallow to deep.

    Args:
        model: timm's name, such as `tf_efficientnet_lite0` or `resnet50.a1_in1k`.
        output_stride: 8, 16 or 32: the stride of the deepest map, where the model can keep its resolution
            (removed strides become dilation). A model that reduces less by itself, such as a vision
            transformer, is left as it is.
        out_indices: the feature levels to expose (timm's indices); default: all.
        final: expose, as the deepest map `final`, also what the model's own classifier pools. In an
            EfficientNet that is the widest map, behind the last 1x1 convolution and its activation; the
            deepest feature level before it is a linear bottleneck. A CAM wants this one.
        frozen_norm: batch norm stays in evaluation mode and is not learnt.
        drop_path_rate: stochastic depth in training.

    Raises:
        WsssZooError: there is no such model, it does not expose feature maps, not at these indices, or not
            at that stride.
    """

    def __init__(
        self,
        model: str,
        output_stride: int = 32,
        out_indices: tuple[int, ...] | None = None,
        final: bool = False,
        frozen_norm: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.final = final
        self.out_indices = None if out_indices is None else tuple(out_indices)
        arguments: dict[str, Any] = {}
        if output_stride != 32:  # timm's own; models without the argument refuse it even then
            arguments["output_stride"] = output_stride
        if self.out_indices is not None and not final:
            arguments["out_indices"] = self.out_indices
        if drop_path_rate:
            arguments["drop_path_rate"] = drop_path_rate
        if not timm.is_model(model):
            raise WsssZooError(f"timm has no model {model!r}; {_similar(model)}")
        try:
            kind = {"num_classes": 0, "global_pool": ""} if final else {"features_only": True}
            self.features: nn.Module = timm.create_model(model, pretrained=False, **kind, **arguments)
        except (
            RuntimeError,
            NotImplementedError,
            TypeError,
            AssertionError,
            ValueError,
            IndexError,
        ) as error:
            raise WsssZooError(
                f"timm's {model} cannot give feature maps with {arguments or 'its own strides'}: "
                f"{str(error) or type(error).__name__}; leave these settings out or choose another model"
            ) from error
        self.stages = self._stages(model)
        if self.out_stride > output_stride:
            raise WsssZooError(
                f"timm's {model} ignores output_stride={output_stride}: its deepest map has stride "
                f"{self.out_stride}; choose another model, or out_indices that leave the deepest levels out"
            )
        self.cut_levels = self._cut_unused_levels()
        self.channels_last = str(getattr(self.features, "output_fmt", None) or "NCHW").endswith("NHWC")
        self.normalization = normalization_of(model)
        if frozen_norm:
            self.norm = "frozen"
        self.hold_norms()

    def _cut_unused_levels(self) -> tuple[str, ...]:
        """Drop blocks behind the deepest exposed map; gives the prefixes of their keys.

        timm's extractors of the EfficientNet family compute all blocks whatever is asked for: time lost, and
        parameters that no loss reaches, at which distributed training stops with an error.
        """
        blocks = getattr(self.features, "blocks", None)
        if self.final or self.out_indices is None or not isinstance(blocks, nn.Sequential):
            return ()
        info = cast(FeatureInfo, self.features.feature_info)
        module, _, index = str(info.module_name()[-1]).partition(".")
        if module != "blocks" or not index.isdigit():
            return ()
        count = len(blocks)
        self.features.blocks = blocks[: int(index) + 1]
        return tuple(f"blocks.{level}." for level in range(int(index) + 1, count))

    def _stages(self, model: str) -> tuple[Stage, ...]:
        if not self.final:
            info = cast(FeatureInfo, self.features.feature_info)
            levels = list(zip(info.channels(), info.reduction(), strict=True))
            return tuple(Stage(f"stage{index}", *level) for index, level in enumerate(levels, 1))
        if not hasattr(self.features, "forward_intermediates"):
            raise WsssZooError(f"timm's {model} cannot give its final map beside others; leave out final")
        every = cast(list[dict[str, Any]], self.features.feature_info)
        chosen = range(len(every)) if self.out_indices is None else self.out_indices
        if any(not -len(every) <= index < len(every) for index in chosen):
            raise WsssZooError(
                f"timm's {model} has {len(every)} feature levels, out_indices are {list(chosen)}"
            )
        levels = [(every[index]["num_chs"], every[index]["reduction"]) for index in chosen]
        width = cast(int, self.features.num_features)
        return (
            *(Stage(f"stage{index}", *level) for index, level in enumerate(levels, 1)),
            Stage("final", width, every[-1]["reduction"]),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name."""
        if self.final:
            return self._with_final(images)
        maps = self.features(images)
        if self.channels_last:
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        return {stage.name: x for stage, x in zip(self.stages, maps, strict=True)}

    def _with_final(self, images: Tensor) -> dict[str, Tensor]:
        indices = None if self.out_indices is None else list(self.out_indices)
        forward = cast(Any, self.features).forward_intermediates
        final, maps = forward(images, indices=indices, output_fmt="NCHW")
        if final.ndim != 4:
            raise WsssZooError("this timm model ends in tokens, not in a map; leave out final")
        if final.shape[1] != self.out_channels:
            final = final.permute(0, 3, 1, 2).contiguous()
        return {stage.name: x for stage, x in zip(self.stages, [*maps, final], strict=True)}


def normalization_of(model: str) -> Normalization:
    """Mean and standard deviation that a timm model was trained with, in 0..255."""
    if model.startswith("tf_efficientnet_lite"):
        return _LITE
    config = timm.get_pretrained_cfg(model)
    if config is None:
        return IMAGENET
    mean, std = config.mean, config.std
    return Normalization(
        (255 * mean[0], 255 * mean[1], 255 * mean[2]), (255 * std[0], 255 * std[1], 255 * std[2])
    )


def _similar(model: str) -> str:
    hint = suggest(model, timm.list_models())
    # without a close name `suggest` lists all choices: here more than a thousand
    return hint if hint.startswith("did you mean") else "timm.list_models() gives the names"
