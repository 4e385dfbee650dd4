"""Derivatives of class scores at several layers: all classes at once, one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from wsss_zoo.errors import WsssZooError


def class_derivatives(
    score_map: Tensor, maps: Mapping[str, Tensor], classes: Sequence[int] | Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Go back from the score map of an image to each of its feature maps, deep to shallow.

    The derivative that starts the way is 1 at every position of a class: of the sum of its scores, not of
    their maximum, and without the sigmoid (Shimoda & Yanai, ECCV 2016, both releases). Classes go back
    together, as a batch. The way is cut at each map, so that the caller who reduces what is given here
    keeps one derivative in memory and not all of them.

    Args:
        score_map: `(1, C, h, w)`, of one image, with its graph, which is used up.
        maps: name -> the map from which the scores were computed, shallow to deep, each computed from the
            one before it. The first may be a leaf.
        classes: K indices.

    Yields:
        Name and derivative `(K, channels, h, w)`, the deepest map first.

    Raises:
        WsssZooError: more than one image; no derivative reaches a map; or a map can be bypassed, so that it
            does not hold all that reaches those before it.
    """
    if len(score_map) != 1:
        raise WsssZooError(f"derivatives are taken of one image, got a batch of {len(score_map)}")
    require_chain(score_map, maps)
    derivative = _starts(score_map, classes)
    deeper = score_map
    for name in reversed(list(maps)):
        with torch.inference_mode(False):  # an autograd function can keep no tensor of inference mode
            # not is_grads_batched: that repeats a convolution's derivative for every row of the batch
            derivative = torch.vmap(partial(_backward, deeper, maps[name]))(derivative)
        yield name, derivative[:, 0]
        deeper = maps[name]


@torch.inference_mode(False)
def _starts(score_map: Tensor, classes: Sequence[int] | Tensor) -> Tensor:
    """`(K, 1, C, h, w)`: 1 at every position of one class each."""
    indices = torch.as_tensor(classes, device=score_map.device).long()
    starts = torch.zeros(len(indices), *score_map.shape, dtype=score_map.dtype, device=score_map.device)
    starts[torch.arange(len(indices), device=score_map.device), 0, indices] = 1
    return starts


def _backward(outputs: Tensor, inputs: Tensor, derivative: Tensor) -> Tensor:
    return torch.autograd.grad(outputs, inputs, derivative)[0]


def require_chain(score_map: Tensor, maps: Mapping[str, Tensor]) -> None:
    """Refuse maps that are no chain: every way from the scores to a map leads through all deeper ones.

    Raises:
        WsssZooError: names the map.
    """
    names = list(maps)
    for name, tensor in maps.items():
        if not tensor.requires_grad:
            raise WsssZooError(
                f"no derivative reaches the layer {name!r}: the backbone cuts the graph there; leave it out "
                "of `layers`"
            )
    nodes: list[Node] = [get_gradient_edge(tensor).node for tensor in maps.values()]
    start = get_gradient_edge(score_map).node
    for depth in reversed(range(len(nodes))):
        met = _nodes_down_to(start, nodes[depth])
        if nodes[depth] not in met:
            raise WsssZooError(
                f"no derivative reaches the layer {names[depth]!r}: it is not part of what the scores are "
                "computed from, or the backbone cuts the graph; leave it out of `layers`"
            )
        for shallower in range(depth):
            if nodes[shallower] in met:
                raise WsssZooError(
                    f"the layers {names[shallower]!r} and {names[depth]!r} are no chain: the backbone has a "
                    f"connection past {names[depth]!r}; leave one of them out of `layers`"
                )
        start = nodes[depth]


def _nodes_down_to(start: Node, end: Node) -> set[Node]:
    """All nodes of the graph that can be reached from `start` without passing `end`."""
    met, todo = {start}, [start]
    while todo:
        node = todo.pop()
        if node == end:
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in met:
                met.add(following)
                todo.append(following)
    return met
