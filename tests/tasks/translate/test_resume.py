"""A run that translates and was broken off ends as one that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tasks.translate.conftest import OPTIONS, pairs, small, write_text

from foveate.errors import RunError
from foveate.tasks import keeper
from foveate.tasks.resume import read_checkpoint, take_up
from foveate.tasks.run import train
from foveate.tasks.translate.config import TranslateConfig


class Break(BaseException):
    """Nothing that a run would catch."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    held = {
        split: pairs(count, number) for number, (split, count) in enumerate({"train": 90, "val": 7, "test": 5}.items())
    }
    return write_text(tmp_path_factory.mktemp("few") / "data", held)


def interrupt(config: TranslateConfig, out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a checkpoint within an epoch is due after some steps, write it, and break off."""
    save = keeper.Keeper._save

    def save_and_break(self: keeper.Keeper, trainer: Any) -> None:
        save(self, trainer)
        if read_checkpoint(out / "checkpoints" / "last.ckpt").standing.step >= after:
            raise Break

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        patch.setattr(keeper, "SAVE_SHARE", 1e9)
        patch.setattr(keeper.Keeper, "_save", save_and_break)
        with pytest.raises(Break):
            train(config, out)


def rows(run: Path) -> list[list[str]]:
    """The lines of metrics.csv without the seconds, which are another each time."""
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [line[:2] + line[3:] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "changes"),
    [
        (9, {"network_options": OPTIONS | {"dropout": 0.2, "attention_dropout": 0.1}, "validate_every": 1}),
        (6, {"validate_every": 2, "patience": 3, "num_workers": 1}),
    ],
)
def test_wherever_a_run_is_broken_off_it_ends_the_same(
    few: Path, tmp_path: Path, after: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    config = small(few, **{"epochs": 4, "seed": 5, "average": 3, **changes})
    interrupt(config, tmp_path / "broken", after, monkeypatch)
    begun = take_up(tmp_path / "broken")
    assert begun is not None
    assert begun.standing.step == after
    assert begun.standing.batch > 0  # within an epoch
    assert begun.standing.epoch > 0
    assert not (tmp_path / "broken" / "summary.json").exists()
    resumed, unbroken = train(config, tmp_path / "broken"), train(config, tmp_path / "whole")
    assert (resumed.resumed, unbroken.resumed) == (1, 0)
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")]
    assert len([path for path in names if path.name.startswith("step-")]) == 3
    for name in names:
        one, other = (load_file(tmp_path / folder / name) for folder in ("broken", "whole"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 1 + 4
    assert resumed.metrics == unbroken.metrics
    for name in ("predictions.csv", "preparation.json", "bleu.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_resumed_run_keeps_the_vocabulary_that_it_began_with(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small(few, epochs=2)
    interrupt(config, tmp_path, 2, monkeypatch)
    with monkeypatch.context() as patch:
        patch.delattr("foveate.tasks.translate.job.Vocabulary.learn")
        summary = train(config, tmp_path)
    assert summary.resumed == 1
    with pytest.raises(RunError, match=r"config\.json belongs to another run: seed is 0 there and 1 here"):
        train(small(few, epochs=2, seed=1), tmp_path)
