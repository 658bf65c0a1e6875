"""The folder of a study: study.json, costs.json, failures.json, and a run folder for each arm and seed.

    study.json               what is compared: the configuration that all runs share, arms, seeds, notes
    costs.json               arm -> cost
    failures.json            runs that failed, each with its sentence; absent where none did
    runs/ARM/seedN/          the run folders, written by foveate.tasks
    workers.log              what the workers printed, with the traceback of every failure

Files are replaced whole, so that a reader never sees half of one, and a kill leaves the one before.
"""

import dataclasses
import json
import shutil
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.compare.arms import arm_folder
from foveate.errors import RunError
from foveate.files import write_alone
from foveate.tasks.summary import Summary, read_summary

__all__ = [
    "VERSION",
    "Failure",
    "clear_study",
    "fits",
    "read_failures",
    "read_json",
    "read_plan",
    "read_result",
    "run_folder",
    "write_failures",
    "write_json",
]

VERSION = 1
FILES = ("costs.json", "failures.json", "report.html")

# What study.json must hold, and each of its arms.
TEXTS = ("task", "data", "network", "start", "baseline")
PLAN: dict[str, Any] = dict.fromkeys(TEXTS, str) | {
    "arms": list[dict[str, Any]],
    "seeds": list[int],
    "config": dict[str, Any],
    "left_out": dict[str, str],
    "notes": list[str],
}
ENTRY: dict[str, Any] = {"arm": str, "mechanism": str, "options": dict[str, Any], "width": float}


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that failed, and why, in one sentence."""

    arm: str
    seed: int
    sentence: str


def run_folder(study: Path, arm: str, seed: int) -> Path:
    """Where the run of an arm and a seed lives."""
    return study / "runs" / arm_folder(arm) / f"seed{seed}"


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where there is no file.

    Raises:
        RunError: If the file is there and cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it and run the same command again") from None


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file at once.

    Raises:
        RunError: If the folder cannot be written, such as a full disk.
    """
    try:
        write_alone(path, json.dumps(value, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def read_plan(study: Path) -> dict[str, Any]:
    """What study.json says.

    Raises:
        RunError: If the folder is no study, or the file is damaged or of another version.
    """
    path = study / "study.json"
    plan = read_json(path)
    if plan is None:
        raise RunError(f"{study} is not the folder of a study: it has no study.json")
    if not isinstance(plan, dict) or plan.get("version") != VERSION:
        version = plan.get("version") if isinstance(plan, dict) else None
        raise RunError(f"{path} has version {version!r}; this foveate reads version {VERSION}")
    if wrong := [name for name in PLAN if name not in plan]:
        raise RunError(f"{path} is damaged: it lacks {', '.join(wrong)}")
    if wrong := [name for name, kind in PLAN.items() if not fits(plan[name], kind)]:
        raise RunError(f"{path} is damaged: its {wrong[0]} is {plan[wrong[0]]!r}")
    for entry in plan["arms"]:
        if wrong := [name for name, kind in ENTRY.items() if not fits(entry.get(name), kind)]:
            raise RunError(f"{path} is damaged: an arm in it has no sound {wrong[0]}: {entry!r}")
    return plan


def read_failures(study: Path) -> list[Failure]:
    """The runs that failed, in the order of failing."""
    path = study / "failures.json"
    try:
        return [Failure(**entry) for entry in read_json(path) or []]
    except TypeError as error:
        raise RunError(f"{path} is damaged ({error}); remove it and run the same command again") from None


def write_failures(study: Path, failures: Sequence[Failure]) -> None:
    """Replace failures.json; no failures, no file."""
    path = study / "failures.json"
    if failures:
        write_json(path, [dataclasses.asdict(failure) for failure in failures])
    else:
        path.unlink(missing_ok=True)


def read_result(study: Path, entry: Mapping[str, Any], seed: int) -> Summary | Failure | None:
    """The summary of a finished run of an arm, given as its entry in study.json; None of an unfinished one.

    A summary that is damaged, or that lists no site of the mechanism that its arm is to show, is a Failure: what it
    says of the mechanism is worth nothing.
    """
    try:
        summary = read_summary(run_folder(study, entry["arm"], seed))
    except RunError as error:
        return Failure(entry["arm"], seed, str(error))
    kinds = typing.get_type_hints(Summary)
    if wrong := [
        name for name, kind in kinds.items() if summary is not None and not fits(getattr(summary, name), kind)
    ]:
        path = run_folder(study, entry["arm"], seed) / "summary.json"
        told = f"{path} is damaged: its {wrong[0]} is {getattr(summary, wrong[0])!r}"
        return Failure(entry["arm"], seed, f"{told}; remove it and run again to finish the run anew")
    if summary is not None and entry["mechanism"] != "none" and not summary.sites:
        told = f"the network was trained without {entry['mechanism']}: the summary of its run lists no site"
        return Failure(entry["arm"], seed, told)
    return summary


def fits(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON is of a kind such as dict[str, float | None], all the way down."""
    parts = typing.get_args(kind)
    if kind is Any:
        return True
    if isinstance(kind, types.UnionType):
        return any(fits(value, part) for part in parts)
    if isinstance(value, dict | list) and typing.get_origin(kind) is type(value):
        return all(fits(part, parts[-1]) for part in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, bool):
        return kind is bool
    return not parts and isinstance(value, (int, float) if kind is float else kind)


def clear_study(study: Path) -> None:
    """Remove a study and all its runs, and nothing else that may lie in the folder.

    Raises:
        RunError: If there are files of these names and no study, which may be anybody's; if one cannot be removed.
    """
    if not _is_ours(study / "study.json", ("version", "task")):
        taken = [name for name in ("study.json", "runs", *FILES) if (study / name).exists()]
        if taken:
            told = f"{study} is not the folder of a study and holds {', '.join(taken)}"
            raise RunError(f"{told}; nothing was removed: take another folder")
        return
    try:
        for run in sorted(study.glob("runs/*/seed*")):
            if run.name[4:].isdecimal() and _is_ours(run / "config.json", ("task", "network", "mechanism")):
                shutil.rmtree(run)
                run.with_name(f".{run.name}.lock").unlink(missing_ok=True)
        for folder in (*study.glob("runs/*/"), study / "runs"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for name in (*FILES, "workers.log", "study.json"):  # the last one last: a call that was cut off can be repeated
            (study / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{error.filename or study} cannot be removed: {error.strerror or error}") from None


def _is_ours(path: Path, names: Sequence[str]) -> bool:
    """Whether a JSON file holds these names, or is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return True
    except OSError:
        return False
    return isinstance(value, dict) and all(name in value for name in names)
