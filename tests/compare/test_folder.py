"""Files that are replaced whole, and locks that die with their holder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.compare.folder import locked, read_json, write_json
from foveate.errors import RunError

HOLDER = """
import sys, time
from pathlib import Path
from foveate.compare.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_value_is_read_as_it_was_written_and_no_other_file_is_left(tmp_path):
    path = tmp_path / "below" / "value.json"
    write_json(path, {"a": [1, None, "b"]})
    write_json(path, {"c": 2.5})
    assert read_json(path) == {"c": 2.5}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_is_none(tmp_path):
    assert read_json(tmp_path / "value.json") is None


def test_a_value_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"kept": True})
    with pytest.raises(TypeError):
        write_json(path, {"lost": object()})
    assert read_json(path) == {"kept": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_in_a_sentence_and_leaves_the_value_before(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_json(path, {"kept": True})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("foveate.compare.folder.os.fsync", full)
    with pytest.raises(RunError, match=r"value\.json cannot be written: No space left on device"):
        write_json(path, {"lost": True})
    assert read_json(path) == {"kept": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"value\.json cannot be written: "):
        write_json(tmp_path / "file" / "value.json", {})


def test_a_lock_keeps_others_out_until_its_holder_is_killed(tmp_path):
    path = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process is at work in"), locked(path):
        pass
    holder.kill()
    holder.wait()
    with locked(path):
        pass


def test_a_lock_is_waited_for(tmp_path):
    path = tmp_path / ".lock"
    script = HOLDER.replace("time.sleep(60)", "time.sleep(0.3)")
    holder = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with locked(path, wait_s=20):
        assert holder.wait(20) == 0


def test_a_file_system_that_cannot_lock_is_worked_on_without(tmp_path, monkeypatch):
    def cannot(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("foveate.compare.folder.FileLock.acquire", cannot)
    done = []
    with locked(tmp_path / ".lock"):
        done.append(Path(tmp_path).exists())
    assert done == [True]


def test_a_lock_in_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    began = time.monotonic()
    with pytest.raises(RunError, match=r"file cannot be written: "), locked(tmp_path / "file" / ".lock", wait_s=60):
        pass
    assert time.monotonic() - began < 30
