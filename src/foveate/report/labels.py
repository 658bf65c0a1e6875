"""Where the labels of a chart stand: each beside its mark, where it hides least."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["CHARACTER", "Label", "Mark", "place_labels", "side_by_side"]

CHARACTER, ABOVE, BELOW = 6.6, 10.0, 3.0  # the size of a label's text around its baseline, in the chart's units
ROUNDS = 4
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Mark:
    """A named mark; `low` and `high` are the ends of the bar through it."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Label:
    """Where a text stands; `leader` says whether a line should lead to it, as it is not beside its mark."""

    x: float
    y: float
    anchor: str
    leader: bool
    box: Box
    distance: float


def place_labels(marks: Sequence[Mark], frame: Box) -> list[Label]:
    """For each mark the label that overlaps least with marks, bars and other labels."""
    bodies: list[Box] = [(mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6) for mark in marks]
    bars: list[Box] = [
        (mark.x - 1, mark.high, mark.x + 1, mark.low)
        for mark in marks
        if mark.low is not None and mark.high is not None
    ]
    chosen: list[Label | None] = [None] * len(marks)
    for _ in range(ROUNDS):  # later rounds let the first labels answer to the later ones
        for i, mark in enumerate(marks):
            texts = [label.box for j, label in enumerate(chosen) if label is not None and j != i]

            def badness(label: Label, texts: Sequence[Box] = texts) -> float:
                hidden = 3 * _covered(label.box, texts) + 2 * _covered(label.box, bodies) + _covered(label.box, bars)
                return hidden + 50 * _outside(label.box, frame) + label.distance

            chosen[i] = min(_candidates(mark), key=badness)
    return [label for label in chosen if label is not None]


def side_by_side(positions: Sequence[float], apart: float = 10.0) -> list[float]:
    """Positions moved just so far that no two marks cover each other."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    clusters: list[list[int]] = []
    for i in order:
        if clusters and positions[i] - positions[clusters[-1][-1]] < apart:
            clusters[-1].append(i)
        else:
            clusters.append([i])
    moved = list(positions)
    for cluster in clusters:
        middle = sum(positions[i] for i in cluster) / len(cluster)
        if len(cluster) > 1:
            for place, i in enumerate(cluster):
                moved[i] = round(middle + (place - (len(cluster) - 1) / 2) * apart, 1)
    return moved


def _candidates(mark: Mark) -> Iterable[Label]:
    width = len(mark.name) * CHARACTER
    for up in (0, -11, 11, -20, 20, -32, 32, -46, 46, -60, 60):
        for beside in (9, 20, 36):
            for anchor, edge in (("start", mark.x + beside), ("end", mark.x - beside)):
                left = edge if anchor == "start" else edge - width
                y = mark.y + up + 4
                box = (left, y - ABOVE, left + width, y + BELOW)
                leader = abs(up) >= 20 or beside > 9
                yield Label(round(edge, 1), round(y, 1), anchor, leader, box, abs(up) * 0.8 + (beside - 9) * 0.8)


def _outside(box: Box, frame: Box) -> float:
    across = max(0.0, frame[0] - box[0]) + max(0.0, box[2] - frame[2])
    return across + max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])


def _covered(box: Box, others: Sequence[Box]) -> float:
    return sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in others
    )
