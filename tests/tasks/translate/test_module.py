"""What a network that translates learns from, what its validation says, and the weights that are averaged."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tasks.translate.conftest import OPTIONS, small
from torch import Tensor

from foveate.networks import Transformer
from foveate.tasks.resume import Standing
from foveate.tasks.translate.batches import Batch, collate
from foveate.tasks.translate.module import SentenceModule, Translator, averaged, lengths_of
from foveate.tasks.translate.network import build_network
from foveate.tasks.translate.preparation import Preparation
from foveate.tasks.translate.scoring import bleu, translate
from foveate.tasks.translate.vocabulary import END, PAD, Vocabulary

PAIRS = [([4, 3, 4, END], [3, 4, END]), ([3, END], [4, 4, 4, 3, END])]  # of a vocabulary of five


def make(val: list[tuple[str, str]] | None = None, tokens: int = 5, **changes: Any) -> Translator:
    config = small(Path("text"), **changes)
    vocabulary = Vocabulary.learn(["ana bek Zü Yor"], 31)
    network = build_network(config, tokens if val is None else len(vocabulary))
    prepared = Preparation("en", "de", vocabulary.to_json())
    return Translator(network, prepared, config, 3, Standing(), val or [])


def surprise(network: Transformer, batch: Batch, smoothing: float) -> Tensor:
    """Of each token that is wanted and none of the padding, by hand."""
    logits = network(batch.source, batch.target, batch.source != PAD)
    found = []
    for row, wanted in zip(logits, batch.wanted, strict=True):
        for scores, token in zip(row, wanted.tolist(), strict=True):
            if token != PAD:
                shares = torch.full((5,), smoothing / 5)
                shares[token] += 1 - smoothing
                found.append(-(shares * (scores.exp() / scores.exp().sum()).log()).sum())
    return torch.stack(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_smoothed_surprise_of_a_token(smoothing: float):
    learner, batch = make(label_smoothing=smoothing), collate(PAIRS)
    loss, count = learner.loss_of(batch)
    assert count == 8
    torch.testing.assert_close(loss, surprise(learner.network, batch, smoothing).mean())


def test_padding_changes_nothing():
    learner = make()
    batch = collate(PAIRS)
    sums = [loss.item() * count for loss, count in (learner.loss_of(collate([pair])) for pair in PAIRS)]
    loss, count = learner.loss_of(batch)
    assert loss.item() * count == pytest.approx(sum(sums), rel=1e-5)
    wider = Batch(
        *(torch.nn.functional.pad(each, (0, 3), value=PAD) for each in (batch.source, batch.target, batch.wanted))
    )
    assert wider.source.shape == (2, 7)
    more, same = learner.loss_of(wider)
    assert same == count
    torch.testing.assert_close(more, loss)
    (given,) = torch.autograd.grad(loss, learner.network.embed.weight)
    (wide,) = torch.autograd.grad(more, learner.network.embed.weight)
    torch.testing.assert_close(wide, given)


def test_validation_measures_each_token_alike_and_without_smoothing():
    learner = make(label_smoothing=0.3, validate_every=7)
    found = []
    for number, pair in enumerate(PAIRS):
        batch = collate([pair])
        learner.validation_step(batch, number)
        found.append(surprise(learner.network, batch, 0.0))
    row = learner.measured()
    assert tuple(row) == learner.measures == ("val_loss", "val_bleu")
    assert row["val_loss"] == pytest.approx(torch.cat(found).mean().item(), rel=1e-5)
    assert row["val_bleu"] is None
    assert learner.objective(row) == row["val_loss"]
    learner.validation_step(collate(PAIRS[:1]), 0)  # and remembers nothing of it
    assert learner.measured()["val_loss"] == pytest.approx(found[0].mean().item(), rel=1e-5)


def test_every_few_epochs_and_after_the_last_sentences_are_translated(monkeypatch: pytest.MonkeyPatch):
    learner = make([("ana bek ana bek", "Zü Yor Zü Yor")], validate_every=3, epochs=7)
    monkeypatch.setattr("foveate.tasks.translate.module.translate", lambda *_, **__: ["Zü Yor Zü Yor"])
    told = []
    for epoch in range(7):
        learner.standing.epoch = epoch
        learner.validation_step(collate(PAIRS), 0)
        told.append(learner.measured()["val_bleu"])
    assert told == [None, None, pytest.approx(100), None, None, pytest.approx(100), pytest.approx(100)]


def test_translating_leaves_a_network_in_training():
    pairs = [("ana bek ana", "Zü Yor Zü"), ("bek", "Yor")]
    learner = make(pairs, validate_every=1)
    learner.train()
    learner.validation_step(collate([([4, END], [5, END])]), 0)
    found = learner.measured()["val_bleu"]
    assert learner.network.training
    network = learner.network.eval()
    said = translate(network, learner.preparation.vocabulary, [source for source, _ in pairs], beam=1, alpha=0.0)
    assert found == bleu(said, [target for _, target in pairs])[0]


def test_of_many_pairs_some_are_translated_throughout(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foveate.tasks.translate.module.TRANSLATED", 4)
    pairs = [(str(number), str(number)) for number in range(10)]
    assert make(pairs).val == [pairs[number] for number in (0, 2, 5, 7)]
    assert make(pairs[:3]).val == pairs[:3]


# The weights after each epoch.


def end_epochs(learner: Translator, out: Path, steps: list[int]) -> list[dict[str, Tensor]]:
    """Other weights at the end of each epoch, and the file that keeps them."""
    held = []
    for step in steps:
        with torch.no_grad():
            for parameter in learner.network.parameters():
                parameter.normal_()
        learner.standing.step = step
        learner.standing.rows.append({"step": step})
        learner.epoch_ended(out)
        held.append({name: value.clone() for name, value in learner.network.state_dict().items()})
    return held


def kept(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def test_the_last_weights_are_kept_and_averaged(tmp_path: Path):
    assert averaged(tmp_path, 3) is None
    learner = make(average=3)
    held = end_epochs(learner, tmp_path, [7, 14, 999_999_993, 999_999_997])
    names = [f"step-{step:09}.safetensors" for step in (14, 999_999_993, 999_999_997)]
    assert kept(tmp_path) == names
    for name, state in zip(names, held[1:], strict=True):
        assert all(torch.equal(value, state[key]) for key, value in load_file(tmp_path / "checkpoints" / name).items())
    for count in (3, 2, 1):
        mean = averaged(tmp_path, count)
        assert mean is not None
        assert mean.keys() == held[0].keys()
        for name, value in mean.items():
            wanted = sum(state[name].double() for state in held[-count:]) / count
            assert torch.equal(value, torch.as_tensor(wanted).float())
    learner.network.load_state_dict(averaged(tmp_path, 3) or {})


def test_weights_of_a_future_that_did_not_come_are_not_averaged(tmp_path: Path):
    learner = make(average=3)
    end_epochs(learner, tmp_path, [3, 6, 8])
    del learner.standing.rows[1:]  # taken up again from a checkpoint of the second epoch
    end_epochs(learner, tmp_path, [6])
    assert kept(tmp_path) == ["step-000000003.safetensors", "step-000000006.safetensors"]
    end_epochs(learner, tmp_path, [7, 10])
    assert kept(tmp_path) == [f"step-{step:09}.safetensors" for step in (6, 7, 10)]


# The batches.


def test_batches_go_on_where_the_run_stands():
    pairs = [([4] * (number % 5) + [END], [3] * (number % 3) + [END]) for number in range(40)]
    config = small(Path("text"), batch_tokens=13)
    assert lengths_of(pairs)[:6] == [1, 2, 3, 4, 5, 3]

    def batches(epoch: int, batch: int = 0) -> list[list[list[int]]]:
        module = SentenceModule(pairs, pairs[:3], config, Standing(epoch=epoch, batch=batch))
        return [batch.source.tolist() for batch in module.train_dataloader()]

    assert batches(epoch=2, batch=3) == batches(epoch=2)[3:]
    assert batches(epoch=2) != batches(epoch=1)
    val = SentenceModule(pairs, pairs[:3], config, Standing(epoch=2, batch=1)).val_dataloader()
    assert sum(len(batch.source) for batch in val) == 3
    assert [len(batch.source) for batch in val] == [len(batch.source) for batch in val]


def test_a_uniform_network_is_as_surprised_as_there_are_tokens():
    learner = make(network_options=OPTIONS, label_smoothing=0.2)
    with torch.no_grad():
        learner.network.embed.weight.zero_()
    loss, _ = learner.loss_of(collate(PAIRS))
    assert loss.item() == pytest.approx(math.log(5))
