"""What dataset.json says of channels and classes, or, where there is none, what the files show."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data.dicom import is_scan, read_modality
from foveate.data.json_files import read_json
from foveate.data.labels import tally
from foveate.data.nifti import is_nifti, read_nifti
from foveate.data.planes import read_mask
from foveate.data.reading import read_header
from foveate.data.volumes import Case
from foveate.errors import DataError

__all__ = ["classes_of", "classes_seen", "modalities_of", "modalities_seen", "read_description"]

Classes = tuple[list[str], dict[int, int]]
MOST = 256  # values that may all be classes; more are grey values


def read_description(path: Path) -> dict[str, Any]:
    """The content of a dataset.json."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must describe a data set in a JSON object; got {type(content).__name__}")
    return content


def modalities_of(path: Path, about: Mapping[str, Any]) -> list[str] | None:
    """Channels by number, as {"0": "CT"}; None where nothing is said."""
    said = about.get("channel_names", about.get("modality"))
    if said is None:
        return None
    if isinstance(said, str):
        return [said]
    try:
        names = {int(number): name for number, name in said.items()}
        if sorted(names) == list(range(len(names))) and names and all(isinstance(name, str) for name in names.values()):
            return [names[number] for number in sorted(names)]
    except (AttributeError, TypeError, ValueError):
        pass
    raise DataError(f'{path} must name channels as {{"0": "CT", ...}}; got {said!r}')


def modalities_seen(cases: Sequence[Case]) -> list[str]:
    """Grey or RGB of pictures, of which one in colour makes all so; one channel of scans, of DICOM what it says."""
    first = cases[0].images[0]
    if is_scan(first):
        return [(read_modality(first) if first.is_dir() else None) or "image"]
    grey = all(read_header(path)[0] for case in cases for path in case.images if not is_scan(path))
    return ["grey"] if grey else ["red", "green", "blue"]


def classes_of(path: Path, about: Mapping[str, Any]) -> Classes | None:
    """Classes from {"1": "liver"} or {"liver": 1}; None where nothing is said.

    The first is the background, which is the label of that name, else 0; the others come by rising value.
    """
    said = about.get("labels")
    if said is None:
        return None
    if not isinstance(said, dict) or not said:
        raise DataError(f'{path} must name labels as {{"0": "background", ...}}; got {said!r}')
    if "ignore" in said or any(isinstance(value, list) for value in said.values()):
        kind = "a label to ignore" if "ignore" in said else "regions of several labels"
        raise DataError(f"{path} has {kind}, which is not supported; name one label a class: {said!r}")
    try:
        pairs = [(int(name), key) if isinstance(name, int) else (int(key), str(name)) for key, name in said.items()]
    except ValueError:
        raise DataError(
            f'{path} must name labels as {{"0": "background"}} or {{"background": 0}}; got {said!r}'
        ) from None
    names = dict(sorted(pairs))
    if len(names) < len(pairs) or len(set(names.values())) < len(pairs):
        raise DataError(f"{path} must give each label one name and each name one label; got {said!r}")
    behind = next((value for value, name in names.items() if name.lower() == "background"), 0)
    if behind not in names or min(names) < 0 or len(names) < 2:
        wanted = 'the background, which is 0 or the label called "background", and others, from 0 up'
        raise DataError(f"{path} must name {wanted}; got {said!r}")
    ordered = [behind, *(value for value in names if value != behind)]
    return [names[value] for value in ordered], {value: number for number, value in enumerate(ordered)}


def classes_seen(cases: Iterable[Case]) -> Classes:
    """A class for 0 and for every value in the labels, all of which are read."""
    counts: Counter[int] = Counter()
    for case in cases:
        if case.label is not None:
            array = read_nifti(case.label).array if is_nifti(case.label) else read_mask(case.label)
            counts += tally(array, case.label)
            if min(counts) < 0 or len(counts) > MOST:
                found = f"{min(counts)}" if min(counts) < 0 else f"{len(counts)} values up to here"
                raise DataError(f"{case.label} must hold classes, 0 and up, {MOST} at most; it has {found}")
    values = sorted({0, *counts})
    if len(values) < 2:
        raise DataError("no label holds anything but 0, the background")
    names = ["background", "foreground"] if len(values) == 2 else ["background", *map(str, values[1:])]
    return names, {value: number for number, value in enumerate(values)}
