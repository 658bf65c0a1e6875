"""Files that are replaced whole, and locks that die with their holder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.compare.folder import clear_study, read_json, write_json
from foveate.errors import RunError
from foveate.locking import locked

HOLDER = """
import sys, time
from pathlib import Path
from foveate.locking import locked
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

    monkeypatch.setattr("foveate.files.os.fsync", full)
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


@pytest.mark.slow
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

    monkeypatch.setattr("filelock.FileLock.acquire", cannot)
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


@pytest.mark.parametrize("content", [None, '{"version": 2, "subjects": []}', "[]"])
def test_a_folder_that_is_no_study_loses_nothing(tmp_path, content):
    (tmp_path / "runs" / "my_model").mkdir(parents=True)
    (tmp_path / "runs" / "my_model" / "best.pt").write_text("weights")
    (tmp_path / "report.html").write_text("mine")
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=r"is not the folder of a study and holds .*runs, report\.html; nothing was rem"):
        clear_study(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", ['{"version": 1, "task": "classify"}', '{"version": 1, "ta'])
def test_a_study_is_cleared_of_its_own_runs_only(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    (tmp_path / "costs.json").write_text("{}")
    for run in ("se/seed0", "se/seed11", "mine/seed0", "cbam/seeds"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "best.pt").write_text("weights")
    config = '{"task": "classify", "network": "resnet18", "mechanism": "se"}'
    for run in ("se/seed0", "se/seed11", "cbam/seeds"):
        (tmp_path / "runs" / run / "config.json").write_text(config)
    (tmp_path / "runs" / "mine" / "seed0" / "config.json").write_text('{"model": "llama"}')
    clear_study(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {f"runs/{run}/{name}" for run in ("mine/seed0", "cbam/seeds") for name in ("best.pt", "config.json")}


def test_a_folder_that_is_not_there_or_empty_has_nothing_to_clear(tmp_path):
    clear_study(tmp_path)
    clear_study(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_said_and_the_study_stays(tmp_path, monkeypatch):
    (tmp_path / "study.json").write_text('{"version": 1, "task": "classify"}')
    run = tmp_path / "runs" / "se" / "seed0"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"task": "classify", "network": "resnet18", "mechanism": "se"}')

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("foveate.compare.folder.shutil.rmtree", refused)
    with pytest.raises(RunError, match=r"seed0 cannot be removed: Permission denied"):
        clear_study(tmp_path)
    assert (tmp_path / "study.json").exists()
