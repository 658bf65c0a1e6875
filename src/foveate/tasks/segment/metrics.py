"""How good a segmentation is: overlap, false positives, and distances in millimetres, for every case and class.

Surfaces are the voxels of a structure that touch its outside by a face; distances run between voxel centres, as in
MONAI. The 95th percentile is the larger of the two directed ones, and surface Dice counts surface voxels of either side
that lie within a tolerance of the other.

What an empty structure does to a mean is decided here, such that a failure improves none but that of false positives:

    truth  prediction  state          overlap                                distances
    there  there       scored         as computed                            as computed
    there  empty       missed         all zero                               the diagonal of the volume
    empty  there       false alarm    Dice, precision and surface Dice zero  the diagonal of the volume
    empty  empty       absent         left out                               left out

Recall of a structure that is not there is left out. The volume of false positives always counts, and is 0 ml where
nothing was predicted: it falls when more is missed, so read it beside the count of missed ones. How many cases were in
each state stands beside every mean. For pictures a millimetre is a pixel, and a millilitre a thousand pixels.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.special import stdtrit

from foveate.errors import RunError
from foveate.escaping import TableWriter, plain_cell
from foveate.files import write_atomic

__all__ = ["COLUMNS", "MEASURES", "TOLERANCE_MM", "Score", "read_scores", "score_case", "summarise"]
__all__ += ["write_scores"]

TOLERANCE_MM = 1.0  # of surface Dice
MEASURES = ("dice", "precision", "recall", "false_positive_ml", "hd95_mm", "surface_dice", "assd_mm")
STATES = ("scored", "missed", "false alarm", "absent")
LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One structure of one case; a measure that is left out of means is None.

    Args:
        case: Its name.
        structure: The class.
        state: "scored", "missed", "false alarm" or "absent".
        truth_ml: Volume of the truth.
        predicted_ml: Volume of the prediction.
        false_positive_ml: Volume of what was predicted and is not there.
        hd95_mm: The 95th percentile of the distances between the surfaces.
        surface_dice: The share of both surfaces that lies within the tolerance of the other.
        assd_mm: The mean of the distances of both surfaces.
    """

    case: str
    structure: str
    state: str
    truth_ml: float
    predicted_ml: float
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    false_positive_ml: float = 0.0
    hd95_mm: float | None = None
    surface_dice: float | None = None
    assd_mm: float | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Score))


def score_case(
    case: str,
    predicted: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
    classes: Sequence[str],
    spacing: Sequence[float],
    *,
    tolerance_mm: float = TOLERANCE_MM,
) -> list[Score]:
    """A score for every class but the first, which is the background.

    Args:
        case: Its name.
        predicted: The label map that was predicted, of whole numbers.
        truth: The true one, on the same grid.
        classes: Names, by the numbers of the label maps.
        spacing: Size of a voxel in mm, along each axis.
        tolerance_mm: Of surface Dice.
    """
    if predicted.shape != truth.shape or len(spacing) != truth.ndim:
        raise ValueError(
            f"a score takes label maps of one shape and a spacing for each axis; got {predicted.shape}, {truth.shape} "
            f"and {tuple(spacing)}"
        )
    return [
        _score(case, name, predicted == index, truth == index, spacing, tolerance_mm)
        for index, name in enumerate(classes)
        if index > 0
    ]


def _score(
    case: str,
    structure: str,
    predicted: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
    spacing: Sequence[float],
    tolerance_mm: float,
) -> Score:
    voxel_ml = math.prod(spacing) / 1000
    found, there, both = int(predicted.sum()), int(truth.sum()), int((predicted & truth).sum())
    known = {"case": case, "structure": structure, "truth_ml": there * voxel_ml, "predicted_ml": found * voxel_ml}
    if not found and not there:
        return Score(**known, state="absent")
    known["false_positive_ml"] = (found - both) * voxel_ml
    if not found or not there:
        diagonal = math.hypot(*(size * step for size, step in zip(truth.shape, spacing, strict=True)))
        known |= {"dice": 0.0, "precision": 0.0, "surface_dice": 0.0, "hd95_mm": diagonal, "assd_mm": diagonal}
        return Score(**known, state="missed", recall=0.0) if there else Score(**known, state="false alarm")
    forth, back = surface_distances(predicted, truth, spacing)
    every = np.concatenate([forth, back])
    return Score(
        **known,
        state="scored",
        dice=2 * both / (found + there),
        precision=both / found,
        recall=both / there,
        hd95_mm=float(max(np.percentile(forth, 95), np.percentile(back, 95))),
        surface_dice=float((every <= tolerance_mm).mean()),
        assd_mm=float(every.mean()),
    )


def surface_distances(
    one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], spacing: Sequence[float]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For every surface voxel of one structure the distance to the other's nearest, in mm, and the other way round."""
    (box,) = ndimage.find_objects((one | other).astype(np.uint8))
    surfaces = [np.logical_and(mask[box], np.logical_not(ndimage.binary_erosion(mask[box]))) for mask in (one, other)]
    far = [ndimage.distance_transform_edt(~surface, sampling=tuple(spacing)) for surface in surfaces]
    return np.asarray(far[1])[surfaces[0]], np.asarray(far[0])[surfaces[1]]


def summarise(scores: Sequence[Score]) -> dict[str, float | None]:
    """Means over cases and their 95 % t intervals, of all classes together and of each, and the counts of states.

    The keys are a measure, as "dice", with "_low" and "_high" for its interval, and "dice.CLASS" and "dice_low.CLASS"
    for one class. Of all classes together, a case counts with the mean over those of its classes where the measure is
    defined.
    """
    found: dict[str, float | None] = {"cases": len({score.case for score in scores})}
    for state in STATES:
        found[state.replace(" ", "_")] = sum(score.state == state for score in scores)
    structures = list(dict.fromkeys(score.structure for score in scores))
    for name in MEASURES:
        cases: dict[str, list[float]] = {}
        for score in scores:
            if getattr(score, name) is not None:
                cases.setdefault(score.case, []).append(getattr(score, name))
        mean, low, high = interval([math.fsum(values) / len(values) for values in cases.values()])
        found |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        for structure in structures:
            chosen = [getattr(score, name) for score in scores if score.structure == structure]
            mean, low, high = interval([value for value in chosen if value is not None])
            found |= {f"{name}.{structure}": mean, f"{name}_low.{structure}": low, f"{name}_high.{structure}": high}
    return found


def interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The mean and its 95 % interval, mean -+ t(n - 1) * s / sqrt(n); what too few values cannot give is None."""
    if not values:
        return None, None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None, None
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    reach = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(len(values))
    return mean, mean - reach, mean + reach


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write a CSV with a row for each case and class; what is left out of means is an empty cell."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(COLUMNS)
    for score in scores:
        row = dataclasses.asdict(score).values()
        writer.writerow([float(f"{value:.9g}") if isinstance(value, float) else value for value in row])
    write_atomic(path, text.getvalue())


def read_scores(path: Path) -> list[Score]:
    """Read what write_scores wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [Score(**{name: _read_cell(name, row[name]) for name in COLUMNS}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read as the scores of cases: {error}") from None


def _read_cell(name: str, text: str) -> Any:
    if name in ("case", "structure", "state"):
        return plain_cell(text)
    return float(text) if text else None
