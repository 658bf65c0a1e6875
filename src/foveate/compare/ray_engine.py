"""The engine that computes the runs of a study on a Ray cluster."""

import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from foveate.compare.engine import ATTEMPTS, PATIENCE_S, WATCH_S, Event, Job, explain, variables
from foveate.compare.ray_head import join_or_start
from foveate.errors import MissingExtra, RunError

__all__ = ["RayEngine"]


class RayEngine:
    """A Ray cluster; each job is a task of `threads` CPUs, and Ray keeps the processes that do them warm.

    Foveate must be installed on every node, and what jobs read and write must lie in a folder that every node sees
    under the same path: runs are files.

    Args:
        address: Of the cluster, as ray.init takes it. Default: the one that RAY_ADDRESS names or that runs on this
            machine, else a new one of this machine alone, which listens on its loopback interface.
        threads: Threads and CPUs of each job.
        gpus: GPUs of each job. Default: one where the cluster has any.
        on_note: Takes a sentence that says where a head listens which was started.

    Raises:
        MissingExtra: If Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        threads: int = 1,
        gpus: float | None = None,
        on_note: Callable[[str], object] | None = None,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        self._ray: Any = ray
        self.address = address
        self.threads = threads
        self.gpus = gpus
        self.on_note = on_note
        self._joined = False
        self._pending: dict[Any, Job] = {}

    @property
    def workers(self) -> int:
        """Return the number of jobs that the cluster, as it is now, runs at once."""
        resources = self._ray.cluster_resources()
        fit = resources.get("CPU", 0) // self.threads
        return max(1, int(min(fit, resources["GPU"] // self.gpus) if self.gpus else fit))

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            try:
                _knock(self.address)
                started = join_or_start(self._ray, self.address)
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"no Ray cluster at {self.address or 'this machine'}: {explain(error)}") from None
            self._joined = True
            if started is not None and self.on_note is not None:
                self.on_note(started)
        if self.gpus is None:
            self.gpus = float("GPU" in self._ray.cluster_resources())
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._pending:
            self._ray.cancel(task, force=True)
        self._pending.clear()
        if self._joined:
            self._ray.shutdown()
            self._joined = False

    def run(self, jobs: Sequence[Job], following: int = 0) -> Iterator[Event]:
        """Do the jobs as tasks; one whose process or node is lost is done once more, then it has failed."""
        from ray.util.queue import Queue

        news = Queue(actor_options={"num_cpus": 0})
        environment = {"env_vars": variables(self.threads)}
        options = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": ATTEMPTS - 1}
        task = self._ray.remote(_do).options(runtime_env=environment, **options)
        self._pending = {task.remote(number, job, news): job for number, job in enumerate(jobs)}
        while self._pending:
            done, _ = self._ray.wait(list(self._pending), timeout=WATCH_S / 2)
            for number, kind, value in news.get_nowait_batch(news.qsize()):
                yield Event(jobs[number].key, kind, value)
            for one in done:
                job = self._pending.pop(one)
                try:
                    kind, value = self._ray.get(one)
                except self._ray.exceptions.RayError as error:
                    kind, value = "failed", f"its Ray task was lost: {str(error).strip().splitlines()[0]}"
                yield Event(job.key, kind, value)
        news.shutdown()


def _knock(address: str | None) -> None:
    """Connect to "host:port", so that a wrong one is known at once; Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=PATIENCE_S).close()


def _do(number: int, job: Job, news: Any) -> tuple[str, Any]:
    """A job as a Ray task: how it ended, "finished" or "failed", and with what."""
    news.put((number, "started", None))
    try:
        return "finished", job.work(*job.arguments, report=lambda value: news.put((number, "progress", value)))
    except Exception as error:
        traceback.print_exc()
        return "failed", explain(error)
