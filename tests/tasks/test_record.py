"""A run keeps what it began with, and says what differs when it is resumed or measured."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.data.contents import Content, contents_of
from foveate.errors import DataError, RunError
from foveate.tasks import files, keeper, record
from foveate.tasks.config import RunConfig, config_for
from foveate.tasks.record import Guard, check_split, known_samples, make_record, read_record, write_record
from foveate.tasks.run import evaluate, train


def write(root: Path, count: int = 8) -> Path:
    for seed, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng([seed, index]).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def small(data: Path) -> RunConfig:
    config = config_for(str(data), network="resnet_tiny", epochs=2, augment="none", device="cpu")
    assert isinstance(config, RunConfig)
    return config


class Break(BaseException):
    pass


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted after its first checkpoint."""
    save = keeper.Keeper._save

    def save_and_break(self: keeper.Keeper, trainer: object) -> None:
        save(self, trainer)  # pyright: ignore[reportArgumentType]
        raise Break

    data = write(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        patch.setattr(keeper, "SAVE_SHARE", 1e9)
        patch.setattr(keeper.Keeper, "_save", save_and_break)
        with pytest.raises(Break):
            train(small(data), tmp_path / "run")
    return tmp_path


def swap(data: Path) -> None:
    for name in ("0", "1"):
        one, other = data / "a" / f"{name}.png", data / "b" / f"{name}.png"
        one.rename(data / "kept.png")
        other.rename(one)
        (data / "kept.png").rename(other)


def edit(data: Path) -> None:
    for path in sorted(data.rglob("*.png"))[:3]:
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def shrink(data: Path) -> None:
    for path in data.rglob("*.png"):
        Image.open(path).resize((7, 7)).save(path)


def lose(data: Path) -> None:
    (data / "a" / "3.png").unlink()


def add(data: Path) -> None:
    Image.new("L", (8, 8), 9).save(data / "a" / "more.png")


@pytest.mark.parametrize("change", [swap, edit, shrink, lose, add])
def test_data_that_changed_are_refused_unless_they_are_accepted(broken: Path, change):
    change(broken / "data")
    with pytest.raises(DataError, match=r"the data of .*run changed since it began: in (train|val|test) \d+ of \d+ .*"):
        train(small(broken / "data"), broken / "run")
    assert train(small(broken / "data"), broken / "run", accept_changed_data=True).resumed == 1
    assert evaluate(broken / "run", device="cpu")["samples"]["test"] == 2


def test_the_same_data_are_resumed_and_measured(broken: Path):
    for path in (broken / "data").rglob("*.png"):
        path.touch()  # the time counts only where not all bytes are read
    assert train(small(broken / "data"), broken / "run").resumed == 1
    assert evaluate(broken / "run", device="cpu")["samples"] == {"test": 2}
    edit(broken / "data")
    with pytest.raises(
        DataError, match=r"in train \d of 12 with other contents, such as a/\d\.png; accept it with --acc"
    ):
        evaluate(broken / "run", split="train", device="cpu")
    assert evaluate(broken / "run", split="train", device="cpu", accept_changed_data=True)["samples"] == {"train": 12}


def test_settings_that_were_edited_are_refused(broken: Path):
    train(small(broken / "data"), broken / "run")
    held = json.loads((broken / "run" / files.CONFIG).read_text())
    (broken / "run" / files.CONFIG).write_text(json.dumps(held | {"fit": "pad", "num_workers": 1}))
    with pytest.raises(RunError, match=r"config\.json changed since the run began: fit was None and is 'pad'; accept"):
        evaluate(broken / "run", device="cpu")


def contents(root: Path, **texts: str) -> list[Content]:
    for name, text in texts.items():
        (root / name).write_text(text)
    return [Content(name, "x", (root / name,)) for name in texts]


def test_each_difference_is_named(tmp_path: Path):
    config = small(tmp_path)
    then = {
        "train": contents(tmp_path, a="1", b="2"),
        "val": contents(tmp_path, c="3"),
        "test": contents(tmp_path, d="4"),
    }
    kept = make_record(config, {}, then)
    now = [
        *contents(tmp_path, b="2"),
        Content("d", "y", contents(tmp_path, d="44")[0].files),
        *contents(tmp_path, e="1"),
    ]
    said = (
        "1 of 3 new, such as e; 1 of 3 of another split of the run, such as b; "
        "2 of 3 with contents that the run learned from, such as b; 1 of 3 with another label, such as d; "
        "1 of 3 with another size, such as d; 1 of 3 with other contents, such as d"
    )
    with pytest.raises(DataError, match=f"in test {said}; accept"):
        check_split(tmp_path, kept, "test", now, accept=False)
    check_split(tmp_path, kept, "test", now, accept=True)
    check_split(tmp_path, kept, "test", contents(tmp_path, d="4"), accept=False)


@pytest.mark.parametrize(("limits", "depth"), [((2, 100), "ends"), ((2, 1), "times")])
def test_large_data_are_known_by_their_ends_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], depth: str
):
    monkeypatch.setattr(record, "WHOLE", limits[0])
    monkeypatch.setattr(record, "MANY", limits[1])
    held = contents(tmp_path, a="123", b="456")
    kept = make_record(small(tmp_path), {}, {"train": held, "val": [], "test": []})
    assert kept.depth == depth
    write_record(tmp_path, kept)
    assert read_record(tmp_path) == kept
    check_split(tmp_path, kept, "train", held, accept=False)
    assert known_samples(kept, held) == ({0: "train", 1: "train"} if depth == "ends" else {})
    os.utime(tmp_path / "a", (1, 1))
    with pytest.raises(DataError, match="in train 1 of 2 with another time of change, such as a; accept"):
        check_split(tmp_path, kept, "train", held, accept=False)


def test_a_record_that_no_run_wrote_is_refused(tmp_path: Path):
    for content in ("[]", '{"settings": {}, "read": {}, "depth": "whole", "samples": {"train": {"a": 1}}}'):
        (tmp_path / files.RECORD).write_text(content)
        with pytest.raises(RunError, match=r"data\.json must hold .*; it does not$"):
            Guard(tmp_path)
    (tmp_path / files.RECORD).write_text("{")
    with pytest.raises(DataError, match=r"data\.json is damaged and cannot be read"):
        Guard(tmp_path)


def test_pairs_of_sentences_are_known_by_their_words():
    (first, second) = contents_of([("one", "eins"), ("two", "zwei")])
    assert (first.value, second.name) == (b"one\neins", "1")
