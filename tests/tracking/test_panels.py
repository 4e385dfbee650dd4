from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.artifacts.masks import VOC_PALETTE
from wsss_zoo.tracking.panels import choose_image_ids, class_legend, compose_panel

RED = np.full((30, 40, 3), (200, 0, 0), np.uint8)
BLUE = np.full((60, 40, 3), (0, 0, 200), np.uint8)


def columns_of(panel: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((panel == colour).all(axis=2).any(axis=0))


def test_tiles_share_a_height_and_keep_their_shape() -> None:
    panel = compose_panel(RED, [("mask", BLUE)], height=90)
    red, blue = columns_of(panel, (200, 0, 0)), columns_of(panel, (0, 0, 200))
    assert len(red) == 120  # 90 * 40 / 30
    assert len(blue) == 60
    assert red.max() < blue.min()
    for colour in ((200, 0, 0), (0, 0, 200)):
        assert (panel == colour).all(axis=2).any(axis=1).sum() == 90


def test_captions_are_drawn_and_cut_to_the_tile() -> None:
    plain = compose_panel(RED, [("", RED)], height=60)
    captioned = compose_panel(RED, [("a caption that is far too long for its tile", RED)], height=60)
    assert plain.shape == captioned.shape
    changed = np.flatnonzero((plain != captioned).any(axis=(0, 2)))
    assert changed.min() >= 8 + 80  # the second tile begins here
    assert changed.max() <= 8 + 80 + 8 + 80


def test_legend_has_the_colour_of_every_class() -> None:
    names = {1: "aeroplane", 8: "cat", 15: "person"}
    panel = compose_panel(RED, [("mask", BLUE)], legend=names)
    plain = compose_panel(RED, [("mask", BLUE)])
    assert panel.shape[0] > plain.shape[0]
    assert panel.shape[1] == plain.shape[1]
    for label in names:
        assert (panel == VOC_PALETTE[label]).all(axis=2).sum() >= 100


def test_legend_wraps() -> None:
    names = {i: f"class {i}" for i in range(21)}
    wide, narrow = class_legend(names, 3000), class_legend(names, 300)
    assert narrow.shape[0] > 3 * wide.shape[0]
    assert (narrow.shape[1], wide.shape[1]) == (300, 3000)


def test_tile_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"tile 'CAM': expected uint8 \(H, W, 3\), got float32"):
        compose_panel(RED, [("CAM", np.zeros((3, 3, 3), np.float32))])  # type: ignore[list-item]


@given(st.permutations([f"2007_{i:06d}" for i in range(30)]))
def test_choice_does_not_depend_on_the_order(names: list[str]) -> None:
    assert choose_image_ids(names, n=8) == choose_image_ids(sorted(names), n=8)


def test_a_part_of_the_data_shows_the_same_images() -> None:
    names = [f"2007_{i:06d}" for i in range(200)]
    whole = choose_image_ids(names, n=12)
    part = names[::2]
    kept = [name for name in whole if name in part]
    assert len(kept) > 2
    assert choose_image_ids(part, n=12)[: len(kept)] == kept


def test_labels_bring_every_class_in() -> None:
    rng = np.random.default_rng(0)
    labels = {f"{i}": [int(c) for c in rng.choice(20, 2, replace=False)] for i in range(300)}
    chosen = choose_image_ids(list(labels), n=12, labels=labels)
    assert {c for name in chosen for c in labels[name]} == set(range(20))
    assert len(chosen) == len(set(chosen)) == 12


def test_fewer_images_than_asked_and_other_seeds() -> None:
    assert sorted(choose_image_ids(["b", "a"], n=12)) == ["a", "b"]
    assert choose_image_ids([], n=3, labels={}) == []
    names = [str(i) for i in range(100)]
    assert choose_image_ids(names, n=8) != choose_image_ids(names, n=8, seed=1)
