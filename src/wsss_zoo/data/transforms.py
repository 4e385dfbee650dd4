"""Augmentation. The only module that knows albumentations, so that it can be replaced in one place."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any, Literal

# albumentations asks PyPI for a newer version when it is imported; a training job must not go to the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.kinds import ROLES
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.data.images import IGNORE
from wsss_zoo.data.inputs import ON_OWN_GRID
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import IMAGENET, Normalization

Rgb = npt.NDArray[np.uint8]
Layer = npt.NDArray[Any]
Normalised = npt.NDArray[np.float32]
#: Roles whose planes are not laid on the pixels of the image.
_GRIDS = tuple(role for role, content in ROLES.items() if content in ON_OWN_GRID)


class TrainTransform:
    """Random resize, flip, colour jitter, normalisation, crop or pad, in this order (as PSA trains).

    1. Resize, one of: `resize_long`, the longer side becomes a uniform random integer of the range, both
       ends included, and the other side is rounded; `resize_square`, both sides become such an integer,
       whatever the aspect (SSDD, DSRG); or `scale`, both sides times a random factor. Images
       by Pillow's bicubic (which averages when shrinking, as in the published training runs; OpenCV's
       does not), masks by nearest.
    2. Mirror with probability `flip`.
    3. Colour jitter: brightness, contrast and saturation times a uniform factor from [1 - x, 1 + x], hue
       shifted by a uniform part of the colour circle from [-x, x], in random order. It is albumentations'
       `ColorJitter`, on 8-bit values: results saturate at 0 and 255, as torchvision's do on Pillow
       images, but hue moves in steps of 2 degrees (OpenCV stores 180) where Pillow has 256 steps.
    4. Normalise.
    5. Crop to `crop_size` at a uniform random offset where an axis is longer; pad where it is shorter,
       with the image at a uniform random offset. Padding is 0 after the normalisation, the mean colour;
       with `pad_value="black"` step 5 comes before step 4 and padding is black. Masks get 255, maps 0.

    A call is a function of its arguments alone: no global random state is read or changed.

    Args:
        normalization: channel order, mean and standard deviation.
        crop_size: side of the square result in pixels.
        resize_long: range of the longer side in pixels.
        resize_square: range of the side of the square to which images are squashed, in pixels.
        scale: range of the factor, above 0.
        scale_step: factors are the low end of `scale` plus multiples of this, up to the high end
            (DeepLab: 0.5 to 1.5 in steps of 0.25); None draws any factor of the range.
        flip: probability in [0, 1].
        color_jitter: brightness, contrast, saturation (0 or more), hue (0..0.5).
        pad_value: colour of the padding, see above.
        pad_position: `"random"`, or `"bottom_right"` for padding at these sides only (DeepLab).

    Raises:
        DataError: a value is out of range, or more than one of `resize_long`, `resize_square` and `scale`
            is given.
    """

    def __init__(
        self,
        normalization: Normalization = IMAGENET,
        crop_size: int = 448,
        resize_long: tuple[int, int] | None = None,
        resize_square: tuple[int, int] | None = None,
        scale: tuple[float, float] | None = None,
        scale_step: float | None = None,
        flip: float = 0.5,
        color_jitter: tuple[float, float, float, float] | None = None,
        pad_value: Literal["mean", "black"] = "mean",
        pad_position: Literal["random", "bottom_right"] = "random",
    ) -> None:
        _require(crop_size >= 1, "crop_size", crop_size, "1 pixel or more")
        _require(0 <= flip <= 1, "flip", flip, "a probability in [0, 1]")
        _require(pad_value in ("mean", "black"), "pad_value", pad_value, "mean or black")
        _require(
            pad_position in ("random", "bottom_right"), "pad_position", pad_position, "random or bottom_right"
        )
        steps: list[A.BasicTransform] = []
        if resize_long is not None or resize_square is not None or scale is not None:
            steps.append(_RandomResize(resize_long, resize_square, scale, scale_step))
        elif scale_step is not None:
            raise DataError("scale_step is given without scale; set scale, for example [0.5, 1.5].")
        steps.append(_Mirror(p=flip))
        if color_jitter is not None:
            jitter = tuple(color_jitter)
            valid = len(jitter) == 4 and min(jitter) >= 0 and jitter[3] <= 0.5
            _require(
                valid, "color_jitter", color_jitter, "[brightness, contrast, saturation, hue], hue up to 0.5"
            )
            # contrast etc. as ranges: a bare number would be read the same, but only if it is a float
            ranges = [(max(0.0, 1.0 - amount), 1.0 + amount) for amount in jitter[:3]]
            hue = (-float(jitter[3]), float(jitter[3]))
            steps.append(A.ColorJitter(*ranges, hue=hue, p=1.0))
        crop = A.RandomCrop(
            crop_size,
            crop_size,
            pad_if_needed=True,
            # albumentations names the corner where the image stays, not where the padding goes
            pad_position="random" if pad_position == "random" else "top_left",
            border_mode=cv2.BORDER_CONSTANT,
            fill=0,
            fill_mask=IGNORE,
        )
        normalise = _Normalise(normalization)
        steps += [normalise, crop] if pad_value == "mean" else [crop, normalise]
        layers = {_target(role): "mask" for role in ROLES if role not in _GRIDS}
        self._compose = A.Compose(steps, additional_targets=layers)

    def __call__(
        self, image: Rgb, layers: Mapping[str, Layer], seed: int
    ) -> tuple[Normalised, dict[str, Layer]]:
        """Augment an image and what lies on it alike.

        Args:
            image: uint8 `(H, W, 3)`, RGB; it comes out the same whatever the layers are.
            layers: by role (`wsss_zoo.artifacts.kinds.ROLES`): masks uint8 `(H, W)`, maps float32 `(H, W)` or
                `(H, W, K)` in [0, 1] (resized bilinearly). Seeds `(C + 1, h, w)` lie on a grid of their own
                over the whole image: they are mirrored with it and otherwise left as they are, which is
                right only where the sample is the whole image (`resize_square` of `crop_size`).
            seed: fixes every draw.

        Returns:
            float32 `(crop_size, crop_size, 3)`, normalised, and the layers at that size; seeds on
            their grid.
        """
        # Not set_random_seed: it would start every step's generator from the same seed, so that small
        # images are always the mirrored ones. One generator for all steps draws independently.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._compose(image=image, **{_target(role): layer for role, layer in layers.items()})
        cropped = {role: result[_target(role)] for role in layers}
        for role, layer in cropped.items():
            if role not in _GRIDS and layer.dtype != np.uint8:
                layer[layer == IGNORE] = 0  # padding is filled with 255 in every layer
        return result["image"], cropped


class EvalTransform:
    """The whole image, its longer side resized to `crop_size`, padded at the bottom and on the right.

    With `squash`, both sides are resized to `crop_size` and nothing is padded. Used for validation while
    training, where images of one size make a batch; final scores come from inference at the original size.
    Nothing is random.

    Args:
        normalization: channel order, mean and standard deviation.
        crop_size: side of the square result in pixels.
        pad_value: `"mean"` (0 after normalisation) or `"black"`.
        squash: ignore the aspect, as a network that was trained on squashed images expects.
    """

    def __init__(
        self,
        normalization: Normalization = IMAGENET,
        crop_size: int = 448,
        pad_value: Literal["mean", "black"] = "mean",
        squash: bool = False,
    ) -> None:
        side = (crop_size, crop_size)
        self._transform = TrainTransform(
            normalization,
            crop_size,
            resize_long=None if squash else side,
            resize_square=side if squash else None,
            flip=0.0,
            pad_value=pad_value,
            pad_position="bottom_right",
        )

    def __call__(
        self, image: Rgb, layers: Mapping[str, Layer], seed: int = 0
    ) -> tuple[Normalised, dict[str, Layer]]:
        """Resize, normalise and pad; `seed` is not used. Shapes as in `TrainTransform`."""
        return self._transform(image, layers, seed=0)


class _RandomResize(A.DualTransform):
    """Step 1 of `TrainTransform`, by Pillow."""

    def __init__(
        self,
        resize_long: tuple[int, int] | None,
        resize_square: tuple[int, int] | None,
        scale: tuple[float, float] | None,
        scale_step: float | None,
    ) -> None:
        super().__init__(p=1.0)
        sizes = {"resize_long": resize_long, "resize_square": resize_square, "scale": scale}
        stated = [f"{name} ({value})" for name, value in sizes.items() if value is not None]
        if len(stated) > 1:
            raise DataError(
                f"{' and '.join(stated)} all say how images are resized. Set all but one of them to null."
            )
        self.resize_long = _range("resize_long", resize_long, least=1)
        self.resize_square = _range("resize_square", resize_square, least=1)
        self.scale = _range("scale", scale, least=1e-3)
        self.factors: list[float] | None = None
        if scale_step is not None:
            if self.scale is None:
                raise DataError("scale_step is given without scale; set scale, for example [0.5, 1.5].")
            _require(scale_step > 0, "scale_step", scale_step, "above 0")
            low, high = self.scale
            # half a per cent of a step forgives rounding: 0.5 + 4 * 0.25 may miss 1.5
            count = int((high - low) / scale_step + 0.005) + 1
            self.factors = [low + index * scale_step for index in range(count)]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the new size (width, height)."""
        height, width = params["shape"][:2]
        if self.resize_square is not None:
            side = self.py_random.randint(int(self.resize_square[0]), int(self.resize_square[1]))
            return {"size": (side, side)}
        if self.resize_long is not None:
            longer = self.py_random.randint(int(self.resize_long[0]), int(self.resize_long[1]))
            factor = longer / max(height, width)
        elif self.factors is not None:
            factor = self.py_random.choice(self.factors)
        else:
            assert self.scale is not None
            factor = self.py_random.uniform(*self.scale)
        return {"size": (max(1, round(width * factor)), max(1, round(height * factor)))}

    def apply(self, img: Rgb, size: tuple[int, int], **params: Any) -> Rgb:
        """Resize an image."""
        return np.asarray(Image.fromarray(img).resize(size, Image.Resampling.BICUBIC))

    def apply_to_mask(self, mask: Layer, size: tuple[int, int], **params: Any) -> Layer:
        """Resize a mask (nearest), or maps (bilinear)."""
        if mask.dtype == np.uint8:
            return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        planes = mask[None] if mask.ndim == 2 else mask.transpose(2, 0, 1)
        resized = resample_bilinear(planes, (size[1], size[0]))
        return resized[0] if mask.ndim == 2 else np.ascontiguousarray(resized.transpose(1, 2, 0))


class _Mirror(A.HorizontalFlip):
    """Step 2 of `TrainTransform`, also for what lies on a grid of its own."""

    @property
    def targets(self) -> dict[str, Any]:
        """What is done to which target; other steps do not know the grids and leave them alone."""
        return {**super().targets, **{_target(role): self.apply_to_grid for role in _GRIDS}}

    def apply_to_grid(self, grid: Layer, **params: Any) -> Layer:
        """Mirror planes `(C + 1, h, w)`."""
        return np.ascontiguousarray(grid[..., ::-1])


class _Normalise(A.ImageOnlyTransform):
    """Step 4 of `TrainTransform`: the same arithmetic as at inference, bit for bit."""

    def __init__(self, normalization: Normalization) -> None:
        super().__init__(p=1.0)
        self.normalization = normalization

    def apply(self, img: Rgb, **params: Any) -> Normalised:
        """Normalise an image."""
        return self.normalization(img)


def _target(role: str) -> str:
    """The name of a role for albumentations, which has a meaning of its own for `masks`."""
    return f"layer_{role}"


def one_thread_a_worker(worker_id: int) -> None:
    """Keep OpenCV of a loader process to one thread: the processes already fill the cores."""
    cv2.setNumThreads(0)


def _range(name: str, given: tuple[Any, Any] | None, least: float) -> tuple[Any, Any] | None:
    if given is None:
        return None
    ends = tuple(given)
    valid = len(ends) == 2 and least <= ends[0] <= ends[1]
    _require(valid, name, given, f"[low, high] with {least:g} <= low <= high")
    return ends[0], ends[1]


def _require(condition: bool, name: str, given: object, expected: str) -> None:
    if not condition:
        raise DataError(f"{name} must be {expected}, got {given}.")
