"""Charts as plain numbers: every position is computed here, and templates/charts.html.j2 only writes the SVG.

Colours are named by class, so that the style sheet gives them a light and a dark value; each arm also has a marker
of its own shape, so that no colour has to be told from another.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.ticker import LogLocator, MaxNLocator

from foveate.report.labels import CHARACTER, Label, Mark, place_labels, side_by_side

__all__ = [
    "CONTROLS",
    "Axis",
    "Dots",
    "Entry",
    "Lines",
    "Point",
    "Scatter",
    "Style",
    "dots",
    "lines",
    "scatter",
    "styles",
]

CONTROLS = {
    "placebo": "a gate held at one in the same places, which shows what inserting alone does",
    "wider": "no mechanism but a host widened to the parameters of the largest arm, which shows what size alone does",
}
MARKERS = {
    "circle": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "square": "M-4 -4h8v8h-8z",
    "up": "M0 -5.2l5 8.8h-10z",
    "diamond": "M0 -5.6l5.6 5.6l-5.6 5.6l-5.6 -5.6z",
    "down": "M0 5.2l5 -8.8h-10z",
    "plus": "M-1.7 -5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "cross": "M-5 -2.6l2.4-2.4l2.6 2.6l2.6-2.6l2.4 2.4l-2.6 2.6l2.6 2.6l-2.4 2.4l-2.6-2.6l-2.6 2.6l-2.4-2.4l2.6-2.6z",
    "star": "M0 -6l1.6 3.9l4.2 .3l-3.2 2.7l1 4.1l-3.6 -2.2l-3.6 2.2l1 -4.1l-3.2 -2.7l4.2 -.3z",
}
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "2 2 6 2", "1 4")


@dataclass(frozen=True)
class Style:
    """How an arm is drawn, in every chart alike."""

    colour: str  # a class of the style sheet
    marker: str  # an SVG path around the origin
    dash: str
    hollow: bool


@dataclass(frozen=True)
class Axis:
    """Ticks as (position in the chart, text)."""

    ticks: tuple[tuple[float, str], ...]
    title: str


@dataclass(frozen=True)
class Entry:
    """What is known of an arm: its cost, its quality with an interval, and both in words."""

    arm: str
    cost: float
    quality: float
    low: float | None
    high: float | None
    hint: str


@dataclass(frozen=True)
class Point:
    """An arm in a scatter chart. A bar without an end at its low or its high side goes on beyond the chart."""

    mark: Mark
    style: Style
    label: Label
    low_ends: bool
    high_ends: bool
    hint: str


@dataclass(frozen=True)
class Scatter:
    """Quality against a cost."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x_axis: Axis
    y_axis: Axis
    points: tuple[Point, ...]
    reference: float | None


@dataclass(frozen=True)
class Lines:
    """Training curves of one arm: each seed, their mean, and the mean of the baseline. All are SVG point lists."""

    name: str
    style: Style
    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x_axis: Axis
    y_axis: Axis
    seeds: tuple[str, ...]
    mean: str
    reference: str
    ends: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Dots:
    """A row an arm: filled marks for the network, hollow ones for the mechanism, a line at chance."""

    width: float
    height: float
    left: float
    right: float
    x_axis: Axis
    chance: float | None
    rows: tuple["DotRow", ...]


@dataclass(frozen=True)
class DotRow:
    """One arm's positions along the axis."""

    name: str
    style: Style
    y: float
    network: float | None
    mechanism: float | None
    network_seeds: tuple[float, ...]
    mechanism_seeds: tuple[float, ...]
    hint: str


def styles(arms: Sequence[str], baseline: str) -> dict[str, Style]:
    """A style for each arm: the baseline in ink, controls in grey, mechanisms in colours."""
    drawn: dict[str, Style] = {}
    shapes, count = list(MARKERS.values()), 0
    for arm in arms:
        if arm == baseline:
            drawn[arm] = Style("ink", MARKERS["circle"], "", False)
        elif arm in CONTROLS:
            drawn[arm] = Style("control", MARKERS["square" if arm == "wider" else "circle"], "2 3", True)
        else:
            shape = shapes[(count + 1) % len(shapes)]
            drawn[arm] = Style(f"hue{count % 8}", shape, DASHES[count % len(DASHES)], count >= len(shapes))
            count += 1
    return drawn


@dataclass(frozen=True)
class _Scale:
    """From values to positions. `log` scales by ratios."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def clipped(self, entry: Entry) -> tuple[float | None, float | None]:
        """The ends of an entry's interval, as far as the chart goes."""
        if entry.low is None or entry.high is None:
            return None, None
        return self(max(entry.low, self.low)), self(min(entry.high, self.high))

    def axis(self, title: str, factor: float = 1.0, bins: int = 5, *, whole: bool = False) -> Axis:
        steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
        locator = LogLocator(subs=(1, 2, 5)) if self.log else MaxNLocator(bins, steps=steps, integer=whole)
        values = locator.tick_values(self.low * factor, self.high * factor)
        inside = [float(value) for value in values if self.low * factor <= value <= self.high * factor]
        return Axis(tuple((self(value / factor), _short(value)) for value in inside), title)


def scatter(
    entries: Sequence[Entry],
    style: dict[str, Style],
    titles: tuple[str, str],
    *,
    factor: float,
    baseline: str,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Scatter | None:
    """Qualities against costs; `factor` turns a quality, which lies within `bounds`, into what its axis counts in."""
    if not entries:
        return None
    left, top, right, bottom = 52.0, 14.0, 444.0, 292.0
    costs = [entry.cost for entry in entries]
    log = min(costs) > 0 and max(costs) > 8 * min(costs)
    x = _Scale(*_padded(costs, 0.1, log), left, right, log)
    y = _Scale(*_quality_range(entries, bounds), bottom, top)
    across = side_by_side([x(entry.cost) for entry in entries])
    marks = [
        Mark(entry.arm, at, y(entry.quality), *y.clipped(entry)) for at, entry in zip(across, entries, strict=True)
    ]
    labels = place_labels(marks, (left, top, right + 24, bottom))
    points = tuple(
        Point(
            mark,
            style[entry.arm],
            label,
            entry.low is not None and y.low <= entry.low,
            entry.high is not None and entry.high <= y.high,
            entry.hint,
        )
        for entry, mark, label in zip(entries, marks, labels, strict=True)
    )
    reference = next((mark.y for mark in marks if mark.name == baseline), None)
    axes = x.axis(titles[0]), y.axis(titles[1], factor)
    return Scatter(460.0, 340.0, left, top, right, bottom, *axes, points, reference)


def _quality_range(entries: Sequence[Entry], bounds: tuple[float, float]) -> tuple[float, float]:
    """A range in which the means can be told apart: very wide intervals leave it, and none leaves what is possible."""
    means = [entry.quality for entry in entries]
    reaches = sorted(entry.high - entry.low for entry in entries if entry.low is not None and entry.high is not None)
    room = max(max(means) - min(means), 0.75 * reaches[len(reaches) // 2] if reaches else 0.0)
    ends = [end for entry in entries for end in (entry.low, entry.high) if end is not None]
    low, high = _padded([*means, *ends], 0.05)
    lowest, highest = max(bounds[0], min(means) - room), min(bounds[1], max(means) + room)
    return (max(low, lowest), min(high, highest)) if lowest < highest else (low, high)


def lines(
    arms: dict[str, list[list[tuple[float, float]]]],
    style: dict[str, Style],
    titles: tuple[str, str],
    *,
    factor: float,
    baseline: str,
    log: bool = False,
) -> list[Lines]:
    """One panel an arm, all on the same axes. Each arm's curves: a list of (x, y) for each seed; `log` scales x."""
    everything = [point for curves in arms.values() for curve in curves for point in curve]
    if not everything:
        return []
    width, height, left, top, right, bottom = 250.0, 172.0, 40.0, 8.0, 242.0, 142.0
    xs, ys = [point[0] for point in everything], [point[1] for point in everything]
    x = _Scale(*_padded(xs, 0.02, log), left, right, log)
    y = _Scale(*_padded(ys, 0.05), bottom, top)
    reference = _polyline(_mean(arms.get(baseline, [])), x, y)
    whole = all(value == int(value) for value in xs) and min(xs) < max(xs)
    panels = []
    for arm, curves in arms.items():
        mean = _mean(curves)
        ends = tuple((x(curve[-1][0]), y(curve[-1][1])) for curve in curves if curve)
        last = f"{mean[-1][1] * factor:.{1 if factor > 1 else 3}f}" if mean else ""
        drawn = tuple(_polyline(curve, x, y) for curve in curves)
        axes = x.axis(titles[0], bins=4, whole=whole), y.axis(titles[1], factor, bins=4)
        against = "" if arm == baseline else reference
        mean_line = _polyline(mean, x, y)
        panels.append(
            Lines(
                arm, style[arm], width, height, left, top, right, bottom, *axes, drawn, mean_line, against, ends, last
            )
        )
    return panels


def dots(
    entries: Iterable[tuple[str, Sequence[float], Sequence[float]]],
    style: dict[str, Style],
    chance: float | None,
    title: str,
) -> Dots | None:
    """Entries are (arm, pointing accuracy of the network for each seed, of the mechanism for each seed)."""
    kept = [entry for entry in entries if entry[1] or entry[2]]
    if not kept:
        return None
    step, right = 30.0, 600.0
    left = max(104.0, 20 + CHARACTER * max(len(arm) for arm, *_ in kept))
    highest = max([chance or 0.0, *(value for entry in kept for values in entry[1:] for value in values)])
    x = _Scale(0.0, min(1.0, highest * 1.1) or 1.0, left, right)
    rows = []
    for i, (arm, network, mechanism) in enumerate(kept):
        means = [sum(values) / len(values) if values else None for values in (network, mechanism)]
        told = [
            f"{name} {mean:.1%}" for name, mean in zip(("network", "mechanism"), means, strict=True) if mean is not None
        ]
        positions = [None if mean is None else x(mean) for mean in means]
        seeds = [tuple(x(value) for value in values) for values in (network, mechanism)]
        rows.append(
            DotRow(arm, style[arm], 18 + i * step, positions[0], positions[1], seeds[0], seeds[1], ", ".join(told))
        )
    height = 18 + len(rows) * step + 34
    return Dots(620.0, height, left, right, x.axis(title, 100), None if chance is None else x(chance), tuple(rows))


def _padded(values: Sequence[float], share: float, log: bool = False) -> tuple[float, float]:
    """The range of values with a margin of `share` of it on both sides."""
    low, high = min(values), max(values)
    if log:
        margin = (high / low) ** share
        return low / margin, high * margin
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def _short(value: float) -> str:
    """A tick's text: 0.25, 180,000 or 25 M."""
    text = f"{value / 1e6:.4g} M" if abs(value) >= 1e6 else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _mean(curves: Sequence[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean curve, as far as every seed goes."""
    return [
        (sum(point[0] for point in points) / len(points), sum(point[1] for point in points) / len(points))
        for points in zip(*curves, strict=False)
    ]


def _polyline(curve: Sequence[tuple[float, float]], x: _Scale, y: _Scale) -> str:
    return " ".join(f"{x(a):g},{y(b):g}" for a, b in curve)
