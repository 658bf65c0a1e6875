"""Where the runs of a study are computed: in warm worker processes of this machine, or on a Ray cluster.

An engine takes jobs and yields what happens to them. A job is a function that can be imported by name, with its
arguments; it gets one more, `report`, through which it tells how far it is. Importing Lightning takes seconds, so a
worker is kept for many jobs, and imports it while it waits for the first. Threads are counted before torch is loaded,
because OpenMP reads their number once.
"""

import contextlib
import importlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, Self

from foveate.errors import RunError

__all__ = ["ATTEMPTS", "PATIENCE_S", "WATCH_S", "Engine", "Event", "Job", "LocalEngine", "explain", "variables"]

ATTEMPTS = 2  # a job whose worker was killed is done once more; the kill may have been meant for another
PATIENCE_S = 5.0  # between asking a worker to end and ending it
WATCH_S = 1.0  # how often to look after workers that are silent
IDLE_S = 0.1  # without a job, after which a worker imports what jobs will need


@dataclass(frozen=True)
class Job:
    """work(*arguments, report=...), to be done in some process; `key` names it in the events."""

    key: Any
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Event:
    """What happened to a job.

    Args:
        key: The job's.
        kind: "started" (twice, where its worker was lost), then "progress", at last "finished" or "failed".
        value: What it reported, what it returned, or one sentence that says why it failed.
    """

    key: Any
    kind: Literal["started", "progress", "finished", "failed"]
    value: Any = None


class Engine(Protocol):
    """A place for jobs; a context manager that leaves nothing running behind it."""

    @property
    def workers(self) -> int:
        """How many jobs can be done at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, jobs: Sequence[Job], following: int = 0) -> Iterator[Event]:
        """Do the jobs, the first ones first; yield their events until each has finished or failed.

        So many jobs will follow: an engine may make ready for them meanwhile.
        """
        ...


def explain(error: BaseException) -> str:
    """An exception as one sentence: what it says itself, with its kind in front where that is none that we raise."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    told = str(error.args[0] if isinstance(error, LookupError) and error.args else error).strip()
    ours = type(error).__module__.startswith("foveate") or type(error) in (ValueError, TypeError, LookupError)
    return told if ours and told else f"{type(error).__name__}: {told}" if told else type(error).__name__


@dataclass
class Worker:
    """A process, our end of its pipe, the GPU it sees, and the job it has."""

    process: SpawnProcess
    connection: Connection
    gpu: str | None
    ready: bool = False
    job: Job | None = None


class LocalEngine:
    """Worker processes of this machine, started when there is work for them and kept until the engine is left.

    Args:
        workers: How many at most. Default: one for every `threads` cores, or one for each GPU.
        threads: Threads of each.
        log: A file for what the workers print, and for tracebacks. Default: they print where this process prints.
        gpus: GPUs as CUDA_VISIBLE_DEVICES takes them; a worker sees one, shared if need be. Default: all that we see.
        warm: A module that a worker imports while it has no job.
    """

    def __init__(
        self,
        workers: int | None = None,
        threads: int = 1,
        log: Path | None = None,
        gpus: Sequence[str] = (),
        warm: str | None = None,
    ) -> None:
        if threads < 1 or (workers is not None and workers < 1):
            raise ValueError(f"workers and threads must be 1 or more; got workers={workers}, threads={threads}")
        if workers is None:
            workers = len(gpus) or max(1, _count_cores() // threads)
        self.workers = workers
        self.threads = threads
        self.log = log
        self.gpus = tuple(gpus)
        self.warm = warm
        self._team: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._team:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._team:
            worker.process.join(PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._team.clear()

    def run(self, jobs: Sequence[Job], following: int = 0) -> Iterator[Event]:
        """Do the jobs in the workers, and start those that what follows will need.

        A job whose worker dies is done once more, then it has failed.

        Raises:
            RunError: If a worker dies before it can take a job.
        """
        waiting = deque(jobs)
        attempts: Counter[int] = Counter()
        while waiting or any(worker.job for worker in self._team):
            yield from self._hand_out(waiting, attempts, following)
            wait([end for worker in self._team for end in (worker.connection, worker.process.sentinel)], WATCH_S)
            for worker in list(self._team):
                dead = not worker.process.is_alive()  # asked before listening, so that its last words are heard
                yield from self._hear(worker)
                if dead:
                    if worker.job is None:
                        following = 0  # it died over what it imports, and so would the next
                    yield from self._bury(worker, waiting, attempts)

    def _hand_out(self, waiting: deque[Job], attempts: Counter[int], following: int) -> Iterator[Event]:
        busy = sum(worker.job is not None for worker in self._team)
        while len(self._team) < min(self.workers, max(busy + len(waiting), following)):
            self._team.append(self._start())
        for worker in self._team:
            if waiting and worker.ready and worker.job is None:
                job = worker.job = waiting.popleft()
                attempts[id(job)] += 1
                with contextlib.suppress(ConnectionError):  # it died idle: noticed at the next look
                    worker.connection.send(job)
                yield Event(job.key, "started")

    def _start(self) -> Worker:
        taken = [worker.gpu for worker in self._team]
        gpu = min(self.gpus, key=taken.count, default=None)  # shared where there are more workers than GPUs
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve, args=(theirs, self.log, self.warm), name="foveate worker")
        with _environment(variables(self.threads) | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})):
            process.start()
        theirs.close()
        return Worker(process, ours, gpu)

    def _hear(self, worker: Worker) -> Iterator[Event]:
        """Events of the messages that a worker has sent."""
        try:
            while worker.connection.poll():
                kind, value = worker.connection.recv()
                if kind == "ready":
                    worker.ready = True
                elif worker.job is not None:
                    key = worker.job.key
                    if kind in ("finished", "failed"):
                        worker.job = None
                    yield Event(key, kind, value)
        except (EOFError, ConnectionError):  # it is dying
            worker.process.join(PATIENCE_S)
            worker.process.kill()

    def _bury(self, worker: Worker, waiting: deque[Job], attempts: Counter[int]) -> Iterator[Event]:
        self._team.remove(worker)
        worker.connection.close()
        how = _describe_death(worker.process.exitcode)
        if not worker.ready:
            advice = 'a script that compares must do so below `if __name__ == "__main__":`'
            raise RunError(f"a worker process {how} before it could begin; {advice}")
        if worker.job is None:
            return
        if attempts[id(worker.job)] < ATTEMPTS:
            waiting.appendleft(worker.job)
        else:
            yield Event(worker.job.key, "failed", f"its worker process {how}, {ATTEMPTS} times")


def _serve(connection: Connection, log: Path | None, warm: str | None) -> None:
    """What a worker does: one job after another, until its parent ends or lets go of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if log is not None:
        _print_to(log)
    connection.send(("ready", None))
    while True:
        try:
            if warm is not None and not connection.poll(IDLE_S):
                with contextlib.suppress(Exception, SystemExit):  # a job that needs it will say what is wrong
                    importlib.import_module(warm)
                warm = None
            job = connection.recv()
        except EOFError:
            _leave(0)
        try:
            message = ("finished", job.work(*job.arguments, report=lambda value: connection.send(("progress", value))))
        except Exception as error:
            if log is not None:
                print(f"{job.key}:\n{traceback.format_exc()}", file=sys.stderr)
            message = ("failed", explain(error))
        except SystemExit:  # Lightning's answer to SIGTERM
            _leave(1)
        sys.stdout.flush()  # the parent may end this process at any time now
        sys.stderr.flush()
        connection.send(message)


def _leave(status: int) -> NoReturn:
    """End at once: taking torch and Lightning down in order takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _print_to(log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)


def variables(threads: int) -> dict[str, str]:
    """What a process must find in its environment before torch is loaded. Waiting threads sleep: cores are shared."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables inside the block, for processes that start there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _describe_death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")


def _count_cores() -> int:
    """Cores that this process may use, where a container or an affinity mask gives it fewer than there are."""
    import joblib

    return joblib.cpu_count()
