"""What a detector learns from, and what its validation says of it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from tests.tasks.detect.conftest import small
from torch import nn

from foveate.data.boxes import Boxes, open_boxes
from foveate.networks import DETR
from foveate.tasks.detect.augment import Augmentation, BoxSet
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.criterion import judge
from foveate.tasks.detect.module import BoxModule, Detector, augmentation
from foveate.tasks.detect.network import build_network, learning_modules
from foveate.tasks.detect.preparation import Preparation, prepare_for
from foveate.tasks.detect.targets import Batch, collate
from foveate.tasks.fit import PRECISIONS
from foveate.tasks.learner import quiet_lightning
from foveate.tasks.resume import Standing

Made = tuple[Detector, BoxModule]


def make(data: Path, **changes: Any) -> Made:
    config = small(data, **changes)
    boxes, standing = open_boxes(data, masks=config.masks), Standing()
    prepared = prepare_for(config, boxes)
    network, sites = build_network(config, prepared)
    new = learning_modules(config, sites)
    learner = Detector(network, prepared, config, new, 4, standing, boxes.splits["val"])
    return learner, BoxModule(boxes, prepared, config, standing)


def first_batch(module: BoxModule) -> Batch:
    return collate([module.train_set[0], module.train_set[1]])


def step(learner: Detector, module: BoxModule, steps: int = 1) -> None:
    """Train for some steps, with Lightning as a run has it."""
    quiet_lightning()
    hardware: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "logger": False, "barebones": True}
    hardware["precision"] = PRECISIONS[learner.config.precision]
    L.Trainer(max_steps=steps, limit_val_batches=0, num_sanity_val_steps=0, **hardware).fit(learner, module)


def validate(learner: Detector) -> dict[str, float | None]:
    learner.network.eval()
    for index in range(len(learner.val)):
        learner.validation_step([index], index)
    return learner.measured()


def norm(learner: Detector) -> float:
    """Of the gradients of the last step."""
    held = [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in held))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_gradients_are_cut_to_a_norm(scenes: Path, monkeypatch: pytest.MonkeyPatch, precision: str):
    norms = []
    monkeypatch.setattr(Detector, "on_train_batch_end", lambda self, *_: norms.append(norm(self)))
    for clip in (0.1, None, 3e-3):
        learner, module = make(scenes, clip=clip, precision=precision)
        step(learner, module)
    assert norms[0] == pytest.approx(0.1, rel=1e-3)
    assert norms[1] > 1
    assert norms[2] == pytest.approx(3e-3, rel=1e-3)


def test_every_layer_has_a_loss_unless_it_is_turned_off(scenes: Path):
    losses = {}
    for auxiliary in (True, False):
        learner, module = make(scenes, auxiliary=auxiliary)
        batch = first_batch(module)
        loss, count = learner.loss_of(batch)
        answers = learner.network(batch.images, batch.padding)
        assert count == 2
        if not auxiliary:
            del answers["aux_outputs"]
        assert loss.item() == pytest.approx(judge(answers, batch.targets).loss.item(), rel=1e-5)
        losses[auxiliary] = loss.item()
    assert losses[True] > 1.5 * losses[False]


def test_every_layer_has_a_loss_too_where_only_what_was_inserted_learns(scenes: Path):
    everything, module = make(scenes)
    inserted, _ = make(scenes, train_only="inserted", frozen=True)
    batch = first_batch(module)
    inserted.on_train_epoch_start()
    loss, _ = inserted.loss_of(batch)
    answers = inserted.network(batch.images, batch.padding, auxiliary=True)
    assert len(answers["aux_outputs"]) == 1
    assert loss.item() == pytest.approx(judge(answers, batch.targets).loss.item(), rel=1e-5)
    assert not any(part.training for part in inserted.network.children() if part is not inserted.network.class_embed)
    assert everything.network.training


def test_costs_weights_and_no_object_reach_the_losses(scenes: Path):
    learner, module = make(scenes, costs={"boxes": 0.0}, weights={"loss_giou": 0.0, "loss_bbox": 0.0}, no_object=1.0)
    batch = first_batch(module)
    loss, _ = learner.loss_of(batch)
    answers = learner.network(batch.images, batch.padding)
    each = judge(answers, batch.targets, costs=learner.costs, no_object=1.0).losses
    assert loss.item() == pytest.approx((each["loss_ce"] + each["loss_ce_0"]).item(), rel=1e-5)
    assert (learner.costs.boxes, learner.costs.giou) == (0.0, 2.0)


def test_masks_are_learned_where_they_are_asked_for(scenes: Path):
    learner, module = make(scenes, masks=True)
    batch = first_batch(module)
    assert all(target.masks is not None for target in batch.targets)
    loss, _ = learner.loss_of(batch)
    loss.backward()
    assert learner.network.mask_head is not None
    assert all(parameter.grad is not None for parameter in learner.network.mask_head.parameters())


def test_the_first_validation_knows_no_matches_and_the_second_those_of_the_first(scenes: Path):
    learner, _ = make(scenes)
    first, second = validate(learner), validate(learner)
    assert first["val_unstable"] is None
    assert second["val_unstable"] == 0
    assert {name: first[name] for name in first if name != "val_unstable"} == {
        name: second[name] for name in second if name != "val_unstable"
    }
    # Standing is what a checkpoint keeps.
    assert set(learner.standing.memory["matches"]) == {0, 1, 2}
    learner.network.query_embed.weight.data = learner.network.query_embed.weight.data.flip(0)
    assert validate(learner)["val_unstable"] == 1


def test_what_is_measured_lies_where_it_can(scenes: Path):
    learner, _ = make(scenes)
    row = validate(learner)
    assert tuple(row) == Detector.measures
    for name in ("val_entropy", "val_alike", "val_spread"):
        value = row[name]
        assert value is not None
        assert 0 < value < 1
    assert learner.objective({"val_map": 0.75}) == 0.25
    assert learner.objective({"val_map": None}) is None


def test_a_network_that_always_says_the_same_is_told_of_once(scenes: Path):
    learner, _ = make(scenes)
    validate(learner)  # before, it did not
    learner.take_remarks()
    learner.remarks.clear()
    nn.init.zeros_(learner.network.bbox_embed.layers[2].weight)  # pyright: ignore[reportArgumentType]
    learner.network.query_embed.weight.data[:] = learner.network.query_embed.weight.data[:1]
    row = validate(learner)
    assert row["val_spread"] == 0
    assert row["val_alike"] == pytest.approx(1, abs=1e-6)
    alike, spread = learner.take_remarks()
    assert alike.startswith(
        "epoch 1: all queries look at the same places (val_alike 1.000); if it stays so, more epochs"
    )
    assert spread.startswith(
        "epoch 1: every picture gets the same boxes (val_spread 0.000); if it stays so, more epoch"
    )
    validate(learner)
    assert learner.take_remarks() == ()


def test_a_single_picture_says_nothing_of_how_boxes_differ(scenes: Path):
    learner, _ = make(scenes)
    learner.network.eval()
    learner.validation_step([1], 0)
    assert learner.measured()["val_spread"] is None
    assert not any("every picture" in line for line in learner.take_remarks())


def test_attention_that_is_everywhere_alike_has_an_entropy_of_one(scenes: Path):
    learner, _ = make(scenes)
    for name, parameter in learner.network.decoder.layers[1].named_parameters():
        if name.startswith("cross_attn.in_proj"):
            nn.init.zeros_(parameter)
    row = validate(learner)
    assert row["val_entropy"] == pytest.approx(1, abs=1e-6)
    assert row["val_alike"] == pytest.approx(1, abs=1e-6)


def test_a_process_without_pictures_takes_part_in_validation(scenes: Path):
    learner, _ = make(scenes)
    learner.validation_step([-1], 0)
    assert learner.measured() == dict.fromkeys(Detector.measures)


@pytest.mark.parametrize(
    ("epochs", "stopped", "due"),
    [(7, None, [3, 6, 7]), (None, None, [3, 6, 9]), (None, "max_time", list(range(1, 10)))],
)
def test_every_few_epochs_have_a_validation_and_the_last(
    scenes: Path, epochs: int | None, stopped: str | None, due: list[int]
):
    limit = {"epochs": epochs, "max_time_s": None if epochs else 60.0}
    learner, _ = make(scenes, validate_every=3, **limit)
    learner.standing.stopped_by = stopped
    found = []
    for epoch in range(9 if epochs is None else epochs):
        learner.standing.epoch = epoch
        found += [epoch + 1] if learner.due(3) else []
    assert found == due
    learner.standing.epoch, learner.standing.stopped_by = 3, None
    learner.validation_step([0], 0)
    assert learner.measured() == dict.fromkeys(Detector.measures)  # epoch 4 has none


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(scenes: Path):
    _, module = make(scenes, augment="flips")
    orders = []
    for epoch in range(2):
        module.standing.epoch = epoch
        batches = list(module.train_dataloader())
        assert module.train_set.epoch == epoch
        orders.append([index for batch in batches for index in batch.indices])
        assert sorted(orders[-1]) == list(range(8))
    assert orders[0] != orders[1]
    module.standing.epoch, module.standing.batch = 0, 3
    assert [index for batch in module.train_dataloader() for index in batch.indices] == orders[0][6:]
    assert list(module.val_dataloader()) == [[0], [1], [2]]


def test_augmentation_follows_the_size_of_the_pictures(scenes: Path):
    prepared = Preparation(["a"], [1], [], 400, 667, 7, False)
    assert augmentation(DetectConfig(augment="none"), prepared) is None
    flips = augmentation(DetectConfig(augment="flips"), prepared)
    assert flips is not None
    assert (flips.shorts, flips.longest, flips.cropped, flips.flip) == ((400,), 667, 0, 0.5)
    assert augmentation(DetectConfig(), prepared) == Augmentation.around(prepared.size)
    boxes: Boxes = open_boxes(scenes)
    held = BoxSet(boxes.splits["train"], prepared.size, flips)
    assert held[0][0].shape == (3, 400, 577)


def frozen(learner: Detector) -> list[str]:
    return [name for name, parameter in learner.network.named_parameters() if not parameter.requires_grad]


@pytest.mark.parametrize(
    ("changes", "rests"),
    [
        ({}, lambda name: False),
        ({"backbone_learning_rate": 0.0}, lambda name: name.startswith("backbone.")),
        ({"train_only": "inserted"}, lambda name: not name.startswith("class_embed.")),
        ({"train_only": "inserted", "masks": True}, lambda name: not name.startswith("mask_")),
    ],
)
def test_what_rests_has_no_gradients(scenes: Path, changes: dict[str, Any], rests: Callable[[str], bool]):
    learner, _ = make(scenes, **changes)
    network: DETR = learner.network
    assert frozen(learner) == [name for name, _ in network.named_parameters() if rests(name)]
