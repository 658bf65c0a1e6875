"""Text of unknown origin on terminals, pages and in spreadsheets."""

import csv
import io
from pathlib import Path

import pytest

from foveate.escaping import TableWriter, note_on_names, plain_cell, printable

SHOWN = {
    "caf\udce9.png": r"caf\xe9.png",
    "\x1b[31mred": r"\x1b[31mred",
    "one\ntwo\rthree\tfour": r"one\ntwo\rthree\tfour",
    "\u202egnp.exe": r"\u202egnp.exe",
    "a\u2028b\u2029c": r"a\u2028b\u2029c",
    "\x9b2J": r"\x9b2J",
    "\ud83d alone": r"\ud83d alone",
    "\U000e0041tag": r"\U000e0041tag",
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.items(), ids=map(str, range(len(SHOWN))))
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str):
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["", "a b", "grün", "日本語", "👩\u200d⚕️", "नी\u200dल", "a\\b", "100\xa0%"])
def test_everything_else_stays(text: str):
    assert printable(text) == text


def written(*cells: object) -> list[str]:
    text = io.StringIO()
    TableWriter(text).writerow(cells)
    return next(csv.reader(io.StringIO(text.getvalue())))


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "  =1", "\uff1d1", "-", "=", "+1_000", "-nan"])
def test_a_text_that_a_spreadsheet_would_run_is_guarded(text: str):
    (cell,) = written(text)
    assert cell == f"'{text}"
    assert plain_cell(cell) == text


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1"])
def test_tabs_and_line_ends_are_escaped_before(text: str):
    assert written(text)[0].startswith("\\")


@pytest.mark.parametrize("cell", [-1, -0.5, "-0.5", "+1", "-1e-05", "1", "a=b", "it's", "'quoted'", "", None, "-inf"])
def test_numbers_and_plain_texts_stay(cell: object):
    assert written(cell) == ["" if cell is None else str(cell)]
    assert plain_cell(str(cell)) == str(cell)


def test_odd_names_are_told():
    assert note_on_names(["a.png", "b"]) == ()
    (note,) = note_on_names(["a.png", "caf\udce9.png", "\x07"])
    assert note == (r"2 names that are not UTF-8 or hold control characters are written escaped, such as caf\xe9.png")


def test_every_table_is_written_by_the_guarded_writer():
    sources = (Path(__file__).parents[1] / "src" / "foveate").rglob("*.py")
    assert [path.name for path in sources if "csv.writer(" in path.read_text()] == ["escaping.py"]
