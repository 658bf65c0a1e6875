"""The rounds of a study whose seeds are added until its arms are settled, as the "auto" of study.json keeps them.

    most, precision          as asked for (`foveate.compare.sequential.Rule`)
    asked                    arm -> number of seeds, by the rounds that began
    rounds                   a `Round` for each look
    ended                    why the study ended with open arms; absent while it has not
    total_time_s             the limit of time that ended it

A look is computed from the finished runs that it saw. So a study that is killed and taken up again comes to the same
decisions, whether or not they had been written down.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.compare.finished import Finished, read_finished
from foveate.compare.folder import fits
from foveate.compare.sequential import FIRST_LOOK, Compare, Round, Rule, Runs, look, next_runs, replay, settled_in
from foveate.errors import RunError

if TYPE_CHECKING:
    from foveate.compare.study import Study

__all__ = ["OUT_OF_SEEDS", "OUT_OF_TIME", "Rounds", "auto_plan", "read_rounds", "recall_auto"]

OUT_OF_SEEDS, OUT_OF_TIME = "seeds", "time"
AUTO: dict[str, Any] = {"most": int, "asked": dict[str, int], "rounds": list[dict[str, Any]]}
ROUND: dict[str, Any] = {
    "seeds": int,
    "precision": float,
    "arms": list[str],
    "runs": dict[str, list[int]],
}


def auto_plan(rule: Rule) -> dict[str, Any]:
    """Return what study.json says of the rounds before the first one."""
    return {"most": rule.most, "precision": rule.precision, "asked": {}, "rounds": []}


def recall_auto(study: "Study", out: Path, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the "auto" of study.json with the looks that its folder remembers.

    Args:
        study: The study that is asked for.
        out: Its folder.
        old: The plan that the folder holds.

    Raises:
        RunError: If looks at this study were made for another number of seeds or for other arms.
    """
    before = old.get("auto")
    if before is not None:
        _check(before, out)
    if not before or not before["rounds"]:
        return {"auto": auto_plan(study.auto)} if study.auto else {}
    advice = "the error of its looks was shared out by that: take another folder, or start over with --fresh"
    if study.auto is None or study.auto.most != before["most"]:
        now = f"auto:{study.auto.most}" if study.auto else len(study.seeds)
        raise RunError(f"{out} holds another study: its seeds are auto:{before['most']}, not {now}; {advice}")
    arms = {arm for arm in study.arms if arm not in old["left_out"]}
    known = set(before["rounds"][0]["runs"])
    if arms != known:
        told = f"its arms are {', '.join(sorted(known))}, not {', '.join(sorted(arms))}"
        raise RunError(f"{out} holds another study: {told}; {advice}")
    return {"auto": before | {"precision": study.auto.precision}}


def read_rounds(plan: Mapping[str, Any], compare: Compare) -> list[Round]:
    """Return the looks that a plan remembers, what they settle computed anew from the runs that they saw."""
    auto = plan.get("auto")
    if auto is None:
        return []
    _check(auto, "the study")
    known = [
        Round(
            seeds=each["seeds"],
            level=0.0,
            precision=each["precision"],
            arms=tuple(each["arms"]),
            runs={arm: tuple(seeds) for arm, seeds in each["runs"].items()},
            settled={},
            trainings=0,
            fixed=0,
        )
        for each in auto["rounds"]
    ]
    return replay(compare, Rule(auto["most"]), known)


def _check(auto: Any, where: object) -> None:
    """Raise a RunError if what study.json says of rounds is not sound."""
    sound = fits(auto, dict[str, Any]) and all(fits(auto.get(name), kind) for name, kind in AUTO.items())
    sound = sound and auto["most"] >= FIRST_LOOK
    for each in auto["rounds"] if sound else ():
        sound = sound and all(fits(each.get(name), kind) for name, kind in ROUND.items())
        sound = sound and FIRST_LOOK <= each["seeds"] <= auto["most"] and set(each["arms"]) <= set(each["runs"])
    if not sound:
        raise RunError(f"study.json of {where} is damaged: its auto is {auto!r}; start over with --fresh")


class Rounds:
    """The rounds of one study.

    Args:
        study: What is compared, with its rule.
        out: The folder.
        plan: The value of study.json, whose "auto" and "seeds" are kept up to date.
    """

    def __init__(self, study: "Study", out: Path, plan: dict[str, Any]) -> None:
        if study.auto is None:
            raise ValueError("rounds need a rule; got a study with a fixed number of seeds")
        self.rule: Rule = study.auto
        self.baseline = study.baseline
        self.arms = tuple(arm for arm in study.arms if arm not in plan["left_out"])
        self.out = out
        self.plan = plan
        self.rounds = read_rounds(plan, self._finished().compare)

    def next(self, without: Collection[str] = ()) -> Runs | None:
        """Return the runs that the next look needs; None if the study is over."""
        found = next_runs(self.rule, self.arms, self.baseline, self.rounds, without)
        return found[1] if found else None

    def missing(self, runs: Runs) -> list[tuple[str, int]]:
        """Return those of the runs that are not finished, seed by seed."""
        finished = read_finished(self.out, self.plan | {"seeds": list(range(self.rule.most))}).runs
        keys = [(arm, seed) for arm, seeds in runs.items() for seed in seeds if seed not in finished[arm]]
        return sorted(keys, key=lambda key: (key[1], self.arms.index(key[0])))

    def ask(self, runs: Runs) -> None:
        """Remember that these runs are asked for."""
        auto = self.plan["auto"]
        asked = auto["asked"]
        auto["asked"] = {arm: max(asked.get(arm, FIRST_LOOK), len(runs.get(arm, ()))) for arm in self.arms}
        self.plan["seeds"] = list(range(max(auto["asked"].values())))
        for name in ("ended", "total_time_s"):
            auto.pop(name, None)

    def look(self, without: Collection[str] = ()) -> Round:
        """Look at the study once the runs that `next` asks for are finished, and remember what that settles."""
        self.ask(self.next(without) or {})
        finished = self._finished()
        seeds = {arm: tuple(by_seed) for arm, by_seed in finished.runs.items()}
        precision = self.rule.precision or finished.precision
        each = look(finished.compare, self.rule, self.arms, self.baseline, self.rounds, seeds, precision, without)
        self.rounds.append(each)
        self.plan["auto"]["rounds"] = [dataclasses.asdict(each) for each in self.rounds]
        return each

    def end(self, reason: str) -> None:
        """Remember why no further round begins, if some arm is not settled."""
        if set(self.arms) - {self.baseline} <= set(settled_in(self.rounds)):
            return
        self.plan["auto"]["ended"] = reason
        if reason == OUT_OF_TIME:
            self.plan["auto"]["total_time_s"] = self.rule.total_time_s

    @property
    def is_over(self) -> bool:
        """True if there is nothing to train or to look at, or a limit of time ended the study and was not raised."""
        limit = self.plan["auto"].get("total_time_s")
        if limit is not None and self.rule.total_time_s is not None and self.rule.total_time_s <= limit:
            return True
        return self.next() is None

    def expected_seconds(self, keys: Collection[tuple[str, int]], workers: int) -> float:
        """Return the time that runs will take, by the mean of their arms' finished runs, or of all."""
        taken = {
            arm: [run.training_seconds for run in by_seed.values()] for arm, by_seed in self._finished().runs.items()
        }
        every = [seconds for each in taken.values() for seconds in each]
        if not every:
            return 0.0
        known = [taken.get(arm) or every for arm, _ in keys]
        means = [sum(each) / len(each) for each in known]
        return max(sum(means) / max(1, min(workers, len(means))), max(means, default=0.0))

    def _finished(self) -> Finished:
        return read_finished(self.out, self.plan).only({arm: range(self.rule.most) for arm in self.arms})
