"""Free-response ROC: how many lesions are found at how many false positives a slice.

Yan et al., "3D Context Enhanced Region-based Convolutional Neural Network for End-to-End Lesion Detection", MICCAI
2018, https://arxiv.org/abs/1806.09648, for the rates. A lesion in a slice is found by a box of its class whose overlap
with it, intersection over union, is at least one half. A box that finds nothing is a false positive; a further box on a
lesion that is found already is neither.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from foveate.escaping import TableWriter
from foveate.files import write_atomic

__all__ = ["RATES", "Froc", "write_curve"]

RATES = (0.5, 1, 2, 4, 8, 16)  # false positives a slice
OVERLAP = 0.5


class Froc:
    """Counts over slices.

    Args:
        overlap: The least intersection over union of a box with what it finds.
    """

    def __init__(self, overlap: float = OVERLAP) -> None:
        self.overlap = overlap
        self.slices = 0
        self.best: list[float] = []
        """Of each lesion in each slice the highest score of a box that finds it, -1 where none does."""
        self.wrong: list[float] = []
        """The scores of the boxes that find nothing."""

    def update(
        self,
        boxes_xyxy: Tensor,
        scores: Tensor,
        labels: Tensor,
        true_xyxy: Tensor,
        true_labels: Tensor,
        crowd: Tensor | None = None,
    ) -> None:
        """Take what was found in a slice, (box, 4), (box) and (box), and what is there, (lesion, 4) and (lesion).

        What `crowd`, bool (lesion), marks is no lesion to be found, and a box of which half lies in it is not wrong.
        """
        self.slices += 1
        crowd = torch.zeros(len(true_labels), dtype=torch.bool) if crowd is None else crowd
        lenient = _inside(boxes_xyxy.float(), true_xyxy[crowd].float())
        true_xyxy, true_labels = true_xyxy[~crowd], true_labels[~crowd]
        right = (box_iou(boxes_xyxy.float(), true_xyxy.float()) >= self.overlap) & (labels[:, None] == true_labels)
        self.wrong += scores[~right.any(dim=1) & ~lenient].tolist()
        held = torch.where(right, scores[:, None].float(), torch.tensor(-1.0))
        self.best += torch.cat([held, torch.full((1, len(true_labels)), -1.0)]).amax(dim=0).tolist()

    def sensitivity(self, rate: float) -> float | None:
        """The share of lesions found at the lowest score that leaves at most `rate` false positives a slice; None
        without a lesion.
        """
        if not self.best:
            return None
        least = self._least_score(rate)
        return sum(score > least for score in self.best) / len(self.best)

    def _least_score(self, rate: float) -> float:
        """The score of the first false positive that is too many: boxes count above it; -0.5 where none is."""
        allowed = int(rate * self.slices)
        ordered = sorted(self.wrong, reverse=True)
        return ordered[allowed] if allowed < len(ordered) else -0.5

    def curve(self) -> list[tuple[float, float, float]]:
        """(score, false positives a slice, sensitivity) at every score of a box, the highest first."""
        if not self.best or not self.slices:
            return []
        found = sorted((score for score in self.best if score >= 0), reverse=True)
        wrong = sorted(self.wrong, reverse=True)
        rows, hits, misses = [], 0, 0
        for score in sorted({*found, *wrong}, reverse=True):
            while hits < len(found) and found[hits] >= score:
                hits += 1
            while misses < len(wrong) and wrong[misses] >= score:
                misses += 1
            rows.append((score, misses / self.slices, hits / len(self.best)))
        return rows

    def summary(self) -> dict[str, float | None]:
        """Sensitivity at each of RATES, and their mean; "sensitivity" alone is that at one half."""
        found = {f"sensitivity_{rate}" if rate >= 1 else "sensitivity": self.sensitivity(rate) for rate in RATES}
        known = [value for value in found.values() if value is not None]
        return found | {"froc": sum(known) / len(known) if known else None}


def _inside(boxes_xyxy: Tensor, crowd_xyxy: Tensor) -> Tensor:
    """Whether half of a box lies in one of the crowds, bool (box)."""
    low = torch.maximum(boxes_xyxy[:, None, :2], crowd_xyxy[:, :2])
    high = torch.minimum(boxes_xyxy[:, None, 2:], crowd_xyxy[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    return (shared >= OVERLAP * box_area(boxes_xyxy)[:, None]).any(dim=1)


def write_curve(path: Path, curve: Sequence[tuple[float, float, float]]) -> None:
    """Write what `Froc.curve` gives as CSV."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["score", "false_positives", "sensitivity"])
    writer.writerows([f"{value:.6g}" for value in row] for row in curve)
    write_atomic(path, text.getvalue())
