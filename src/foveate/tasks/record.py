"""The record of a run's data and settings, data.json, and what differs from it when the run is resumed or measured."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data.contents import Content
from foveate.data.faults import read_errors
from foveate.data.json_files import read_json
from foveate.errors import DataError, RunError
from foveate.files import write_atomic
from foveate.tasks import files
from foveate.tasks.config import TrainingConfig

__all__ = [
    "Guard",
    "Record",
    "check_settings",
    "check_split",
    "known_samples",
    "make_record",
    "read_record",
    "write_record",
]

VERSION = 1
WHOLE = 256 * 2**20  # bytes of all samples, up to which every file is read as a whole
MANY = 50_000  # samples, above which files are not opened
END = 64 * 2**10  # bytes that are read at both ends of a file, where not all is
WAY_OUT = "accept it with --accept-changed-data, or train anew with --fresh"

Entry = list[Any]  # label, size, time and digest of the contents


@dataclasses.dataclass(frozen=True)
class Record:
    """The settings and samples that a run began with.

    Args:
        settings: Its configuration.
        read: What was read, as an Overview has it.
        depth: How the contents of samples are known: "whole", "ends" (of files, with their times) or "times".
        samples: Label, size, time and digest of each sample, by split and name.
    """

    settings: dict[str, Any]
    read: dict[str, Any]
    depth: str
    samples: dict[str, dict[str, Entry]]


class Guard:
    """Holds a finished run that is measured against its record.

    Args:
        run: Its folder.
        accept: Measure although data or settings changed since the run began.
    """

    def __init__(self, run: Path, *, accept: bool = False) -> None:
        self.run, self.accept = Path(run), accept
        self.record = None if accept else read_record(self.run)

    def settings(self, config: TrainingConfig) -> None:
        """Raise a RunError if config.json is not what the run began with."""
        check_settings(self.run, config, self.record, accept=self.accept)

    def own(self, split: str, contents: Iterable[Content]) -> None:
        """Raise a DataError if a split of the run's own data is not what the run began with."""
        check_split(self.run, self.record, split, contents, accept=self.accept)

    def other(self, split: str, contents: Iterable[Content], source: str, *, whole: bool) -> list[int] | None:
        """Return the numbers of samples of other data that may be measured, None for all.

        Samples of other splits of the run are left out of data that say no splits.

        Raises:
            DataError: The data say splits, and hold samples of another split of the run; or nothing else is left.
        """
        held = list(contents)
        wrong = {number: name for number, name in known_samples(self.record, held).items() if name != split}
        if not wrong:
            return None
        first = held[next(iter(wrong))].name
        told = f"{len(wrong)} of {len(held)} samples of {source} are those of other splits of the run, such as {first}"
        if not whole or len(wrong) == len(held):
            raise DataError(f"{told}; measure them nevertheless with --accept-changed-data")
        warnings.warn(f"{told}; they are left out", stacklevel=2)
        return [number for number in range(len(held)) if number not in wrong]


def make_record(config: TrainingConfig, read: Mapping[str, Any], splits: Mapping[str, Iterable[Content]]) -> Record:
    """Look at all samples of a run and return its record."""
    held = {split: list(contents) for split, contents in splits.items()}
    count = sum(map(len, held.values()))
    total = sum(_size(content) for contents in held.values() for content in contents)
    depth = "whole" if total <= WHOLE else "ends" if count <= MANY else "times"
    samples = {split: _entries(contents, depth) for split, contents in held.items()}
    return Record(dataclasses.asdict(config), dict(read), depth, samples)


def write_record(run: Path, record: Record) -> None:
    """Write data.json."""
    write_atomic(run / files.RECORD, json.dumps({"version": VERSION, **dataclasses.asdict(record)}) + "\n")


def read_record(run: Path) -> Record | None:
    """Read data.json; None if the run has none.

    Raises:
        RunError: The file does not hold what a run writes.
    """
    path = Path(run) / files.RECORD
    if not path.exists():
        return None
    held = read_json(path)
    names = [field.name for field in dataclasses.fields(Record)]
    if not isinstance(held, dict) or any(name not in held for name in names):
        raise RunError(f"{path} must hold {', '.join(names)} of a run; it does not")
    record = Record(**{name: held[name] for name in names})
    entries = [entry for part in record.samples.values() for entry in part.values()]
    if not all(isinstance(entry, list) and len(entry) == 4 for entry in entries):
        raise RunError(f"{path} must hold label, size, time and digest of each sample; it does not")
    return record


def check_settings(run: Path, config: TrainingConfig, record: Record | None, *, accept: bool) -> None:
    """Raise a RunError if config.json is not what the run began with."""
    if record is None or accept:
        return
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    differing = [
        f"{name} was {record.settings.get(name)!r} and is {now.get(name)!r}"
        for name in dict.fromkeys([*record.settings, *now])
        if name not in files.MAY_CHANGE and record.settings.get(name) != now.get(name)
    ]
    if differing:
        raise RunError(f"{Path(run) / files.CONFIG} changed since the run began: {'; '.join(differing)}; {WAY_OUT}")


def check_split(run: Path, record: Record | None, split: str, contents: Iterable[Content], *, accept: bool) -> None:
    """Raise a DataError if the samples of a split are not those that the run began with.

    Args:
        run: Its folder.
        record: Its record; nothing is checked without one.
        split: Which split.
        contents: Its samples now.
        accept: Take whatever changed.
    """
    if record is None or accept or split not in record.samples:
        return
    now = _entries(contents, record.depth)
    told = _differences(record, split, now)
    if told:
        raise DataError(f"the data of {run} changed since it began: in {split} {'; '.join(told)}; {WAY_OUT}")


def known_samples(record: Record | None, contents: Sequence[Content]) -> dict[int, str]:
    """Return the split of the run for those of other samples, by number, that the run began with.

    A sample is known by the name of its file and by its contents, wherever it lies.
    """
    if record is None or record.depth == "times":
        return {}
    own = {
        (name.rpartition("/")[2], entry[3]): split
        for split, part in record.samples.items()
        for name, entry in part.items()
        if entry[3] is not None
    }
    entries = [_entry(content, record.depth) for content in contents]
    found = [
        own.get((content.name.rpartition("/")[2], entry[3])) for content, entry in zip(contents, entries, strict=True)
    ]
    return {number: split for number, split in enumerate(found) if split is not None}


def _differences(record: Record, split: str, now: Mapping[str, Entry]) -> list[str]:
    """Return what differs from the record, in words, each with the number of samples and the first."""
    then = record.samples[split]
    elsewhere = {name: other for other, part in record.samples.items() if other != split for name in part}
    contents = {entry[3]: other for other in ("train",) if other != split for entry in record.samples[other].values()}
    new = [name for name in now if name not in then]
    both = [name for name in now if name in then]
    kinds = {
        "missing": [name for name in then if name not in now],
        "new": [name for name in new if name not in elsewhere],
        "of another split of the run": [name for name in new if name in elsewhere],
        "with contents that the run learned from": [
            name for name in (*new, *both) if now[name] != then.get(name) and now[name][3] and now[name][3] in contents
        ],
    }
    for place, what in enumerate(("label", "size", "time of change", "contents")):
        changed = [name for name in both if now[name][place] != then[name][place]]
        kinds[f"with another {what}" if what != "contents" else "with other contents"] = changed
    return [f"{len(names)} of {len(now)} {what}, such as {names[0]}" for what, names in kinds.items() if names]


def _entries(contents: Iterable[Content], depth: str) -> dict[str, Entry]:
    return {content.name: _entry(content, depth) for content in contents}


def _entry(content: Content, depth: str) -> Entry:
    """Label, size, time and digest; the time only where not all bytes are read."""
    label = content.label if len(content.label) <= 32 else _digest([content.label.encode()])
    if not content.files:
        return [label, len(content.value), None, _digest([content.value]) if content.value else None]
    stats = [path.stat() for path in content.files]
    time = None if depth == "whole" else max(stat.st_mtime_ns for stat in stats)
    digest = None if depth == "times" else _digest(_read(path, depth) for path in content.files)
    return [label, sum(stat.st_size for stat in stats), time, digest]


def _read(path: Path, depth: str) -> bytes:
    with read_errors(path), path.open("rb") as file:
        if depth == "whole":
            return file.read()
        head = file.read(END)
        file.seek(max(0, path.stat().st_size - END))
        return head + file.read(END)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _size(content: Content) -> int:
    with read_errors(content.files[0] if content.files else Path(content.name)):
        return len(content.value) + sum(path.stat().st_size for path in content.files)
