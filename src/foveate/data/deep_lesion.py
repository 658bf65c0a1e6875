"""DeepLesion: slices of CT around key slices, in which lesions have boxes.

Yan et al., "DeepLesion: automated mining of large-scale lesion annotations and universal lesion detection with deep
learning", Journal of Medical Imaging 5(3), 2018, https://doi.org/10.1117/1.JMI.5.3.036501. Read as the authors' code
does, https://github.com/rsummers11/CADLab: rows marked as possibly noisy are left out, and coordinates count pixels
from 1, the last one of a box included.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from foveate.data.boxes import Objects
from foveate.data.faults import read_errors
from foveate.data.findings import Tally
from foveate.data.pictures import SPLITS
from foveate.data.runs import runs_of
from foveate.data.stack_kinds import INFO
from foveate.data.stacks import Stack, Stacks
from foveate.errors import DataError

__all__ = ["open_deep_lesion"]

FOLDER = "Images_png"
ZERO = 32768  # what 0 HU is in the files
LONGEST = 10_000  # slices in a range, far more than any scan has
COLUMNS = (
    "File_name",
    "Patient_index",
    "Key_slice_index",
    "Bounding_boxes",
    "Possibly_noisy",
    "Slice_range",
    "Spacing_mm_px_",
    "Image_size",
    "Train_Val_Test",
)
T = TypeVar("T")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """A lesion of the file.

    Args:
        line: Of the file, from 1.
        split: "train", "val" or "test".
        patient: As the file calls it.
        series: The folder of its slices.
        key: The number of the slice that has the box.
        first: The number of the first slice around it.
        last: That of the last.
        spacing: Of slices, rows and columns, in mm.
        size: (height, width) of the slices.
        box_xyxy: In pixels and within the slice, right and lower edge exclusive.
    """

    line: int
    split: str
    patient: str
    series: str
    key: int
    first: int
    last: int
    spacing: tuple[float, float, float]
    size: tuple[int, int]
    box_xyxy: Box


@dataclass(frozen=True)
class Run:
    """Slices of a series without a gap, `first` to `last`, and the boxes of those that are key slices."""

    series: str
    first: int
    last: int
    spacing: tuple[float, float, float]
    size: tuple[int, int]
    boxes: Mapping[int, list[Box]]


class DeepLesionSplit:
    """Runs of slices as a split.

    Args:
        folder: That of the series.
        runs: The slices.
    """

    def __init__(self, folder: Path, runs: Sequence[Run]) -> None:
        self.folder, self.runs = folder, list(runs)

    def __len__(self) -> int:
        return len(self.runs)

    def name(self, index: int) -> str:
        run = self.runs[index]
        return f"{run.series}_{run.first:03}-{run.last:03}"

    def stack(self, index: int) -> Stack:
        run = self.runs[index]
        numbers = range(run.first, run.last + 1)
        slices = np.stack([read_hounsfield(_file(self.folder, run.series, number), run.size) for number in numbers])
        return Stack(
            self.name(index),
            torch.from_numpy(slices),
            run.spacing,
            None,
            torch.zeros(0, dtype=torch.long),
            {number - run.first: _objects(boxes) for number, boxes in run.boxes.items()},
            torch.tensor([number in run.boxes for number in numbers]),
        )


def open_deep_lesion(path: Path) -> Stacks:
    """Open DL_info.csv, or the folder that holds it, with the slices in Images_png beside it.

    A stack is a run of slices of one series: ranges that overlap or touch are one, and a slice that is missing parts
    them. Only key slices are annotated; a run without any is left out, as are rows that are marked as possibly noisy or
    cannot be used, which `findings` counts.

    Raises:
        DataError: If the file is none of DeepLesion's, there are no slices, or a patient is in two splits.
    """
    info = path / INFO if path.is_dir() else path
    folder = info.parent / FOLDER
    if not folder.is_dir():
        raise DataError(f"{info} needs the slices of DeepLesion in {folder}, which is no folder")
    tallies = {split: Tally(split) for split in SPLITS}
    rows = _usable(info, tallies)
    _refuse_shared_patients(info, rows)
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(row.series, []).append(row)
    runs: dict[str, list[Run]] = {split: [] for split in SPLITS}
    for name in sorted(series):
        split = series[name][0].split
        runs[split] += _runs(folder, series[name], tallies[split])
    splits = {split: DeepLesionSplit(folder, runs[split]) for split in SPLITS}
    findings = [finding for tally in tallies.values() for finding in tally.findings()]
    return Stacks(str(path), ["lesion"], [1], "CT", splits, f"as {info.name} says", False, findings)


def read_hounsfield(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a slice in Hounsfield units, float32 (height, width).

    Raises:
        DataError: If it cannot be read, has not 16 bits, or is not of that size.
    """
    with read_errors(path), Image.open(path) as picture:
        if not picture.mode.startswith("I"):
            raise DataError(f"{path} must be grey with 16 bits, of which {ZERO} is 0 HU; its mode is {picture.mode}")
        if (picture.height, picture.width) != size:  # before anything is unpacked
            raise DataError(f"{path} is {(picture.height, picture.width)}; {INFO} says that it is {size}")
        pixels = np.asarray(picture).astype(np.int32)
    return (pixels - ZERO).astype(np.float32)


def _usable(info: Path, tallies: Mapping[str, Tally]) -> list[Row]:
    """The rows that can be used; the others are counted."""
    with read_errors(info), info.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise DataError(f"{info} must have the columns of DeepLesion; it has no {', '.join(missing)}")
        held = [(reader.line_num, entry) for entry in reader]
    rows = []
    for line, entry in held:
        number = (entry["Train_Val_Test"] or "").strip()
        if number not in ("1", "2", "3"):
            raise DataError(f"{info} must say 1, 2 or 3 as Train_Val_Test; line {line} says {number!r}")
        split = SPLITS[int(number) - 1]
        row = _row(line, split, entry)
        if isinstance(row, Row):
            rows.append(row)
        else:
            tallies[split].add(f"rows {row}, left out", f"line {line} of {info.name}, {entry['File_name']}")
    return rows


def _row(line: int, split: str, entry: Mapping[str, str]) -> Row | str:
    """A row, or why it cannot be used."""
    try:
        series, _, file = entry["File_name"].rpartition("_")
        key, (first, last) = int(entry["Key_slice_index"]), _numbers(entry["Slice_range"], 2, int)
        width, height = _numbers(entry["Image_size"], 2, int)
        box, (x, y, z) = _numbers(entry["Bounding_boxes"], 4, float), _numbers(entry["Spacing_mm_px_"], 3, float)
        noisy, patient = int(entry["Possibly_noisy"]) > 0, entry["Patient_index"].strip()
        fits = int(file.partition(".")[0]) == key and first <= key <= last < first + LONGEST
    except (TypeError, ValueError, AttributeError):
        return "that do not say what they should"
    if Path(series).name != series or series in ("", ".."):
        return "whose File_name names no folder of slices"
    if not fits:
        return "whose key slice is another in File_name, or not in Slice_range"
    if noisy:
        return "marked as possibly noisy, as in the authors' code"
    if not all(math.isfinite(step) and step > 0 for step in (x, y, z)):
        return "whose spacing is no positive number"
    left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
    if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
        return "whose box has no area"
    inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return "whose box is outside the picture"
    return Row(line, split, patient, series, key, first, last, (z, y, x), (height, width), inside)


def _numbers(text: str, count: int, kind: Callable[[str], T]) -> list[T]:
    numbers = [kind(part) for part in text.split(",")]
    if len(numbers) != count:
        raise ValueError(text)
    return numbers


def _refuse_shared_patients(info: Path, rows: Sequence[Row]) -> None:
    seen: dict[str, Row] = {}
    for row in rows:
        other = seen.setdefault(row.patient, row)
        if other.split != row.split:
            places = f"{other.split} (line {other.line}) and in {row.split} (line {row.line})"
            raise DataError(f"{info} must have each patient in one split; patient {row.patient} is in {places}")


def _runs(folder: Path, rows: Sequence[Row], tally: Tally) -> list[Run]:
    """The runs of slices of a series that hold key slices."""
    series, wanted = rows[0].series, set()
    there = _there(folder / series)
    boxes: dict[int, list[Box]] = {}
    for row in rows:
        where = str(_file(folder, series, row.key))
        if (row.spacing, row.size) != (rows[0].spacing, rows[0].size):
            tally.add("rows whose spacing or size is not that of their series, left out", f"line {row.line}, {where}")
        elif row.key not in there:
            tally.add("rows whose key slice is missing, left out", where)
        else:
            wanted.update(range(row.first, row.last + 1))
            boxes.setdefault(row.key, []).append(row.box_xyxy)
    for number in sorted(wanted - there):
        tally.add("slices that are missing, where the run is parted", str(_file(folder, series, number)))
    found = []
    for first, last in runs_of(wanted & there):
        held = {key: boxes[key] for key in sorted(boxes) if first <= key <= last}
        if held:
            found.append(Run(series, first, last, rows[0].spacing, rows[0].size, held))
    return found


def _there(folder: Path) -> set[int]:
    """The numbers of the slices in the folder of a series."""
    if not folder.is_dir():
        return set()
    return {int(path.stem) for path in folder.iterdir() if path.suffix == ".png" and path.stem.isdecimal()}


def _file(folder: Path, series: str, number: int) -> Path:
    return folder / series / f"{number:03}.png"


def _objects(boxes: Sequence[Box]) -> Objects:
    held = torch.tensor(boxes, dtype=torch.float32)
    areas = (held[:, 2:] - held[:, :2]).prod(dim=1)
    return Objects(held, torch.zeros(len(held), dtype=torch.long), torch.zeros(len(held), dtype=torch.bool), areas)
