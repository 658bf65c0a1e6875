"""What dataset.json says of channels and classes, or, where there is none, what the files show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data.dicom import is_scan, read_modality
from foveate.data.json_files import read_json
from foveate.data.labels import IGNORED
from foveate.data.reading import read_header
from foveate.data.volumes import Case
from foveate.errors import DataError

__all__ = ["classes_of", "modalities_of", "modalities_seen", "read_description", "without"]

Classes = tuple[list[str], dict[int, int]]


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
    if any(isinstance(value, list) for value in said.values()):
        raise DataError(
            f"{path} has regions of several labels, which is not supported; name one label a class: {said!r}"
        )
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
    classes = [names[value] for value in ordered], {value: number for number, value in enumerate(ordered)}
    return without(classes, [value for value, name in names.items() if name.lower() == "ignore"], path)


def without(classes: Classes, ignore: Sequence[int], path: Path) -> Classes:
    """Take label values that are neither learned nor scored out of the classes."""
    names, values = classes
    if len(names) > IGNORED and ignore:
        raise DataError(f"{path} must have at most {IGNORED} classes beside labels to ignore; got {len(names)}")
    left = {value: names[number] for value, number in values.items() if number != IGNORED and value not in ignore}
    ignored = {value for value, number in values.items() if number == IGNORED} | set(ignore)
    behind = next(value for value, number in values.items() if number == 0)
    if behind in ignored or len(left) < 2:
        raise DataError(
            f"{path} must keep the background, which is {behind}, and another class beside labels to ignore; got "
            f"ignore {sorted(ignored)}"
        )
    kept = {value: number for number, value in enumerate(left)}
    return list(left.values()), kept | dict.fromkeys(sorted(ignored), IGNORED)
