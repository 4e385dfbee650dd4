import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.refine import refiners
from wsss_zoo.artifacts import LocalizationMaps, finished_ids, load_mask
from wsss_zoo.errors import WsssZooError
from wsss_zoo.refine import PseudoLabels, refine_folder
from wsss_zoo.refine.folder import RefineItem


def make_item(folder, index):
    maps = {"maps": ("localization maps", folder / f"{index}.npz")}
    return RefineItem(f"{index}", folder / f"{index}.jpg", maps)


def make_items(folder, count, dark=()):
    items = []
    for index in range(count):
        rng = np.random.default_rng(index)
        image = np.zeros((12, 16, 3), np.uint8) if index in dark else rng.integers(1, 256, (12, 16, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{index}.jpg")
        maps = LocalizationMaps.from_full_size([3], rng.random((1, 12, 16), dtype=np.float32))
        maps.save(folder / f"{index}.npz")
        items.append(make_item(folder, index))
    return items


def test_processes_make_what_one_process_makes(tmp_path):
    items = make_items(tmp_path, 9)
    refiner = PseudoLabels(value=4.0, crf_args={"iterations": 2})
    assert refine_folder(refiner, iter(items), tmp_path / "one", progress=None) == 9
    assert refine_folder(refiner, items, tmp_path / "two", workers=2, progress=None) == 9
    assert finished_ids(tmp_path / "two" / "masks", ".png") == {str(index) for index in range(9)}
    for image_id, image, inputs in items:
        one = load_mask(tmp_path / "one" / "masks" / f"{image_id}.png")
        np.testing.assert_array_equal(one, load_mask(tmp_path / "two" / "masks" / f"{image_id}.png"))
        maps = LocalizationMaps.load(inputs["maps"][1])
        with Image.open(image) as opened:
            np.testing.assert_array_equal(one, refiner(np.array(opened), maps))


def test_finished_images_are_not_made_again(tmp_path):
    items = make_items(tmp_path, 3)
    refine_folder(refiners.threshold_half, items[:2], tmp_path / "out", progress=None)
    before = [(tmp_path / "out" / "masks" / f"{index}.png").stat().st_mtime_ns for index in range(2)]
    assert refine_folder(refiners.threshold_half, items, tmp_path / "out", progress=None) == 1
    assert [(tmp_path / "out" / "masks" / f"{index}.png").stat().st_mtime_ns for index in range(2)] == before
    assert refine_folder(refiners.threshold_half, items, tmp_path / "out", workers=2, progress=None) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_named_after_the_others_are_finished(tmp_path, workers):
    items = make_items(tmp_path, 8, dark=[1])
    (tmp_path / "2.npz").write_bytes((tmp_path / "2.npz").read_bytes()[:50])
    (tmp_path / "5.jpg").write_bytes((tmp_path / "5.jpg").read_bytes()[:200])
    with pytest.raises(WsssZooError) as caught:
        refine_folder(refiners.fail_on_dark_images, items, tmp_path / "out", workers=workers, progress=None)
    message = str(caught.value)
    assert "3 of 8 images could not be refined" in message
    for part in (
        "1: RuntimeError: too dark",
        "2.npz: expected localization maps",
        "5.jpg: the image cannot be read",
    ):
        assert part in message
    assert finished_ids(tmp_path / "out" / "masks", ".png") == {"0", "3", "4", "6", "7"}


def test_a_process_that_dies_is_told_and_finished_masks_are_kept(tmp_path):
    items = make_items(tmp_path, 12, dark=[11])
    with pytest.raises(WsssZooError, match=r"for lack of memory.*fewer workers than 2"):
        refine_folder(refiners.die_on_dark_images, items, tmp_path / "out", workers=2, progress=None)
    assert len(finished_ids(tmp_path / "out" / "masks", ".png")) >= 8


def test_each_process_uses_one_thread(tmp_path):
    refine_folder(refiners.thread_limit, make_items(tmp_path, 2), tmp_path / "out", workers=2, progress=None)
    assert load_mask(tmp_path / "out" / "masks" / "0.png").max() == 1


def group_ends(group, seconds=10):
    """Whether every process of the group is gone in time; Python's own resource tracker goes last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_stops_soon_with_whole_masks_and_no_process_left(tmp_path):
    make_items(tmp_path, 80)
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys\nfrom pathlib import Path\nfrom tests.refine import refiners\n"
        "from tests.refine.test_folder import make_item\nfrom wsss_zoo.refine import refine_folder\n"
        "if __name__ == '__main__':\n"
        # a suite that was started in the background hands on an ignored SIGINT
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    f = Path(sys.argv[1])\n"
        "    items = [make_item(f, i) for i in range(80)]\n"
        "    refine_folder(refiners.slow, items, f / 'out', workers=2, progress=None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300  # a busy machine takes long to start three interpreters
    while len(finished_ids(tmp_path / "out" / "masks", ".png")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: parent and workers alike
    _, errors = process.communicate(timeout=120)
    finished = finished_ids(tmp_path / "out" / "masks", ".png")
    assert b"KeyboardInterrupt" in errors
    assert 2 <= len(finished) < 60
    assert all(load_mask(tmp_path / "out" / "masks" / f"{name}.png").shape == (12, 16) for name in finished)
    assert not list((tmp_path / "out" / "masks").glob(".*.tmp"))
    assert group_ends(process.pid)
