"""What reducing localization maps for storage costs in mIoU, and what it saves.

    python benchmarks/map_storage.py --voc-root VOCdevkit/VOC2012 --split val [--maps DIR]
        [--masks-dir SegmentationClass] [--images N] [--strides 2 4 8] [--json result.json]

Full-size float32 maps are scored by `ThresholdSweep` against the VOC masks, then reduced, rounded to
float16, enlarged and scored again. Four reductions to the same grid are compared:

    point          the map at the centre of each cell (bilinear)
    box            mean over the cell
    antialias      bilinear with a support of two cells (Pillow, torch with antialias=True)
    least-squares  the grid that, once enlarged, is closest to the full map; what `LocalizationMaps` stores

--maps is a folder of full-size maps: .npz with `classes` (K,) and `maps` (K, H, W), or `LocalizationMaps`
of stride 1. Without it CAM-like maps are made from the masks: random parts of each object and random
places elsewhere, averaged over the cells of the four grids of a multi-scale CAM (a stride of 8 at scales
0.5, 1, 1.5 and 2), each cell with its own noise, enlarged, summed and divided by the maximum.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from wsss_zoo.artifacts import LocalizationMaps, load_mask
from wsss_zoo.artifacts.resampling import reduce_bilinear, resample_bilinear
from wsss_zoo.metrics import ThresholdSweep

NUM_CLASSES = 20
TRAIN_AUG_IMAGES = 10_582
# stride 8 at scales 0.5, 1, 1.5 and 2
CAM_STRIDES = (16, 8, 16 / 3, 4)
Maps = npt.NDArray[np.float32]


def cam_like(target: npt.NDArray[np.uint8], classes: npt.NDArray[np.intp], rng: np.random.Generator) -> Maps:
    """Maps `(K, H, W)` that fire on parts of the objects and around them, as a classifier's would."""
    total = np.zeros((len(classes), *target.shape), dtype=np.float32)
    coarse = [-(-side // 48) + 1 for side in target.shape]
    for plane, class_index in enumerate(classes):
        parts = rng.lognormal(0.0, 1.0, coarse).astype(np.float32)
        elsewhere = np.maximum(rng.standard_normal(coarse), 0).astype(np.float32)
        parts, elsewhere = resample_bilinear(np.stack([parts, elsewhere]), target.shape)
        inside = (target == class_index + 1).astype(np.float32)
        response = (inside + 0.1) * parts + 0.3 * elsewhere
        for stride in CAM_STRIDES:
            grid = tuple(math.ceil(side / stride) for side in target.shape)
            cells = pillow_resize(response, grid, Image.Resampling.BILINEAR)
            cells = cells * rng.lognormal(0.0, 0.25, grid).astype(np.float32)
            total[plane] += resample_bilinear(cells[None], target.shape)[0]
    return total / (total.max(axis=(1, 2), keepdims=True) + 1e-5)


def pillow_resize(plane: Maps, size: tuple[int, ...], method: Image.Resampling) -> Maps:
    """Resize `(H, W)` with Pillow's support-widening filters."""
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), method))


def reduce_maps(maps: Maps, stride: int, how: str) -> Maps:
    """Reduce `(K, H, W)` to `(K, ceil(H / stride), ceil(W / stride))`."""
    height, width = maps.shape[1:]
    size = (-(-height // stride), -(-width // stride))
    if how == "point":
        return resample_bilinear(maps, size)
    if how == "least-squares":
        return reduce_bilinear(maps, size)
    method = Image.Resampling.BOX if how == "box" else Image.Resampling.BILINEAR
    return np.stack([pillow_resize(plane, size, method) for plane in maps])


def stored_bytes(stored: LocalizationMaps) -> int:
    """Size of the compressed file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, classes=stored.classes, maps=stored.maps, size=np.asarray(stored.size))
    return buffer.getbuffer().nbytes


def main() -> None:
    """Score every reduction and print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc-root", type=Path, required=True)
    parser.add_argument("--split", default="val", help="list in ImageSets/Segmentation")
    parser.add_argument("--masks-dir", default="SegmentationClass")
    parser.add_argument("--maps", type=Path, help="folder of full-size maps (.npz)")
    parser.add_argument("--images", type=int, help="only the first N")
    parser.add_argument("--strides", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()

    listing = args.voc_root / "ImageSets" / "Segmentation" / f"{args.split}.txt"
    ids = listing.read_text().split()
    masks = args.voc_root / args.masks_dir
    ids = [name for name in ids if (masks / f"{name}.png").is_file()][: args.images]
    if not ids:
        raise SystemExit(f"no mask of {listing} found in {masks}; give --masks-dir")
    reductions = [
        (stride, how) for stride in args.strides for how in ("point", "box", "antialias", "least-squares")
    ]
    full = ThresholdSweep(NUM_CLASSES)
    sweeps = {key: ThresholdSweep(NUM_CLASSES) for key in reductions}
    sizes = dict.fromkeys(reductions, 0)
    full_bytes = 0
    rng = np.random.default_rng(args.seed)
    for name in tqdm(ids, unit="img"):
        target = load_mask(masks / f"{name}.png")
        if args.maps:
            with np.load(args.maps / f"{name}.npz", allow_pickle=False) as archive:
                classes, maps = archive["classes"].astype(np.intp), archive["maps"].astype(np.float32)
        else:
            classes = np.setdiff1d(target, (0, 255)).astype(np.intp) - 1
            maps = cam_like(target, classes, rng)
        full.update(maps, classes, target)
        full_bytes += maps.nbytes
        for stride, how in reductions:
            small = np.clip(reduce_maps(maps, stride, how), 0, 1).astype(np.float16)
            stored = LocalizationMaps(classes.astype(np.int16), small, target.shape)
            sweeps[stride, how].update(stored.full_size(), classes, target)
            sizes[stride, how] += stored_bytes(stored)

    reference = full.compute()
    rows = []
    for key in reductions:
        result = sweeps[key].compute()
        rows.append(
            {
                "stride": key[0],
                "reduction": key[1],
                "bytes_per_image": round(sizes[key] / len(ids)),
                "gb_train_aug": round(sizes[key] / len(ids) * TRAIN_AUG_IMAGES / 1e9, 3),
                "best_miou_change": round(100 * float(result["best_miou"] - reference["best_miou"]), 4),
                "largest_change_on_curve": round(
                    100 * float(torch.abs(result["miou"] - reference["miou"]).max()), 4
                ),
                "pxap_change": round(100 * float(result["pxap"] - reference["pxap"]), 4),
            }
        )
    print(
        f"{len(ids)} images, full size float32: {full_bytes / len(ids):,.0f} bytes an image, "
        f"{full_bytes / len(ids) * TRAIN_AUG_IMAGES / 1e9:.1f} GB for {TRAIN_AUG_IMAGES:,}; "
        f"best mIoU {100 * float(reference['best_miou']):.3f} at {float(reference['best_threshold']):.2f}"
    )
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(str(value) for value in row.values()))
    if args.json:
        summary = {
            "images": len(ids),
            "split": args.split,
            "maps": "given" if args.maps else "synthetic",
            "full_size_bytes_per_image": round(full_bytes / len(ids)),
            "full_size_best_miou": 100 * float(reference["best_miou"]),
            "reductions": rows,
        }
        args.json.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
