"""Translation through the command line."""

import json
import sys
from pathlib import Path

import pytest
from tests.tasks.translate.conftest import COUNTS, SETTINGS, pairs

from foveate.cli import main
from foveate.cli.evaluate import shown
from foveate.cli.progress import validation


@pytest.fixture
def foveate(monkeypatch, capsys):
    """A function that runs `foveate` with arguments and gives (exit status, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["foveate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err  # pyright: ignore[reportReturnType]

    return run


def settings() -> list[str]:
    left = {name: value for name, value in SETTINGS.items() if name not in ("epochs", "device")}
    held = [(key, json.dumps(value) if isinstance(value, dict) else value) for key, value in left.items()]
    return [word for key, value in held for word in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_sentences_go_all_the_way(foveate, words: Path, tmp_path: Path):
    out = tmp_path / "run"
    given = ("train", "translate", "--data", words, "--epochs", 2, "--device", "cpu", "--out", out, *settings())
    status, said, err = foveate(*given)
    assert status == 0, err
    metrics = json.loads((out / "summary.json").read_text())["metrics"]
    assert f"none, seed 0: test BLEU {metrics['bleu']:.4f} after 2 epochs" in said
    assert "360 train, 24 val, 17 test pairs of en and de (as the files say)" in err
    status, said, err = foveate("evaluate", out)
    assert status == 0, err
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["bleu"] == f"{metrics['bleu']:.4f}"
    assert (lines["sentences"], lines["unknown_tokens"]) == (str(COUNTS["test"]), "0")
    assert lines["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    status, said, err = foveate("evaluate", out, "--split", "val", "--json", "--out", tmp_path / "rows.csv")
    assert status == 0, err
    assert json.loads(said)["sentences"] == COUNTS["val"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + COUNTS["val"]
    (tmp_path / "new.en").write_text(f"{pairs(1, 3)[0][0]}\n\nana\n")
    status, said, err = foveate("predict", out, tmp_path / "new.en", "--out", tmp_path / "said")
    assert status == 0, err
    assert said.strip() == str(tmp_path / "said")
    assert len((tmp_path / "said" / "new.de").read_text().split("\n")) == 3 + 1
    status, _, err = foveate("predict", out, tmp_path / "new.en", "--out", tmp_path / "said")
    assert status == 2
    assert err.strip().endswith("new.de exists")
    status, said, err = foveate("attend", out, tmp_path / "new.en", "--out", tmp_path / "maps", "--layer", 1, "--heads")
    assert status == 0, err
    assert [Path(line).name for line in said.splitlines()][:3] == [
        "new.1.encoder.png",
        "new.1.decoder.png",
        "new.1.cross.png",
    ]
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {Path(line).name for line in said.splitlines()}
    status, said, err = foveate(*given)  # finished, and left alone
    assert status == 0, err
    assert "test BLEU" in said


def test_what_cannot_be_is_a_sentence_and_a_status(foveate, run: Path, words: Path, tmp_path: Path, monkeypatch):
    status, _, err = foveate("train", "translate", "--out", tmp_path / "run")
    assert status == 2
    assert "translate needs --data: a folder of files such as train.en and train.de; none was given" in err
    status, _, err = foveate("train", "translate", "--data", words, "--out", tmp_path / "run")
    assert status == 2
    assert "translating takes two languages, source and target; got None and None, and" in err
    assert err.strip().endswith("has de, en")
    status, _, err = foveate("train", "translate", "--data", words, "--set", "warmup=4", "--out", tmp_path / "run")
    assert status == 2
    assert 'a run has no setting "warmup"; did you mean "warmup_steps"?' in err
    status, _, err = foveate("train", "--set", "schedule=noam", "--out", tmp_path / "run")
    assert status == 2
    assert "schedule takes " in err
    status, _, err = foveate("attend", run, words / "test.en", "--out", tmp_path / "maps", "--point", "3,5")
    assert status == 2
    assert "runs of the task translate take no points; " in err
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    status, _, err = foveate("evaluate", run)
    assert status == 2
    assert "pip install 'foveate[text]' brings it" in err


def test_texts_and_counts_are_shown_as_they_are():
    assert [shown(value) for value in ("nrefs:1", 17, 0.25, 31.0, None)] == [
        "nrefs:1",
        "17",
        "0.2500",
        "31.0000",
        "not defined",
    ]


def test_validation_is_told_in_words():
    assert validation({"val_loss": 2.5, "val_bleu": 31.26}) == ["validation BLEU 31.3"]
