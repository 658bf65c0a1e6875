"""A study of clips on the page: sheets of frames, what frames give to each other, and words that fit."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.report import figures, write_report
from foveate.report.figures import styles
from foveate.report.looks import Looks, looks_of_run, looks_of_study
from foveate.report.read import read_maps, read_run, read_study
from foveate.report.words import words_for

ROWS, COLUMNS = 2, 4
TWO = np.array([[0.75, 0.25], [0.25, 0.75]], np.float32)


def on_sheets(run: Path, between: dict[str, np.ndarray]) -> None:
    """Make the maps of a run those of clips of eight frames, all alike, and add what frames give to each other."""
    index = json.loads((run / "maps" / "maps.json").read_text())
    arrays = dict(np.load(run / "maps" / "maps.npz"))
    boxes = [sample["box_xyxy"] for sample in index["samples"]]
    height, width = index["image_size"]
    truth = np.zeros((len(boxes), height, width), np.uint8)
    for place, (x0, y0, x1, y1) in zip(truth, boxes, strict=True):
        place[y0:y1, x0:x1] = 1
    arrays["truth"] = np.tile(truth, (1, ROWS, COLUMNS))
    arrays["images"] = np.tile(arrays["images"], (1, ROWS, COLUMNS, 1))
    for entry in index["maps"]:
        if entry["kind"] != "channel_profile":
            arrays[entry["key"]] = np.tile(arrays[entry["key"]], (1, ROWS, COLUMNS))
        if entry["kind"] == "rows":
            entry["point"] = [[(1 + y) / ROWS, x / COLUMNS] for y, x in entry["point"]]
            values = arrays[entry["key"]]
            values[:, : values.shape[1] // 2] = np.nan  # of the frames in the upper row it sees nothing
    for tap, values in between.items():
        arrays[f"time {tap}"] = values.astype(np.float32)
        index["maps"].append({"tap": tap, "kind": "frames", "key": f"time {tap}"})
    for sample in index["samples"]:
        sample["box_xyxy"] = None
    index |= {"frames": ROWS * COLUMNS, "image_size": [ROWS * height, COLUMNS * width]}
    np.savez(run / "maps" / "maps.npz", **arrays)  # pyright: ignore[reportArgumentType]
    (run / "maps" / "maps.json").write_text(json.dumps(index))


@pytest.fixture
def clips(study: Path) -> Path:
    """The study as one of clips; nonlocal and, to have both, cbam say what frames give to each other."""
    random = np.random.default_rng(0)
    for arm in ("none", "cbam", "nonlocal", "se", "eca", "eca-spatial", "bam", "placebo", "wider"):
        between = {}
        if arm in ("cbam", "nonlocal"):
            weights = 1 + random.random((2, 8, 8))
            weights /= weights.sum(axis=2, keepdims=True)
            between = {f"layer{stage}.0.mechanism.weights": each for stage, each in zip((2, 3), weights, strict=True)}
        on_sheets(study / "runs" / arm / "seed0", between)
    return study


def looks(study: Path) -> Looks:
    read = read_study(study)
    return looks_of_study({arm: read.finished(arm) for arm in read.arms}, styles(read.arms, "none"))


def test_what_frames_give_to_each_other_is_told_arm_by_arm(clips: Path) -> None:
    seen = looks(clips)
    assert [column.title for column in seen.times] == ["cbam", "nonlocal"]
    (_, nonlocal_) = seen.times
    assert [layer.short for layer in nonlocal_.layers] == ["layer2.0", "layer3.0"]
    drawn = nonlocal_.layers[0].drawn
    assert (drawn.channels, drawn.drawn_classes) == (8, 8)
    assert re.fullmatch(
        r"weight 0\.0\d+ \N{EN DASH} 0\.1\d*; 1[1-4]\N{NO-BREAK SPACE}% within the frame that asks",
        nonlocal_.layers[0].caption,
    )
    assert nonlocal_.layers[0].alt.startswith(
        "What frames give to each other in nonlocal, layer2.0.mechanism.weights: w"
    )
    # Matrices of frames are no channel profiles, and stand with no arm's maps.
    assert [column.title for column in seen.profiles] == ["se", "eca", "eca-spatial", "cbam", "bam"]
    assert len(seen.own) == 4
    assert seen.problems == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (TWO, "75\N{NO-BREAK SPACE}% within the frame that asks"),
        (np.ones((2, 3)), None),  # of other frames than those that ask
        (TWO - 0.5, None),  # no shares: dot products may be negative
        (np.zeros((2, 2)), None),
    ],
)
def test_shares_are_told_of_what_has_shares(study: Path, values: np.ndarray, told: str | None) -> None:
    on_sheets(study / "runs" / "se" / "seed0", {"tap": values})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (column,) = looks_of_run(read_run(study / "runs" / "se" / "seed0")).times
    caption = column.layers[0].caption
    assert caption.partition("; ")[2] == (told or "")
    assert "nan" not in caption


def test_samples_are_wide_and_outlined_in_every_frame(clips: Path) -> None:
    seen = looks(clips)
    assert (seen.wide, seen.outlined, seen.placed, seen.pointed) == (True, True, False, True)
    assert all(picture.ratio == 2 and picture.outline for picture in seen.pictures)
    assert not looks_of_run(read_run(clips / "runs" / "cbam" / "seed1")).wide
    point = next(column for column in seen.own if column.title == "nonlocal").layers[0].cells[0].point
    assert point is not None
    assert point[0] < 25
    assert point[1] > 50


def test_maps_of_another_shape_are_told(clips: Path) -> None:
    run = clips / "runs" / "nonlocal" / "seed0"
    arrays = dict(np.load(run / "maps" / "maps.npz"))
    arrays["time layer2.0.mechanism.weights"] = np.zeros((2, 8, 8))
    np.savez(run / "maps" / "maps.npz", **arrays)  # pyright: ignore[reportArgumentType]
    maps = read_maps(read_run(run))
    assert maps is not None
    assert len(maps.problems) == 1
    assert "of tap 'layer2.0.mechanism.weights' is missing from maps.npz or has another shape" in maps.problems[0]


def test_clips_are_called_clips_and_pictures_pictures(clips: Path) -> None:
    seen, unseen = read_run(clips / "runs" / "se" / "seed0"), read_run(clips / "runs" / "se" / "seed1")
    words = words_for("classify", [unseen, seen])
    assert (words.samples, words.one, words.many) == ("videos", "clip", "clips")
    assert words_for("classify", [unseen]).samples == "pictures"
    assert words_for("segment", [seen]).samples == "cases"


@pytest.mark.slow
def test_the_page_says_where_it_looks_in_time_and_speaks_of_clips(clips: Path) -> None:
    text = write_report(clips).read_text(encoding="utf-8")
    assert "Where it looks in time" in text
    assert "Videos: train, validation, test" in text
    assert "share of videos, %" in text
    assert "test videos does the maximum of the map lie" in text
    assert "the row of weights with which the marked position reads all others" in text
    assert "border of the truth" in text
    assert re.findall(r"[^.>]*\bpictures?\b[^.<]*", re.sub(r"<(style|script).*?</\1>", "", text, flags=re.S)) == [
        "Map over picture "
    ]
    layers = json.loads(re.search(r'id="layers"[^>]*>(.*?)</script>', text, re.S)[1])  # pyright: ignore[reportOptionalSubscript]
    assert [len(column) for column in layers["times"]] == [2, 2]
    assert len(layers["profiles"]) == 5
    text = write_report(clips / "runs" / "nonlocal" / "seed0").read_text(encoding="utf-8")
    assert "Where it looks in time" in text
    assert "Test videos by true class" in text


@pytest.mark.slow
def test_a_layer_in_time_can_be_chosen_beside_channel_profiles(clips: Path) -> None:
    from tests.report.test_browser import CHROMIUM, ask, complaints

    if CHROMIUM is None:
        pytest.skip("no Chromium is installed, so the page is not looked at in a browser")
    script = """
        const told = {};
        for (const kind of ["times", "profiles"]) {
          const figure = page.querySelector(`[data-kind="${kind}"][data-arm="cbam"]`);
          const look = () => [figure.querySelector(".heat img").alt, figure.querySelector(".caption").textContent];
          const select = figure.querySelector("select");
          told[kind] = [look()];
          select.value = "0";
          select.dispatchEvent(new Event("change"));
          told[kind].push(look());
        }
        return told;
    """
    told, log = ask(clips, script)
    starts = {"times": "What frames give to each other in cbam, layer", "profiles": "Mean gate of cbam, layer"}
    ends = {"times": ("3", "2"), "profiles": ("4", "1")}
    for kind, states in told.items():
        for (alt, _), end in zip(states, ends[kind], strict=True):
            assert alt.startswith(starts[kind] + end)
        assert states[0][1] != states[1][1]
    assert complaints(log) == []


def test_long_names_of_arms_have_room_beside_the_dots() -> None:
    def drawn(*arms: str) -> figures.Dots:
        chart = figures.dots([(arm, [0.5], []) for arm in arms], styles(arms, "none"), None, "share")
        assert chart is not None
        return chart

    assert drawn("none", "nonlocal").left == 104
    long = "nonlocal:group=space:pool=before"
    assert drawn("none", long).left >= 6.6 * len(long) + 14
    assert drawn("none", long).right == drawn("none").right


def test_a_run_without_frames_has_no_times(study: Path) -> None:
    seen: Any = looks_of_run(read_run(study / "runs" / "nonlocal" / "seed0"))
    assert seen.times == ()
