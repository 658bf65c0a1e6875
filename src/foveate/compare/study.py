"""A study: arms times seeds, each a run in its folder, trained once, and taken up wherever it was left.

The folder is the memory (see foveate.compare.folder). `compare` looks at what is finished, does the rest, and says what
all of it shows; called again on a finished study it only reads. Runs go seed by seed, one of every arm, so that a study
that is stopped early has compared like with like.
"""

import dataclasses
import datetime
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from foveate.compare.arms import parse_arm
from foveate.compare.controls import WIDER, why_not_wider
from foveate.compare.engine import Engine, Event, Job, LocalEngine
from foveate.compare.folder import (
    VERSION,
    Failure,
    clear_study,
    read_failures,
    read_result,
    write_failures,
    write_json,
)
from foveate.compare.plan import asked_runs, lacks_costs, notes_on, recall, unfinished_runs, unknown_arms
from foveate.compare.progress import StudyProgress, Tracker
from foveate.compare.result import StudyResult, summarise
from foveate.compare.rounds import OUT_OF_SEEDS, OUT_OF_TIME, Rounds, auto_plan
from foveate.compare.sequential import FIRST_LOOK, Rule
from foveate.compare.task import task_named
from foveate.compare.work import Work
from foveate.errors import RunError
from foveate.locking import locked
from foveate.tasks.config import RunConfig, TrainingConfig
from foveate.tasks.summary import Summary

__all__ = ["Study", "compare"]

OWN = ("arm", "mechanism", "options", "where", "seed", "width")  # what runs of one study may differ in
TRAINING = "foveate.tasks.job"  # what every run imports, Lightning with it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What to compare.

    Args:
        base: What all runs share. Its files are looked up from here, so that a worker elsewhere finds them.
        arms: Mechanisms by name, chains among them, "none", and the controls "placebo" and "wider". Options can follow
            the name, as in "nonlocal:group=time".
        seeds: One run of every arm for each.
        baseline: The arm that the others are compared with.
        where: Pattern of the modules that every mechanism follows, to classify. Default: the host's usual places.
        options: Arm -> options of its mechanism.
        auto: Add seeds 0, 1, ... in rounds until every arm is settled, as far as this rule allows, instead of `seeds`.
    """

    base: TrainingConfig
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str = "none"
    where: str | None = None
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    auto: Rule | None = None

    def __post_init__(self) -> None:
        if self.auto is not None:
            object.__setattr__(self, "seeds", tuple(range(self.auto.most)))
        if self.base.mechanism != "none":
            raise ValueError(f"a study names its mechanisms as arms; got base.mechanism {self.base.mechanism!r}")
        for name, given, usual in (("seed", self.base.seed, 0), ("arm", self.base.arm, None)):
            if given != usual:
                raise ValueError(f"a study names its {name}s, one for each run; got base.{name} {given!r}")
        for name, values in (("arms", self.arms), ("seeds", self.seeds)):
            object.__setattr__(self, name, tuple(values))
            twice = [value for value in values if list(values).count(value) > 1]
            if twice or not values:
                raise ValueError(f"{name} takes one or more, each once; got {', '.join(map(str, values)) or 'none'}")
        if self.baseline not in self.arms:
            raise ValueError(f'the arms must hold the baseline "{self.baseline}"; got {", ".join(self.arms)}')
        if unknown := [arm for arm in self.options if arm not in self.arms]:
            raise LookupError(f'options for "{unknown[0]}", which is no arm; there are {", ".join(self.arms)}')
        if self.where is not None and not isinstance(self.base, RunConfig):
            raise ValueError(f"where is for runs that classify; got {self.where!r} for {self.base.task}")
        given = {name: getattr(self.base, name, None) for name in ("data", "init", "split_file")}
        if self.base.suited(self.base.data):  # embedded
            del given["data"]
        paths = {name: _absolute(path) for name, path in given.items() if path is not None}
        shared = dataclasses.replace(self.base, **paths, threads=self.base.threads or 1)
        object.__setattr__(self, "base", shared)

    def entry(self, arm: str) -> dict[str, Any]:
        """What study.json says of an arm before its network was built."""
        mechanism, named = parse_arm(arm)
        mechanism = "none" if mechanism == WIDER else mechanism
        options = named | dict(self.options.get(arm, {}))
        return {"arm": arm, "mechanism": mechanism, "options": options, "width": self.base.width}

    def config(self, entry: Mapping[str, Any], seed: int) -> TrainingConfig:
        """The configuration of the run of an arm, given as its entry, with a seed."""
        own = {name: entry[name] for name in ("arm", "mechanism", "options", "width")}
        if isinstance(self.base, RunConfig):
            own["where"] = None if entry["mechanism"] == "none" else self.where
        return dataclasses.replace(self.base, **own, seed=seed)

    def plan(self) -> dict[str, Any]:
        """What study.json says before anything is known of the arms."""
        config = {name: value for name, value in dataclasses.asdict(self.base).items() if name not in OWN}
        budget = {"epochs": self.base.epochs, "max_time_s": self.base.max_time_s}
        identity = getattr(dataclasses.replace(self.base, mechanism="se"), "identity", False)
        return ({} if self.auto is None else {"auto": auto_plan(self.auto)}) | {
            "version": VERSION,
            "task": self.base.task,
            "data": self.base.data,
            "network": self.base.network,
            "start": "identity" if identity else "published",
            "baseline": self.baseline,
            "budget": {name: value for name, value in budget.items() if value is not None},
            "arms": [],
            "seeds": list(self.seeds if self.auto is None else self.seeds[:FIRST_LOOK]),
            "left_out": {},
            "notes": [],
            "config": config | {"where": self.where, "width": self.base.width},
        }


def compare(
    study: Study,
    out: Path,
    *,
    engine: Engine | None = None,
    workers: int | None = None,
    fresh: bool = False,
    progress: Callable[[StudyProgress], None] | None = None,
    command: str | None = None,
    work: Work | None = None,
    accept_changed_data: bool = False,
) -> StudyResult:
    """Train what is not finished of a study, and say what it shows.

    A run that fails is kept in failures.json with its sentence, and the others go on. An interruption leaves everything
    so that the same call takes it up. More arms and seeds may be asked for later; runs of other ones stay. A study to
    which seeds are added in rounds keeps its arms and its most seeds once it was looked at.

    Args:
        study: What to compare.
        out: Its folder.
        engine: Where to compute. Default: worker processes of this machine, as many as suit its cores or GPUs.
        workers: How many worker processes of this machine, for the default engine.
        fresh: Forget what the folder holds of a study.
        progress: Called at every event, about twice a second for each run under way.
        command: How to ask for this again, for the report. Default: the command line of this process.
        work: What workers do; to be replaced in tests.
        accept_changed_data: Resume runs although their data changed since they began.

    Raises:
        RunError: If the folder holds another study, is in use or cannot be written; if a network cannot be built; if no
            run at all finished.
        LookupError: If there is no such mechanism or network.
        ValueError: If both an engine and workers are given, or fewer than one.
    """
    if workers is not None and (engine is not None or workers < 1):
        told = "needs no engine beside it: an engine knows its own size" if engine is not None else "must be 1 or more"
        raise ValueError(f"workers {told}; got {workers}")
    out = Path(out).expanduser().resolve()
    if not fresh:
        plan = recall(study, out)
        known = not unknown_arms(study, plan) and not lacks_costs(out, plan)
        if known and not unfinished_runs(study, out, plan) and (not study.auto or Rounds(study, out, plan).is_over):
            return summarise(out)
    with locked(out / ".lock"):
        if fresh:
            clear_study(out)
        work = work or Work()
        if accept_changed_data:
            work = dataclasses.replace(work, train=partial(work.train, accept_changed_data=True))
        session = _Session(study, out, recall(study, out), work, progress or (lambda _: None))
        session.plan["command"] = command or shlex.join(sys.argv)
        try:
            engine = engine or _suited_engine(study.base, workers)
            if isinstance(engine, LocalEngine) and engine.log is None:
                engine.log = out / "workers.log"
            with engine:
                session.survey(engine)
                session.measure(engine)
                session.train(engine)
        finally:
            session.save()
    return summarise(out)


@dataclasses.dataclass
class _Session:
    """One call of compare that has something to do."""

    study: Study
    out: Path
    plan: dict[str, Any]
    work: Work
    tell: Callable[[StudyProgress], None]

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.spent = self.plan.get("wall_seconds", 0.0)
        self.surveyed = False
        self.lost: set[str] = set()  # arms of which a run failed in this call

    def survey(self, engine: Engine) -> None:
        """Build and count the networks that are new, find the width of `wider`, and write study.json."""
        new = unknown_arms(self.study, self.plan)
        if new:
            _check_names(self.study, new)
            entries = {entry["arm"]: entry for entry in self.plan["arms"]}
            if WIDER in self.study.arms and not (self.out / "runs" / WIDER).exists():  # its width may grow
                entries.pop(WIDER, None)
                new = [*dict.fromkeys([*new, WIDER])]
            found = self._found(engine, new, {arm: entry["parameters"] for arm, entry in entries.items()})
            entries |= {arm: self.study.entry(arm) | facts for arm, facts in found["arms"].items()}
            order = dict.fromkeys([*self.study.arms, *entries])
            self.plan["arms"] = [entries[arm] for arm in order if arm in entries]
            self.plan["left_out"] = found["left_out"]
            self.plan |= {"versions": found["versions"], "machine": found["machine"]}
            if "read" in found:
                self.plan["read"] = found["read"]
                asked = asked_runs(self.study, self.plan)
                left = unfinished_runs(self.study, self.out, self.plan)
                self.tell(StudyProgress("survey", len(asked), len(asked) - len(left), notes=tuple(found["told"])))
            self.plan.setdefault("created", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
            self.plan["notes"] = notes_on(self.plan)
            (self.out / "costs.json").unlink(missing_ok=True)  # all arms are measured together
        self.surveyed = True
        self.save()

    def _found(self, engine: Engine, new: list[str], known: dict[str, int]) -> dict[str, Any]:
        config = {arm: self.study.config(self.study.entry(arm), self.study.seeds[0]) for arm in new}
        wider = config.pop(WIDER, None)
        trained = getattr(self.study.base, "pretrained", False) or self.study.base.init is not None
        reason = why_not_wider(self.study.base.network, trained=trained) if wider else ""
        job = Job("survey", self.work.survey, (config, None if reason else wider, known))
        found = self._ask(engine, job, "survey", "building")
        return found | {"left_out": found["left_out"] | ({WIDER: reason} if reason else {})}

    def measure(self, engine: Engine) -> None:
        """Measure what the arms cost, all in turn, unless they were."""
        if lacks_costs(self.out, self.plan):
            configs = {entry["arm"]: self.study.config(entry, self.study.seeds[0]) for entry in self.plan["arms"]}
            costs = self._ask(engine, Job("measure", self.work.measure, (configs,)), "measure", "measuring")
            write_json(self.out / "costs.json", costs)

    def _ask(self, engine: Engine, job: Job, stage: Literal["survey", "measure"], doing: str) -> Any:
        """Do one job and return what it returned."""
        asked = asked_runs(self.study, self.plan)
        left = unfinished_runs(self.study, self.out, self.plan)
        value = None
        for event in engine.run([job], following=len(left)):
            if event.kind == "failed":
                raise RunError(event.value)
            value = event.value
            message = f"{doing} {value}" if event.kind == "progress" else ""
            self.tell(StudyProgress(stage, len(asked), len(asked) - len(left), message=message))
        return value

    def train(self, engine: Engine) -> None:
        """Train what is not finished, seed by seed, and in rounds where seeds are added."""
        state = self._train(engine, unfinished_runs(self.study, self.out, self.plan))
        if self.study.auto is not None:
            state = self._add_rounds(engine, state)
        self.tell(StudyProgress("done", state.total, state.done, state.failed, seconds_left=0.0))

    def _add_rounds(self, engine: Engine, state: Tracker) -> Tracker:
        """Look at the study and train the next round, until it is over.

        An arm of which a run failed waits for another call.
        """
        rounds = Rounds(self.study, self.out, self.plan)
        while (runs := rounds.next(self.lost)) is not None:
            keys = rounds.missing(runs)
            spent = self.spent + time.monotonic() - self.began
            limit = rounds.rule.total_time_s
            if keys and limit and spent + rounds.expected_seconds(keys, engine.workers) > limit:
                rounds.end(OUT_OF_TIME)
                return state
            if keys:
                rounds.ask(runs)
                self.save()
                state = self._train(engine, keys)
                continue
            told = rounds.look(self.lost)
            self.save()
            settled = ", ".join(f"{arm} {how}" for arm, how in told.settled.items()) or "nothing is settled"
            message = f"{told.seeds} seeds: {settled}"
            self.tell(StudyProgress("train", state.total, state.done, state.failed, message=message))
        if not self.lost:
            rounds.end(OUT_OF_SEEDS)
        return state

    def _train(self, engine: Engine, keys: Sequence[tuple[str, int]]) -> Tracker:
        """Train these runs."""
        entries = {entry["arm"]: entry for entry in self.plan["arms"]}
        jobs = [
            Job((arm, seed), self.work.train, (self.study.config(entries[arm], seed), self.out)) for arm, seed in keys
        ]
        asked = asked_runs(self.study, self.plan)
        failures = {(failure.arm, failure.seed): failure for failure in read_failures(self.out)}
        tracker = Tracker(len(asked), len(asked) - len(keys), list(keys), engine.workers)
        for event in engine.run(jobs):
            line = ""
            if event.kind in ("finished", "failed"):
                event, line = self._settle(event, entries[event.key[0]])
                failures.pop(event.key, None)
                if event.kind == "failed":
                    failures[event.key] = Failure(event.key[0], event.key[1], event.value)
                    self.lost.add(event.key[0])
                write_failures(self.out, list(failures.values()))
                self.save()
            self.tell(tracker.follow(event, line))
        return tracker

    def _settle(self, event: Event, entry: Mapping[str, Any]) -> tuple[Event, str]:
        """How a run really ended, by what stands in its folder, and a line about it."""
        arm, seed = event.key
        result = read_result(self.out, entry, seed)
        if event.kind == "failed" or not isinstance(result, Summary):
            sentence = event.value if event.kind == "failed" else "it ended without a summary"
            sentence = result.sentence if isinstance(result, Failure) else sentence
            return Event(event.key, "failed", sentence), f"{arm}, seed {seed}, failed: {sentence}"
        measure = next(iter(task_named(result.task).metrics))
        value = result.metrics.get(measure)
        told = "" if value is None else f"{measure} {value:.4f} "
        return event, f"{arm}, seed {seed}: {told}after {result.training_seconds:.0f} s of training"

    def save(self) -> None:
        """Write study.json, once there is something to say of the arms."""
        if self.surveyed:
            self.plan["wall_seconds"] = self.spent + time.monotonic() - self.began
            write_json(self.out / "study.json", self.plan)


def _check_names(study: Study, arms: Sequence[str]) -> None:
    """Refuse a mechanism or a network that there is not, before any worker starts."""
    from foveate.networks import catalogue as networks

    if "/" not in study.base.network:
        networks.describe(study.base.network, study.base.task)
    for arm in arms:
        mechanism, options = parse_arm(arm)
        if mechanism not in ("none", WIDER):
            task_named(study.base.task).check(mechanism)
            continue
        if options:
            raise ValueError(f"{mechanism} has no mechanism that could have options; got {arm!r}")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _suited_engine(base: TrainingConfig, workers: int | None = None) -> LocalEngine:
    """Workers of this machine: as many as asked for, or one for each GPU if runs go there, else for a run's cores."""
    gpus: list[str] = []
    if base.device in ("auto", "cuda"):
        import torch

        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        gpus = names.split(",")[:count] if names else [str(index) for index in range(count)]
    if base.devices > 1:  # a run takes several
        return LocalEngine(workers or 1, base.threads or 1, warm=TRAINING)
    return LocalEngine(workers, base.threads or 1, gpus=gpus, warm=TRAINING)
