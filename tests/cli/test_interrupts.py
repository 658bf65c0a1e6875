"""Ctrl-C and SIGTERM end a command with a sentence, and one process at a time works in a folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.locking import LOCK, locked

SCRIPT = Path(sys.executable).with_name("foveate")
INSTALLED = [str(SCRIPT)] if SCRIPT.is_file() else [sys.executable, "-c", "from foveate.cli import main; main()"]
LONG = ["--network", "resnet_tiny", "--max-time", "10m"]


def started(*arguments: object, until: Path) -> subprocess.Popen[str]:
    """Start a command, and wait until it has written a file."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*INSTALLED, *map(str, arguments)]
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore, and hand down
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, previous)
    while not until.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["config.json", "metrics.csv"])
def test_an_interrupted_run_says_how_it_goes_on(sent, when, tmp_path):
    process = started("train", *LONG, "--out", tmp_path / "run", until=tmp_path / "run" / when)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; the same command resumes the run"
    assert "Traceback" not in errors
    assert "Aborted" not in errors


@pytest.mark.slow
def test_an_interrupted_comparison_says_how_it_goes_on(tmp_path):
    arguments = ["compare", *LONG, "--mechanisms", "none,se", "--seeds", 1, "--workers", 1, "--out", tmp_path / "study"]
    process = started(*arguments, until=tmp_path / "study" / "study.json")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; the same command resumes the comparison"


def test_other_commands_have_nothing_to_resume(foveate, monkeypatch):
    def interrupted(folder):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("foveate.report.write_report", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert foveate("report", "demo") == (130, "", "interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_two_processes_do_not_share_a_run_folder(foveate, fresh, tmp_path):
    run = tmp_path / "run"
    told = f"foveate: another process is at work in {run}; wait until it ends, or stop it\n"
    with locked(run / LOCK):
        assert foveate("train", *LONG, "--out", run, *fresh) == (2, "", told)
        assert [path.name for path in run.iterdir()] == [LOCK]


@pytest.mark.slow
def test_starting_over_beside_a_running_one_leaves_it_alone(foveate, tmp_path):
    run = tmp_path / "run"
    process = started("train", *LONG, "--out", run, until=run / "metrics.csv")
    status, _, errors = foveate("train", *LONG, "--out", run, "--fresh")
    assert (status, errors.count("another process is at work")) == (2, 1)
    assert process.poll() is None
    assert (run / "metrics.csv").exists()
    process.kill()
    process.wait()
    with locked(run / LOCK, wait_s=5):
        pass


def test_a_folder_of_somebody_else_gets_no_lock(foveate, tmp_path):
    (tmp_path / "mine.txt").touch()
    status, _, errors = foveate("train", *LONG, "--out", tmp_path)
    assert status == 2
    assert "holds mine.txt but no config.json" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
