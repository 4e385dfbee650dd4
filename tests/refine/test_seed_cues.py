import numpy as np
import pytest

from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import SeedCues

IMAGE = np.zeros((8, 12, 3), np.uint8)


def localization(*maps: np.ndarray, classes: tuple[int, ...] = (3, 7)) -> LocalizationMaps:
    stacked = np.stack(maps).astype(np.float16) if maps else np.zeros((0, 8, 12), np.float16)
    return LocalizationMaps(np.array(classes[: len(maps)], np.int16), stacked, (8, 12))


def ramp() -> np.ndarray:
    """0 at the left, 1.1 / 12 more a column."""
    return np.tile(np.arange(12) / 12, (8, 1))


def test_each_class_is_seeded_above_a_share_of_its_own_maximum():
    maps = localization(ramp(), 0.1 * ramp()[:, ::-1])
    seeds = SeedCues(0.5, grid=(8, 12))(IMAGE, maps=maps)["seeds"]
    assert seeds.classes.tolist() == [3, 7]
    # above half of 11/12: columns 6 to 11, and 0 to 5 of the mirrored, weaker map
    np.testing.assert_array_equal(seeds.seeds[1, 0], np.arange(12) >= 6)
    np.testing.assert_array_equal(seeds.seeds[2, 0], np.arange(12) < 6)


def test_classes_may_share_a_cell_which_then_has_no_label():
    maps = localization(ramp(), ramp()[:, ::-1])
    made = SeedCues(0.2, grid=(8, 12))(IMAGE, maps=maps)
    shared = made["seeds"].seeds[1:].all(axis=0)
    assert shared[:, 3:9].all()
    assert (made["masks"][:, 3:9] == 255).all()
    assert set(np.unique(made["masks"])) == {4, 8, 255}


def test_background_is_what_is_not_salient():
    saliency = np.zeros((8, 12), np.float32)
    saliency[:, 6:] = 0.5
    saliency[:, 4:6] = 0.02  # 4 % of the largest
    maps = localization(np.eye(8, 12))
    made = SeedCues(grid=(8, 12))(IMAGE, maps=maps, saliency=saliency)
    background = made["seeds"].seeds[0]
    np.testing.assert_array_equal(background, (saliency < 0.03) & ~np.eye(8, 12, dtype=bool))
    both = SeedCues(foreground_wins=False, grid=(8, 12))(IMAGE, maps=maps, saliency=saliency)["seeds"]
    np.testing.assert_array_equal(both.seeds[0], saliency < 0.03)


def test_without_saliency_the_lowest_tenth_is_background():
    values = np.random.default_rng(0).permutation(96).reshape(8, 12) / 96
    maps = localization(values)
    seeds = SeedCues(0.9, background_share=0.1, grid=(8, 12))(IMAGE, maps=maps)["seeds"].seeds
    assert seeds[0].sum() == 10  # the 10 lowest of 96
    assert values[seeds[0]].max() < values[~seeds[0]].min()


def test_grid_and_an_image_without_classes():
    made = SeedCues(grid=(5, 5))(IMAGE, maps=localization())
    assert made["seeds"].seeds.shape == (1, 5, 5)
    assert (made["masks"] == 0).all()
    nothing = SeedCues(grid=(5, 5))(IMAGE, maps=localization(np.zeros((8, 12))))["seeds"]
    assert not nothing.seeds[1].any()


def test_mistakes():
    with pytest.raises(RecipeError, match=r"threshold lies in \[0, 1\], got 20"):
        SeedCues(20)
    with pytest.raises(RecipeError, match="grid is"):
        SeedCues(grid=(41,))
    with pytest.raises(DataError, match="saliency map 7 x 12"):
        SeedCues()(IMAGE, maps=localization(ramp()), saliency=np.zeros((7, 12), np.float32))
    with pytest.raises(DataError, match="make the maps anew"):
        SeedCues()(IMAGE[:7], maps=localization(ramp()))
