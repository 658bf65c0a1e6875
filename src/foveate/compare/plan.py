"""The plan of a study: what is asked for, what its folder remembers, and what is left to do.

A plan is the value of study.json. An entry is what it says of one arm: "arm", "mechanism", "options", "width"; and,
once its network was built, "parameters", "sites" (how many), and for `wider` which arm it "matches".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.compare.controls import WIDER
from foveate.compare.folder import read_json, read_plan, read_result
from foveate.compare.rounds import recall_auto
from foveate.compare.sequential import FIRST_LOOK
from foveate.errors import RunError
from foveate.tasks.summary import Summary

if TYPE_CHECKING:
    from foveate.compare.study import Study

__all__ = ["asked_runs", "lacks_costs", "notes_on", "notes_on_runs", "recall", "unfinished_runs", "unknown_arms"]

MAY_CHANGE = ("num_workers",)  # does not change the numbers


def recall(study: "Study", out: Path) -> dict[str, Any]:
    """The plan of a study, with what its folder remembers: arms that were surveyed, seeds, notes, time.

    Arms and seeds that are not asked for any more stay where a run of them is finished.

    Raises:
        RunError: If the folder holds another study.
    """
    plan = study.plan()
    if not (out / "study.json").exists():
        return plan
    old = read_plan(out)
    auto = recall_auto(study, out, old)
    new = json.loads(json.dumps({**plan["config"], "baseline": study.baseline}))
    for name, value in {**old["config"], "baseline": old["baseline"]}.items():
        if name not in MAY_CHANGE:
            _refuse_unless_equal(out, name, value, new.get(name))
    finished = [
        (entry["arm"], seed)
        for entry in old["arms"]
        for seed in old["seeds"]
        if isinstance(read_result(out, entry, seed), Summary)
    ]
    entries = {entry["arm"]: entry for entry in old["arms"]}
    for arm in study.arms:
        if arm in entries:
            _refuse_unless_equal(out, f"options of {arm}", entries[arm]["options"], study.entry(arm)["options"])
    arms = dict.fromkeys([*study.arms, *(arm for arm, _ in finished)])
    seeds = dict.fromkeys([*study.seeds, *(seed for _, seed in finished)])
    if auto:  # seeds are known as far as rounds began
        seeds = dict.fromkeys(range(max([FIRST_LOOK, *auto["auto"]["asked"].values()])))
    old.pop("auto", None)
    return (
        old
        | plan
        | auto
        | {
            "arms": [entries[arm] for arm in arms if arm in entries],
            "seeds": list(seeds),
            "left_out": {arm: told for arm, told in old["left_out"].items() if arm in study.arms},
            "notes": old["notes"],
        }
    )


def _refuse_unless_equal(out: Path, name: str, before: Any, now: Any) -> None:
    if before != now:
        advice = "take another folder, or start over with --fresh"
        raise RunError(f"{out} holds another study: its {name} is {before!r}, not {now!r}; {advice}")


def asked_runs(study: "Study", plan: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The runs this study asks for, seed by seed, without arms that cannot be made and rounds that did not begin."""
    arms = [arm for arm in study.arms if arm not in plan["left_out"]]
    if study.auto is None:
        return [(arm, seed) for seed in study.seeds for arm in arms]
    asked = plan["auto"]["asked"]
    return [(arm, seed) for seed in study.seeds for arm in arms if seed < asked.get(arm, FIRST_LOOK)]


def unfinished_runs(study: "Study", out: Path, plan: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The runs that are asked for and have no sound summary."""
    entries = {entry["arm"]: entry for entry in plan["arms"]}
    return [
        (arm, seed)
        for arm, seed in asked_runs(study, plan)
        if arm not in entries or not isinstance(read_result(out, entries[arm], seed), Summary)
    ]


def unknown_arms(study: "Study", plan: Mapping[str, Any]) -> list[str]:
    """The arms that are asked for and were not surveyed."""
    known = {entry["arm"] for entry in plan["arms"]} | set(plan["left_out"])
    return [arm for arm in study.arms if arm not in known]


def lacks_costs(out: Path, plan: Mapping[str, Any]) -> bool:
    """Whether an arm was not measured yet."""
    costs = read_json(out / "costs.json") or {}
    return any(entry["arm"] not in costs for entry in plan["arms"])


def notes_on(plan: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the arms."""
    notes = list(plan["left_out"].values())
    entries = {entry["arm"]: entry for entry in plan["arms"]}
    if WIDER in entries:
        wider = entries[WIDER]
        like = entries.get(wider["matches"], {"parameters": 0})
        told = f"{WIDER} is {plan['network']} at width {wider['width']:g}: {wider['parameters']:,} parameters"
        told += f", where {wider['matches']} has {like['parameters']:,}"
        larger = max(entries.values(), key=lambda entry: entry["parameters"])
        if larger["parameters"] > max(like["parameters"], wider["parameters"]):
            told += f"; {larger['arm']}, which joined later, has {larger['parameters']:,}"
        notes.append(told)
    return notes


def notes_on_runs(runs: Mapping[str, Mapping[int, Summary]]) -> list[str]:
    """In what finished runs, by arm and seed, differ besides arm and seed: versions, device, training data."""
    finished = [run for by_seed in runs.values() for run in by_seed.values()]
    facts: dict[str, list[Any]] = {
        f"the version of {name}": [run.versions.get(name) for run in finished]
        for name in sorted({name for run in finished for name in run.versions})
    }
    facts["the device"] = [run.machine.get("device") for run in finished]
    facts["the GPU"] = [run.machine.get("gpu") for run in finished]
    facts["the amount of training data"] = [run.train_size for run in finished]
    told = [
        f"{name} ({', '.join('unknown' if value is None else str(value) for value in dict.fromkeys(values))})"
        for name, values in facts.items()
        if len(set(map(str, values))) > 1
    ]
    return [f"finished runs differ in more than arm and seed: {', '.join(told)}"] if told else []
