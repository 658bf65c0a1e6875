"""Text in two languages: files with a sentence a line, each the translation of the same line of another file."""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foveate.data.encoding import decode_lines
from foveate.data.faults import read_errors
from foveate.data.findings import Finding, Tally
from foveate.data.pictures import SPLITS
from foveate.errors import DataError
from foveate.rules import check_bytes

__all__ = ["Pair", "Text", "open_split", "open_text", "read_lines"]

NAME = re.compile(r"(train|validation|valid|val|dev|test)[^.]*(?:\.[^.]+)*?\.([A-Za-z][A-Za-z_-]*)(\.gz)?")
OTHER_NAMES = {"valid": "val", "validation": "val", "dev": "val"}
CHUNK = 2**20  # bytes that are unpacked at once
SHARE, MOST = 0.05, 2000  # of the pairs of train, and pairs at most: those that validate where no file says so

Pair = tuple[str, str]  # a sentence and its translation


@dataclass(frozen=True)
class Text:
    """Pairs of sentences in three splits.

    Args:
        root: The folder.
        source: The language that is translated, by the ending of its files.
        target: The language that it is translated into, likewise.
        splits: "train", "val" and "test", which alone may be empty.
        rule: How the splits came about, in words.
        findings: What was left out.

    Raises:
        DataError: If there is nothing to train or to validate with.
    """

    root: str
    source: str
    target: str
    splits: Mapping[str, list[Pair]]
    rule: str
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = "".join(f"; {finding}" for finding in self.findings)
        for name in SPLITS[:2]:
            if not self.splits[name]:
                raise DataError(f"{self.root} has no pair of sentences in its {name} split{told}")


def open_text(root: str | Path, source: str | None, target: str | None) -> Text:
    """Open a folder of files such as train.en and train.de, val.en.gz and val.de.gz, test.en and test.de.

    The word at the beginning of a name says the split, its ending the language, before .gz where it is compressed.
    Where no file is for val, pairs are taken from train in the order of a hash of their first sentences.

    Args:
        root: The folder.
        source: The language that is translated.
        target: The language that it is translated into.

    Raises:
        DataError: If files are missing, damaged or not of one length.
        ValueError: If it is not said which language is translated into which.
    """
    root = Path(root)
    files = _files(root)
    languages = sorted({language for _, language in files})
    if source is None or target is None or source == target:
        raise ValueError(
            f"translating takes two languages, source and target; got {source} and {target}, and {root} has "
            f"{', '.join(languages) or 'none'}"
        )
    splits: dict[str, list[Pair]] = {}
    findings: list[Finding] = []
    for split in SPLITS:
        found = [files.get((split, language)) for language in (source, target)]
        if found == [None, None] and split != "train":
            continue
        for language, path in zip((source, target), found, strict=True):
            if path is None:
                raise DataError(f"{root} must hold a file of {split} in {language}; it has {_told(files)}")
        tally = Tally(split)
        splits[split] = _pairs(files[split, source], files[split, target], tally)
        findings += tally.findings()
    rule = "as the files say"
    if "val" not in splits:
        if len({first for first, _ in splits["train"]}) < 2:
            told = "".join(f"; {finding}" for finding in findings)
            raise DataError(f"{root} must hold two different sentences or more in train, or files of val{told}")
        splits["train"], splits["val"] = _divide(splits["train"])
        rule = "val taken from train in the order of a hash of its sentences"
    splits = {split: splits.get(split, []) for split in SPLITS}
    findings += _twins(splits)
    return Text(str(root), source, target, splits, rule, findings)


def open_split(root: str | Path, source: str, target: str, split: str) -> list[Pair]:
    """The pairs of one split, whose files are enough; without files of it those that open_text takes from train."""
    files = _files(Path(root))
    ours, theirs = files.get((split, source)), files.get((split, target))
    if ours is None or theirs is None:
        return open_text(root, source, target).splits[split]
    return _pairs(ours, theirs, Tally(split))


def read_lines(path: Path) -> list[str | None]:
    """Return the lines of a file, plain or compressed, without the spaces around them; None for a damaged line.

    Raises:
        DataError: If the file cannot be read, or decode_lines refuses its encoding.
    """
    with read_errors(path):
        content = _content(path)
    return decode_lines(content, path)


def _content(path: Path) -> bytes:
    """Read a file whole, unpacked if it ends in .gz, unless it is larger than the limit."""
    if path.suffix != ".gz":
        check_bytes(path, path.stat().st_size, "takes")
        return path.read_bytes()
    parts, size = [], 0
    with gzip.open(path) as unpacked:
        while part := unpacked.read(CHUNK):
            size += len(part)
            check_bytes(path, size)
            parts.append(part)
    return b"".join(parts)


def _files(root: Path) -> dict[tuple[str, str], Path]:
    """The file of each split and language."""
    if not root.is_dir():
        raise DataError(f"text is read from a folder of files such as train.en and train.de; {root} is none")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(root.iterdir()):
        match = NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        key = OTHER_NAMES.get(match[1], match[1]), match[2]
        if key in found:
            raise DataError(f"{root} must hold one file of {key[0]} in {key[1]}; got {found[key].name} and {path.name}")
        found[key] = path
    return found


def _told(files: Mapping[tuple[str, str], Path]) -> str:
    return ", ".join(path.name for path in files.values()) or "none of that kind"


def _pairs(source: Path, target: Path, tally: Tally) -> list[Pair]:
    """What can be used of two files."""
    ours, theirs = read_lines(source), read_lines(target)
    if len(ours) != len(theirs):
        raise DataError(
            f"{source.name} and {target.name} must have as many lines as each other; got {len(ours):,} and "
            f"{len(theirs):,} in {source.parent}"
        )
    pairs: list[Pair] = []
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        if one is None or other is None:
            tally.add(
                "lines that are not UTF-8, left out", f"line {number} of {(source if one is None else target).name}"
            )
        elif not one or not other:
            tally.add("empty lines, left out", f"line {number} of {(target if one else source).name}")
        else:
            if "\r" in one + other:
                file = source if "\r" in one else target
                tally.add("lines with a lone carriage return inside, kept as one line", f"line {number} of {file.name}")
            pairs.append((one, other))
    return pairs


def _divide(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train and to validate with, none of which has a first sentence of the others."""
    hashed = sorted((hashlib.blake2b(source.encode(), digest_size=16).digest(), source) for source, _ in pairs)
    count = min(MOST, max(1, round(len(pairs) * SHARE)))
    chosen = {source for _, source in hashed[:count]}
    return [pair for pair in pairs if pair[0] not in chosen], [pair for pair in pairs if pair[0] in chosen]


def _twins(splits: Mapping[str, Sequence[Pair]]) -> list[Finding]:
    """Pairs of val and of test that train has too."""
    known = set(splits["train"])
    found = {name: [pair for pair in splits[name] if pair in known] for name in SPLITS[1:]}
    return [
        Finding(name, "pairs that train has too, kept", len(pairs), pairs[0][0])
        for name, pairs in found.items()
        if pairs
    ]
