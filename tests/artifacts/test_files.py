import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from wsss_zoo.artifacts import atomic_write, finished_ids, read_json, write_json
from wsss_zoo.artifacts.folder import folder_bytes
from wsss_zoo.errors import ArtifactError


def test_the_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"12")
        file.flush()
        assert not path.exists()
        assert finished_ids(path.parent, ".bin") == set()
    assert path.read_bytes() == b"12"
    assert os.listdir(path.parent) == ["a.bin"]


def test_an_exception_keeps_the_older_file_and_leaves_no_temporary_one(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_says_that_running_again_continues(tmp_path, code):
    with (
        pytest.raises(ArtifactError, match=r"a\.bin: no space left .* run the same command again"),
        atomic_write(tmp_path / "a.bin"),
    ):
        raise OSError(code, os.strerror(code))
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_while_flushing_is_told_the_same_way(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="no space left"):
        write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_caller_keeps_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.bin") as file:
        file.write((tmp_path / "missing").read_bytes())


def test_a_folder_in_the_way_is_an_artifact_error(tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(ArtifactError, match=r"a\.bin: cannot be written"), atomic_write(tmp_path / "a.bin"):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ArtifactError, match="cannot be written"),
        atomic_write(tmp_path / "file" / "a.bin"),
    ):
        pass


def test_a_killed_writer_leaves_whole_files_only(tmp_path):
    script = (
        "import sys\nfrom wsss_zoo.artifacts import atomic_write\n"
        "for i in range(10**6):\n"
        "    with atomic_write(f'{sys.argv[1]}/{i}.bin') as file:\n"
        "        for _ in range(64):\n            file.write(b'x' * 4096)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    deadline = time.monotonic() + 120
    while len(finished_ids(tmp_path, ".bin")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    finished = finished_ids(tmp_path, ".bin")
    assert len(finished) >= 3
    assert all((tmp_path / f"{name}.bin").stat().st_size == 64 * 4096 for name in finished)


def test_finished_ids_leaves_out_temporary_files_folders_and_other_extensions(tmp_path):
    for name in ("2007_000032.npz", "a.b.npz", ".2007_000033.npz.123.tmp", ".hidden.npz", "c.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.npz").mkdir()
    assert finished_ids(tmp_path, ".npz") == {"2007_000032", "a.b"}
    assert finished_ids(tmp_path / "missing", ".npz") == set()


def test_json_round_trip_and_refusals(tmp_path):
    path = tmp_path / "a.json"
    value = {"miou": 48.05, "classes": ["Schiff", "Bäume"], "none": None}
    write_json(path, value)
    assert read_json(path) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"miou": float("nan")})
    assert read_json(path) == value
    path.write_text('{"miou": 48')
    with pytest.raises(ArtifactError, match=r"a\.json: expected JSON.*Delete it and run again"):
        read_json(path)
    with pytest.raises(ArtifactError, match=r"b\.json: expected a JSON file here"):
        read_json(tmp_path / "b.json")


def test_ids_with_slashes_are_files_in_folders(tmp_path):
    for name in ("ecssd/0360.png", "hku_is/0360.png", "0360.png", "ecssd/.0361.png.7.tmp", ".old/0362.png"):
        with atomic_write(tmp_path / name) as file:
            file.write(b"12")
    assert finished_ids(tmp_path, ".png") == {"0360", "ecssd/0360", "hku_is/0360"}
    assert finished_ids(str(tmp_path / "ecssd") + "/", ".png") == {"0360"}
    assert folder_bytes(tmp_path) == 10
