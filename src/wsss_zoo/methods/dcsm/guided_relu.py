"""Guided back-propagation: ReLUs that pass positive derivatives only, in any network, without hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, ceiling: float | None) -> Tensor:
        activation = x.clamp(min=0, max=ceiling)
        # the next layer keeps the activation anyway, so that this costs no memory
        ctx.save_for_backward(activation)
        ctx.ceiling = ceiling  # type: ignore[attr-defined]
        return activation

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> tuple[Tensor, None]:
        (activation,) = ctx.saved_tensors
        active = activation > 0
        if ctx.ceiling is not None:
            active = active & (activation < ctx.ceiling)
        return derivatives[0].clamp(min=0) * active, None


def guided_relu(x: Tensor, ceiling: float | None = None) -> Tensor:
    """ReLU (with a ceiling: ReLU6 and the like) whose derivative is `d * [d > 0] * [x > 0]`.

    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR 2015 workshop, section
    3.4. With a ceiling, `x` also has to be below it. Can be differentiated in batches (`torch.vmap`).
    """
    return _GuidedReLU.apply(x, ceiling)


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    return guided_relu(input)


def _relu_(input: Tensor) -> Tensor:
    return input.copy_(guided_relu(input.clone()))


def _relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return guided_relu(input, 6.0)


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    if min_val != 0:
        return F.hardtanh(input, min_val, max_val)
    return guided_relu(input, max_val)


#: What modules call: nn.ReLU is F.relu, nn.ReLU6 is F.hardtanh.
_REPLACEMENTS: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: _relu_,
    Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
}


class GuidedReLUs(TorchFunctionMode):
    """Inside this context every ReLU of every network is a guided one, whatever module or function it is.

    The network is not changed. Other activations (SiLU, GELU) have no guided rule and stay as they are.

    Example:
        >>> with GuidedReLUs():
        ...     scores = network(image)  # doctest: +SKIP
        >>> torch.autograd.grad(scores[:, 0].sum(), image)  # doctest: +SKIP

    Attributes:
        count: ReLUs met so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        replacement = _REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        self.count += 1
        return replacement(*args, **(kwargs or {}))
