import json
import subprocess
import sys
import unicodedata

import pytest

from foveate.errors import MissingExtra
from foveate.tasks.translate.preparation import Preparation, unknown_in
from foveate.tasks.translate.vocabulary import BEGIN, END, PAD, SPECIAL, UNKNOWN, Vocabulary

TEXTS = [
    "Ein Hund läuft schnell, sehr schnell!",
    "Ein großer Hund läuft.",
    "A dog runs fast: very fast (isn't it?).",
    "A big dog runs; it costs $5 & 10%.",
] * 3


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.learn(TEXTS, 83)


def test_both_languages_have_tokens(vocabulary: Vocabulary):
    assert len(vocabulary) == 83
    assert vocabulary.names(vocabulary.encode(["Hund dog"])[0]) == ["_Hund", "_dog", "<end>"]
    assert vocabulary.names(range(4)) == list(SPECIAL)
    assert (PAD, BEGIN, END, UNKNOWN) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS[:4],
        "Ein  Hund   läuft",
        "schnell , sehr ( schnell )",
        "$5$10%&;:!?",
        "ß",
        "A.",
        "",
    ],
)
def test_tokens_become_text_again_without_loss(vocabulary: Vocabulary, text: str):
    (tokens,) = vocabulary.encode([text])
    assert tokens[-1] == END
    assert not set(tokens[:-1]) & {PAD, BEGIN, END, UNKNOWN}
    assert vocabulary.decode([tokens, tokens[:-1]]) == [text, text]


def test_letters_that_are_written_in_two_ways_are_one(vocabulary: Vocabulary):
    apart = unicodedata.normalize("NFD", "läuft")
    assert apart != "läuft"
    assert vocabulary.encode([apart]) == vocabulary.encode(["läuft"])


def test_each_unknown_character_is_one_unknown_token(vocabulary: Vocabulary):
    rows = vocabulary.encode(["Hund ☃ Hund", "☃é☃", "Hund"])
    assert [row.count(UNKNOWN) for row in rows] == [1, 3, 0]
    assert vocabulary.decode(rows) == ["Hund  Hund", "", "Hund"]
    prepared = Preparation("en", "de", vocabulary.to_json())
    assert unknown_in(prepared.encode([("☃", "Hund"), ("dog", "éé")])) == 3


def test_special_tokens_are_never_text(vocabulary: Vocabulary):
    (hund,) = vocabulary.encode(["Hund"])
    assert vocabulary.decode([[BEGIN, *hund, PAD, PAD], [PAD, BEGIN, END, UNKNOWN], []]) == ["Hund", "", ""]
    # Nor is text ever a special token.
    for kept in (vocabulary, Vocabulary.from_json(vocabulary.to_json())):
        rows = kept.encode([f"a {name} b" for name in SPECIAL])
        assert all(row.index(END) == len(row) - 1 and PAD not in row and BEGIN not in row for row in rows)


def test_a_vocabulary_is_kept_as_json(vocabulary: Vocabulary):
    again = Vocabulary.from_json(vocabulary.to_json())
    assert len(again) == len(vocabulary)
    assert again.encode(TEXTS) == vocabulary.encode(TEXTS)
    assert again.to_json() == vocabulary.to_json()
    prepared = Preparation("en", "de", vocabulary.to_json())
    assert Preparation.from_json(prepared.to_json()) == prepared
    assert json.loads(prepared.to_json())["source"] == "en"
    pairs = [("A dog", "Ein Hund"), ("runs", "läuft")]
    sources, targets = (vocabulary.encode(side) for side in zip(*pairs, strict=True))
    assert prepared.encode(pairs) == [(sources[0], targets[0]), (sources[1], targets[1])]
    assert prepared.encode([]) == []


def test_the_same_texts_give_the_same_tokens():
    assert len({Vocabulary.learn(TEXTS, 61).to_json() for _ in range(5)}) == 1


def test_where_there_are_more_characters_than_tokens_the_most_common_have_one():
    texts = ["aaa bbb cc dd e", "f"]
    for _ in range(5):
        few = Vocabulary.learn(texts, 8)
        assert len(few) == 8
        assert sorted(few.names(range(4, 8))) == ["_", "a", "b", "c"]  # c, not d: what comes first among equals
    (tokens,) = few.encode(["d c"])
    assert few.names(tokens) == ["_", "<unknown>", "_", "c", "<end>"]


def test_without_tokenizers_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"^this needs tokenizers, .* pip install 'foveate\[text\]' brings it$"):
        Vocabulary.learn(TEXTS, 61)
    with pytest.raises(MissingExtra, match=r"^this needs tokenizers, "):
        Vocabulary.from_json("{}")


@pytest.mark.slow
def test_the_vocabulary_does_not_depend_on_the_process():
    program = (
        "from foveate.tasks.translate.vocabulary import Vocabulary;"
        "print(Vocabulary.learn(['Ein Hund', 'a dog runs', 'xyz'], 19).to_json())"
    )
    said = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(said) == 1
