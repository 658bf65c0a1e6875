"""What the workers of a study do: count its networks, measure what they cost, and train.

These functions run in worker processes, perhaps on other machines; only they import torch.
"""

import dataclasses
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.compare.controls import WIDER, matching_width
from foveate.compare.folder import run_folder
from foveate.compare.task import task_named
from foveate.errors import RunError
from foveate.locking import locked
from foveate.tasks.config import TrainingConfig

__all__ = ["Report", "Work", "measure_arms", "survey_arms", "train_arm"]

Report = Callable[[Any], None]

ROUNDS = 3  # of measuring every arm in turn, so that a machine that warms up or is disturbed treats all alike
ROUNDS_S = 180.0  # after which no further round begins: heavy networks are measured in fewer
REPEATS = 8, 200  # in each round, at least and at most
MEASURE_MS = 300.0  # of inferences, and of training steps, in each round, unless the most repeats take less
LONGEST_MS = 4000.0  # for the least repeats; of what is heavier there are fewer, but two
WARMUP = 3  # inferences
STEP_MACS = 10e9  # a training step is measured on as many inputs as this lets through, and never on more than a batch
ORPHAN_S = 60.0  # for the worker of a killed study to let go of its run


def survey_arms(
    configs: Mapping[str, TrainingConfig], wider: TrainingConfig | None, known: Mapping[str, int], *, report: Report
) -> dict[str, Any]:
    """Build every network once, before anything is trained, and count.

    Args:
        configs: Arm -> a run of it.
        wider: A run of the control `wider`, still at the host's own width; None where it is not asked for.
        known: Arm -> parameters, of arms that were surveyed before.
        report: Takes the name of the arm that is being built.

    Returns:
        "arms": arm -> {"parameters", "sites"}; for `wider` also its "width" and the arm it "matches"; or "left_out":
        arm -> a sentence. "read" and "told": what the reader read, as values and
        in lines. "versions" and "machine" of the process that counted.
    """
    from foveate.compare.cost import count_parameters
    from foveate.tasks.environment import environment
    from foveate.tasks.reading import overview_of

    first = next(config for config in (*configs.values(), wider) if config is not None)
    task = task_named(first.task)
    opened, read = task.open(first), overview_of(first)
    arms: dict[str, dict[str, Any]] = {}
    for arm, config in configs.items():
        report(arm)
        network, _, sites = task.build(config, opened)
        if config.mechanism != "none" and not sites:
            raise RunError(f"{config.network} has no place for {config.mechanism}; name one with where")
        arms[arm] = {"parameters": count_parameters(network), "sites": len(sites)}
    left_out: dict[str, str] = {}
    if wider is not None:
        report(WIDER)
        counts = dict(known) | {arm: found["parameters"] for arm, found in arms.items()}
        largest = max(counts, key=lambda arm: counts[arm])

        def count(width: float) -> int:
            return count_parameters(task.build(dataclasses.replace(wider, width=width), opened, device="meta")[0])

        if count(wider.width) >= counts[largest]:
            left_out[WIDER] = f"{WIDER} was left out: no arm has more parameters than the host"
        else:
            width, parameters = matching_width(count, counts[largest], wider.width)
            arms[WIDER] = {"parameters": parameters, "sites": 0, "width": width, "matches": largest}
    return {"arms": arms, "left_out": left_out, "read": read.to_dict(), "told": read.lines()} | environment()


def measure_arms(configs: Mapping[str, TrainingConfig], *, report: Report) -> dict[str, dict[str, Any]]:
    """What each arm costs, measured in turn and in rounds on one worker while no other works.

    Latency is of one picture or patch; a training step is of `step_batch` of them, the same for every arm. Times are
    medians over the rounds of the median (or 95th percentile) in each, and a round repeats what is quick more often.

    Returns:
        Arm -> the fields of Cost, "batch" and "step_batch".
    """
    from foveate.compare.cost import count_macs
    from foveate.tasks.environment import pick_device

    first = next(iter(configs.values()))  # data, batch size and device are the same in all
    task = task_named(first.task)
    opened = task.open(first)
    built = {arm: task.build(config, opened) for arm, config in configs.items()}
    networks = {arm: network.to(pick_device(first.device)) for arm, (network, _, _) in built.items()}
    shapes = {arm: shape for arm, (_, shape, _) in built.items()}  # an arm may look at more than the others
    macs = max(count_macs(network, (1, *shapes[arm])) for arm, network in networks.items())
    step_batch = max(task.least_batch, min(first.batch_size, int(STEP_MACS / max(macs, 1))))
    rounds: dict[str, list[dict[str, Any]]] = {arm: [] for arm in configs}
    began = time.monotonic()
    for number in range(ROUNDS):
        if number and time.monotonic() - began > ROUNDS_S:
            break
        for arm, network in networks.items():
            report(arm)
            rounds[arm].append(_measure(network, (1, *shapes[arm]), (step_batch, *shapes[arm])))
    sizes = {"batch": 1, "step_batch": step_batch}
    return {arm: _middle(costs) | sizes for arm, costs in rounds.items()}


def train_arm(
    config: TrainingConfig,
    study: Path,
    *,
    report: Report,
    train: Callable[..., Any] | None = None,
    accept_changed_data: bool = False,
) -> None:
    """Train one run of a study in its folder.

    Raises:
        RunError: If this machine does not see the study's folder, or another process is at work on the run.
    """
    if not (study / "study.json").is_file():
        raise RunError(f"{platform.node()} does not see {study}; a study needs a folder that all its machines share")
    if train is None:
        from foveate.tasks.run import train
    folder = run_folder(study, config.arm_name, config.seed)
    # The worker of a study that was killed a moment ago may still be at its last step.
    with locked(folder.with_name(f".{folder.name}.lock"), wait_s=ORPHAN_S):
        options = {"accept_changed_data": True} if accept_changed_data else {}
        train(config, folder, progress=report, **options)


@dataclasses.dataclass(frozen=True)
class Work:
    """The three kinds of work, each a function that a worker can import."""

    survey: Callable[..., dict[str, Any]] = survey_arms
    measure: Callable[..., dict[str, dict[str, Any]]] = measure_arms
    train: Callable[..., Any] = train_arm


def _measure(network: Any, inference: Sequence[int], step: Sequence[int]) -> dict[str, Any]:
    """What a network costs, by one round: as many repeats as MEASURE_MS holds, by a first look at two."""
    from foveate.compare.cost import profile

    def once(**how: Any) -> dict[str, Any]:
        return dataclasses.asdict(profile(network, inference, step_input_shape=step, **how))

    cost = once(repeats=2, warmup=1)  # two steps more, for the memory, warm a step up
    inferences, steps = _repeats(cost["latency_ms"]), _repeats(cost["step_ms"])
    if steps > 2:
        cost = once(repeats=steps, warmup=1)
    calm = once(train=False, repeats=inferences, warmup=WARMUP)
    return cost | {name: calm[name] for name in ("latency_ms", "latency_p95_ms")}


def _repeats(once_ms: float) -> int:
    """How often to repeat in a round what takes this long once."""
    least = max(2, min(REPEATS[0], int(LONGEST_MS / once_ms)))
    return min(REPEATS[1], max(least, math.ceil(MEASURE_MS / once_ms)))


def _middle(costs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median over the rounds of each number; counts are the same in all."""
    first = costs[0]
    return {
        name: value if value is None or isinstance(value, int) else statistics.median(cost[name] for cost in costs)
        for name, value in first.items()
    }
