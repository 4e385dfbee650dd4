"""Weights by a rule, so that parity with published networks needs no checkpoint.

Every tensor is drawn from a generator seeded by the CRC-32 of its published key.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def rule_weights(
    shapes: Mapping[str, Sequence[int]], factor: Callable[[str], float] = lambda key: 1.0
) -> dict[str, Tensor]:
    """Tensors for the keys and shapes of a published state dict, times a factor by key."""
    return {key: _tensor(key, tuple(shape), factor(key)) for key, shape in shapes.items()}


def rule_image(height: int, width: int) -> Tensor:
    """The input `(1, 3, H, W)` of the fixtures, fed without normalisation."""
    values = np.random.default_rng(0).standard_normal((1, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def resnet38_factor(key: str) -> float:
    """Keeps the un-normalised residual sums of ResNet38 small."""
    return 0.5 if key.endswith(("conv_branch2b1.weight", "conv_branch2b2.weight")) else 1.0


def _tensor(key: str, shape: tuple[int, ...], factor: float) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        values = rng.uniform(0.5, 1.5, shape)
    elif last in ("running_mean", "bias"):
        values = 0.1 * rng.standard_normal(shape)
    else:
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy((values * factor).astype(np.float32))
