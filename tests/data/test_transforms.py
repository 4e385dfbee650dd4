"""Every step of the augmentation against Pillow and NumPy, and what holds for all of them together."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from wsss_zoo.data.transforms import EvalTransform, TrainTransform
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET, Normalization

#: Leaves 8-bit values as they are, so that the other steps can be seen.
IDENTITY = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def picture(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a mask that codes the position, so that every crop is found at one place only."""
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 21, (height, width), dtype=np.uint8)


def augment(
    transform: TrainTransform | EvalTransform, image: np.ndarray, mask: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """An image and its mask through a transform."""
    pixels, layers = transform(image, {} if mask is None else {"masks": mask}, seed)
    return pixels, layers.get("masks")


def offsets(result: np.ndarray, source: np.ndarray, fill: float) -> list[tuple[int, int]]:
    """All places (top, left) of `source` in a canvas or of a window in `source` that explain `result`."""
    size = result.shape[0]
    height, width = source.shape[:2]
    found = []
    for top in range(min(0, size - height), max(0, size - height) + 1):
        for left in range(min(0, size - width), max(0, size - width) + 1):
            canvas = np.full((size, size, *source.shape[2:]), fill, dtype=result.dtype)
            y, x = max(top, 0), max(left, 0)
            part = source[max(-top, 0) : max(-top, 0) + size, max(-left, 0) : max(-left, 0) + size]
            canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
            if np.array_equal(canvas, result):
                found.append((top, left))
    return found


@settings(deadline=None, max_examples=40)
@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 2**63), black=st.booleans())
def test_crop_and_pad_of_image_and_mask_agree(height: int, width: int, seed: int, black: bool) -> None:
    image, mask = picture(height, width)
    transform = TrainTransform(CAFFE_BGR, 24, flip=0.0, pad_value="black" if black else "mean")
    pixels, labels = augment(transform, image, mask, seed)
    assert labels is not None
    if black:
        # padding is black before normalisation: an enlarged image that is then normalised
        explained = offsets(CAFFE_BGR.invert(pixels), image, 0)
    else:
        explained = offsets(pixels, CAFFE_BGR(image), 0.0)
    assert len(explained) == 1
    assert explained == offsets(labels, mask, 255)


def test_padding_is_the_mean_colour_or_black() -> None:
    image, mask = picture(4, 4)
    for pad_value, expected in (
        ("mean", np.zeros(3)),
        ("black", IMAGENET(np.zeros((1, 1, 3), np.uint8))[0, 0]),
    ):
        pixels, labels = augment(TrainTransform(IMAGENET, 12, flip=0.0, pad_value=pad_value), image, mask, 3)  # type: ignore[arg-type]
        assert labels is not None
        padded = labels == 255
        assert padded.sum() == 12 * 12 - 16
        np.testing.assert_array_equal(pixels[padded], np.broadcast_to(expected, (128, 3)).astype(np.float32))


@pytest.mark.parametrize(("height", "width"), [(30, 47), (47, 30), (20, 20), (300, 7)])
def test_resize_is_pillows_bicubic_and_nearest(height: int, width: int) -> None:
    image, mask = picture(height, width)
    transform = TrainTransform(IDENTITY, 64, resize_long=(64, 64), flip=0.0, pad_position="bottom_right")
    pixels, labels = augment(transform, image, mask, 0)
    scale = 64 / max(height, width)
    size = (round(width * scale), round(height * scale))
    expected = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    assert labels is not None
    assert max(size) == 64
    np.testing.assert_array_equal(pixels[: size[1], : size[0]], expected)
    np.testing.assert_array_equal(
        labels[: size[1], : size[0]], Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    )
    assert (labels[size[1] :] == 255).all()
    assert (pixels[:, size[0] :] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(30, 47), (47, 30), (20, 20), (90, 7)])
def test_squash_ignores_the_aspect_and_takes_all_layers_along(height: int, width: int) -> None:
    image, mask = picture(height, width)
    scores = np.random.default_rng(1).random((height, width, 2), dtype=np.float32)
    transform = TrainTransform(IDENTITY, 40, resize_square=(40, 40), flip=0.0)
    pixels, layers = transform(image, {"masks": mask, "scores": scores, "saliency": scores[..., 0]}, 0)
    pillow = Image.fromarray(image).resize((40, 40), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels, np.asarray(pillow))
    nearest = Image.fromarray(mask).resize((40, 40), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(layers["masks"], np.asarray(nearest))
    bilinear = interpolate(
        torch.from_numpy(scores).permute(2, 0, 1)[None], (40, 40), mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(layers["scores"], bilinear.permute(1, 2, 0).numpy(), atol=1e-5)
    np.testing.assert_array_equal(layers["saliency"], layers["scores"][..., 0])


def test_side_of_the_square_is_uniform_with_both_ends_and_cropped() -> None:
    sizes = drawn_sizes(TrainTransform(crop_size=64, resize_square=(40, 49)), 1000)
    assert all(height == width for height, width in sizes)
    counts = np.bincount([width for _, width in sizes], minlength=50)[40:]
    assert counts.sum() == 1000
    assert counts.min() > 60  # 100 expected; 60 is 4 standard deviations away
    # a square larger than the crop leaves no padding
    assert set(drawn_sizes(TrainTransform(crop_size=32, resize_square=(40, 49)), 20)) == {(32, 32)}


def test_validation_squashes_what_training_squashes() -> None:
    image, mask = picture(30, 60)
    pixels, labels = augment(EvalTransform(IMAGENET, 40, squash=True), image, mask, 0)
    expected = Image.fromarray(image).resize((40, 40), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels, IMAGENET(np.array(expected)))
    nearest = Image.fromarray(mask).resize((40, 40), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(labels, np.asarray(nearest))


def test_flip_mirrors_image_and_mask_before_the_crop() -> None:
    image, mask = picture(16, 24)
    pixels, labels = augment(
        TrainTransform(IMAGENET, 24, flip=1.0, pad_position="bottom_right"), image, mask, 0
    )
    assert labels is not None
    np.testing.assert_array_equal(pixels[:16], IMAGENET(image[:, ::-1]))
    np.testing.assert_array_equal(labels[:16], mask[:, ::-1])


def drawn_sizes(transform: TrainTransform, count: int) -> list[tuple[int, int]]:
    """Height and width after the resize, read from the padding of a mask without 255."""
    image, mask = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)
    sizes = []
    for seed in range(count):
        labels = augment(transform, image, mask, seed)[1]
        assert labels is not None
        valid = labels != 255
        sizes.append((int(valid.any(1).sum()), int(valid.any(0).sum())))
    return sizes


def test_longer_side_is_uniform_with_both_ends() -> None:
    sizes = drawn_sizes(TrainTransform(crop_size=64, resize_long=(40, 49)), 1000)
    counts = np.bincount([width for _, width in sizes], minlength=50)[40:]
    assert counts.sum() == 1000
    assert counts.min() > 60  # 100 expected; 60 is 4 standard deviations away
    assert all(height == round(20 * width / 30) for height, width in sizes)


def test_scale_draws_the_range_or_its_steps() -> None:
    widths = {width for _, width in drawn_sizes(TrainTransform(crop_size=64, scale=(0.5, 1.5)), 400)}
    assert (min(widths), max(widths)) == (15, 45)
    assert len(widths) == 31
    stepped = drawn_sizes(TrainTransform(crop_size=64, scale=(0.5, 1.5), scale_step=0.25), 100)
    assert set(stepped) == {(10, 15), (15, 22), (20, 30), (25, 38), (30, 45)}


def test_draws_of_the_steps_are_independent() -> None:
    # albumentations' own seeding gives every step the same generator: small images would be the mirrored ones
    transform = TrainTransform(IDENTITY, 60, resize_long=(20, 60), color_jitter=(0.3, 0.0, 0.0, 0.0))
    image, mask = np.full((20, 20, 3), 100, np.uint8), np.zeros((20, 20), np.uint8)
    mask[:, :10] = 1
    draws = []
    for seed in range(600):
        pixels, labels = augment(transform, image, mask, seed)
        assert labels is not None
        valid = labels != 255
        rows, columns = np.nonzero(valid)
        side = int(valid.any(0).sum())
        mirrored = labels[rows[0], columns[0]] == 0
        place = [axis.min() / max(60 - side, 1) for axis in (rows, columns)]
        draws.append([side, mirrored, pixels[valid].mean(), *place])
    correlation = np.corrcoef(np.array(draws, dtype=float).T) - np.eye(5)
    assert np.abs(correlation).max() < 0.17  # 4 standard deviations at 600 draws


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_brightness_is_a_factor_that_saturates(amount: float) -> None:
    image = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (4, 1, 3))
    transform = TrainTransform(
        IDENTITY, 256, flip=0.0, color_jitter=(amount, 0, 0, 0), pad_position="bottom_right"
    )
    factors = []
    for seed in range(60):
        result = augment(transform, image, None, seed)[0][0, :, 0]
        factor = result[100] / 100
        np.testing.assert_allclose(result, np.clip(np.arange(256) * factor, 0, 255), atol=1.5 + 2.55 * 0.5)
        factors.append(factor)
    assert 1 - amount <= min(factors) < 1 - 0.7 * amount
    assert 1 + 0.7 * amount < max(factors) <= 1 + amount + 0.005


@pytest.mark.parametrize("channel", [1, 2, 3])
def test_contrast_saturation_and_hue_follow_torchvision(channel: int) -> None:
    from torchvision.transforms.v2 import functional

    amounts = [0.0, 0.0, 0.0, 0.0]
    amounts[channel] = 0.3
    image = np.asarray(Image.fromarray(picture(6, 8, 3)[0]).resize((48, 32), Image.Resampling.BICUBIC))
    transform = TrainTransform(
        IDENTITY,
        48,
        flip=0.0,
        color_jitter=tuple(amounts),
        pad_position="bottom_right",  # type: ignore[arg-type]
    )
    adjust = [None, functional.adjust_contrast, functional.adjust_saturation, functional.adjust_hue][channel]
    assert adjust is not None
    photo = Image.fromarray(image)
    low, high = (-0.3, 0.3) if channel == 3 else (0.7, 1.3)
    for seed in range(8):
        result = augment(transform, image, None, seed)[0][:32]
        candidates = np.linspace(low, high, 241)
        errors = [np.abs(np.asarray(adjust(photo, float(value))) - result).mean() for value in candidates]
        assert min(errors) < 2.0  # grey levels; the hue of OpenCV has 180 steps, Pillow's 256
        assert np.median(errors) > min(errors) + 1


def test_colours_of_images_change_but_masks_do_not() -> None:
    image, mask = picture(32, 32)
    plain = augment(TrainTransform(IDENTITY, 32, flip=0.0), image, mask, 0)
    jittered = augment(
        TrainTransform(IDENTITY, 32, flip=0.0, color_jitter=(0.3, 0.3, 0.3, 0.1)), image, mask, 0
    )
    assert not np.array_equal(plain[0], jittered[0])
    np.testing.assert_array_equal(plain[1], jittered[1])


FULL = {"resize_long": (20, 60), "color_jitter": (0.3, 0.3, 0.3, 0.1), "crop_size": 32}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**64 - 1), shape=st.tuples(st.integers(5, 50), st.integers(5, 50)))
def test_result_is_a_function_of_image_and_seed(seed: int, shape: tuple[int, int]) -> None:
    image, mask = picture(*shape)
    before = image.copy()
    first = augment(TrainTransform(**FULL), image, mask, seed)  # type: ignore[arg-type]
    transform = TrainTransform(**FULL)  # type: ignore[arg-type]
    augment(transform, *picture(9, 9), seed + 1)  # what came before does not matter,
    random.seed(1)  # nor do the global generators,
    np.random.seed(1)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    again = augment(transform, image, mask, seed)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    alone = augment(transform, image, None, seed)  # nor whether there is a mask
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[0], alone[0])
    assert alone[1] is None
    np.testing.assert_array_equal(image, before)
    assert first[0].shape == (32, 32, 3)
    assert first[0].dtype == np.float32


def test_validation_shows_the_whole_image() -> None:
    image, mask = picture(30, 60)
    pixels, labels = augment(EvalTransform(IMAGENET, 40), image, mask, 0)
    assert labels is not None
    expected = IMAGENET(np.array(Image.fromarray(image).resize((40, 20), Image.Resampling.BICUBIC)))
    np.testing.assert_array_equal(pixels[:20], expected)
    assert (pixels[20:] == 0).all()
    assert (labels[20:] == 255).all()
    assert (labels[:20] != 255).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize_long": (20, 30), "scale": (0.5, 1)}, "resize_long .* and scale .* all but one .* to null"),
        ({"resize_square": (20, 30), "resize_long": (20, 30)}, "resize_long .* and resize_square .* all but"),
        ({"resize_square": (20, 30), "scale": (0.5, 1)}, "resize_square .* and scale .* all but one"),
        ({"resize_square": (30, 20)}, "resize_square must be"),
        ({"scale_step": 0.25, "resize_square": (20, 30)}, "scale_step is given without scale"),
        ({"resize_long": (30, 20)}, "resize_long must be"),
        ({"resize_long": (20,)}, "resize_long must be"),
        ({"scale": (0, 1)}, "scale must be"),
        ({"scale_step": 0.25}, "scale_step is given without scale"),
        ({"scale_step": 0.25, "resize_long": (20, 30)}, "scale_step is given without scale"),
        ({"scale": (0.5, 1), "scale_step": 0}, "scale_step must be above 0"),
        ({"flip": 1.5}, "flip must be a probability"),
        ({"crop_size": 0}, "crop_size must be"),
        ({"color_jitter": (0.3, 0.3, 0.3)}, "color_jitter must be"),
        ({"color_jitter": (0.3, 0.3, 0.3, 0.6)}, "color_jitter must be"),
        ({"pad_value": "white"}, "pad_value must be mean or black"),
        ({"pad_position": "left"}, "pad_position must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainTransform(**arguments)  # type: ignore[arg-type]


def test_import_opens_no_connection() -> None:
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('network used')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse; socket.create_connection = refuse\n"
        "import wsss_zoo.data.transforms"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True, timeout=120)
