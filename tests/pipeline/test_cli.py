"""The command line: answers, exit statuses, and that help and lists are quick."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.cli import main


def test_help_lists_and_validation_do_not_import_torch():
    code = (
        "import sys\n"
        "from wsss_zoo.cli import main\n"
        "assert main([]) == 0\n"
        "for what in ('models', 'recipes', 'datasets'): assert main(['list', what]) == 0\n"
        "assert main(['run', 'minivoc/cam', '--dry-run', '-o', '/nowhere']) == 0\n"
        "assert main(['run', 'minivoc/cam', 'sed=1', '--dry-run']) == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "sed: unknown key; did you mean 'seed'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "minivoc/cma"], "did you mean"),
        (["run", "voc2012/cam", "data.root=/nowhere", "--wandb", "off"], "/nowhere"),
        (["evaluate", "--pred", "/nowhere", "--gt", "/nowhere"], "there is no folder /nowhere"),
        (["compare", "/nowhere", "/nowhere2"], "/nowhere"),
        (
            ["predict", "/nowhere.safetensors", "/nowhere.jpg", "-o", "/tmp/none"],
            "there is no image /nowhere.jpg",
        ),
        (["data", "check", "voc2013", "--root", "/nowhere"], "did you mean 'voc2012'"),
        (["weights", "import", "cam", "/nowhere.pth", "x.safetensors"], "/nowhere.pth"),
    ],
)
def test_what_a_user_can_mend_ends_with_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_overrides_may_stand_before_and_after_options(capsys):
    arguments = ["run", "minivoc/cam", "seed=1", "--dry-run", "stages.deeplab=null", "-o", "/nowhere"]
    assert main(arguments) == 0
    assert "deeplab" not in capsys.readouterr().out


def test_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "minivoc/cam", "--dryrun"])
    assert stop.value.code == 2
    assert "--dryrun" in capsys.readouterr().err


def test_evaluate_two_folders(finished_run, small_data, tmp_path, capsys):
    truth = small_data / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    rows = json.loads((finished_run / "metrics.json").read_text())["rows"]
    ids = tmp_path / "val.txt"
    ids.write_text("\n".join(f"val_{i:05d}" for i in range(8)) + "\n")
    common = ["--gt", str(truth), "--list", str(ids), "--num-classes", "8"]
    for folder, row in (("cam/maps", rows[1]), ("deeplab/masks", rows[3])):
        out = tmp_path / "scores.json"
        assert main(["evaluate", "--pred", str(finished_run / folder), *common, "-o", str(out)]) == 0
        assert json.loads(out.read_text())["n_images"] == 8
        if folder.endswith("masks"):
            assert json.loads(out.read_text())["miou"] == row["miou"]
        else:
            assert json.loads(out.read_text())["details"]["pxap"] == row["details"]["pxap"]
    assert "mIoU over 8 images" in capsys.readouterr().out


def test_predict_any_images(finished_run, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(image).save(tmp_path / "photos" / "one.jpg")
    Image.fromarray(image[:, :, 0]).save(tmp_path / "two.png")
    for stage in ("deeplab", "cam"):
        weights = str(finished_run / stage / "checkpoints" / "weights.safetensors")
        out = tmp_path / stage
        command = ["predict", weights, str(tmp_path / "photos"), str(tmp_path / "two.png"), "-o", str(out)]
        assert main([*command, "--scales", "1.0"]) == 0
        for name in ("one", "two"):
            mask = load_mask(out / "masks" / f"{name}.png")
            assert mask.shape == (40, 56)
            assert mask.max() <= 8
            assert Image.open(out / "overlays" / f"{name}.png").size == (56, 40)


def test_two_images_of_one_name_are_refused(finished_run, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "x.png")
    weights = str(finished_run / "deeplab/checkpoints/weights.safetensors")
    images = [str(tmp_path / folder / "x.png") for folder in ("a", "b")]
    assert main(["predict", weights, *images, "-o", str(tmp_path / "out")]) == 2
    assert "would both be written as x.png" in capsys.readouterr().err


def test_weights_export_and_import(finished_run, tmp_path):
    source = str(finished_run / "cam/checkpoints/weights.safetensors")
    assert main(["weights", "export", "cam", source, str(tmp_path / "cam.pth")]) == 0
    assert main(["weights", "export", "cam", source, str(tmp_path / "cam.safetensors")]) == 0
    before, after = (safetensors.torch.load_file(path) for path in (source, tmp_path / "cam.safetensors"))
    assert before.keys() == after.keys()
    assert all((before[key] == after[key]).all() for key in before)


def test_compare_runs(finished_run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    out = tmp_path / "comparison.html"
    assert main(["compare", str(finished_run), str(other), "-o", str(out)]) == 0
    assert out.stat().st_size > 1000
