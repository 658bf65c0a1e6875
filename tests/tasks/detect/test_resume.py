"""A detector that was broken off ends as one that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tasks.detect.conftest import OPTIONS, small

from foveate.errors import RunError
from foveate.tasks import keeper
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.resume import read_checkpoint, take_up
from foveate.tasks.run import train


class Break(BaseException):
    """Nothing that a run would catch."""


def interrupt(config: DetectConfig, out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (6, {"network_options": OPTIONS | {"dropout": 0.2}, "mechanism": "cbam"}),
        (9, {"validate_every": 2, "patience": 2, "augment": "flips"}),
        (5, {"masks": True, "network_options": OPTIONS | {"embed_dim": 64, "num_heads": 8}, "num_workers": 1}),
    ],
)
def test_wherever_a_run_is_broken_off_it_ends_the_same(
    scenes: Path, tmp_path: Path, after: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    config = small(scenes, **{"epochs": 3, "seed": 5, **changes})
    interrupt(config, tmp_path / "broken", after, monkeypatch)
    begun = take_up(tmp_path / "broken")
    assert begun is not None
    assert (begun.standing.step, begun.standing.batch) == (after, after % 4)  # within an epoch
    assert not (tmp_path / "broken" / "summary.json").exists()
    resumed, unbroken = train(config, tmp_path / "broken"), train(config, tmp_path / "whole")
    assert (resumed.resumed, unbroken.resumed) == (1, 0)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    # The stability of matches too, for what was matched before goes into checkpoints.
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 1 + 3
    assert any(row[-4] for row in rows(tmp_path / "whole")[2:])
    assert resumed.metrics == unbroken.metrics
    for name in ("predictions.csv", "preparation.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_resumed_run_keeps_the_preparation_that_it_began_with(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small(scenes)
    interrupt(config, tmp_path, 5, monkeypatch)
    looked = []
    monkeypatch.setattr("foveate.tasks.detect.job.check_boxes", lambda *_: looked.append(True))
    train(config, tmp_path)
    assert looked == []
    with pytest.raises(RunError, match=r"config\.json belongs to another run: seed is 0 there and 1 here"):
        train(small(scenes, seed=1), tmp_path)
