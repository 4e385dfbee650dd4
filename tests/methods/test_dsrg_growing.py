"""Region growing against a slow twin that reads like the rules, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.dsrg import grow


def slow_grow(seeds, probabilities, labels, background, foreground):
    """One image, pixel by pixel, flooding from neighbour to neighbour."""
    classes, height, width = seeds.shape
    allowed = [c for c in range(classes) if c == 0 or labels[c]]
    candidate = {}
    for y in range(height):
        for x in range(width):
            own = [c for c in range(classes) if seeds[c, y, x]]
            candidate[y, x] = max(own) if own else None
            best = max(allowed, key=lambda c: probabilities[c, y, x])
            if probabilities[best, y, x] > (background if best == 0 else foreground):
                candidate[y, x] = best
    result = seeds.copy()
    for c in allowed:
        todo, seen = [p for p in candidate if candidate[p] == c and seeds[c][p]], set()
        while todo:
            y, x = todo.pop()
            if (y, x) in seen:
                continue
            seen.add((y, x))
            around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            todo += [p for p in around if candidate.get(p) == c]
        for p in seen:
            owners = [k for k in range(classes) if seeds[k][p]]
            if not (len(owners) == 1 and owners[0] != c):
                result[c][p] = 1
    return result


def scene(seed, batch=2, planes=4, height=7, width=6, share=0.1):
    rng = np.random.default_rng(seed)
    labels = (rng.random((batch, planes)) < 0.6).astype(np.float32)
    seeds = (rng.random((batch, planes, height, width)) < share).astype(np.float32)
    labels[:, 0] = 1
    seeds *= labels[:, :, None, None]
    scores = rng.normal(size=(batch, planes, height, width)) * 2
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return seeds, probabilities.astype(np.float32), labels


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 100_000),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    share=st.floats(0, 0.5),
    background=st.floats(0, 1),
    foreground=st.floats(0, 1),
)
def test_both_engines_grow_as_the_slow_twin(seed, height, width, share, background, foreground):
    seeds, probabilities, labels = scene(seed, height=height, width=width, share=share)
    # thresholds as the tensors' precision has them, so that equality means the same on both sides
    background, foreground = float(np.float32(background)), float(np.float32(foreground))
    expected = [
        slow_grow(*item, background, foreground) for item in zip(seeds, probabilities, labels, strict=True)
    ]
    arguments = [torch.from_numpy(item) for item in (seeds, probabilities, labels)]
    for engine in ("scipy", "torch"):
        grown = grow(*arguments, background, foreground, engine=engine)
        np.testing.assert_array_equal(grown.numpy(), np.stack(expected))
        assert grown.dtype == torch.float32
    np.testing.assert_array_equal(arguments[0].numpy(), seeds)  # nothing is changed in place


@pytest.mark.parametrize("engine", ["scipy", "torch"])
def test_a_long_way_is_gone_to_its_end(engine):
    probabilities = torch.full((1, 2, 41, 41), 0.5)
    snake = torch.zeros(41, 41, dtype=torch.bool)
    for row in range(0, 41, 2):
        snake[row] = True
        snake[row + 1 : row + 2, 40 if row % 4 == 0 else 0] = True
    probabilities[0, 1][snake] = 0.9
    seeds = torch.zeros(1, 2, 41, 41)
    seeds[0, 1, 0, 0] = 1
    grown = grow(seeds, probabilities, torch.ones(1, 2), engine=engine)
    assert torch.equal(grown[0, 1] > 0, snake)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_growth_keeps_the_seeds_and_the_classes_of_the_image(seed):
    seeds, probabilities, labels = (torch.from_numpy(item) for item in scene(seed))
    grown = grow(seeds, probabilities, labels, 0.4, 0.4)
    assert (grown >= seeds).all()
    assert (grown.amax((2, 3)) <= labels).all()
    unsure = grow(seeds, probabilities, labels, 1.0, 1.0)
    # a region that is made of seeds alone has nothing to gain but pixels of several seeds
    several = (seeds.sum(1) > 1)[:, None].expand_as(seeds)
    assert torch.equal(unsure[~several], seeds[~several])


def grid(*rows):
    return torch.tensor([[float(character == "#") for character in row] for row in rows])


def grown_from(seeds, sure, foreground=0.85):
    """One foreground class: seeds and where it is sure."""
    probabilities = torch.stack([1 - 0.9 * sure, 0.9 * sure])[None]
    given = torch.stack([torch.zeros_like(seeds), seeds])[None]
    return grow(given, probabilities, torch.ones(1, 2), bg=1.0, fg=foreground)[0, 1]


def test_corners_connect_and_a_region_without_a_seed_stays_empty():
    sure = grid("#...", ".#..", "..#.", "....", "#..#")
    seeds = grid("#...", "....", "....", "....", "....")
    expected = grid("#...", ".#..", "..#.", "....", "....")
    assert torch.equal(grown_from(seeds, sure), expected)


def test_a_seed_where_the_network_is_unsure_still_connects():
    sure = grid("##.##")
    seeds = grid("#.#..")
    # the seed in the middle is the bridge over an unsure pixel
    assert torch.equal(grown_from(seeds, sure), grid("#####"))


def test_other_seeds_are_not_taken_but_passed_through():
    probabilities = torch.full((1, 3, 1, 5), 0.01)
    probabilities[0, 1] = 0.9
    seeds = torch.zeros(1, 3, 1, 5)
    seeds[0, 1, 0, 0] = seeds[0, 2, 0, 2] = 1
    grown = grow(seeds, probabilities, torch.ones(1, 3))
    assert grown[0, 1, 0].tolist() == [1, 1, 0, 1, 1]
    assert grown[0, 2, 0].tolist() == [0, 0, 1, 0, 0]  # its candidate label was overridden, the seed was not


def test_the_thresholds_belong_to_background_and_to_the_others():
    probabilities = torch.zeros(1, 2, 1, 4)
    probabilities[0, 0, 0] = torch.tensor([0.995, 0.95, 0.1, 0.2])
    probabilities[0, 1] = 1 - probabilities[0, 0]
    seeds = torch.zeros(1, 2, 1, 4)
    seeds[0, 0, 0, 0] = seeds[0, 1, 0, 3] = 1
    grown = grow(seeds, probabilities, torch.ones(1, 2))
    assert grown[0, 0, 0].tolist() == [1, 0, 0, 0]
    assert grown[0, 1, 0].tolist() == [0, 0, 1, 1]


def test_shapes_that_do_not_go_together():
    with pytest.raises(WsssZooError, match="background included"):
        grow(torch.zeros(1, 21, 4, 4), torch.zeros(1, 21, 4, 4), torch.zeros(1, 20))
