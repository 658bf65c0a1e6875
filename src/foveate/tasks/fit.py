"""The training itself: Lightning's Trainer, set up for one run, quiet and repeatable."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from foveate.errors import DataError, TrainingError
from foveate.tasks.config import TrainingConfig
from foveate.tasks.keeper import Keeper
from foveate.tasks.learner import Learner, quiet_lightning
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.summary import Progress

__all__ = ["fit", "steady"]

Report = Callable[[Progress], None]
NO_MEMORY = ("not enough memory", "can't allocate memory", "MPS backend out of memory")
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@contextlib.contextmanager
def steady(threads: int | None) -> Iterator[None]:
    """Arithmetic that gives the same bits again, and random numbers and settings as before when the block is left."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    held = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
    )
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(threads or held[0])
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
            yield
        finally:
            torch.set_num_threads(held[0])
            torch.use_deterministic_algorithms(held[1], warn_only=held[2])
            torch.utils.deterministic.fill_uninitialized_memory = held[3]  # pyright: ignore[reportAttributeAccessIssue]
            random.setstate(states[0])
            np.random.set_state(states[1])


def fit(
    make: Callable[[Standing], tuple[Learner, L.LightningDataModule]],
    config: TrainingConfig,
    out: Path,
    begun: Checkpoint | None,
    report: Report | None,
) -> None:
    """Train until the run is over; its state is then in the last checkpoint.

    Args:
        make: From where a run stands to what learns and what it learns from.
        config: The run.
        out: Its folder.
        begun: The checkpoint to go on from; None for a new run.
        report: Takes Progress.

    Raises:
        TrainingError: The loss is not finite, or the memory does not suffice.
        DataError: A file cannot be read.
    """
    standing = begun.standing if begun else Standing(threads=_threads(config))
    if begun:
        standing.resumed += 1
    quiet_lightning()
    with _quiet(), _told(report, config.devices) as told:
        module, data = make(standing)
        trainer = L.Trainer(
            **_hardware(config),
            max_epochs=-1,
            precision=PRECISIONS[config.precision],  # pyright: ignore[reportArgumentType]
            callbacks=[Keeper(out, config, told)],
            default_root_dir=out,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
        )
        _run(trainer, module, data, begun)


def _run(trainer: L.Trainer, module: Learner, data: L.LightningDataModule, begun: Checkpoint | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=begun.path if begun else None, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    except Exception as error:
        _raise_own(error)
        if isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in NO_MEMORY):
            size = module.config.batch_size
            raise TrainingError(
                f"a step of batch_size {size} needs more memory than there is; a smaller batch_size, or a smaller "
                "picture or patch, needs less"
            ) from None
        raise


def _raise_own(error: Exception) -> None:
    """An error of ours that another process raised arrives as a text with a traceback: raise its sentence."""
    for kind in (DataError, TrainingError):
        mark = f"{kind.__name__}: "
        last = str(error).strip().splitlines()[-1] if str(error).strip() else ""
        if mark in last:
            raise kind(last.partition(mark)[2]) from None


def _threads(config: TrainingConfig) -> int:
    return config.threads or max(1, torch.get_num_threads() // config.devices)


def _hardware(config: TrainingConfig) -> dict[str, Any]:
    accelerator = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}[config.device]
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError('device "cuda" needs an NVIDIA GPU that torch can use; there is none')
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise ValueError('device "mps" needs a GPU of Apple; there is none')
    strategy = "ddp_spawn" if config.devices > 1 else "auto"
    return {"accelerator": accelerator, "devices": config.devices, "strategy": strategy}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of libraries, which speak to those who write trainers; ours are shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module="foveate")
        yield


@contextlib.contextmanager
def _told(report: Report | None, processes: int) -> Iterator[Report | None]:
    """A report that also works from other processes: it then goes through a queue."""
    if report is None or processes == 1:
        yield report
        return
    queue: SimpleQueue[Progress | None] = multiprocessing.get_context("spawn").SimpleQueue()

    def pump() -> None:
        while (state := queue.get()) is not None:
            report(state)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield queue.put
    finally:
        queue.put(None)
        thread.join()
