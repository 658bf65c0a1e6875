"""The encodings of text files."""

from pathlib import Path

import pytest

from foveate.data.encoding import decode, decode_lines
from foveate.errors import DataError

LINES = ["the man sees the house", "Grüße aus Köln", "本はどこですか", "a dog"]
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
MARKED = {
    **{name: "\n".join(LINES).encode(name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-32")},
    "utf-16-be with a mark": "\ufeff".encode("utf-16-be") + "\r\n".join(LINES).encode("utf-16-be"),
    "utf-32-be with a mark": "\ufeff".encode("utf-32-be") + "\r\n".join(LINES).encode("utf-32-be"),
}


@pytest.mark.parametrize("content", MARKED.values(), ids=MARKED)
def test_a_mark_says_the_encoding(content: bytes):
    assert decode_lines(content, Path("train.en")) == LINES
    assert decode(content, Path("train.en")).split() == " ".join(LINES).split()


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("lines", [["plain"] * 4, ["本はどこですか、駅の近くにありますか"] * 20, LINES])
def test_without_a_mark_wide_text_is_refused(lines: list[str], codec: str):
    told = r"^train\.en must be UTF-8; got UTF-16 or UTF-32 without a byte order mark: it has NUL bytes$"
    with pytest.raises(DataError, match=told):
        decode_lines("".join(f"{line}\n" for line in lines).encode(codec), Path("train.en"))


@pytest.mark.parametrize(
    ("content", "name"), [(b"\xff\xfea\0b", "UTF-16"), (b"\xff\xfe\0\0a\0\0\0\xff\xff\xff\xff", "UTF-32")]
)
def test_wide_text_that_is_cut_or_damaged_is_refused(content: bytes, name: str):
    with pytest.raises(DataError, match=f"^train.en has the byte order mark of {name}, but is damaged: "):
        decode_lines(content, Path("train.en"))


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "cp437"])
def test_lines_of_another_encoding_are_refused(codec: str):
    lines = [f"Zeile {number} ist gr\u00fcn" if number % 3 else f"line {number}" for number in range(30)]
    told = r"^train\.de must be UTF-8; got another encoding, such as Latin-1 .*, in 20 of its 30 lines, .* is line 2$"
    with pytest.raises(DataError, match=told):
        decode_lines("\n".join(lines).encode(codec), Path("train.de"))


def test_a_few_damaged_lines_among_good_ones_are_left_to_the_caller():
    content = "\n".join(["Grüße"] * 20).encode() + b"\nf\xfcnf" * 4
    assert decode_lines(content, Path("train.de")).count(None) == 4


def test_lines_that_end_in_a_lone_carriage_return_are_refused():
    told = r"^train\.en must have lines that end in \\n or \\r\\n; got 3 lone carriage returns \(\\r\)$"
    for content in (b"one\rtwo\rthree\r", b"one\rtwo\rthree\rfour\n"):
        with pytest.raises(DataError, match=told):
            decode_lines(content, Path("train.en"))


def test_a_text_that_is_not_utf_8_is_refused_whole():
    with pytest.raises(DataError, match=r"^a\.json must be UTF-8; got 0xfc at byte 3$"):
        decode(b'{"gr\xfcn": 1}'[1:], Path("a.json"))
