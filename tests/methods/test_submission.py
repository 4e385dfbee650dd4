"""The archive for the VOC test server: what is in it and what is refused."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from wsss_zoo.artifacts.masks import VOC_PALETTE, save_mask
from wsss_zoo.errors import ArtifactError
from wsss_zoo.methods.deeplab.submission import write_submission

IDS = ["2008_000006", "2008_000011", "2008_000012"]


@pytest.fixture
def masks(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "masks"
    for index, image_id in enumerate([*IDS, "not_asked_for"]):
        save_mask(folder / f"{image_id}.png", rng.integers(0, 21, (6 + index, 9), dtype=np.uint8))
    return folder


def test_what_the_server_gets(masks, tmp_path):
    path = write_submission(
        masks, IDS, tmp_path, expected=3, sizes={name: (6 + i, 9) for i, name in enumerate(IDS)}
    )
    assert path == tmp_path / "results.tar.gz"
    with tarfile.open(path, "r:gz") as archive:
        assert archive.getnames() == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in IDS
        ]
        for name, member in zip(IDS, archive.getmembers(), strict=True):
            image = Image.open(io.BytesIO(archive.extractfile(member).read()))
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), np.asarray(Image.open(masks / f"{name}.png")))
            # Pillow stores the palette up to the last colour that is used
            palette = np.array(image.getpalette()).reshape(-1, 3)
            assert np.array_equal(palette, VOC_PALETTE[: len(palette)])
            assert len(palette) >= 21
            assert palette[1:5].tolist() == [[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]


def test_grey_masks_get_the_palette(tmp_path):
    Image.fromarray(np.full((4, 5), 3, np.uint8)).save(tmp_path / "a.png")
    path = write_submission(tmp_path, ["a"], tmp_path / "out.tgz", comp="comp5", expected=None)
    with tarfile.open(path, "r:gz") as archive:
        member = archive.getmember("results/VOC2012/Segmentation/comp5_test_cls/a.png")
        assert Image.open(io.BytesIO(archive.extractfile(member).read())).mode == "P"


def test_equal_masks_give_equal_bytes(masks, tmp_path):
    first = write_submission(masks, IDS, tmp_path / "a.tar.gz", expected=None)
    second = write_submission(masks, IDS, tmp_path / "b.tar.gz", expected=None)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": IDS}, "test set has 1456 images, the list has 3"),
        ({"image_ids": [*IDS, IDS[0]], "expected": None}, "1 ids twice, first 2008_000006"),
        ({"image_ids": [], "expected": None}, "list of images is empty"),
        ({"image_ids": [*IDS, "2008_9"], "expected": 4}, r"1 of 4 masks are missing, first 2008_9\.png"),
        ({"image_ids": IDS, "expected": 3, "comp": "comp4"}, "comp5 or comp6, got 'comp4'"),
        (
            {"image_ids": IDS, "expected": 3, "sizes": {IDS[0]: (6, 9)}},
            "no entry for 2 images, first '2008_000011'",
        ),
        (
            {"image_ids": IDS[:1], "expected": 1, "sizes": {IDS[0]: (9, 6)}},
            r"has \(H, W\) \(9, 6\), the mask \(6, 9\)",
        ),
        ({"image_ids": IDS, "expected": 3, "out": "results.zip"}, r"ends in \.tar\.gz or \.tgz"),
    ],
)
def test_what_is_refused(masks, tmp_path, change, message):
    arguments = {"out": "results.tar.gz", **change}
    arguments["out"] = tmp_path / arguments["out"]
    with pytest.raises(ArtifactError, match=message):
        write_submission(masks, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


@pytest.mark.parametrize(("label", "hint"), [(21, "found 21"), (255, "ignored pixels")])
def test_labels_that_do_not_exist_leave_no_archive(masks, tmp_path, label, hint):
    save_mask(masks / f"{IDS[2]}.png", np.full((4, 4), label, np.uint8))
    with pytest.raises(ArtifactError, match=hint):
        write_submission(masks, IDS, tmp_path / "results.tar.gz", expected=3)
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
