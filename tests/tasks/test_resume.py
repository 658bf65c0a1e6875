import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foveate.errors import RunError
from foveate.tasks import keeper
from foveate.tasks.config import RunConfig
from foveate.tasks.resume import Standing, read_checkpoint, take_up
from foveate.tasks.run import train

SLOW_STEPS = """
import sys, time
from pathlib import Path
from foveate.tasks import keeper
from foveate.tasks.classify import Classifier
from foveate.tasks.config import RunConfig
from foveate.tasks.run import train

keeper.SAVE_EVERY_S, keeper.SAVE_SHARE = 0.0, 1.0
step = Classifier.training_step

def slowly(self, batch, batch_idx):
    time.sleep(0.1)
    return step(self, batch, batch_idx)

Classifier.training_step = slowly
train(RunConfig.from_file(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def small(shapes: Path, **changes: object) -> RunConfig:
    settings = {
        "data": str(shapes),
        "network": "resnet_tiny",
        "mechanism": "cbam",
        "epochs": 2,
        "batch_size": 8,
        "threads": 1,
        "device": "cpu",
        "seed": 1,
    }
    return RunConfig(**(settings | changes))  # pyright: ignore[reportArgumentType]


def rows(run: Path) -> list[list[str]]:
    """The lines of metrics.csv without the seconds, which are another each time."""
    with (run / "metrics.csv").open() as file:
        return [row[:2] + row[3:] for row in csv.reader(file)]


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def interrupt(config: RunConfig, out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a checkpoint within an epoch is due after some steps, write it, and break off."""

    class Break(BaseException):
        pass

    save = keeper.Keeper._save

    def save_and_break(self: keeper.Keeper, trainer: object) -> None:
        save(self, trainer)  # pyright: ignore[reportArgumentType]
        if read_checkpoint(out / "checkpoints" / "last.ckpt").standing.step >= after:
            raise Break

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        patch.setattr(keeper, "SAVE_SHARE", 1e9)
        patch.setattr(keeper.Keeper, "_save", save_and_break)
        with pytest.raises(Break):
            train(config, out)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_numbers_of_one_that_was_not(shapes: Path, tmp_path: Path):
    # Dropout and augmentation have to draw the same too.
    config = small(shapes, network="torchvision/mobilenet_v3_small", mechanism="none", augment="trivial", epochs=2)
    (tmp_path / "config.json").write_text(config.to_json())
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", SLOW_STEPS, tmp_path / "config.json", killed])
    try:
        deadline = time.monotonic() + 120
        while not _in_second_epoch(killed):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    begun = take_up(killed)
    assert begun is not None
    assert begun.standing.batch > 0  # in the middle of an epoch
    assert not (killed / "summary.json").exists()

    resumed, unbroken = train(config, killed), train(config, whole)
    assert (resumed.resumed, unbroken.resumed) == (1, 0)
    assert same(killed, whole)
    assert rows(killed) == rows(whole)
    assert len(rows(killed)) == 1 + 2
    assert resumed.metrics == unbroken.metrics
    assert (killed / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()


def _in_second_epoch(run: Path) -> bool:
    path = run / "checkpoints" / "last.ckpt"
    try:
        standing = read_checkpoint(path).standing
    except RunError:  # between two names
        return False
    return standing.epoch == 1 and standing.batch >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "changes"),
    [
        (3, {"label_smoothing": 0.1, "class_weights": True, "patience": 2}),
        pytest.param(7, {"optimizer": "sgd", "learning_rate": 0.01}, marks=pytest.mark.slow),
        (9, {"network": "torchvision/squeezenet1_1", "mechanism": "none", "image_size": 32}),  # it has dropout
        (8, {"start": "identity"}),
        pytest.param(11, {"augment": "trivial"}, marks=pytest.mark.slow),
    ],
)
def test_wherever_a_run_is_broken_off_it_ends_the_same(
    shapes: Path, tmp_path: Path, after: int, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
):
    config = small(shapes, **changes)
    interrupt(config, tmp_path / "broken", after, monkeypatch)
    resumed, unbroken = train(config, tmp_path / "broken"), train(config, tmp_path / "whole")
    assert same(tmp_path / "broken", tmp_path / "whole")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert resumed.metrics == unbroken.metrics
    assert resumed.resumed == 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(shapes: Path, tmp_path: Path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        torch.manual_seed(len(name))  # what happened before must not matter
        train(small(shapes, seed=seed, epochs=1), tmp_path / name)
    assert same(tmp_path / "one", tmp_path / "again")
    assert not same(tmp_path / "one", tmp_path / "other")


@pytest.mark.slow
def test_a_finished_run_is_left_alone(shapes: Path, tmp_path: Path):
    config = small(shapes, epochs=1)
    first = train(config, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert train(config, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == times
    # Readers do not change the numbers, so another number of them is no other run.
    assert train(small(shapes, epochs=1, num_workers=2), tmp_path) == first


@pytest.mark.slow
def test_another_configuration_in_the_folder_is_refused_and_fresh_starts_over(shapes: Path, tmp_path: Path):
    train(small(shapes, epochs=1), tmp_path)
    other = small(shapes, epochs=1, seed=5)
    with pytest.raises(RunError, match=r"config\.json belongs to another run: seed is 1 there and 5 here"):
        train(other, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert train(other, tmp_path, fresh=True).seed == 5
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_configuration_that_never_trained_leaves_the_folder_to_another(shapes: Path, tmp_path: Path):
    with pytest.raises(LookupError, match='no mechanism "cbm"'):
        train(small(shapes, epochs=1, mechanism="cbm"), tmp_path)
    assert train(small(shapes, epochs=1, mechanism="cbam"), tmp_path).mechanism == "cbam"


def test_fresh_does_not_clear_what_is_no_run(shapes: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"architectures": ["ViT"]}')
    (tmp_path / "model.safetensors").write_bytes(b"somebody's weights")
    with pytest.raises(RunError, match=r"config\.json is not a run's configuration"):
        train(small(shapes, epochs=1), tmp_path, fresh=True)
    assert (tmp_path / "model.safetensors").read_bytes() == b"somebody's weights"


@pytest.mark.slow
def test_with_a_time_limit_the_time_that_is_left_is_used_up(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small(shapes, epochs=None, max_time_s=0.8)
    interrupt(config, tmp_path, 5, monkeypatch)
    begun = take_up(tmp_path)
    assert begun is not None
    summary = train(config, tmp_path)
    assert summary.stopped_by == "max_time"
    assert summary.resumed == 1
    assert begun.standing.elapsed_s < 0.8 <= summary.training_seconds < 4
    assert summary.steps > begun.standing.step
    assert summary.epochs == pytest.approx(summary.steps / 7, abs=1e-5)
    assert float(rows(tmp_path)[-1][0]) == pytest.approx(summary.epochs, abs=1e-5)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small(shapes)
    interrupt(config, tmp_path / "broken", 9, monkeypatch)
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged .*; the run goes on from .*previous\.ckpt"):
        train(config, tmp_path / "broken")
    train(config, tmp_path / "whole")
    assert same(tmp_path / "broken", tmp_path / "whole")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


@pytest.mark.slow
def test_checkpoints_that_cannot_be_read_are_named(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = small(shapes)
    interrupt(config, tmp_path, 9, monkeypatch)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "checkpoints" / name).write_text("no checkpoint")
    with pytest.raises(RunError, match=r"last\.ckpt is damaged .*, and there is no older one; start over with fresh"):
        train(config, tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    (tmp_path / "checkpoints" / "previous.ckpt").unlink()
    assert take_up(tmp_path) is None


def test_a_checkpoint_cannot_make_us_run_code(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    (tmp_path / "checkpoints").mkdir()
    torch.save({"foveate": Standing().to_dict(), "state_dict": Evil()}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(RunError, match=r"last\.ckpt is damaged and cannot be resumed from"):
        take_up(tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
def test_a_damaged_summary_or_configuration_is_named(shapes: Path, tmp_path: Path):
    config = small(shapes, epochs=1)
    train(config, tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json is damaged .*remove it and run again"):
        train(config, tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(RunError, match=r"summary\.json has version 99; this foveate reads version 1"):
        train(config, tmp_path)
    # Without it, what was trained is not trained again: only the summing up is done once more.
    (tmp_path / "summary.json").unlink()
    trained = (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained
    (tmp_path / "config.json").write_text("no")
    with pytest.raises(RunError, match=r"config\.json cannot be read as a run's configuration"):
        train(config, tmp_path)


@pytest.mark.parametrize(
    ("parts", "rank", "world", "expected"),
    [
        ([], 0, 1, (5.0, 2)),
        ([], 0, 2, (5.0, 2)),
        ([], 1, 2, (0.0, 0)),
        ([[1.5, 2], [0.25, 1]], 0, 2, (1.5, 2)),
        ([[1.5, 2], [0.25, 1]], 1, 2, (0.25, 1)),
        ([[1.5, 2], [0.25, 1]], 0, 1, (1.75, 3)),
        ([[1.5, 2], [0.25, 1]], 0, 3, (1.75, 3)),
        ([[1.5, 2], [0.25, 1]], 2, 3, (0.0, 0)),
    ],
)
def test_each_process_takes_its_own_share_of_the_loss(parts, rank, world, expected):
    standing = Standing(loss_sum=5.0, loss_count=2, loss_parts=parts)
    standing.take_part(rank, world)
    assert (standing.loss_sum, standing.loss_count, standing.loss_parts) == (*expected, [])


TWO_PROCESSES = """
import sys
from pathlib import Path
from foveate.tasks import keeper
from foveate.tasks.config import RunConfig
from foveate.tasks.run import train

keeper.SAVE_EVERY_S, keeper.SAVE_SHARE = 0.0, 1.0
train(RunConfig.from_file(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_that_are_killed_within_an_epoch_end_with_the_same_numbers(shapes: Path, tmp_path: Path):
    config = small(shapes, devices=2, epochs=1, mechanism="none")
    (tmp_path / "config.json").write_text(config.to_json())
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", TWO_PROCESSES, tmp_path / "config.json", killed]
    process = subprocess.Popen(command, start_new_session=True)
    while not (killed / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    begun = take_up(killed)
    assert begun is not None
    assert begun.standing.batch > 0
    assert len(begun.standing.loss_parts) == 2
    assert train(config, killed).resumed == 1
    train(config, whole)
    assert same(killed, whole)
    # Weights and training loss agree to the bit; the validation loss of two processes was seen to differ in its last.
    exact, (named, *numbers) = rows(whole), rows(killed)
    assert named == exact[0]
    assert [row[:4] for row in numbers] == [row[:4] for row in exact[1:]]
    found, expected = ([list(map(float, row)) for row in table] for table in (numbers, exact[1:]))
    assert found == [pytest.approx(row, rel=1e-6) for row in expected]
