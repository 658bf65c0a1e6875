"""A corpus in Latin-1, in Windows-1252, and with lone carriage returns: one sentence names the file and says so."""

import pytest
from tests.cases.calling import foveate

WHOLE = "".join(f"Zeile {number} ist grün\n" for number in range(50))
PART = "".join(f"Zeile {number} ist {'grün' if number % 4 == 0 else 'rot'}\n" for number in range(50))
ELSEWHERE = "must be UTF-8; got another encoding, such as Latin-1 or Windows-1252, in"
VARIANTS = {
    "all lines are Latin-1": (WHOLE.encode("latin-1"), f"{ELSEWHERE} 50 of its 50 lines, the first of which is line 1"),
    "some lines are Windows-1252": (
        PART.encode("cp1252"),
        f"{ELSEWHERE} 13 of its 50 lines, the first of which is line 1",
    ),
    "lines end in carriage returns": (
        WHOLE.replace("\n", "\r").encode(),
        r"must have lines that end in \n or \r\n; got 50 lone carriage returns (\r)",
    ),
}


@pytest.mark.parametrize(("content", "told"), VARIANTS.values(), ids=VARIANTS)
def test_the_sentence_says_what_is_wrong(content, told, tmp_path):
    (tmp_path / "train.en").write_text("".join(f"line {number} is green\n" for number in range(50)))
    (tmp_path / "train.de").write_bytes(content)
    languages = ("--set", "source=en", "--set", "target=de")
    done = foveate("train", "translate", "--data", tmp_path, *languages, "--out", tmp_path / "run")
    assert done.status == 2
    assert done.errors == f"foveate: {tmp_path / 'train.de'} {told}\n"
