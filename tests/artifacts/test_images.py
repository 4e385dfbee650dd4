import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.artifacts import (
    VOC_PALETTE,
    heatmap_overlay,
    load_mask,
    load_saliency,
    overlay,
    save_mask,
    save_saliency,
)
from wsss_zoo.errors import ArtifactError


def test_palette_is_that_of_the_voc_devkit():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(VOC_PALETTE[label]) == colour
    assert len(np.unique(VOC_PALETTE, axis=0)) == 256


def test_mask_round_trip_keeps_every_label_and_looks_right_elsewhere(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    save_mask(tmp_path / "masks" / "a.png", mask)
    np.testing.assert_array_equal(load_mask(tmp_path / "masks" / "a.png"), mask)
    with Image.open(tmp_path / "masks" / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), VOC_PALETTE[mask])


def test_grey_masks_are_read_as_indices_and_colour_masks_refused(tmp_path):
    mask = np.array([[0, 15], [255, 3]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "grey.png"), mask)
    Image.fromarray(VOC_PALETTE[mask]).save(tmp_path / "colour.png")
    with pytest.raises(ArtifactError, match=r"colour\.png: .*mode RGB.*saved as colours"):
        load_mask(tmp_path / "colour.png")
    Image.fromarray(mask.astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ArtifactError, match="mode I;16"):
        load_mask(tmp_path / "deep.png")


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.zeros((3, 3, 3), np.uint8), np.zeros((0, 3), np.uint8)])
def test_only_label_masks_are_written(tmp_path, bad):
    with pytest.raises(ArtifactError, match=r"uint8 \(H, W\)"):
        save_mask(tmp_path / "a.png", bad)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("keep", [0, 20, 60, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["mask", "saliency"])
def test_truncated_png_is_an_artifact_error(tmp_path, keep, kind):
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    if kind == "mask":
        save_mask(path, rng.integers(0, 21, (50, 60)).astype(np.uint8))
    else:
        save_saliency(path, rng.random((50, 60)))
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ArtifactError, match=r"a\.png: broken image.*Delete it and run again"):
        (load_mask if kind == "mask" else load_saliency)(path)


def test_saliency_round_trip_and_refusals(tmp_path):
    map = np.random.default_rng(0).random((12, 9)).astype(np.float32)
    save_saliency(tmp_path / "a.png", map)
    back = load_saliency(tmp_path / "a.png")
    assert back.dtype == np.float32
    assert np.abs(back - map).max() <= 0.5 / 255 + 1e-6
    save_saliency(tmp_path / "b.png", back)
    np.testing.assert_array_equal(load_saliency(tmp_path / "b.png"), back)
    for value in (-0.1, 1.1, np.nan):
        with pytest.raises(ArtifactError, match=r"\[0, 1\]"):
            save_saliency(tmp_path / "c.png", np.full((2, 2), value))
    save_mask(tmp_path / "d.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ArtifactError, match="8-bit grey"):
        load_saliency(tmp_path / "d.png")
    with pytest.raises(ArtifactError, match="no such file"):
        load_saliency(tmp_path / "e.png")


def test_overlays_colour_only_what_is_labelled():
    image = np.full((2, 2, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1], [2, 255]], np.uint8), alpha=0.5)
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(mixed[0, 0], [100, 100, 100])
    np.testing.assert_array_equal(mixed[0, 1], [114, 50, 50])
    np.testing.assert_array_equal(mixed[1, 1], [162, 162, 146])
    heat = heatmap_overlay(image, np.array([[0, 1], [0.5, 0.5]], np.float16), alpha=1.0)
    assert heat[0, 0].argmax() == 2  # 0 is blue
    assert heat[0, 1].argmax() == 0  # 1 is red
    for function in (overlay, heatmap_overlay):
        with pytest.raises(ArtifactError, match="same size"):
            function(image, np.zeros((3, 2), np.uint8))


def test_artifacts_need_no_torch():
    code = (
        "import sys, wsss_zoo.artifacts as a; [getattr(a, name) for name in a.__all__]; "
        "import wsss_zoo.metrics, wsss_zoo.refine as r; r.PseudoLabels, r.ConfidentLabels, r.refine_folder; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
