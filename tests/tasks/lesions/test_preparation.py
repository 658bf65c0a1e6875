"""Volumes as the network sees them: values, spacing, bags, and the way back."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.tasks.lesions.stacks import preparation, stack

from foveate.data.boxes import Objects
from foveate.data.intensity import Intensity
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import Stacks
from foveate.data.volumes import Volume
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.preparation import Preparation, prepare_for, resized


def stacks(modality: str = "CT") -> Stacks:
    splits = {"train": [0], "val": [0], "test": [0]}
    return Stacks("data", ["lesion"], [1], modality, splits, "by hand")  # pyright: ignore[reportArgumentType]


def test_a_window_of_hounsfield_units_becomes_zero_to_one():
    assert prepare_for(LesionConfig(data="x"), stacks()).intensity == Intensity("window", -200.0, 300.0)
    assert prepare_for(LesionConfig(data="x", window="liver"), stacks()).intensity == Intensity("window", -45.0, 105.0)
    found = prepare_for(LesionConfig(data="x", window=[0, 100]), stacks()).scaled(torch.tensor([-5.0, 25.0, 200.0]))
    assert found.tolist() == [0.0, 0.25, 1.0]


def test_scans_without_a_unit_are_standardised_into_zero_to_one():
    prepared = prepare_for(LesionConfig(data="x"), stacks("T1"))
    found = prepared.scaled(torch.randn(4, 50, 50) * 300 + 1000)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.mean().item() == pytest.approx(0.5, abs=0.01)
    assert found.std().item() == pytest.approx(1 / 6, abs=0.01)


def test_windows_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"^window is for CT; data has T1$"):
        prepare_for(LesionConfig(data="x", window="liver"), stacks("T1"))
    with pytest.raises(LookupError, match=r"^no window 'lever'; there are abdomen,"):
        prepare_for(LesionConfig(data="x", window="lever"), stacks())


def test_a_slice_has_its_neighbours_and_a_bag_stays_in_its_volume():
    ready = preparation().prepare(stack())
    assert (ready[0][:, 0, 0] * 10).tolist() == [0, 0, 1]
    assert (ready[5][:, 0, 0] * 10).tolist() == [4, 5, 5]
    assert [round(10 * number) for number in ready.bag(1, 5)[:, 1, 0, 0].tolist()] == [0, 0, 1, 2, 3]
    assert ready.bag(3, 1).shape == (3, 12, 10)
    assert preparation().prepare(stack(depth=1)).bag(0, 9).shape == (9, 3, 12, 10)


@pytest.mark.parametrize(("mm", "between", "stride"), [(5.0, 2.0, 2), (5.0, 1.0, 5), (1.0, 4.0, 1), (3.9, 2.0, 2)])
def test_millimetres_between_the_pictures_of_a_bag_are_whole_slices_of_each_volume(mm, between, stride):
    ready = preparation(bag_mm=mm).prepare(stack(spacing=(between, 1.0, 1.0)))
    assert ready.bag_stride == stride
    assert preparation(bag_mm=mm, slice_mm=between / 2).prepare(ready.stack).bag_stride == max(
        1, round(2 * mm / between)
    )


def test_a_bag_strides_to_both_sides_of_its_slice():
    bag = preparation(bag_stride=2).prepare(stack(depth=9)).bag(5, 3)
    assert (bag[:, :, 0, 0] * 10).round().tolist() == [[2, 3, 4], [4, 5, 6], [6, 7, 8]]


def test_resampling_mixes_no_labels_and_comes_back_to_the_same_place():
    held = stack()
    ready = preparation(slice_mm=1.0, pixel_mm=0.5).prepare(held)
    assert ready.stack.slices.shape == (12, 24, 20)
    assert ready.stack.spacing == (1.0, 0.5, 0.5)
    assert set(ready.stack.instances.unique().tolist()) == {0, 1}
    assert ready.back(ready.stack.instances).equal(held.instances)
    assert ready.stack.objects(5)[0].boxes_xyxy.tolist() == [[2.0, 10.0, 10.0, 16.0]]
    coarse = preparation(slice_mm=4.0).prepare(held)
    assert (len(coarse), coarse.back(coarse.stack.instances).shape) == (3, (6, 12, 10))


def test_boxes_follow_the_resampling_where_masks_are_not_known():
    box = Objects(torch.tensor([[1.0, 5.0, 5.0, 8.0]]), torch.tensor([0]), torch.tensor([False]), torch.tensor([12.0]))
    held = dataclasses.replace(stack(), instances=None, boxes={2: box}, annotated=torch.arange(6) == 2)
    ready = preparation(slice_mm=1.0, pixel_mm=0.5, masks=False).prepare(held)
    assert ready.stack.annotated.nonzero()[:, 0].tolist() == [4, 5]
    objects, masks = ready.stack.objects(5)
    assert (objects.boxes_xyxy.tolist(), objects.areas.tolist(), masks) == ([[2.0, 10.0, 10.0, 16.0]], [48.0], None)


@pytest.mark.parametrize("slice_mm", [None, 0.7, 1.0, 3.0, 5.0])
def test_what_is_known_of_a_volume_agrees_with_its_slices_after_resampling(slice_mm):
    held = stack()
    prepared = preparation(slice_mm=slice_mm)
    facts = StackFacts("train", "s", 6, (12, 10), held.spacing, 1, [2, 3], [0, 1, 4, 5], None)
    shown, ready = prepared.shown(facts), prepared.prepare(held)
    there = [index for index in range(len(ready)) if bool((ready.stack.instances[index] > 0).any())]
    assert shown.with_lesion == there
    assert sorted(shown.with_lesion + shown.without) == list(range(len(ready)))
    assert prepared.size_of(facts) == ready.nbytes


def test_a_preparation_is_the_same_after_writing_and_reading():
    held = preparation(bag_mm=5.0, slice_mm=2.5)
    assert Preparation.from_json(held.to_json()) == held


def test_labels_of_many_lesions_are_resized_exactly():
    numbers = torch.arange(2**24, 2**24 + 8, dtype=torch.int32).reshape(2, 2, 2)
    assert resized(numbers, (4, 4, 4), labels=True)[::2, ::2, ::2].equal(numbers)


@pytest.mark.parametrize("key", range(6))
def test_a_slice_whose_boxes_are_known_is_not_lost_where_slices_become_fewer(key: int):
    box = Objects(torch.tensor([[1.0, 5.0, 5.0, 8.0]]), torch.tensor([0]), torch.tensor([False]), torch.tensor([12.0]))
    held = dataclasses.replace(stack(), instances=None, boxes={key: box}, annotated=torch.arange(6) == key)
    prepared = preparation(slice_mm=4.0, masks=False)
    ready = prepared.prepare(held)
    assert ready.stack.annotated.nonzero()[:, 0].tolist() == sorted(ready.stack.boxes) == [key // 2]
    facts = StackFacts("train", "s", 6, (12, 10), held.spacing, 1, [key], [], None)
    assert prepared.shown(facts).with_lesion == [key // 2]


def test_what_is_ready_holds_its_slices_once():
    volume = Volume(stack().slices[None], None, np.eye(4), (1.0, 1.0, 1.0), "s")
    ready = preparation().prepare(dataclasses.replace(stack(), volume=volume, back=lambda slices: slices))
    assert (ready.stack.volume, ready.stack.back) == (None, None)
