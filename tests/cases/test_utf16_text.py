"""Text files saved as UTF-16 and UTF-32, with and without byte order marks, through the command line."""

import pytest
from tests.cases.calling import foveate

WHO, WHAT = ["the man", "a dog", "the woman", "a child"], ["sees the house", "eats bread", "runs home", "reads a book"]
WIE, WAT = ["de man", "een hond", "de vrouw", "een kind"], ["ziet het huis", "eet brood", "rent", "leest een boek"]
PAIRS = [(f"{WHO[i]} {WHAT[j]} {k}", f"{WIE[i]} {WAT[j]} {k}") for i in range(4) for j in range(4) for k in range(6)]


def write(folder, encode):
    for name, part in (("train", PAIRS[:80]), ("val", PAIRS[80:88]), ("test", PAIRS[88:])):
        for language, side in (("en", 0), ("nl", 1)):
            (folder / f"{name}.{language}").write_bytes(encode("".join(f"{pair[side]}\r\n" for pair in part)))
    return folder


def train(data, out):
    settings = (
        "source=en",
        "target=nl",
        'network_options={"embed_dim": 16, "num_heads": 2, "hidden_channels": 32, "encoder_layers": 1}',
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    return foveate("train", "translate", "--data", data, *chosen, "--epochs", "1", "--out", out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-16"),
        lambda text: ("\ufeff" + text).encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
    ],
    ids=["as Windows writes it", "big-endian", "UTF-32"],
)
def test_marked_text_is_read(encode, tmp_path):
    done = train(write(tmp_path, encode), tmp_path / "run")
    assert done.status == 0, done.errors
    assert "not UTF-8" not in done.errors
    kept = (tmp_path / "run" / "preparation.json").read_text()
    assert "\\u0000" not in kept


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_text_without_a_mark_is_refused(codec, tmp_path):
    done = train(write(tmp_path, lambda text: text.encode(codec)), tmp_path / "run")
    assert done.status == 2
    assert done.errors == (
        f"foveate: {tmp_path / 'train.en'} must be UTF-8; "
        "got UTF-16 or UTF-32 without a byte order mark: it has NUL bytes\n"
    )
