"""A run from sentences to everything that its folder holds, and what is done with it afterwards."""

import csv
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.tasks.translate.conftest import COUNTS, OPTIONS, pairs, small, write_text

from foveate.errors import CheckpointError, DataError, ExportError, MissingExtra, RunError
from foveate.report.read import read_run
from foveate.report.sentences import read_sentences
from foveate.tasks.config import TrainingConfig
from foveate.tasks.export import export_run
from foveate.tasks.run import attend, evaluate, example_inputs, open_network, predict, train
from foveate.tasks.summary import Progress, read_summary
from foveate.tasks.translate.attending import KINDS
from foveate.tasks.translate.job import TranslateJob
from foveate.tasks.translate.module import lengths_of
from foveate.tasks.translate.network import load_run, preparation_of
from foveate.tasks.translate.scoring import translate

KEPT = [number * COUNTS["test"] // 4 for number in range(4)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_its_whole_folder(run: Path):
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if "tfevents" not in path.name}
    steps = [int(row["step"]) for row in rows(run / "metrics.csv")]
    assert found == {
        ".lock",
        "bleu.json",
        "checkpoints",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        *(f"checkpoints/step-{step:09}.safetensors" for step in steps[-2:]),
        "config.json",
        "maps",
        "maps/sentences.json",
        *(f"maps/sentence-{number}-{kind}.png" for number in KEPT for kind in KINDS),
        "metrics.csv",
        "data.json",
        "model.safetensors",
        "predictions.csv",
        "preparation.json",
        "summary.json",
        "tensorboard",
    }


def test_some_sentences_are_on_the_page_with_what_was_said(run: Path):
    (first, *others) = read_sentences(read_run(run))
    said = rows(run / "predictions.csv")
    assert len(others) == 3
    assert (first.source, first.target, first.prediction) == tuple(said[0][name] for name in said[0] if name != "index")
    assert [title for title, _ in first.pictures] == list(KINDS.values())


def test_the_summary_says_what_was_trained_and_what_it_is_worth(run: Path):
    summary = read_summary(run)
    assert summary is not None
    assert tuple(summary.metrics) == ("bleu", "unknown_tokens", "val_loss", "val_bleu")
    assert (summary.task, summary.arm, summary.network) == ("translate", "none", "transformer_base")
    assert (summary.train_size, summary.val_size, summary.test_size) == tuple(COUNTS.values())
    assert (summary.epochs, summary.stopped_by, summary.sites, summary.gate_health) == (8, "epochs", [], {})
    assert summary.parameters == sum(value.numel() for value in load_file(run / "model.safetensors").values())
    assert summary.metrics["unknown_tokens"] == 0
    assert (summary.metrics["bleu"] or 0) > 15
    assert summary.command.startswith("foveate train translate --data ")
    told = json.loads((run / "bleu.json").read_text())
    assert (told["bleu"], told["sentences"]) == (summary.metrics["bleu"], COUNTS["test"])
    assert "|tok:13a|" in told["signature"]


def test_every_epoch_has_a_row(run: Path):
    found = rows(run / "metrics.csv")
    assert list(found[0])[-2:] == ["val_loss", "val_bleu"]
    assert [row["val_bleu"] == "" for row in found] == [True, True, True, False, True, True, True, False]
    losses = [float(row["val_loss"]) for row in found]
    assert losses == sorted(losses, reverse=True)
    summary = read_summary(run)
    assert summary is not None
    assert float(found[-1]["val_loss"]) == summary.metrics["val_loss"]
    assert float(found[-1]["val_bleu"]) == summary.metrics["val_bleu"]
    steps = summary.steps
    assert [float(row["learning_rate"]) for row in found][-1] == pytest.approx(1e-2 * (40 / steps) ** 0.5)


def test_the_weights_are_the_mean_of_the_last_epochs(run: Path):
    one, other = (load_file(path) for path in sorted((run / "checkpoints").glob("step-*.safetensors")))
    network, config, prepared = load_run(run)
    assert not network.training
    assert (prepared.source, prepared.target, config.vocabulary) == ("en", "de", 61)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2)
        assert not torch.equal(one[name], other[name])
    assert (run / "preparation.json").read_text() == preparation_of(run).to_json()
    opened, shape = open_network(str(run))
    assert shape == (40, 40)
    assert opened.state_dict().keys() == network.state_dict().keys()


def test_evaluation_finds_what_the_summary_says(run: Path, words: Path, tmp_path: Path):
    told = json.loads((run / "bleu.json").read_text())
    found = evaluate(run, device="cpu", rows=tmp_path / "rows.csv")
    assert found == told | {"unknown_tokens": 0, "samples": {"test": 17}, "measured": f"test of {words}"}
    assert (tmp_path / "rows.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    assert evaluate(run, str(words), device="cpu") == found
    val = evaluate(run, split="val", device="cpu")
    assert val["sentences"] == COUNTS["val"]
    held = rows(run / "predictions.csv")
    assert [(row["source"], row["target"]) for row in held] == pairs(COUNTS["test"], 2)


def test_evaluation_counts_what_the_vocabulary_lacks(run: Path, tmp_path: Path):
    data = write_text(tmp_path, {"train": pairs(2, 0), "val": pairs(2, 1), "test": [("ana ☃ bek", "Zü é§ Yor")]})
    assert evaluate(run, str(data), device="cpu")["unknown_tokens"] == 3
    (data / "test.en").unlink()
    (data / "test.de").unlink()
    with pytest.raises(DataError, match=r" has no pair of sentences in its test split$"):
        evaluate(run, str(data), device="cpu")


# New sentences.


def test_every_line_has_its_translation(run: Path, tmp_path: Path):
    sentences = [source for source, _ in pairs(5, 9)]
    lines = [sentences[0], "", *sentences[1:4], "  ", sentences[4]]
    (tmp_path / "new.en").write_text("".join(f"{line}\r\n" for line in lines), newline="")
    (tmp_path / "more.en.gz").write_bytes(gzip.compress("\n".join(lines[:3]).encode()))
    (tmp_path / "notes.txt").write_text(f"{lines[0]}\n")
    out = tmp_path / "out"
    assert predict(run, [tmp_path / name for name in ("new.en", "more.en.gz", "notes.txt")], out, device="cpu") == out
    assert sorted(path.name for path in out.iterdir()) == ["more.de", "new.de", "notes.txt.de"]
    content = (out / "new.de").read_text(encoding="utf-8")
    assert content.endswith("\n")
    found = content.split("\n")[:-1]
    network, config, prepared = load_run(run)
    wanted = translate(network, prepared.vocabulary, lines, beam=config.beam, alpha=config.alpha)
    assert found == [said if line.strip() else "" for said, line in zip(wanted, lines, strict=True)]
    assert [line == "" for line in found] == [False, True, False, False, False, True, False]
    assert (out / "more.de").read_text(encoding="utf-8").split("\n")[:-1] == found[:3]
    assert (out / "notes.txt.de").read_text(encoding="utf-8") == f"{found[0]}\n"


def test_no_file_is_replaced(run: Path, tmp_path: Path):
    for name in ("a.en", "b.en"):
        (tmp_path / name).write_text("ana bek\n")
    (tmp_path / "b.de").write_text("by people")
    told = f"^results must not replace a file; {re.escape(str(tmp_path / 'b.de'))} exists$"
    with pytest.raises(ValueError, match=told):
        predict(run, [tmp_path / "a.en", tmp_path / "b.en"], tmp_path, device="cpu")
    assert (tmp_path / "b.de").read_text() == "by people"
    assert not (tmp_path / "a.de").exists()


def test_what_gets_lost_of_new_sentences_is_told(run: Path, tmp_path: Path):
    (tmp_path / "new.en").write_bytes("ana ☃ bek☃\nx\n".encode() + b"ana\xff\nbek\n")
    with pytest.warns(UserWarning, match="new.en has") as told:
        predict(run, [tmp_path / "new.en"], tmp_path / "out", device="cpu")
    assert [str(warning.message).removeprefix(f"{tmp_path}/") for warning in told] == [
        "new.en has 1 lines that are not UTF-8, which stay empty",
        "new.en has 3 characters that are not in the run's vocabulary",
    ]
    assert (tmp_path / "out" / "new.de").read_text().split("\n")[2] == ""


@pytest.mark.parametrize("use", [predict, attend])
def test_inputs_are_files_of_sentences(run: Path, tmp_path: Path, use: Any):
    (tmp_path / "a.en").write_text("ana\n")
    (tmp_path / "a.en.gz").write_bytes(b"ana\n")
    with pytest.raises(DataError, match=r"^two inputs are both called a; give them in two calls$"):
        use(run, [tmp_path / "a.en", tmp_path / "a.en.gz"], tmp_path / "out", device="cpu")
    with pytest.raises(DataError, match=r"^.*absent\.en is no file of sentences$"):
        use(run, [tmp_path / "absent.en"], tmp_path / "out", device="cpu")
    with pytest.raises(DataError, match=r"^at least one file of sentences is needed; none was given$"):
        use(run, [], tmp_path / "out", device="cpu")
    with pytest.raises(DataError, match=r"a\.en\.gz is damaged and cannot be read: Not a gzipped file"):
        use(run, [tmp_path / "a.en.gz"], tmp_path / "out", device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.* cannot be written: "):
        use(run, [tmp_path / "a.en"], tmp_path / "file" / "out", device="cpu")


@pytest.mark.slow
def test_attention_is_drawn_for_each_line(run: Path, tmp_path: Path):
    (tmp_path / "new.en").write_text("ana bek\n\ncir\n")
    out = tmp_path / "maps"
    written = attend(run, [tmp_path / "new.en"], out, device="cpu")
    kinds = ("encoder", "decoder", "cross")
    assert [path.name for path in written] == [f"new.{line}.{kind}.png" for line in (1, 3) for kind in kinds]
    assert sorted(written) == sorted(out.iterdir())
    heads = attend(run, [tmp_path / "new.en"], tmp_path / "heads", device="cpu", heads=True, layer=1)
    assert [path.name for path in heads] == [path.name for path in written]
    for one, both in zip(written, heads, strict=True):
        assert Image.open(both).width > 1.5 * Image.open(one).width
    with pytest.raises(ValueError, match=r"^the encoder has layers 1 to 1; got 2$"):
        attend(run, [tmp_path / "new.en"], out, device="cpu", layer=2)


def test_options_of_other_tasks_are_refused(run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^runs of the task translate take no threshold; got"):
        predict(run, [], tmp_path, threshold=0.5)
    with pytest.raises(ValueError, match=r"^runs of the task translate take no points; got"):
        attend(run, [], tmp_path, points=[(1.0, 2.0)])
    with pytest.raises(ValueError, match=r"^runs of the task translate take no length; got"):
        predict(run, [], tmp_path, length=3)
    (tmp_path / "config.json").write_text('{"task": "classify"}')
    with pytest.raises(ValueError, match=r"^runs of the task classify take no layer; got"):
        attend(tmp_path, [], tmp_path / "out", layer=2)


def test_a_run_that_translates_is_not_exported(run: Path, tmp_path: Path):
    told = r"^export takes a run that classifies, segments, or detects in pictures; the task of .*run is translate$"
    with pytest.raises(ExportError, match=told):
        export_run(run, tmp_path / "run.onnx")


def test_a_network_by_name_has_the_papers_vocabulary(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def build(config: TrainingConfig, num_tokens: int) -> torch.nn.Module:
        asked.append((config.network, num_tokens))
        return torch.nn.Identity()

    monkeypatch.setattr("foveate.tasks.translate.run.build_network", build)
    network, shape = open_network("transformer_big", shape=(7, 11))
    assert asked == [("transformer_big", 37_000)]
    assert (network.training, shape) == (False, (7, 11))
    with pytest.raises(ValueError, match=r"^transformer_base takes the tokens of source and target; got 3x8x8$"):
        open_network("transformer_base", shape=(3, 8, 8))


# Training.


def opened(config: TrainingConfig, out: Path) -> list[str]:
    """What a run that begins tells of its data."""
    told: list[Progress] = []
    TranslateJob(config, out, told.append, "").open(None)  # pyright: ignore[reportArgumentType]
    assert [state.stage for state in told] == ["prepare"]
    return list(told[0].notes)


def test_what_is_chosen_and_what_is_odd_is_told(words: Path, tmp_path: Path):
    assert opened(small(words), tmp_path / "run") == [
        f"read {words}: 360 train, 24 val, 17 test pairs of en and de (as the files say)",
        "en to de, 61 tokens that both share",
    ]
    long = (" ".join(["ana"] * 40), "Zü")
    held = {
        "train": [*pairs(50, 0), long, long[::-1], ("", "Zü")],
        "val": [*pairs(3, 1), ("ana ☃", "Zü"), (long[0], "Yor")],
        "test": [*pairs(3, 2), ("ana", "é"), ("☃☃", "é")],
    }
    data = write_text(tmp_path / "data", held)
    assert opened(small(data, longest=30), tmp_path / "odd") == [
        f"read {data}: 52 train, 5 val, 5 test pairs of en and de (as the files say)",
        "en to de, 61 tokens that both share",
        "train: 1 empty lines, left out; the first: line 53 of train.en",
        "train: 2 pairs of more than 30 tokens, left out",
        "val: 1 pairs of more than 30 tokens, left out",
        "val: 1 characters that are not in the vocabulary",
        "test: 4 characters that are not in the vocabulary",
    ]


def test_the_longest_pair_that_is_learned_from_has_as_many_tokens_as_may_be(words: Path, tmp_path: Path):
    job = TranslateJob(small(words), tmp_path / "run", None, "")
    job.open(None)
    longest = max(lengths_of(job.train))
    count = lengths_of(job.train).count(longest)
    for least, lost in ((longest, 0), (longest - 1, count)):
        told = opened(small(words, longest=least), tmp_path / str(least))[2:]
        assert told == ([f"train: {lost} pairs of more than {least} tokens, left out"] if lost else [])


def test_there_must_be_pairs_that_are_short_enough(words: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"data has no pair of at most 2 tokens in its train split$"):
        train(small(words, longest=2), tmp_path / "run")
    config = small(words, devices=32, batch_size=32)
    with pytest.raises(
        DataError, match=r"^each of 32 devices needs a pair; .* has 24 of at most 256 tokens in its val s"
    ):
        train(config, tmp_path / "run")


def test_a_run_begins_with_all_that_it_needs(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"^translating takes two languages, source and target; got None and de, and"):
        train(small(words, source=None), tmp_path / "run")
    monkeypatch.setattr(
        "foveate.tasks.translate.job.check_extra", lambda: (_ for _ in ()).throw(MissingExtra("a", "text"))
    )
    with pytest.raises(MissingExtra):
        train(small(words), tmp_path / "run")


def test_a_finished_run_is_left_alone(run: Path, words: Path):
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert train(small(words), run) == read_summary(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == times
    with pytest.raises(RunError, match=r"config\.json belongs to another run: beam is 2 there and 3 here"):
        train(small(words, beam=3), run)


@pytest.mark.slow
def test_a_run_learns_to_translate(words: Path, tmp_path: Path):
    summary = train(small(words, epochs=24), tmp_path / "run")
    assert (summary.metrics["bleu"] or 0) > 70
    assert (summary.metrics["val_bleu"] or 0) > 70


@pytest.mark.slow
def test_a_run_without_sentences_to_test_with_ends(tmp_path: Path):
    data = write_text(tmp_path / "data", {"train": pairs(60, 0)})
    told: list[Progress] = []
    summary = train(small(data, epochs=1), tmp_path / "run", progress=told.append)
    assert summary.test_size == 0
    assert (summary.metrics["bleu"], summary.metrics["unknown_tokens"]) == (None, None)
    assert summary.metrics["val_loss"] is not None
    assert not (tmp_path / "run" / "bleu.json").exists()
    assert not (tmp_path / "run" / "predictions.csv").exists()
    assert list(dict.fromkeys(state.stage for state in told)) == ["prepare", "train", "done"]
    again = train(small(data, epochs=1, seed=1), tmp_path / "run", fresh=True)
    assert again.seed == 1


@pytest.mark.slow
def test_with_patience_the_best_weights_are_kept(words: Path, tmp_path: Path):
    # At this rate the loss soon rises.
    config = small(words, epochs=30, patience=2, learning_rate=0.3, schedule="constant", warmup_steps=1)
    summary = train(config, tmp_path / "run")
    assert summary.stopped_by == "early_stop"
    losses = [float(row["val_loss"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert losses.index(min(losses)) == len(losses) - 3
    best, held = (load_file(tmp_path / "run" / name) for name in ("checkpoints/best.safetensors", "model.safetensors"))
    assert all(torch.equal(value, held[name]) for name, value in best.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16", "learning_rate": None},
        {"optimizer": "sgd", "schedule": "cosine", "beam": 1, "label_smoothing": 0.0},
        {"batch_tokens": 3, "epochs": 1, "num_workers": 1},
        {"network_options": OPTIONS | {"tied": False, "pre_norm": True, "decoder_layers": 2}},
        {"epochs": None, "max_time_s": 0.5},
    ],
)
def test_runs_of_every_kind_end(tmp_path: Path, changes: dict[str, Any]):
    data = write_text(tmp_path / "data", {"train": pairs(60, 0), "val": pairs(5, 1), "test": pairs(5, 2)})
    summary = train(small(data, **{"epochs": 2, **changes}), tmp_path / "run")
    assert summary.stopped_by in ("epochs", "max_time")
    assert summary.metrics["bleu"] is not None
    assert evaluate(tmp_path / "run", device="cpu")["bleu"] == summary.metrics["bleu"]


@pytest.mark.slow
def test_a_run_starts_from_the_weights_and_the_tokens_of_another(run: Path, tmp_path: Path):
    start = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", start)
    # By itself this text would have other tokens.
    data = write_text(tmp_path / "data", {"train": pairs(9, 7), "val": pairs(COUNTS["val"], 1)})
    first, config = read_summary(run), small(data, init=str(start), epochs=1, learning_rate=1e-6, vocabulary=61)
    summary = train(config, tmp_path / "run")
    assert first is not None
    assert summary.metrics["val_loss"] == pytest.approx(first.metrics["val_loss"], rel=0.2)
    assert preparation_of(tmp_path / "run") == preparation_of(run)
    start.unlink()
    assert evaluate(tmp_path / "run", split="val", device="cpu")["sentences"] == COUNTS["val"]


def test_weights_that_do_not_fit_are_refused(words: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        train(small(words, init=str(tmp_path / "absent.safetensors")), tmp_path / "run")
    torch.save({"embed.weight": torch.zeros(3, 32)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"other\.pth does not fit: embed\.weight has \(3, 32\) where the network"
    ):
        train(small(words, init=str(tmp_path / "other.pth")), tmp_path / "run")


@pytest.mark.slow
def test_two_processes_share_the_sentences(tmp_path: Path):
    data = write_text(tmp_path / "data", {"train": pairs(40, 0), "val": pairs(5, 1), "test": pairs(5, 2)})
    alone, both = (train(small(data, epochs=2, devices=devices), tmp_path / str(devices)) for devices in (1, 2))
    assert both.steps == alone.steps
    one, other = (rows(tmp_path / str(devices) / "metrics.csv") for devices in (1, 2))
    # A mean of two means: each batch counts as before but for how its tokens are shared.
    assert [float(row["val_loss"]) for row in other] == pytest.approx([float(row["val_loss"]) for row in one], rel=0.05)
    assert len(list((tmp_path / "2" / "checkpoints").glob("step-*.safetensors"))) == 2


def test_the_costs_of_a_network_that_translates_are_of_two_lengths():
    with torch.device("meta"):  # where nothing is drawn
        network, shape = open_network("transformer_base", shape=(3, 5))
    source, target = example_inputs(network, shape, 2)
    assert (source.shape, target.shape, source.dtype) == ((2, 3), (2, 5), torch.int64)
    with pytest.raises(ValueError, match=r"^transformer_base takes the tokens of source and target; got 3x4x5$"):
        open_network("transformer_base", shape=(3, 4, 5))


def test_a_layer_that_there_is_not_is_told_before_anything_is_translated(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("foveate.tasks.translate.run.translate", lambda *_, **__: pytest.fail("translated"))
    (tmp_path / "new.en").write_text("a\n")
    with pytest.raises(ValueError, match=r"^the encoder has layers 1 to 1; got 2$"):
        attend(run, [tmp_path / "new.en"], tmp_path / "out", device="cpu", layer=2)
