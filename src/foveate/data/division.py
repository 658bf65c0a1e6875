"""Divide cases into train, val and test: as folders or a file say, else in contiguous blocks by name."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from foveate.data.json_files import read_json
from foveate.data.layouts import Listing, slashed, stem
from foveate.data.volumes import Case
from foveate.errors import DataError

__all__ = ["divide"]

Splits = dict[str, list[Case]]


def divide(listing: Listing, fold: int | None, folds: int, split_file: Path | None) -> tuple[Splits, str, list[Case]]:
    """The splits, how they came about in words, and the cases that are in none.

    Raises:
        DataError: If there are too few cases, or the file of splits does not fit them.
        ValueError: If `fold` is out of range, or there is nothing for it to choose.
    """
    if split_file is not None:
        return _by_file(listing, fold, split_file)
    train = sorted(listing.cases, key=_by_name)
    if listing.test is None:
        test, train, tested = (
            train[_from_last(train, 5) :],
            train[: _from_last(train, 5)],
            "the last fifth is for testing",
        )
    else:
        test, tested = listing.test, "the folders say what is for testing"
    if listing.val is not None:
        if fold is not None:
            raise ValueError(
                f"fold chooses what validates, which the folders of {listing.root} say already; got {fold}"
            )
        return {"train": train, "val": listing.val, "test": test}, "as the folders say", []
    start, stop, rule = _block(train, fold, folds)
    splits = {"train": train[:start] + train[stop:], "val": train[start:stop], "test": test}
    if not splits["train"] or not splits["val"]:
        raise DataError(f"{listing.root} has too few cases to be divided: {len(listing.cases)} with labels")
    return splits, f"in the order of the names, in blocks without gaps: {tested}, and {rule}", []


def _from_last(cases: Sequence[Case], share: int) -> int:
    return len(cases) - max(1, len(cases) // share)


def _block(cases: Sequence[Case], fold: int | None, folds: int) -> tuple[int, int, str]:
    """Where the block for validation starts and stops."""
    if fold is None:
        return _from_last(cases, 10), len(cases), "of the rest the last tenth is for validation"
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"fold must be from 0 to folds - 1, and folds 2 or more; got fold {fold} and folds {folds}")
    if folds > len(cases):
        raise ValueError(f"folds must be at most the {len(cases)} cases that are divided; got {folds}")
    start, stop = (len(cases) * number // folds for number in (fold, fold + 1))
    return start, stop, f"of the rest block {fold} of {folds} (counted from 0) is for validation"


def _by_name(case: Case) -> tuple[list[tuple[int, str]], str]:
    """Numbers in a name count by value, so that slice 2 stands before slice 10."""
    parts = re.findall(r"\d+|\D+", case.name)
    return [(int(part), "") if part[0].isdecimal() else (-1, part) for part in parts], case.name


def _by_file(listing: Listing, fold: int | None, path: Path) -> tuple[Splits, str, list[Case]]:
    if listing.val is not None:
        raise DataError(f"{path} divides cases that the folders of {listing.root} divide already; keep one of both")
    entry, rule = _entry(path, fold)
    known = {case.name: case for case in [*listing.cases, *(listing.test or [])]}
    splits: Splits = {}
    for split in ("train", "val", "test"):
        names = entry.get(split, [] if split != "test" else [case.name for case in listing.test or []])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path} must list names of cases under {split!r}; got {names!r}")
        named = [_case(name, known) for name in names]
        for name in named:
            if name not in known:
                raise DataError(f"{path} names {name!r} in {split}; {listing.root} has no such case with a label")
        splits[split] = [known[name] for name in named]
    counts = Counter(case.name for cases in splits.values() for case in cases)
    for name, count in counts.items():
        if count > 1:
            places = " and ".join(split for split, cases in splits.items() if known[name] in cases)
            raise DataError(f"{path} must name each case once; {name!r} is there {count} times, in {places}")
    return splits, rule, [case for name, case in known.items() if name not in counts]


def _case(listed: str, known: Collection[str]) -> str:
    """Return the name of a case that a file of splits means: itself, or without ending, folders or channel."""
    bare = stem(Path(slashed(listed)))
    brief = Path(bare).name
    forms = (listed, bare, brief, brief.removesuffix("_0000"))
    return next((form for form in forms if form in known), bare)


def _entry(path: Path, fold: int | None) -> tuple[dict[str, Any], str]:
    """The names by split, out of the file or of one of its folds."""
    content = read_json(path)
    rule = f"as {path.name} says"
    if isinstance(content, list):
        if fold is None or not 0 <= fold < len(content):
            raise ValueError(f"fold must choose one of the {len(content)} folds of {path}, from 0; got {fold}")
        content, rule = content[fold], f"as fold {fold} (counted from 0) of {len(content)} in {path.name} says"
    elif fold is not None:
        raise ValueError(f"{path} holds one division, of which fold has nothing to choose; got {fold}")
    unknown = sorted(set(content) - {"train", "val", "test"}) if isinstance(content, dict) else [str(content)]
    if unknown or "train" not in content or "val" not in content:
        found = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f'{path} must hold {{"train": [...], "val": [...]}} and, at will, "test"; got {found}')
    return content, rule
