"""Saliency maps against masks: one stage, or any two folders (`wsss-zoo evaluate --kind saliency`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from wsss_zoo.data.images import read_grey
from wsss_zoo.data.saliency_layout import MASK_ENDINGS, FilePattern, read_stems
from wsss_zoo.errors import DataError
from wsss_zoo.metrics.error_by_distance import ErrorByDistance
from wsss_zoo.metrics.functional.saliency_pairs import SaliencyProtocol, object_masks
from wsss_zoo.metrics.saliency_metrics import CURVES, SCORES, SaliencyMetrics

Grey = npt.NDArray[np.uint8]
#: Endings of predictions; where a name has several, the first of these is taken.
PREDICTION_ENDINGS = (".png", ".bmp", ".jpg", ".jpeg")
#: Images that are scored together: enough for the threads, little to hold.
_TOGETHER = 16
#: Missing predictions that an error spells out.
_NAMED = 10


class _Set(NamedTuple):
    """One data set: files of predictions and masks by stem."""

    name: str
    predictions: dict[str, Path]
    masks: dict[str, Path]

    @property
    def present(self) -> list[str]:
        """Stems of masks with a prediction."""
        return [stem for stem in self.masks if stem in self.predictions]

    @property
    def missing(self) -> list[str]:
        """Stems of masks without."""
        return [stem for stem in self.masks if stem not in self.predictions]


def score_saliency(
    pairs: Iterable[tuple[Path, npt.NDArray[Any]]], protocol: SaliencyProtocol = "pysodmetrics"
) -> dict[str, Any]:
    """Score files of saliency maps by all metrics of the field.

    A map of another size than its mask is resized, never the mask: bilinear without smoothing, as
    PySODEvalToolkit does, or bicubic with smoothing, as MATLAB's `imresize` (protocol "ldf").

    Args:
        pairs: file of an 8-bit grey map, mask `(H, W)` (bool, float in [0, 1], or integers 0..255).
        protocol: see `wsss_zoo.metrics.functional.SaliencyProtocol`.

    Returns:
        Each of `SCORES` (floats; `mae`, `adp_f`, ...), `n_images`, and `details`: `protocol`; `curves` with
        `thresholds` (255 .. 0), `f`, `precision`, `recall`, `e`; `resized`, how many maps were; `skipped`,
        see `SaliencyMetrics.compute`; `error_by_distance`, see `ErrorByDistance` (None at distances without a
        pixel).

    Raises:
        DataError: there are no pairs, or a file cannot be read.
    """
    # the first rank alone evaluates; waiting for the others in compute() would never end
    metrics = SaliencyMetrics(protocol, sync_on_compute=False)
    by_distance = ErrorByDistance(sync_on_compute=False)
    resized = 0
    remaining = iter(pairs)
    while some := list(islice(remaining, _TOGETHER)):
        maps = []
        for path, mask in some:
            levels = read_grey(path)
            if levels.shape != mask.shape:
                levels = _resized(levels, mask.shape, protocol)
                resized += 1
            maps.append(levels)
        metrics.update(maps, [mask for _, mask in some])
        by_distance.update(
            [torch.tensor(levels).float() / 255 for levels in maps],
            [object_masks(torch.tensor(mask)[None], protocol)[0] for _, mask in some],
        )
    if not int(metrics.count):
        raise DataError("there are no saliency maps to score")
    result, distances = metrics.compute(), by_distance.compute()
    curves = {"thresholds": list(range(255, -1, -1)), **{name: result[name].tolist() for name in CURVES}}
    return {
        **{name: float(result[name]) for name in SCORES},
        "n_images": int(metrics.count),
        "details": {
            "protocol": protocol,
            "resized": resized,
            "skipped": int(result["skipped"]),
            "curves": curves,
            "error_by_distance": {
                "distance": distances["distance"].tolist(),
                "error": [None if math.isnan(error) else error for error in distances["error"].tolist()],
            },
        },
    }


def evaluate_saliency_folders(
    predictions: Path,
    truth: Path,
    *,
    ids: Path | None = None,
    protocol: SaliencyProtocol = "pysodmetrics",
    allow_missing: bool = False,
) -> dict[str, Any]:
    """Score a folder of saliency maps against a folder of masks, or one subfolder a data set.

    Files are matched by their names without ending; the masks decide which images count. Where the masks
    lie in subfolders, each is a data set with a subfolder of predictions of the same name. The layout of
    LDF is understood as well: `<set>/mask/`, restricted by `<set>/test.txt` where there is one.

    Args:
        predictions: 8-bit grey PNG (or BMP, JPEG).
        truth: masks (PNG).
        ids: text file with one stem a line, for a single set; default: every mask.
        protocol: see `wsss_zoo.metrics.functional.SaliencyProtocol`.
        allow_missing: leave masks without prediction out instead of failing; they are counted.

    Returns:
        `artifact` ("saliency"), `label` and `rows`: one a data set with `set`, the keys of
        `score_saliency`, `missing` (masks left out) and `unmatched` (predictions without mask).

    Raises:
        DataError: a folder is missing or empty, or a mask has no prediction.
    """
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
    rows = []
    sets = _sets(predictions, truth, ids)
    for one in sets:  # before any set is scored, which takes minutes
        if one.missing and not (allow_missing and one.present):
            raise DataError(_missing_text(one))
    for one in sets:
        stems = one.present
        progress = tqdm(stems, desc=f"score {one.name}", unit="img", leave=False)
        pairs = ((one.predictions[stem], read_grey(one.masks[stem])) for stem in progress)
        scores = score_saliency(pairs, protocol)
        unmatched = len(one.predictions) - len(stems)
        rows.append({"set": one.name, **scores, "missing": len(one.missing), "unmatched": unmatched})
    return {"artifact": "saliency", "label": predictions.name, "rows": rows}


def _sets(predictions: Path, truth: Path, ids: Path | None) -> list[_Set]:
    if _files(truth, MASK_ENDINGS):
        return [_set(truth.name, predictions, truth, ids)]
    folders = [folder for folder in sorted(truth.iterdir()) if _mask_folder(folder) is not None]
    if not folders:
        raise DataError(f"{truth} holds no masks (.png), nor do its subfolders")
    if ids is not None and len(folders) > 1:
        raise DataError(f"a list file is for one data set, but {truth} holds {len(folders)}")
    absent = [folder.name for folder in folders if not (predictions / folder.name).is_dir()]
    if absent:
        raise DataError(
            f"{predictions} has no subfolder for {', '.join(absent)} of {truth}; predict these sets, or "
            "give the folders of one set"
        )
    return [_set(folder.name, predictions / folder.name, folder, ids) for folder in folders]


def _set(name: str, predictions: Path, truth: Path, ids: Path | None) -> _Set:
    folder = _mask_folder(truth)
    assert folder is not None
    masks = _files(folder, MASK_ENDINGS)
    own_list = truth / "test.txt"
    if ids is None and folder != truth and own_list.is_file():
        ids = own_list
    if ids is not None:
        stems = read_stems(ids, masks)
        unknown = [stem for stem in stems if stem not in masks]
        if unknown:
            raise DataError(f"{ids}: {len(unknown)} of {len(stems)} have no mask in {folder}: {unknown[0]}")
        masks = {stem: masks[stem] for stem in stems}
    return _Set(name, _files(predictions, PREDICTION_ENDINGS), masks)


def _mask_folder(folder: Path) -> Path | None:
    return next((path for path in (folder, folder / "mask") if _files(path, MASK_ENDINGS)), None)


def _files(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    return FilePattern((("", folder),), endings=endings).find()


def _missing_text(one: _Set) -> str:
    missing = one.missing
    shown = ", ".join(missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"{one.name}: {len(missing)} of {len(one.masks)} masks have no prediction: {shown}{more}. "
        "Predict them, name the images that count with --list, or leave them out with --allow-missing."
    )


def _resized(levels: Grey, size: tuple[int, ...], protocol: SaliencyProtocol) -> Grey:
    height, width = size
    if protocol == "ldf":
        return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC))
    return np.asarray(cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
