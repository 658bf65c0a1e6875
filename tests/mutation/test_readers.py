"""Damaged files of every kind: each ends in a result or in one sentence, soon, and in little memory."""

import gc
import multiprocessing
import random
import resource
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.mutation.subjects import Subject, subjects

from foveate.errors import FoveateError

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SEED = 20
LEAST = 4000  # damaged inputs
TIMES = 2  # what each subject says
SECONDS = 20  # for one input; a hang is one that takes longer
MEMORY = 2**30  # bytes more than before
GUARD = 4 * 2**30  # bytes of address space that a process may take at most, for the machine's sake


def test_every_damaged_input_ends_in_a_result_or_a_sentence(tmp_path: Path):
    found = subjects(tmp_path)
    assert TIMES * sum(subject.count for subject in found) >= LEAST
    faults = [fault for subject in found for fault in _tried(subject)]
    assert not faults, "\n".join(faults)


def test_what_watches_the_readers_finds_each_kind_of_fault(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(1000))

    def fail(path: Path) -> None:
        raise KeyError("a traceback")

    def hang(path: Path) -> None:
        time.sleep(60)

    def grow(path: Path) -> None:
        b"x" * (MEMORY + 2**24)

    for read, fault in ((fail, "KeyError: 'a traceback'"), (hang, "took longer than 5 s"), (grow, "MiB of memory")):
        told = _tried(Subject("a.bin", path, (read,), count=1), seconds=5, times=1)
        assert len(told) == 1
        assert fault in told[0]


def _tried(subject: Subject, seconds: float = SECONDS, times: int = TIMES) -> list[str]:
    """Damage a file again and again, read it in a process of its own, and return what went wrong."""
    whole = subject.path.read_bytes()
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_try_all, args=(subject, whole, seconds, times * subject.count, theirs))
    process.start()
    theirs.close()
    faults: list[str] = []
    at = "before the first input"
    while True:
        if not ours.poll(3 * seconds):  # code that no signal reaches
            faults.append(f"{subject.name}: {at}: took longer than {seconds:g} s and does not stop")
            process.kill()
            break
        try:
            kind, text = ours.recv()
        except EOFError:
            break
        if kind == "at":
            at = text
        elif kind == "fault":
            faults.append(f"{subject.name}: {at}: {text}")
    process.join()
    subject.path.write_bytes(whole)
    if process.exitcode not in (0, -signal.SIGKILL):
        faults.append(f"{subject.name}: {at}: the process ended with {process.exitcode}")
    return faults


def _try_all(subject: Subject, whole: bytes, seconds: float, count: int, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + GUARD, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    gc.freeze()  # so that collecting costs little
    signal.signal(signal.SIGALRM, _late)
    most = _resident()
    for number in range(count):
        subject.path.write_bytes(subject.damage(whole, random.Random(f"{SEED} {subject.name} {number}")))
        for place, read in enumerate(subject.reads):
            told.send(("at", f"input {number}, reader {place}"))
            signal.setitimer(signal.ITIMER_REAL, seconds)
            fault = _fault(read, subject.path, seconds)
            gc.collect()  # which tests do seldom; decoders hold threads
            signal.setitimer(signal.ITIMER_REAL, 0)
            if fault:
                told.send(("fault", fault))
            peak = _resident()
            if peak - most > MEMORY:
                told.send(("fault", f"took {(peak - most) // 2**20} MiB of memory"))
                most = peak


class Late(BaseException):
    """An input took too long."""


def _late(*_: object) -> None:
    raise Late


def _fault(read: Any, path: Path, seconds: float) -> str | None:
    """Read a file, and return what was wrong with the way in which that ended."""
    try:
        read(path)
    except FoveateError as error:
        if not str(error).strip() or "Traceback" in str(error):
            return f"{type(error).__name__} without a sentence: {error}"
    except Late:
        return f"took longer than {seconds:g} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


def _resident() -> int:
    """The largest memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
