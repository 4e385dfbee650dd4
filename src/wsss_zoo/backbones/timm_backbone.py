"""Any timm model as a feature extractor."""

from __future__ import annotations

import timm
from torch import Tensor

from wsss_zoo.backbones.backbone import Backbone, Stage, freeze_norms
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.normalization import Normalization


class TimmBackbone(Backbone):
    """Feature maps of a timm model, named `stage1`, `stage2`, ... shallow to deep.

    Args:
        model: timm's name, such as `tf_efficientnet_lite0` or `resnet50.a1_in1k`.
        output_stride: 8, 16 or 32, where the model supports it.
        out_indices: the feature levels to expose (timm's indices); default: all.
        frozen_norm: batch norm stays in evaluation mode and is not learnt.
        drop_path_rate: stochastic depth in training.

    Raises:
        WsssZooError: there is no such model, or it has no feature maps at that stride.
    """

    def __init__(
        self,
        model: str,
        output_stride: int = 32,
        out_indices: tuple[int, ...] | None = None,
        frozen_norm: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        arguments: dict[str, object] = {}
        if output_stride != 32:
            arguments["output_stride"] = output_stride
        if out_indices is not None:
            arguments["out_indices"] = tuple(out_indices)
        if drop_path_rate:
            arguments["drop_path_rate"] = drop_path_rate
        if not timm.is_model(model):
            raise WsssZooError(f"timm has no model {model!r}; {suggest(model, timm.list_models())}")
        try:
            self.features = timm.create_model(model, pretrained=False, features_only=True, **arguments)
        except (RuntimeError, NotImplementedError, TypeError, AssertionError, ValueError) as error:
            raise WsssZooError(
                f"timm's {model} cannot give feature maps with {arguments or 'its own strides'}: {error}; "
                "choose another output_stride or model"
            ) from error
        info = self.features.feature_info
        self.stages = tuple(
            Stage(f"stage{index}", channels, stride)
            for index, (channels, stride) in enumerate(zip(info.channels(), info.reduction(), strict=True), 1)
        )
        self.normalization = normalization_of(model)
        self.frozen_norm = frozen_norm
        if frozen_norm:
            freeze_norms(self)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Training mode, except for frozen batch norm."""
        super().train(mode)
        if self.frozen_norm:
            freeze_norms(self)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name."""
        return {stage.name: x for stage, x in zip(self.stages, self.features(images), strict=True)}


def normalization_of(model: str) -> Normalization:
    """Mean and standard deviation that a timm model was trained with."""
    config = timm.get_pretrained_cfg(model)
    mean = config.mean if config is not None else (0.485, 0.456, 0.406)
    std = config.std if config is not None else (0.229, 0.224, 0.225)
    if model.startswith("tf_efficientnet_lite"):
        # the weights were trained on (x - 127) / 128; timm states 0.5, which is 127.5 / 127.5
        return Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
    return Normalization(
        (255 * mean[0], 255 * mean[1], 255 * mean[2]), (255 * std[0], 255 * std[1], 255 * std[2])
    )
