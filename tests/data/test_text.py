"""Files of sentences in two languages: what is read of them, how they are divided, and what is told."""

import gzip
import re
from pathlib import Path

import pytest

from foveate.data.text import Pair, open_split, open_text, read_lines
from foveate.errors import DataError

PAIRS = [(f"sentence {number}", f"Satz {number}") for number in range(7)]


def write(folder: Path, name: str, lines: list[str], ending: str = "\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = "".join(line + ending for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def write_pairs(folder: Path, split: str, pairs: list[Pair], end: str = "") -> Path:
    for language, lines in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        write(folder, f"{split}.{language}{end}", list(lines))
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with a file of every split in both languages."""
    for split, part in (("train", PAIRS[:4]), ("val", PAIRS[4:5]), ("test", PAIRS[5:])):
        write_pairs(tmp_path, split, part)
    return tmp_path


def test_every_split_is_read_from_its_files(text: Path):
    found = open_text(text, "en", "de")
    assert found.splits == {"train": PAIRS[:4], "val": PAIRS[4:5], "test": PAIRS[5:]}
    assert (found.root, found.source, found.target) == (str(text), "en", "de")
    assert (found.rule, found.findings) == ("as the files say", [])
    turned = open_text(text, "de", "en")
    assert turned.splits["test"] == [(target, source) for source, target in PAIRS[5:]]


def test_files_may_be_compressed_and_have_longer_names(tmp_path: Path):
    write_pairs(tmp_path, "train", PAIRS[:3], ".gz")
    write(tmp_path, "validation.tok.clean.en", ["five"])
    write(tmp_path, "valid.de.gz", ["fünf"])
    write(tmp_path, "test_2016_flickr.en", ["six"])
    write(tmp_path, "test-2016.de", ["sechs"])
    write(tmp_path, "README.txt", ["nothing to learn"])
    (tmp_path / "train.fr").mkdir()
    found = open_text(tmp_path, "en", "de")
    assert found.splits == {"train": PAIRS[:3], "val": [("five", "fünf")], "test": [("six", "sechs")]}
    write_pairs(tmp_path, "dev", PAIRS[4:])
    with pytest.raises(DataError, match=r" must hold one file of val in de; got dev\.de and valid\.de\.gz$"):
        open_text(tmp_path, "en", "de")


@pytest.mark.parametrize("content", [b"one\r\n two \r\n", b"\xef\xbb\xbfone\ntwo\n", b"one\ntwo"])
@pytest.mark.parametrize("name", ["train.en", "train.en.gz"])
def test_marks_of_files_are_no_part_of_sentences(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_lines(tmp_path / name) == ["one", "two"]


def test_lines_end_where_files_say(tmp_path: Path):
    path = tmp_path / "train.en"
    path.write_bytes("one\u2028two\x85three\rfour\n\n \n\n".encode())
    assert read_lines(path) == ["one\u2028two\x85three\rfour", "", "", ""]
    path.write_bytes(b"one\n ")
    assert read_lines(path) == ["one", ""]
    path.write_bytes(b"")
    assert read_lines(path) == []
    path.write_bytes(b"a\xff\nb\n")
    assert read_lines(path) == [None, "b"]


def test_lines_that_are_empty_or_not_text_are_left_out_on_both_sides_and_told(text: Path):
    (text / "train.en").write_bytes(b"one\n\nthree\nfo\xffur\nfive\n \n")
    (text / "train.de").write_bytes(b"eins\nzwei\n\nvier\nf\xfcnf\n\t\n")
    found = open_text(text, "en", "de")
    assert found.splits["train"] == [("one", "eins")]
    assert [str(finding) for finding in found.findings] == [
        "train: 3 empty lines, left out; the first: line 2 of train.en",
        "train: 2 lines that are not UTF-8, left out; the first: line 4 of train.en",
    ]
    write(text, "train.en", ["one", "two", "three"])
    write(text, "train.de", ["eins", "", "drei"])
    assert open_text(text, "en", "de").findings[0].first == "line 2 of train.de"


def test_where_no_file_is_for_val_sentences_of_train_are(tmp_path: Path):
    pairs = [(f"sentence {number % 50}", f"Satz {number}") for number in range(100)]  # each has two translations
    found = open_text(write_pairs(tmp_path, "train", pairs), "en", "de")
    assert found.rule == "val taken from train in the order of a hash of its sentences"
    assert list(found.splits) == ["train", "val", "test"]
    assert found.splits["test"] == []
    train, val = ({source for source, _ in found.splits[name]} for name in ("train", "val"))
    assert train & val == set()
    assert sorted(found.splits["train"] + found.splits["val"]) == sorted(pairs)
    # A pair in twenty; the same on every machine, in whatever order the lines stand.
    assert val == {"sentence 14", "sentence 30", "sentence 40"}
    assert len(found.splits["val"]) == 6
    again = open_text(write_pairs(tmp_path / "turned", "train", pairs[::-1]), "en", "de")
    assert sorted(again.splits["val"]) == sorted(found.splits["val"])


def test_at_most_so_many_pairs_are_taken_for_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_pairs(tmp_path, "train", [(str(number), str(number)) for number in range(100)])
    monkeypatch.setattr("foveate.data.text.MOST", 3)
    assert len(open_text(tmp_path, "en", "de").splits["val"]) == 3
    write_pairs(tmp_path, "train", PAIRS[:2])
    assert [len(pairs) for pairs in open_text(tmp_path, "en", "de").splits.values()] == [1, 1, 0]


def test_pairs_that_train_has_too_are_told_and_kept(text: Path):
    write_pairs(text, "test", [*PAIRS[2:4], ("sentence 1", "ein anderer"), PAIRS[6]])
    found = open_text(text, "en", "de")
    assert len(found.splits["test"]) == 4
    assert [str(finding) for finding in found.findings] == [
        "test: 2 pairs that train has too, kept; the first: sentence 2"
    ]


@pytest.mark.parametrize(("source", "target"), [(None, None), ("en", None), (None, "de"), ("en", "en")])
def test_both_languages_must_be_said(text: Path, source: str | None, target: str | None):
    told = f"^translating takes two languages, source and target; got {source} and {target}, and .* has de, en$"
    with pytest.raises(ValueError, match=told):
        open_text(text, source, target)


def test_a_folder_without_text_has_no_language(tmp_path: Path):
    with pytest.raises(ValueError, match=r"got None and None, and .* has none$"):
        open_text(tmp_path, None, None)
    with pytest.raises(DataError, match=r" must hold a file of train in en; it has none of that kind$"):
        open_text(tmp_path, "en", "de")
    with pytest.raises(
        DataError, match=r"^text is read from a folder of files such as train\.en and .*; .*gone is none$"
    ):
        open_text(tmp_path / "gone", "en", "de")


@pytest.mark.parametrize(
    ("name", "told"), [("train.de", "train in de"), ("val.en", "val in en"), ("test.de", "test in de")]
)
def test_a_language_that_is_missing_is_named(text: Path, name: str, told: str):
    (text / name).unlink()
    held = ", ".join(sorted(path.name for path in text.iterdir()))
    with pytest.raises(DataError, match=f"^{re.escape(str(text))} must hold a file of {told}; it has {held}$"):
        open_text(text, "en", "de")


def test_files_of_another_length_are_refused(text: Path):
    write(text, "val.de", ["Satz"] * 1234)
    told = f"^val.en and val.de must have as many lines as each other; got 1 and 1,234 in {re.escape(str(text))}$"
    with pytest.raises(DataError, match=told):
        open_text(text, "en", "de")


def test_damaged_and_missing_files_are_named(tmp_path: Path):
    path = tmp_path / "train.en.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 100)[:-9])
    with pytest.raises(DataError, match=r"train\.en\.gz is damaged and cannot be read: Compressed file ended before"):
        read_lines(path)
    path.write_bytes(b"one\n")
    with pytest.raises(DataError, match=r"train\.en\.gz is damaged and cannot be read: Not a gzipped file"):
        read_lines(path)
    with pytest.raises(DataError, match=r"train\.de does not exist$"):
        read_lines(tmp_path / "train.de")


def test_there_must_be_something_to_learn_and_to_validate_with(text: Path):
    write(text, "val.en", [""])
    told = " has no pair of sentences in its val split; val: 1 empty lines, left out; the first: line 1 of val.en$"
    with pytest.raises(DataError, match=told):
        open_text(text, "en", "de")
    for language in ("en", "de"):
        write(text, f"train.{language}", [])
    with pytest.raises(DataError, match=r" has no pair of sentences in its train split; val: 1 empty lines"):
        open_text(text, "en", "de")
    # One sentence is not for both.
    one = write_pairs(text / "one", "train", PAIRS[:1])
    with pytest.raises(DataError, match=r"one must hold two different sentences or more in train, or files of val$"):
        open_text(one, "en", "de")


def test_of_a_split_alone_its_files_are_enough(tmp_path):
    (tmp_path / "test.en").write_text("one\ntwo\n")
    (tmp_path / "test.de").write_text("eins\nzwei\n")
    assert open_split(tmp_path, "en", "de", "test") == [("one", "eins"), ("two", "zwei")]
    with pytest.raises(DataError, match=r"must hold a file of train in en; it has test\.de, test\.en$"):
        open_split(tmp_path, "en", "de", "val")
