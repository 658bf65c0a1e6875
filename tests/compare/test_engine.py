"""Worker processes that do jobs, fail, die, and never outlive their parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import pytest

from foveate.compare.engine import Event, Job, LocalEngine, explain
from foveate.compare.ray_engine import RayEngine
from foveate.errors import DataError, MissingExtra, RunError


def last(events):
    """Key -> how it ended, and with what."""
    return {event.key: (event.kind, event.value) for event in events if event.kind in ("finished", "failed")}


def gone(process, within_s=10.0):
    """Whether a process that is not our child ends soon."""
    for _ in range(int(within_s / 0.02)):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        with contextlib.suppress(FileNotFoundError):
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":  # ended, and nobody has asked how
                return True
        time.sleep(0.02)
    return False


def wait_for(path, within_s=30.0):
    for _ in range(int(within_s / 0.02)):
        if path.exists():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_every_job_is_started_reports_and_is_finished_in_this_order():
    with LocalEngine(1) as engine:
        events = list(engine.run([Job("a", jobs.square, (3,)), Job("b", jobs.square, (5,))]))
    assert events == [
        Event("a", "started"),
        Event("a", "progress", "squaring 3"),
        Event("a", "finished", 9),
        Event("b", "started"),
        Event("b", "progress", "squaring 5"),
        Event("b", "finished", 25),
    ]


def test_one_worker_does_many_jobs_and_stays_for_more():
    with LocalEngine(1) as engine:
        first = last(engine.run([Job(0, jobs.process), Job(1, jobs.process)]))
        second = last(engine.run([Job(2, jobs.process)]))
    assert first[0] == first[1] == second[2]
    assert first[0] != ("finished", os.getpid())


@pytest.mark.parametrize(("warm", "found"), [("colorsys", True), (None, False)])
def test_a_worker_without_a_job_imports_what_following_jobs_need(warm, found):
    with LocalEngine(2, warm=warm) as engine:
        while sum(worker.ready for worker in engine._team) < 2:
            list(engine.run([Job(0, jobs.nap, (0.5,))], following=2))
        ended = last(engine.run([Job(number, jobs.is_imported, ("colorsys",)) for number in range(2)]))
    assert any(value for _, value in ended.values()) == found


def test_a_worker_that_dies_over_its_imports_is_not_started_again_and_again(tmp_path, monkeypatch):
    deaths = tmp_path / "deaths"
    fatal = f"import os\nwith open({str(deaths)!r}, 'a') as file:\n    file.write('.')\nos._exit(1)\n"
    (tmp_path / "fatal_import.py").write_text(fatal)
    monkeypatch.syspath_prepend(tmp_path)
    with LocalEngine(3, warm="fatal_import") as engine:
        ended = last(engine.run([Job(0, jobs.nap, (4.0,))], following=3))
    assert ended[0][0] == "finished"
    assert len(deaths.read_text()) == 2


def test_what_cannot_be_imported_beforehand_is_left_to_the_jobs():
    with LocalEngine(2, warm="no_such_module") as engine:
        list(engine.run([Job(0, jobs.nap, (0.5,))], following=2))
        assert last(engine.run([Job(1, jobs.square, (3,))])) == {1: ("finished", 9)}


def test_two_workers_work_at_the_same_time(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    with LocalEngine(2) as engine:
        ended = last(engine.run([Job(0, jobs.meet, (here, there)), Job(1, jobs.meet, (there, here))]))
    assert ended == {0: ("finished", True), 1: ("finished", True)}


def test_no_more_workers_start_than_there_are_jobs():
    with LocalEngine(5) as engine:
        list(engine.run([Job(0, jobs.process)]))
        assert len(engine._team) == 1


@pytest.mark.slow
def test_a_failed_job_gives_a_sentence_and_the_others_go_on():
    asked = [
        Job(0, jobs.fail),
        Job(1, jobs.fail_strangely),
        Job(2, jobs.return_what_cannot_travel),
        Job(3, jobs.square, (2,)),
    ]
    with LocalEngine(1) as engine:
        ended = last(engine.run(asked))
    assert ended[0] == ("failed", "a square takes a number; got 'x'")
    assert ended[1] == ("failed", "ZeroDivisionError: division by zero")
    assert ended[2][0] == "failed"
    assert ended[3] == ("finished", 4)


def test_a_job_whose_worker_was_killed_is_done_once_more(tmp_path):
    with LocalEngine(1) as engine:
        events = list(engine.run([Job("a", jobs.die_once, (tmp_path / "mark",))]))
    assert [event.kind for event in events] == ["started", "progress", "started", "finished"]
    assert events[1].value == "the last words"
    assert events[-1].value == "survived"


@pytest.mark.slow
def test_a_job_that_kills_its_worker_twice_has_failed_and_the_others_go_on():
    with LocalEngine(1) as engine:
        ended = last(engine.run([Job(0, jobs.die), Job(1, jobs.leave), Job(2, jobs.square, (7,))]))
    assert ended[0] == ("failed", "its worker process was killed by SIGKILL, as happens when memory runs out, 2 times")
    assert ended[1] == ("failed", "its worker process ended with status 3, 2 times")
    assert ended[2] == ("finished", 49)


def test_threads_are_set_before_the_worker_begins_and_only_for_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with LocalEngine(1, threads=3) as engine:
        ended = last(
            engine.run([Job(0, jobs.environment, ("OMP_NUM_THREADS",)), Job(1, jobs.environment, ("MKL_NUM_THREADS",))])
        )
    assert ended == {0: ("finished", "3"), 1: ("finished", "3")}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_each_worker_sees_one_gpu_also_after_another_died(tmp_path):
    see = [Job(number, jobs.environment, ("CUDA_VISIBLE_DEVICES",)) for number in range(2)]
    with LocalEngine(gpus=["GPU-a"]) as engine:
        assert engine.workers == 1
        list(engine.run([Job("killed", jobs.die)]))
        assert last(engine.run(see)) == {0: ("finished", "GPU-a"), 1: ("finished", "GPU-a")}


def test_two_workers_see_different_gpus(tmp_path):
    here, there, name = tmp_path / "here", tmp_path / "there", "CUDA_VISIBLE_DEVICES"
    with LocalEngine(gpus=["0", "1"]) as engine:
        asked = [(0, (name, here, there)), (1, (name, there, here))]
        ended = last(engine.run([Job(key, jobs.environment_in_company, arguments) for key, arguments in asked]))
    assert {value for _, value in ended.values()} == {"0", "1"}


def test_what_workers_print_goes_to_the_log_with_the_traceback_of_a_failure(tmp_path, capfd):
    with LocalEngine(1, log=tmp_path / "workers.log") as engine:
        list(engine.run([Job(0, jobs.speak), Job("which", jobs.fail)]))
    log = (tmp_path / "workers.log").read_text()
    assert "a line for the log" in log
    assert "which:\nTraceback" in log
    assert capfd.readouterr() == ("", "")


def test_leaving_the_engine_ends_busy_workers_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.compare.engine.PATIENCE_S", 60.0)
    with LocalEngine(1) as engine:
        assert next(engine.run([Job(0, jobs.sleep, (tmp_path / "mark",))])).kind == "started"
        process = int(wait_for(tmp_path / "mark"))
        left = time.monotonic()
    assert gone(process)
    assert time.monotonic() - left < 30


def test_ctrl_c_is_for_the_parent_to_act_on_and_not_for_a_run():
    with LocalEngine(1) as engine:
        assert last(engine.run([Job(0, jobs.interrupt)])) == {0: ("finished", "went on")}


PARENT = """
import signal, sys, jobs
from pathlib import Path
from foveate.compare.engine import Job, LocalEngine
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    with LocalEngine(1) as engine:
        list(engine.run([Job(0, jobs.sleep, (Path(sys.argv[1]),))]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script, tmp_path / "mark"], stderr=subprocess.DEVNULL)
    worker = int(wait_for(tmp_path / "mark"))
    parent.send_signal(how)
    parent.wait(20)
    assert gone(worker)


def test_a_script_that_is_not_guarded_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PARENT.replace('if __name__ == "__main__":', "if True:"))
    ended = subprocess.run([sys.executable, script, tmp_path / "mark"], capture_output=True, text=True, timeout=60)
    assert "a worker process ended with status 1 before it could begin; a script that compares" in ended.stderr


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 0), (None, -1)])
def test_an_engine_takes_at_least_one_worker_and_thread(workers, threads):
    with pytest.raises(ValueError, match="workers and threads must be 1 or more; got workers="):
        LocalEngine(workers, threads)


def test_errors_are_explained_in_one_sentence():
    assert explain(DataError("a folder of classes; got none")) == "a folder of classes; got none"
    assert (
        explain(LookupError('no mechanism "ecca"; did you mean "eca"?')) == 'no mechanism "ecca"; did you mean "eca"?'
    )
    assert explain(KeyError("name")) == "KeyError: name"
    assert explain(OSError(28, "No space left on device", "/data/run")) == "No space left on device: /data/run"
    assert explain(MemoryError()) == "MemoryError"


def test_ray_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="this needs ray, which is not installed; pip install 'foveate\\[ray\\]'"):
        RayEngine()


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_said():
    pytest.importorskip("ray")
    with (
        pytest.raises(RunError, match=r"no Ray cluster at 127\.0\.0\.1:1: Connection refused"),
        RayEngine("127.0.0.1:1"),
    ):
        pass
