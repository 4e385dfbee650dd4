"""`wsss-zoo predict`: trained weights and any images in, masks and overlays out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.artifacts.masks import overlay, save_mask
from wsss_zoo.data.images import read_rgb
from wsss_zoo.errors import DataError, WsssZooError
from wsss_zoo.methods import create_model
from wsss_zoo.methods.image_localizer import ImageLocalizer
from wsss_zoo.methods.image_segmenter import ImageSegmenter
from wsss_zoo.methods.multi_scale import image_pyramid, multi_scale_localize, multi_scale_segment
from wsss_zoo.methods.published import load_pretrained
from wsss_zoo.refine.dense_crf import DenseCRF

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def predict_images(
    weights: str,
    images: Sequence[Path],
    output: Path,
    *,
    model: str | None = None,
    scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5),
    flip: bool = True,
    crf: str | None = None,
    threshold: float = 0.2,
) -> int:
    """Write `masks/<name>.png` (palette PNG) and `overlays/<name>.png` for every image.

    Args:
        weights: `weights.safetensors` of a run, or published weights together with `model`.
        images: image files, or folders of them.
        output: folder for the results.
        model: name of the model where the weights do not tell.
        scales: factors of the image size, averaged.
        flip: average with mirrored images.
        crf: parameter set of a dense CRF, or None.
        threshold: localizers: background threshold in [0, 1]; classes are those scored above 0.5.

    Returns:
        How many images were predicted.

    Raises:
        DataError: an image is missing or unreadable, or two have the same name.
        WeightsError: the weights cannot be used.
    """
    files = _image_files(images)
    method = create_model(model, weights=weights) if model else load_pretrained(Path(weights))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = method.eval().to(device)
    refine = DenseCRF(params=crf) if crf else None
    for file in tqdm(files, desc="predict", unit="img"):
        image = read_rgb(file)
        probabilities = _probabilities(method, image, scales, flip, threshold, device)
        if refine is not None:
            probabilities = refine([torch.from_numpy(image).permute(2, 0, 1)], [probabilities])[0]
        mask = probabilities.argmax(0).numpy().astype(np.uint8)
        save_mask(output / "masks" / f"{file.stem}.png", mask)
        with atomic_write(output / "overlays" / f"{file.stem}.png") as target:
            Image.fromarray(overlay(image, mask)).save(target, format="PNG")
    return len(files)


def _image_files(images: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _EXTENSIONS)
            if not found:
                raise DataError(f"the folder {path} holds no image ({', '.join(sorted(_EXTENSIONS))})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"there is no image {path}")
    names: dict[str, Path] = {}
    for file in files:
        if file.stem in names:
            raise DataError(
                f"{names[file.stem]} and {file} would both be written as {file.stem}.png; rename one"
            )
        names[file.stem] = file
    return files


@torch.no_grad()
def _probabilities(
    method: Any,
    image: npt.NDArray[np.uint8],
    scales: Sequence[float],
    flip: bool,
    threshold: float,
    device: torch.device,
) -> torch.Tensor:
    """`(C + 1, H, W)` on the CPU: probabilities of a segmenter, or background and maps of a localizer.

    The background of a localizer is the threshold, unless it has a way of its own (`ImageLocalizer`).
    """
    at_one = image_pyramid(image, (1.0,), method.normalization)[0].to(device)
    if isinstance(method, ImageSegmenter):
        return method.segment_image(at_one).float().cpu()
    height, width = image.shape[:2]
    square = getattr(method, "test_size", None)
    pyramid = [level.to(device) for level in image_pyramid(image, scales, method.normalization, square)]
    kind = getattr(method, "kind", None)
    if kind == "segmenter":
        return multi_scale_segment(method, pyramid, (height, width), flip=flip).float().cpu()
    if isinstance(method, ImageLocalizer):
        _, maps = method.localize_image(at_one)
        return torch.cat([method.background(maps)[None], maps]).float().cpu()
    if kind == "localizer":
        labels = (torch.sigmoid(method(at_one))[0] > 0.5).float()
        maps = multi_scale_localize(method, pyramid, labels, (height, width), flip=flip).float().cpu()
        return torch.cat([torch.full((1, height, width), threshold), maps])
    raise WsssZooError(
        f"{type(method).__name__} (kind {kind!r}) does not write masks; give a segmenter or localizer"
    )
