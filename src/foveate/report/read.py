"""Read a study folder or a run folder, tolerantly: what is damaged or missing becomes a sentence, never a crash."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foveate.compare.arms import arm_folder
from foveate.errors import RunError

__all__ = [
    "Map",
    "Maps",
    "Run",
    "Sample",
    "Study",
    "dig",
    "kind_of_folder",
    "listed",
    "mapping",
    "number",
    "of_clips",
    "read_json",
    "read_maps",
    "read_run",
    "read_study",
]

TABLES = ("channel_profile", "frames", "slices")  # of two axes
KINDS = ("channel_profile", "spatial", "rows", "weights", "network", "prediction", "frames", "slices")


def number(value: object) -> float | None:
    """Value as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        converted = float(value)
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def dig(data: object, *keys: str) -> Any:
    """What stands at data[key][key]..., or None where the way there ends."""
    for key in keys:
        if not isinstance(data, Mapping) or key not in data:
            return None
        data = data[key]
    return data


def mapping(data: object, *keys: str) -> dict[str, Any]:
    """The object at data[key][key]..., empty where there is none."""
    found = dig(data, *keys)
    return {str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Run:
    """One run folder. `summary` is empty unless the run is finished and its summary could be read."""

    path: Path
    arm: str
    seed: int | None
    config: dict[str, Any]
    summary: dict[str, Any]
    curves: list[dict[str, float | None]]
    problems: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        return bool(self.summary)

    def metric(self, name: str) -> float | None:
        return number(dig(self.summary, "metrics", name))


@dataclass(frozen=True)
class Sample:
    """One of the pictures that every arm was looked at on."""

    name: str
    label: str
    prediction: str
    picture: np.ndarray  # (height, width, 3), uint8
    box: tuple[float, float, float, float] | None  # left, top, right, bottom of the true place, in 0..1
    image_size: tuple[int, int]  # (height, width) that the network saw, in whose pixels the box was given
    truth: np.ndarray | None = None  # (height, width), the true class of each pixel, where that is to be found


@dataclass(frozen=True)
class Map:
    """One entry of maps.json. `values`: (class, channel) for a channel profile, (frame, frame) for what frames of
    a clip give to each other, (sample, slice) for the weights of a bag, else (sample, height, width).

    A prediction holds classes, other maps numbers; what is not a number lies beyond the picture.
    """

    tap: str
    kind: str
    values: np.ndarray
    point: tuple[tuple[float, float], ...] = ()  # (y, x) in 0..1, one a sample or one for all; only for rows

    def point_of(self, index: int) -> tuple[float, float] | None:
        if not self.point:
            return None
        return self.point[index] if index < len(self.point) else self.point[0]


@dataclass(frozen=True)
class Maps:
    """What maps/ of one run holds."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    maps: tuple[Map, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A study folder: what was asked for (`plan`), what each arm costs, what each run brought."""

    path: Path
    plan: dict[str, Any]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str
    costs: dict[str, dict[str, Any]]
    runs: dict[tuple[str, int], Run]
    failures: tuple[tuple[str, int | None, str], ...]
    problems: tuple[str, ...] = field(default=())

    def finished(self, arm: str) -> list[Run]:
        return [run for (name, _), run in self.runs.items() if name == arm and run.finished]

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Runs that were asked for and are not finished."""
        return [key for key in self.wanted if key not in self.runs or not self.runs[key].finished]

    @property
    def wanted(self) -> list[tuple[str, int]]:
        return [(arm, seed) for arm in self.arms for seed in self.seeds_of(arm)]

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Return the seeds that an arm was to have; where seeds are added in rounds, those of the rounds that began."""
        asked = dig(self.plan, "auto", "asked")
        if not isinstance(asked, dict):
            return self.seeds
        count = number(asked.get(arm))
        return self.seeds if count is None else tuple(seed for seed in self.seeds if seed < count)


def kind_of_folder(folder: Path) -> str:
    """ "study" or "run".

    Raises:
        RunError: If the folder is neither.
    """
    if (folder / "study.json").is_file():
        return "study"
    if (folder / "config.json").is_file() or (folder / "summary.json").is_file():
        return "run"
    if not folder.is_dir():
        raise RunError(f"a report takes a study folder or a run folder; {str(folder)!r} is not a folder")
    raise RunError(
        f"a report takes a study folder (with study.json) or run folder (with config.json); {str(folder)!r} has neither"
    )


def read_study(folder: Path) -> Study:
    """Read a study folder.

    Raises:
        RunError: If study.json itself cannot be read: without it nobody knows what was asked.
    """
    plan = read_json(folder / "study.json")
    if not isinstance(plan, dict):
        raise RunError(f"study.json holds one JSON object; {str(folder / 'study.json')!r} could not be read as one")
    problems: list[str] = []
    arms = [str(dig(entry, "arm")) for entry in listed(plan.get("arms"))]
    seeds = [int(seed) for entry in listed(plan.get("seeds")) if (seed := number(entry)) is not None]
    folders = {(arm, seed): folder / "runs" / arm_folder(arm) / f"seed{seed}" for arm in arms for seed in seeds}
    runs = {key: read_run(path, *key) for key, path in folders.items() if _is_folder(path)}
    costs = read_json(folder / "costs.json") if (folder / "costs.json").exists() else {}
    if not isinstance(costs, dict):
        problems.append("costs.json could not be read, so costs are taken from the runs where they have them")
        costs = {}
    failures = read_json(folder / "failures.json") if (folder / "failures.json").exists() else []
    if not isinstance(failures, list):
        problems.append("failures.json could not be read")
        failures = []
    told = [entry for entry in failures if isinstance(entry, dict)]
    return Study(
        path=folder,
        plan=plan,
        arms=tuple(dict.fromkeys(arms)),
        seeds=tuple(dict.fromkeys(seeds)),
        baseline=str(plan.get("baseline") or "none"),
        costs={str(arm): cost for arm, cost in costs.items() if isinstance(cost, dict)},
        runs=runs,
        failures=tuple(
            (str(entry.get("arm")), _whole(entry.get("seed")), str(entry.get("sentence"))) for entry in told
        ),
        problems=tuple(problems),
    )


def _is_folder(path: Path) -> bool:
    """Return whether there is a folder, also if none could have such a name."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_run(folder: Path, arm: str | None = None, seed: int | None = None) -> Run:
    """Read a run folder, except its maps."""
    problems: list[str] = []
    parts: dict[str, dict[str, Any]] = {}
    for name in ("config.json", "summary.json"):
        read = read_json(folder / name) if (folder / name).exists() else {}
        if not isinstance(read, dict):
            problems.append(f"{name} could not be read")
            read = {}
        parts[name] = read
    config, summary = parts["config.json"], parts["summary.json"]
    if not summary and not problems:
        problems.append("the run is not finished: it has no summary.json")
    curves, trouble = _read_curves(folder / "metrics.csv")
    if trouble and summary:
        problems.append(trouble)
    named = arm or dig(summary, "arm") or dig(config, "arm") or dig(config, "mechanism") or folder.name
    counted = seed if seed is not None else _whole(dig(summary, "seed") if summary else dig(config, "seed"))
    return Run(folder, str(named), counted, config, summary, curves, tuple(problems))


def read_maps(run: Run) -> Maps | None:
    """Read maps/ of a run; None where it has none."""
    folder = run.path / "maps"
    if not (folder / "maps.json").exists() and not (folder / "maps.npz").exists():
        return None
    index = read_json(folder / "maps.json")
    if not isinstance(index, dict):
        return Maps((), (), (), ("maps.json could not be read",))
    try:
        loaded = _read_arrays(folder / "maps.npz")
    except Exception as error:  # damaged bytes make zipfile, zlib and numpy's parser of headers raise all sorts
        return Maps((), (), (), (f"maps.npz could not be read ({type(error).__name__})",))
    problems: list[str] = []
    classes = tuple(str(name) for name in listed(index.get("classes")))
    samples = _samples(index, loaded.get("images"), loaded.get("truth"), classes)
    if not samples:
        problems.append("maps.npz has no pictures of the samples")
    maps: list[Map] = []
    for entry in listed(index.get("maps")):
        tap, kind, key = (str(dig(entry, part)) for part in ("tap", "kind", "key"))
        values = loaded.get(key)
        shape = 2 if kind in TABLES else 3
        usable = values is not None and values.ndim == shape and values.size > 0 and values.dtype.kind in "fiu"
        if kind not in KINDS or values is None or not usable:
            problems.append(
                f"the map {key!r} of tap {tap!r} is missing from maps.npz or has another shape than its kind"
            )
            continue
        if kind not in TABLES and len(values) != len(samples):
            problems.append(f"the map of tap {tap!r} has {len(values)} samples where there are {len(samples)}")
            continue
        maps.append(Map(tap, kind, values.astype(np.float32), _points(dig(entry, "point"))))
    return Maps(samples, classes, tuple(maps), tuple(problems))


def of_clips(run: Run) -> bool:
    """Whether a run looks at clips, which are drawn as sheets of their frames."""
    return bool(number(dig(read_json(run.path / "maps" / "maps.json"), "frames")))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise TypeError(f"maps.npz holds several named arrays; got one of shape {arrays.shape}")
        return {key: array for key in arrays.files if isinstance(array := arrays[key], np.ndarray)}


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _read_curves(path: Path) -> tuple[list[dict[str, float | None]], str | None]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{str(key): number(value) for key, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return [], "metrics.csv is missing, so the run has no curves"
    except (OSError, ValueError, csv.Error):
        return [], "metrics.csv could not be read, so the run has no curves"
    whole = [row for row in rows if row.get("epoch") is not None]
    if len(whole) < len(rows):
        return whole, f"metrics.csv has {len(rows) - len(whole)} rows without a readable epoch; they were left out"
    return whole, None if whole else "metrics.csv has no rows, so the run has no curves"


def _samples(
    index: dict[str, Any], images: np.ndarray | None, truths: np.ndarray | None, classes: Sequence[str]
) -> tuple[Sample, ...]:
    entries = listed(index.get("samples"))
    if images is None or images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        return ()
    size = [number(side) or 0 for side in listed(index.get("image_size"))]
    height, width = size if len(size) == 2 and min(size) > 0 else images.shape[1:3]  # boxes are in pixels of image_size
    samples = []
    known_truths = truths is not None and truths.shape == images.shape[:3] and truths.dtype.kind in "iu"
    for place, (entry, picture) in enumerate(zip(entries, images, strict=False)):
        box = [number(value) for value in listed(dig(entry, "box_xyxy"))]
        known = [
            value / side for value, side in zip(box, (width, height, width, height), strict=False) if value is not None
        ]
        samples.append(
            Sample(
                name=str(dig(entry, "name") or ""),
                label=_class_name(dig(entry, "label"), classes),
                prediction=_class_name(dig(entry, "prediction"), classes),
                picture=picture,
                box=(known[0], known[1], known[2], known[3]) if len(known) == len(box) == 4 else None,
                image_size=(int(height), int(width)),
                truth=truths[place] if truths is not None and known_truths else None,
            )
        )
    return tuple(samples)


def _class_name(value: object, classes: Sequence[str]) -> str:
    """The name of a class given by its number; a name stays a name."""
    if isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    return "?" if value is None else str(value)


def _points(value: object) -> tuple[tuple[float, float], ...]:
    """One [y, x] for all samples, or one for each; anything else is no point."""
    found = listed(value)
    pairs = [found] if found and number(found[0]) is not None else found
    points = []
    for pair in pairs:
        numbers = [number(part) for part in listed(pair)]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return ()
        points.append((numbers[0], numbers[1]))
    return tuple(points)


def listed(value: object) -> list[Any]:
    """A list as it is; anything else is an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def _whole(value: object) -> int | None:
    counted = number(value)
    return None if counted is None else int(counted)
