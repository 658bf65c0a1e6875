import csv
import sys
from pathlib import Path

import pytest
from tests.tasks.translate.conftest import OPTIONS, pairs

from foveate.errors import MissingExtra
from foveate.networks import Transformer
from foveate.tasks.translate import scoring
from foveate.tasks.translate.network import load_run
from foveate.tasks.translate.scoring import bleu, check_extra, translate, write_predictions
from foveate.tasks.translate.vocabulary import Vocabulary


@pytest.mark.parametrize("beam", [1, 2])
def test_sentences_keep_their_order(run: Path, monkeypatch: pytest.MonkeyPatch, beam: int):
    network, _, prepared = load_run(run)
    vocabulary = prepared.vocabulary
    sentences = ["ana", "", "bek cir dol emu", "gat gat", ""]
    alone = [translate(network, vocabulary, [sentence], beam=beam, alpha=0.6)[0] for sentence in sentences]
    assert len(set(alone)) == 4
    assert alone[1] == alone[4] == ""
    assert all(alone[number] for number in (0, 2, 3))
    assert translate(network, vocabulary, sentences, beam=beam, alpha=0.6) == alone
    monkeypatch.setattr("foveate.tasks.translate.scoring.BATCH_TOKENS", 5)  # several batches
    told: list[int] = []
    assert translate(network, vocabulary, sentences, beam=beam, alpha=0.6, told=told.append) == alone
    assert len(told) > 1
    assert told == sorted(told)
    assert told[-1] == len(sentences)


def test_without_sentences_there_is_nothing_to_say(run: Path):
    network, _, prepared = load_run(run)
    assert translate(network, prepared.vocabulary, [], beam=2, alpha=0.6) == []
    assert translate(network, prepared.vocabulary, ["", ""], beam=2, alpha=0.6) == ["", ""]


def test_greedy_is_a_beam_of_one(run: Path, monkeypatch: pytest.MonkeyPatch):
    network, _, prepared = load_run(run)
    sentences = [source for source, _ in pairs(7, 5)]
    greedy = translate(network, prepared.vocabulary, sentences, beam=1, alpha=0.6)
    monkeypatch.setattr(scoring, "greedy", lambda *given, **options: scoring.beam_search(*given, beam=1, **options))
    assert translate(network, prepared.vocabulary, sentences, beam=1, alpha=0.6) == greedy


def test_texts_that_are_alike_score_a_hundred():
    texts = ["the cat is on the mat", "a dog runs very fast"]
    score, signature = bleu(texts, texts)
    assert score == pytest.approx(100)
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_a_score_is_that_of_the_paper():
    # Of 6 words 5 are right, of 5 pairs 3, of 4 triples 2, of 3 quadruples 1; the lengths agree.
    score, _ = bleu(["the cat is on a mat"], ["the cat is on the mat"])
    assert score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # References are held against the translation of the same line.
    assert bleu(["a b c d", "e f g h"], ["e f g h", "a b c d"])[0] < 20


def test_without_sacrebleu_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    check_extra()
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtra, match=r"^this needs sacrebleu, .* pip install 'foveate\[text\]' brings it$"):
        check_extra()
    with pytest.raises(MissingExtra, match=r"^this needs sacrebleu, "):
        bleu(["a"], ["a"])


def test_predictions_are_rows_beside_what_people_said(tmp_path: Path):
    write_predictions(tmp_path / "rows.csv", [('a "b", c', "x;y"), ("d", "z")], ["x, y", ""])
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["index", "source", "target", "prediction"],
            ["0", 'a "b", c', "x;y", "x, y"],
            ["1", "d", "z", ""],
        ]


def test_a_sentence_beyond_the_learned_positions_stays_empty_and_is_told():
    vocabulary = Vocabulary.learn(["one two three four"], 40)
    network = Transformer(len(vocabulary), positions="learned", length=6, **OPTIONS).eval()
    with pytest.warns(UserWarning, match=r"^1 sentences have more tokens than the network has positions, 6, and stay"):
        said = translate(network, vocabulary, ["one two", "one two three four " * 3], beam=2, alpha=0.6)
    assert said[1] == ""
