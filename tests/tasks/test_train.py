import csv
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from foveate import files
from foveate.errors import DataError, RunError, TrainingError
from foveate.tasks import classify
from foveate.tasks.classify import class_weights
from foveate.tasks.config import RunConfig
from foveate.tasks.hosts import build
from foveate.tasks.learner import learning_factor
from foveate.tasks.run import train
from foveate.tasks.summary import Progress, read_summary


def small(data: Path, **changes: object) -> RunConfig:
    settings = {"network": "resnet_tiny", "epochs": 1, "batch_size": 8, "threads": 1, "device": "cpu"}
    return RunConfig(data=str(data), **(settings | changes))  # pyright: ignore[reportArgumentType]


def folders(root: Path, shapes: Path) -> Path:
    """The shapes as class folders."""
    arrays = np.load(shapes)
    for name in ("train", "val", "test"):
        for index, (image, label) in enumerate(zip(arrays[f"{name}_images"], arrays[f"{name}_labels"], strict=True)):
            path = root / name / "abc"[label[0]] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def metrics(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_network_learns_and_leaves_a_whole_folder(shapes: Path, tmp_path: Path):
    told: list[Progress] = []
    config = small(shapes, epochs=6, learning_rate=6e-3, mechanism="cbam", augment="digits", seed=3)
    summary = train(config, tmp_path, progress=told.append)

    assert summary.metrics["accuracy"] is not None
    assert summary.metrics["accuracy"] > 0.6
    assert set(summary.metrics) == {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "loss", "val_accuracy"}
    assert (summary.arm, summary.seed, summary.start, summary.stopped_by) == ("cbam", 3, "published", "epochs")
    assert (summary.epochs, summary.steps, summary.train_size, summary.test_size) == (6, 6 * 7, 57, 18)
    assert [site["name"] for site in summary.sites] == [f"layer{stage}.0.mechanism" for stage in (1, 2, 3)]
    assert len(summary.gate_health) == 6
    assert read_summary(tmp_path) == summary
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("tensorboard/")} == {
        ".lock",
        "config.json",
        "metrics.csv",
        "predictions.csv",
        "summary.json",
        "data.json",
        "model.safetensors",
        "maps/maps.json",
        "maps/maps.npz",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
    }
    assert any(name.startswith("tensorboard/events") for name in names)

    rows = metrics(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(1, 7))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_accuracy"] == summary.metrics["val_accuracy"]

    assert [state.stage for state in told[-2:]] == ["attend", "done"]
    assert told[0].fraction == 0
    assert [state.fraction for state in told] == sorted(state.fraction for state in told)
    assert all((state.arm, state.seed, state.epochs) == ("cbam", 3, 6) for state in told)


def test_predictions_are_those_that_were_scored(shapes: Path, tmp_path: Path):
    summary = train(small(shapes), tmp_path)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == [str(index) for index in range(18)]
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert summary.metrics["accuracy"] == pytest.approx(right / 18)
    for row in rows:
        chances = [float(row[f"p_{kind}"]) for kind in "012"]
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == str(max(range(3), key=chances.__getitem__))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "schedule": "step"},
        {"precision": "bf16", "schedule": "constant"},
        {"augment": "trivial", "num_workers": 1},
        {"class_weights": True, "label_smoothing": 0.2, "warmup_epochs": 0},
        {"network": "torchvision/squeezenet1_1", "image_size": 32},
        {"width": 0.5},
    ],
)
def test_every_way_of_training_runs(shapes: Path, tmp_path: Path, changes: dict[str, object]):
    assert math.isfinite(train(small(shapes, **changes), tmp_path).metrics["loss"] or math.nan)


@pytest.mark.slow
def test_only_what_was_inserted_learns(shapes: Path, tmp_path: Path):
    config = small(shapes, mechanism="se", start="identity", train_only="inserted", epochs=2, learning_rate=0.01)
    train(config, tmp_path)
    before, after = build(config)[0].state_dict(), load_file(tmp_path / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in moved if ".inserted." not in name} == {"fc.weight", "fc.bias"}
    inserted = {name for name in before if ".inserted." in name and not name.endswith(".gain")}  # which is constant
    assert inserted == {name for name in moved if ".inserted." in name}


@pytest.mark.slow
def test_the_host_may_learn_at_a_rate_of_its_own(shapes: Path, tmp_path: Path):
    config = small(shapes, mechanism="se", start="identity", host_learning_rate=0.0, learning_rate=0.01)
    train(config, tmp_path)
    before, after = build(config)[0].state_dict(), load_file(tmp_path / "model.safetensors")
    learned = [name for name, value in before.items() if value.is_floating_point() and "running" not in name]
    moved = {name for name in learned if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".inserted." in name or name.startswith("fc.") for name in moved)


@pytest.mark.slow
def test_every_arm_of_a_seed_sees_the_same_pictures(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, list[torch.Tensor]] = {}
    step = classify.Classifier.training_step

    def watch(self: classify.Classifier, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        seen.setdefault(self.config.arm_name, []).append(batch[0].clone())
        torch.rand(len(self.config.arm_name))  # a mechanism may draw as many random numbers as it likes
        return step(self, batch, batch_idx)

    monkeypatch.setattr(classify.Classifier, "training_step", watch)
    for mechanism in ("none", "placebo", "nonlocal"):
        train(small(shapes, mechanism=mechanism, augment="trivial"), tmp_path / mechanism)
    assert len(seen["none"]) == 7
    for mechanism in ("placebo", "nonlocal"):
        assert all(torch.equal(one, other) for one, other in zip(seen["none"], seen[mechanism], strict=True))
    # A gate held at one changes nothing, to the last bit.
    none, placebo = (load_file(tmp_path / arm / "model.safetensors") for arm in ("none", "placebo"))
    assert all(torch.equal(none[name], placebo[name]) for name in none)


@pytest.mark.slow
def test_the_training_loss_is_the_mean_over_the_epoch(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    losses: list[float] = []
    step = classify.Classifier.training_step

    def watch(self: classify.Classifier, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(classify.Classifier, "training_step", watch)
    train(small(shapes, epochs=2), tmp_path)
    assert [row["train_loss"] for row in metrics(tmp_path)] == pytest.approx([sum(losses[:7]) / 7, sum(losses[7:]) / 7])


@pytest.mark.slow
def test_patience_ends_the_run_and_keeps_the_best_weights(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    losses = iter([3.0, 1.0, 2.0, 2.5, 0.5])
    monkeypatch.setattr("torchmetrics.MeanMetric.compute", lambda self: torch.tensor(next(losses)))
    weights = []
    judge = classify.Classifier.on_train_epoch_start

    def watch(self: classify.Classifier) -> None:
        weights.append({name: value.clone() for name, value in self.network.state_dict().items()})
        judge(self)

    monkeypatch.setattr(classify.Classifier, "on_train_epoch_start", watch)
    summary = train(small(shapes, epochs=20, patience=2), tmp_path)
    assert (summary.stopped_by, summary.epochs) == ("early_stop", 4)
    kept = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(kept[name], weights[2][name]) for name in kept)  # as after the second epoch
    assert summary.metrics["val_accuracy"] == metrics(tmp_path)[1]["val_accuracy"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cross_entropy = nn.functional.cross_entropy
    calls = []

    def sometimes_nan(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        loss = cross_entropy(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        return loss * math.nan if len(calls) == 12 else loss  # 7 steps, 2 validations, 3 steps

    monkeypatch.setattr("torch.nn.functional.cross_entropy", sometimes_nan)
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2, step 10; a lower learning_rate or"):
        train(small(shapes, epochs=3), tmp_path)
    assert len(metrics(tmp_path)) == 1  # the first epoch is kept
    assert read_summary(tmp_path) is None
    monkeypatch.undo()
    assert train(small(shapes, epochs=3), tmp_path).resumed == 1


def test_a_validation_loss_that_is_not_finite_ends_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torchmetrics.MeanMetric.compute", lambda self: torch.tensor(math.inf))
    with pytest.raises(TrainingError, match="the validation loss is inf after epoch 1, step 7"):
        train(small(shapes), tmp_path)


@pytest.mark.slow
def test_class_folders_train_and_a_damaged_picture_is_named(shapes: Path, tmp_path: Path):
    data = folders(tmp_path / "data", shapes)
    assert train(small(data), tmp_path / "run").train_size == 57
    victim = sorted((data / "test" / "b").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-40])
    # It would be read after the training only: it is found before.
    with pytest.raises(DataError, match=rf"{victim.name} is damaged and cannot be decoded"):
        train(small(data, seed=1), tmp_path / "other")
    assert not (tmp_path / "other" / "checkpoints").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_training_picture_is_named_also_by_another_process(shapes: Path, tmp_path: Path, workers: int):
    data = folders(tmp_path / "data", shapes)
    for victim in (data / "train" / "b").iterdir():
        victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"^\S+\.png is damaged and cannot be decoded: [^\n]+$"):
        train(small(data, num_workers=workers, image_size=16), tmp_path / "run")


def test_a_folder_that_is_no_run_folder_is_left_alone(shapes: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"holds thesis\.tex but no config\.json: it is no run folder"):
        train(small(shapes), tmp_path, fresh=True)
    with pytest.raises(RunError, match=r"a run needs a folder; .*thesis\.tex is a file"):
        train(small(shapes), tmp_path / "thesis.tex")


@pytest.mark.skipif(os.geteuid() == 0, reason="to root every folder is writable")
def test_a_folder_that_cannot_be_written_is_told(shapes: Path, tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written: Permission denied"):
        train(small(shapes), tmp_path / "run")


def test_a_place_that_can_hold_no_folder_is_told(shapes: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file/run cannot be written: Not a directory"):
        train(small(shapes), tmp_path / "file" / "run")


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_was_finished_stays(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    replace_file = files.replace_file

    def full(path: Path, *args: object, **kwargs: object) -> None:
        if path.name == "predictions.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        replace_file(path, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_file", full)
        with pytest.raises(RunError, match=r"predictions\.csv cannot be written: No space left on device"):
            train(small(shapes), tmp_path)
    trained = (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    train(small(shapes), tmp_path)
    assert (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained


def test_half_a_file_is_never_left(tmp_path: Path):
    files.write_atomic(tmp_path / "a.json", "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        files.replace_file(tmp_path / "a.json", fail)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


@pytest.mark.parametrize("write", [files.write_atomic, files.write_alone])
def test_an_error_of_writing_names_the_file_that_was_to_be_written(write, tmp_path: Path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as the system says it, without a name

    monkeypatch.setattr("foveate.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(tmp_path / "summary.json", "{}")
    assert caught.value.filename == str(tmp_path / "summary.json")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_torch_cannot_write_is_an_error_of_its_file(tmp_path: Path):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/3")

    with pytest.raises(OSError, match=r"Input/output error: '.*last\.ckpt'"):
        files.replace_file(tmp_path / "last.ckpt", fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_random_numbers_and_settings_are_as_before(shapes: Path, tmp_path: Path):
    torch.manual_seed(3)
    np.random.seed(3)
    expected, drawn = torch.rand(2), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert train(small(shapes, threads=1), tmp_path).machine["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(2), expected)
    assert np.random.rand() == drawn
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_is_printed(shapes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    train(small(shapes), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_ctrl_c_stays_ctrl_c(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(classify.Classifier, "training_step", press)
        with pytest.raises(KeyboardInterrupt):
            train(small(shapes), tmp_path)
    assert train(small(shapes), tmp_path).stopped_by == "epochs"


def test_the_learning_rate_rises_and_falls():
    assert learning_factor("constant", 0.5, 9) == 1
    assert learning_factor("constant", 0.01, 0.1) == 0.1
    assert learning_factor("constant", 0.1, 0.0) == 0.5  # of a short run, a fifth at most is warm-up
    assert learning_factor("cosine", 0.5, 1) == pytest.approx(0.5)
    assert learning_factor("cosine", 1.0, 1) == pytest.approx(0, abs=1e-12)
    assert [learning_factor("step", done, 1) for done in (0.4, 0.6, 0.8)] == [1, 0.1, 0.01]


def test_rare_classes_weigh_more():
    class Labels(list[int]):
        def label(self, index: int) -> int:
            return self[index]

    weights = class_weights(Labels([0, 0, 0, 1]), 2)  # pyright: ignore[reportArgumentType]
    assert weights.tolist() == pytest.approx([4 / 6, 2])
    assert class_weights(Labels([0, 1]), 2).tolist() == [1, 1]  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_two_processes_train_one_network_and_repeat_themselves(shapes: Path, tmp_path: Path):
    told: list[Progress] = []
    config = small(shapes, devices=2, epochs=2, mechanism="se", learning_rate=6e-3)
    both = train(config, tmp_path / "both", progress=told.append)
    train(config, tmp_path / "again")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("both", "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (both.steps, both.epochs, both.stopped_by) == (14, 2, "epochs")
    assert any(state.stage == "train" and state.fraction > 0 for state in told)
    # One process with the same pictures in each step: normalisation apart, the same training.
    alone = train(small(shapes, epochs=2, mechanism="se", learning_rate=6e-3), tmp_path / "alone")
    rows = [metrics(tmp_path / name) for name in ("both", "alone")]
    assert rows[0][0]["train_loss"] == pytest.approx(rows[1][0]["train_loss"], rel=0.2)
    assert both.parameters == alone.parameters


@pytest.mark.slow
def test_two_processes_tell_a_loss_that_is_not_finite(shapes: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"^the (validation )?loss is \w+ (in|after) epoch \d, step \d+"):
        train(
            small(shapes, devices=2, epochs=3, learning_rate=1e30, optimizer="sgd", warmup_epochs=0), tmp_path / "nan"
        )


def test_the_summary_is_plain_json(shapes: Path, tmp_path: Path):
    train(small(shapes), tmp_path)
    held = json.loads((tmp_path / "summary.json").read_text())
    assert held["version"] == 1
    assert held["latency_ms"] is None
    assert held["pointing"]["chance"] is None
    assert held["versions"]["torch"] == torch.__version__
    assert held["machine"]["threads"] == 1
    assert held["command"].startswith("foveate train classify --data ")
