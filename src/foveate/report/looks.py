"""Where each arm looks: columns of overlays on the same samples, and channel profiles, ready for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.report.figures import CONTROLS, Style
from foveate.report.overlays import WIDE, Overlay, Profile, largest_side, outline_uri, overlays, picture_uri, profile
from foveate.report.read import Map, Maps, Run, Sample, dig, number, read_maps
from foveate.report.tables import MINUS, percent

__all__ = ["Looks", "MapColumn", "Picture", "ProfileColumn", "looks_of_run", "looks_of_study"]

TRUE, PREDICTED = (255, 255, 255), (255, 61, 127)  # colours of outlines, as the style sheet's key has them
KINDS = {"spatial": "gates", "rows": "rows of weights", "weights": "weight of each place"}
TO = " \N{EN DASH} "


@dataclass(frozen=True)
class Picture:
    """A sample as the map tables show it. The box is in percent of the picture: left, top, width, height."""

    uri: str
    name: str
    label: str
    ratio: float
    small: bool  # few pixels: better drawn as the squares they are
    box: tuple[float, float, float, float] | None
    outline: str  # what is to be found in it, as a picture to lay over it; empty where that is not known


@dataclass(frozen=True)
class MapCell:
    """One overlay with the words that go with it."""

    uri: str
    range: str
    alt: str
    peak: tuple[float, float] | None  # left, top in percent
    point: tuple[float, float] | None
    inside: bool | None


@dataclass(frozen=True)
class Layer:
    """The maps of one tap; `short` leaves out what all taps of the arm have in common."""

    tap: str
    short: str
    cells: tuple[MapCell, ...]
    hits: str


@dataclass(frozen=True)
class MapColumn:
    """One arm's (or, for a single run, one tap's) column; the last of its layers is shown first."""

    title: str
    style: Style | None
    note: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class ProfileLayer:
    """The channel profile of one tap."""

    tap: str
    short: str
    drawn: Profile
    caption: str
    alt: str


@dataclass(frozen=True)
class ProfileColumn:
    """The channel profiles of one arm."""

    title: str
    style: Style | None
    layers: tuple[ProfileLayer, ...]


@dataclass(frozen=True)
class Looks:
    """Everything that is seen of attention."""

    pictures: tuple[Picture, ...] = ()
    classes: tuple[str, ...] = ()
    own: tuple[MapColumn, ...] = ()
    network: tuple[MapColumn, ...] = ()
    predicted: tuple[MapColumn, ...] = ()
    profiles: tuple[ProfileColumn, ...] = ()
    times: tuple[ProfileColumn, ...] = ()  # what the frames of a clip give to each other
    slices: tuple[ProfileColumn, ...] = ()  # what each sample gives to the slices of its bag
    without: tuple[str, ...] = ()  # arms that have no spatial map of their own
    seeds: str = ""
    problems: tuple[str, ...] = ()

    @property
    def placed(self) -> bool:
        """Whether any true place is known."""
        return any(picture.box is not None for picture in self.pictures)

    @property
    def outlined(self) -> bool:
        """Whether what is to be found in the pictures is outlined."""
        return any(picture.outline for picture in self.pictures)

    @property
    def wide(self) -> bool:
        """Whether samples are sheets of frames, which want room."""
        return any(picture.ratio > WIDE for picture in self.pictures)

    @property
    def pointed(self) -> bool:
        """Whether any map is a row of weights, which belongs to a point."""
        return any(cell.point is not None for column in self.own for layer in column.layers for cell in layer.cells)


def looks_of_study(arms: dict[str, list[Run]], style: dict[str, Style]) -> Looks:
    """The maps of each arm's first finished run that has some. Arms that saw other samples are told, not mixed in."""
    chosen: dict[str, tuple[Run, Maps]] = {}
    problems: list[str] = []
    for arm, runs in arms.items():
        for run in runs:
            maps = read_maps(run)
            told = ["it has no maps"] if maps is None else list(maps.problems)
            problems += [f"{arm}, seed {run.seed}: {sentence}" for sentence in told]
            if maps is not None and maps.samples and maps.maps:
                chosen[arm] = (run, maps)
                break
    if not chosen:
        return Looks(problems=tuple(problems))
    samples = next(iter(chosen.values()))[1].samples
    for arm in [arm for arm, (_, maps) in chosen.items() if _names(maps.samples) != _names(samples)]:
        problems.append(f"{arm} was looked at on other samples than the first arm, so its maps are left out")
        del chosen[arm]
    side = largest_side(maps for _, maps in chosen.values())
    own, network, predicted, profiles, times, slices, without = [], [], [], [], [], [], []
    for arm, (run, maps) in chosen.items():
        spatial, evidence, channels, predictions = _by_kind(maps.maps)
        if spatial:
            note = " and ".join(dict.fromkeys(KINDS[entry.kind] for entry in spatial))
            own.append(MapColumn(arm, style[arm], note, _layers(spatial, maps, side, run)))
        else:
            without.append(arm)
        if evidence:
            network.append(MapColumn(arm, style[arm], "", _layers(evidence, maps, side, run)))
        if predictions:
            predicted.append(MapColumn(arm, style[arm], "", _predicted(predictions, maps, arm)))
        if between := [entry for entry in maps.maps if entry.kind == "frames"]:
            times.append(ProfileColumn(arm, style[arm], _time_layers(between, arm)))
        if weighed := [entry for entry in maps.maps if entry.kind == "slices"]:
            slices.append(ProfileColumn(arm, style[arm], _slice_layers(weighed, arm)))
        if channels and arm not in CONTROLS:
            profiles.append(ProfileColumn(arm, style[arm], _profile_layers(channels, arm)))
    seeds = {run.seed for run, _ in chosen.values()}
    told = (
        f"seed {seeds.pop()}"
        if len(seeds) == 1
        else ", ".join(f"{arm}: seed {run.seed}" for arm, (run, _) in chosen.items())
    )
    return Looks(
        pictures=_pictures(samples),
        classes=next(iter(chosen.values()))[1].classes,
        own=tuple(own),
        network=tuple(network),
        predicted=tuple(predicted),
        profiles=tuple(profiles),
        times=tuple(times),
        slices=tuple(slices),
        without=tuple(without),
        seeds=told,
        problems=tuple(problems),
    )


def looks_of_run(run: Run) -> Looks:
    """The maps of one run, a column for each tap."""
    maps = read_maps(run)
    if maps is None or not maps.samples or not maps.maps:
        return Looks(problems=maps.problems if maps else ())
    side = largest_side([maps])
    spatial, evidence, channels, predictions = _by_kind(maps.maps)
    own, network = (
        tuple(
            MapColumn(short, None, "", _layers([entry], maps, side, run))
            for entry, short in zip(entries, _shortened([entry.tap for entry in entries]), strict=True)
        )
        for entries in (spatial, evidence)
    )
    profiles = (ProfileColumn(run.arm, None, _profile_layers(channels, run.arm)),) if channels else ()
    between = [entry for entry in maps.maps if entry.kind == "frames"]
    times = (ProfileColumn(run.arm, None, _time_layers(between, run.arm)),) if between else ()
    weighed = [entry for entry in maps.maps if entry.kind == "slices"]
    slices = (ProfileColumn(run.arm, None, _slice_layers(weighed, run.arm)),) if weighed else ()
    predicted = (MapColumn(run.arm, None, "", _predicted(predictions, maps, run.arm)),) if predictions else ()
    return Looks(
        pictures=_pictures(maps.samples),
        classes=maps.classes,
        own=own,
        network=network,
        predicted=predicted,
        profiles=profiles,
        times=times,
        slices=slices,
        seeds=f"seed {run.seed}",
        problems=maps.problems,
    )


def _names(samples: Sequence[Sample]) -> list[str]:
    return [sample.name for sample in samples]


def _by_kind(maps: Sequence[Map]) -> tuple[list[Map], list[Map], list[Map], list[Map]]:
    """The mechanism's own spatial maps, the network's, the channel profiles, and what was predicted."""
    return (
        [entry for entry in maps if entry.kind in KINDS],
        [entry for entry in maps if entry.kind == "network"],
        [entry for entry in maps if entry.kind == "channel_profile"],
        [entry for entry in maps if entry.kind == "prediction"],
    )


def _pictures(samples: Sequence[Sample]) -> tuple[Picture, ...]:
    pictures = []
    for sample in samples:
        height, width = sample.picture.shape[:2]
        box = sample.box
        drawn = None if box is None else (box[0] * 100, box[1] * 100, (box[2] - box[0]) * 100, (box[3] - box[1]) * 100)
        uri = picture_uri(sample.picture)
        outline = "" if sample.truth is None else outline_uri(sample.truth, TRUE)
        small = max(height, width) <= 64
        pictures.append(Picture(uri, sample.name, sample.label, width / height, small, drawn, outline))
    return tuple(pictures)


def _predicted(entries: Sequence[Map], maps: Maps, arm: str) -> tuple[Layer, ...]:
    """The outlines of what was predicted, each with what its run said of it."""
    return tuple(
        Layer(
            entry.tap,
            entry.tap,
            tuple(
                MapCell(outline_uri(classes, PREDICTED), told, f"{arm} on {sample.name}: {told}", None, None, None)
                for classes, sample in zip(entry.values, maps.samples, strict=True)
                for told in (sample.prediction,)
            ),
            "",
        )
        for entry in entries
    )


def _layers(entries: Sequence[Map], maps: Maps, side: int, run: Run) -> tuple[Layer, ...]:
    layers = []
    for entry, short in zip(entries, _shortened([entry.tap for entry in entries]), strict=True):
        drawn = overlays(entry, maps.samples, side)
        cells = tuple(
            _cell(overlay, sample, run.arm, entry.tap) for overlay, sample in zip(drawn, maps.samples, strict=True)
        )
        layers.append(Layer(entry.tap, short, cells, _hits(entry, drawn, run)))
    return tuple(layers)


def _hits(entry: Map, drawn: Sequence[Overlay], run: Run) -> str:
    """How often this map points at the true place: over the test pictures if the run says so, else over the samples.

    The run measures all rows of a non-local map together, so a single row is judged on the samples.
    """
    of_network = entry.kind == "network"
    measured = (
        dig(run.summary, "pointing", "network") if of_network else dig(run.summary, "pointing", "taps", entry.tap)
    )
    share = number(measured)
    if share is not None and entry.kind != "rows":
        return f"in place: {percent(share)} of test"
    judged = [overlay.inside for overlay in drawn if overlay.inside is not None]
    return f"in place: {sum(judged)} of {len(judged)}" if judged else ""


def _shortened(taps: Sequence[str]) -> list[str]:
    """Names of taps without the parts that only say how a mechanism is held, nor an end that all of them share."""
    parts = [[part for part in tap.split(".") if part not in ("inserted", "mechanism")] for tap in taps]
    while len(parts) > 1 and min(map(len, parts)) > 1 and _shared_word([names[-1] for names in parts]):
        parts = [names[:-1] for names in parts]
    short = [".".join(names) for names in parts]
    return short if len(set(short)) == len(taps) and all(short) else list(taps)


def _shared_word(ends: Sequence[str]) -> bool:
    """Whether all end alike, and not in the number of a block, which says where."""
    return len(set(ends)) == 1 and not ends[0].isdecimal()


def _cell(overlay: Overlay, sample: Sample, arm: str, tap: str) -> MapCell:
    flat = overlay.peak_x is None or overlay.peak_y is None
    told = f"flat at {overlay.low:.3g}" if flat else _range(overlay.low, overlay.high)
    place = {
        True: "its maximum lies in the true box",
        False: "its maximum lies outside the true box",
        None: "true place not known",
    }
    untold = flat or (overlay.inside is None and sample.truth is not None)
    alt = f"{arm}, {tap}, on {sample.name} ({sample.label}): {told}" + ("" if untold else f"; {place[overlay.inside]}")
    peak = None if overlay.peak_x is None or overlay.peak_y is None else (overlay.peak_x * 100, overlay.peak_y * 100)
    if tap == "network" and sample.prediction != sample.label:
        told += f", taken for {sample.prediction}"
    point = None if overlay.point is None else (overlay.point[1] * 100, overlay.point[0] * 100)
    return MapCell(overlay.uri, told, alt, peak, point, overlay.inside)


def _range(low: float, high: float) -> str:
    """From the lowest to the highest value, with as many digits as tell them apart; 0 beside something much larger."""
    size = max(abs(low), abs(high))
    decimals = 1 - math.floor(math.log10(high - low)) if high > low else 2
    form = f".{min(max(decimals, 1), 6)}f" if size > 1e-3 else ".2g"
    return TO.join("0" if abs(value) < size / 1000 else f"{value:{form}}" for value in (low, high)).replace("-", MINUS)


def _profile_layers(entries: Sequence[Map], arm: str) -> tuple[ProfileLayer, ...]:
    layers = []
    for entry, short in zip(entries, _shortened([entry.tap for entry in entries]), strict=True):
        drawn = profile(entry)
        told = f"{drawn.channels} channels, {_range(drawn.low, drawn.high)}; "
        told += f"on average a channel differs between classes by {drawn.spread:.2g}"
        alt = f"Mean gate of {arm}, {entry.tap}, for each class and channel: {told}"
        layers.append(ProfileLayer(entry.tap, short, drawn, told, alt))
    return tuple(layers)


def _time_layers(entries: Sequence[Map], arm: str) -> tuple[ProfileLayer, ...]:
    layers = []
    for entry, short in zip(entries, _shortened([entry.tap for entry in entries]), strict=True):
        drawn = profile(entry)
        told = f"weight {_range(drawn.low, drawn.high)}"
        if entry.values.shape[0] == entry.values.shape[1] and entry.values.min() >= 0 and entry.values.any():
            told += f"; {percent(float(entry.values.trace() / entry.values.sum()))} within the frame that asks"
        alt = f"What frames give to each other in {arm}, {entry.tap}: {told}"
        layers.append(ProfileLayer(entry.tap, short, drawn, told, alt))
    return tuple(layers)


def _slice_layers(entries: Sequence[Map], arm: str) -> tuple[ProfileLayer, ...]:
    layers = []
    for entry, short in zip(entries, _shortened([entry.tap for entry in entries]), strict=True):
        drawn = profile(entry)
        means = ", ".join(f"{mean:.2f}" for mean in entry.values.mean(axis=0))
        told = f"weight {_range(drawn.low, drawn.high)}; means of the slices: {means}"
        alt = f"How {arm}, {entry.tap}, weighs the slices of each bag: {told}"
        layers.append(ProfileLayer(entry.tap, short, drawn, told, alt))
    return tuple(layers)
