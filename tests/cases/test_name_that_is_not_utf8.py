"""Names of files that are not UTF-8, or that speak to terminals and spreadsheets: told, used, and written escaped."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cases.calling import foveate

NAMES = {
    "latin-1": (b"caf\xe9.png", r"caf\xe9"),
    "shift-jis": ("絵.png".encode("shift-jis"), r"\x8aG"),
    "an escape sequence and a line end": (b"\x1b[31mred\nline.png", r"\x1b[31mred\nline"),
}


def write_pictures(root: Path, name: bytes) -> Path:
    """Two classes of noise, one picture of which has an odd name."""
    random = np.random.default_rng(0)
    for split, count in ((b"train", 12), (b"val", 4), (b"test", 4)):
        for kind, value in ((b"a", 40), (b"=b", 180)):
            folder = os.path.join(os.fsencode(root), split, kind)  # noqa: PTH118  (bytes)
            os.makedirs(folder)  # noqa: PTH103
            for index in range(count):
                called = name if (split, kind, index) == (b"test", b"a", 0) else b"%d.png" % index
                with open(os.path.join(folder, called), "wb") as file:  # noqa: PTH118, PTH123
                    Image.fromarray((random.integers(0, 40, (24, 24)) + value).astype(np.uint8)).save(file, "PNG")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shown"), NAMES.values(), ids=NAMES)
def test_it_is_told_and_used_and_written_escaped(name, shown, tmp_path):
    data, run = write_pictures(tmp_path / "data", name), tmp_path / "run"
    settings = ("--network", "resnet_tiny", "--epochs", "1", "--set", "image_size=24", "--set", "threads=1")
    done = foveate("train", "--data", data, *settings, "--out", run)
    assert done.status == 0, done.errors
    told = next(line for line in done.errors.splitlines() if "written escaped, such as" in line)
    assert shown in told
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert any(shown in row["name"] for row in rows)
    assert {row["label"] for row in rows} == {"a", "'=b"}
    done = foveate("report", run)
    assert done.status == 0, done.errors
    page = (run / "report.html").read_bytes()
    assert b"\x1b" not in page
    page.decode()
    done = foveate("predict", run, data / "test" / "a", data / "test" / "=b", "--out", tmp_path / "out")
    assert done.status == 0, done.errors
    rows = (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 9
    assert any(shown in row for row in rows)


@pytest.mark.slow
def test_a_damaged_one_is_named_escaped_and_the_others_are_done(tmp_path):
    data = write_pictures(tmp_path / "data", b"0.png")
    run, out = tmp_path / "run", tmp_path / "out"
    foveate("train", "--data", data, "--network", "resnet_tiny", "--epochs", "1", "--out", run)
    (data / "test" / "a" / os.fsdecode(b"b\xe9\x1b[2J\nd.png")).write_bytes(b"nothing")
    done = foveate("predict", run, data / "test" / "a", "--out", out)
    assert done.status == 2
    assert [line for line in done.errors.splitlines() if "nd.png" in line]
    assert r"b\xe9\x1b[2J\nd.png" in done.errors
    assert "\x1b" not in done.errors
    assert len((out / "predictions.csv").read_text().splitlines()) == 5
