"""The curve of found lesions over false positives, out of the file of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from foveate.report.froc import froc_curve

HEAD = "score,false_positives,sensitivity\n"


@dataclass
class Folder:
    """A run as far as its curve is concerned."""

    path: Path


def curve(folder: Path, content: str | bytes) -> list[tuple[float, float]]:
    (folder / "froc.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    run: Any = Folder(folder)
    return froc_curve(run)


def test_a_curve_has_at_each_rate_the_sensitivity_of_the_lowest_score_that_leaves_so_few(tmp_path: Path):
    found = curve(tmp_path, f"{HEAD}0.9,0,0.25\n0.8,0.5,0.5\n0.3,3,0.75\n0.1,20,1\n")
    assert [rate for rate, _ in found][::4] == [0.125, 0.25, 0.5, 1, 2, 4, 8, 16]
    at = dict(found)
    assert (at[0.125], at[0.25], at[0.5], at[2], at[4], at[16]) == (0.25, 0.25, 0.5, 0.5, 0.75, 0.75)
    assert [share for _, share in found] == sorted(share for _, share in found)


def test_nothing_is_found_below_the_first_false_positive(tmp_path: Path):
    assert dict(curve(tmp_path, f"{HEAD}0.9,1,0\n0.8,1,0.5\n"))[0.5] == 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEAD,
        "a,b\n1,2\n",
        f"{HEAD}0.5\n",
        f"{HEAD}0.5,many,0.5\n",
        f"{HEAD}0.5,0,nan\n",
        f"{HEAD}0.5,0,inf\n",
        f"{HEAD}0.5,nan,0.5\n",
        b"\xff\xfe\x00\x00",
    ],
)
def test_what_cannot_be_read_has_no_curve(tmp_path: Path, content: str | bytes):
    assert curve(tmp_path, content) == []


def test_a_run_without_the_file_has_no_curve(tmp_path: Path):
    run: Any = Folder(tmp_path)
    assert froc_curve(run) == []
