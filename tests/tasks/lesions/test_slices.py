"""The slices of an epoch, and how chance changes a bag and what is to be found in it."""

import dataclasses
from collections import Counter

import pytest
import torch
from tests.tasks.lesions.stacks import preparation, stack

from foveate.data.boxes import Objects
from foveate.data.stacks import boxes_of
from foveate.tasks.cases import CaseStore, Room
from foveate.tasks.lesions.slices import SliceSet, changed, grouped, per_epoch, target_of

READY = preparation().prepare(stack())


def slices(augment: str = "none", seed: int = 0, groups=(0, 0), empty: float = 0.5, bag: int = 3) -> SliceSet:
    store = CaseStore(2, lambda index: READY, Room(10))
    with_lesion, without = [(0, 2), (0, 3), (1, 2), (1, 3)], [(volume, at) for volume in (0, 1) for at in (0, 1, 4, 5)]
    return SliceSet(store, with_lesion, without, empty=empty, groups=groups, bag=bag, augment=augment, seed=seed)


def test_an_epoch_has_every_slice_with_a_lesion_and_others_by_chance():
    held = slices()
    assert len(held) == 6 == per_epoch(4, 8, 0.5)
    assert per_epoch(4, 8, 9.0) == 12
    first = [held.place(index) for index in range(6)]
    assert first[:4] == held.with_lesion
    held.epoch = 1
    seen = {held.place(5)} | {held.place(4)}
    for held.epoch in range(2, 12):
        seen |= {held.place(4), held.place(5)}
    assert len(seen) == 8
    held.epoch = 0
    assert [held.place(index) for index in reversed(range(6))] == first[::-1]
    assert [slices(seed=1).place(index) for index in range(4, 6)] != first[4:]


def test_a_sample_is_a_function_of_seed_epoch_and_number():
    one, two = slices("standard"), slices("standard")
    two[5], two[0]
    image, target = one[2]
    again, same = two[2]
    assert image.equal(again)
    assert all(target[name].equal(same[name]) for name in target)
    two.epoch = 1
    assert not two[2][0].equal(image)


def test_each_slice_of_an_epoch_is_changed_in_a_way_of_its_own():
    held = slices("standard")
    for held.epoch in range(3):
        same = [held[index][0].equal(held[index + 2][0]) for index in range(2)]  # twice the same slices
        assert not any(same)


def test_a_sample_is_a_bag_with_the_targets_of_its_middle():
    image, target = slices()[0]
    assert image.shape == (3, 3, 12, 10)
    assert (image[:, 1, 0, 0] * 10).round().tolist() == [1, 2, 3]
    assert target["boxes"].tolist() == [[1.0, 5.0, 5.0, 8.0]]
    assert target["labels"].tolist() == [1]
    assert target["masks"].sum() == 12
    assert slices(bag=1)[0][0].shape == (3, 12, 10)
    assert target_of(READY, 0)["boxes"].shape == (0, 4)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("moved", [False, True])
def test_a_bag_its_masks_and_its_boxes_move_alike(seed, moved):
    mask = torch.zeros(2, 40, 36, dtype=torch.uint8)
    mask[0, 12:22, 9:20], mask[1, 25:30, 20:30] = 1, 1
    image = (mask[0] + 2 * mask[1]).float().expand(5, 3, -1, -1)
    target = {"boxes": boxes_of(mask > 0), "labels": torch.tensor([1, 2]), "masks": mask}
    generator = torch.Generator().manual_seed(seed)
    seen, held = changed(image, target, generator, moved=moved)
    assert seen.shape == image.shape
    assert all(each.equal(seen[0, 0]) for each in seen.flatten(0, 1))
    assert held["boxes"].equal(boxes_of(held["masks"] > 0))
    for label, own in zip(held["labels"].tolist(), held["masks"], strict=True):
        near = (seen[0, 0] - label).abs()[own > 0] < 0.6  # but for the rim, which interpolation mixes
        assert near.float().mean() > (0.6 if moved else 0.99)
    bare = {name: target[name] for name in ("boxes", "labels")}
    again, boxes = changed(image, bare, torch.Generator().manual_seed(seed), moved=moved)
    assert again.equal(seen)
    torch.testing.assert_close(boxes["boxes"], held["boxes"], atol=1.5, rtol=0)


def test_an_object_that_leaves_the_picture_is_left_out():
    mask = torch.zeros(1, 40, 40, dtype=torch.uint8)
    mask[0, 0, 0] = 1
    target = {"boxes": boxes_of(mask > 0), "labels": torch.tensor([1]), "masks": mask}
    assert target["boxes"].tolist() == [[0.0, 0.0, 1.0, 1.0]]  # a pixel has an area
    counts = Counter()
    for seed in range(40):
        _, held = changed(torch.zeros(3, 40, 40), target, torch.Generator().manual_seed(seed), moved=True)
        assert len(held["boxes"]) == len(held["labels"]) == len(held["masks"])
        assert ((held["boxes"][:, 2:] - held["boxes"][:, :2]) >= 1).all()
        counts[len(held["labels"])] += 1
    assert counts[0] > 0
    assert counts[1] > 0


def test_volumes_are_grouped_by_the_room_that_there_is():
    assert grouped([3, 3, 3, 9, 1], 7) == [0, 0, 1, 2, 3]
    assert grouped([1, 2, 3], 100) == [0, 0, 0]
    held = slices(groups=(1, 0))
    assert held.groups()[:4] == [1, 1, 0, 0]


def test_a_case_takes_the_room_of_the_oldest_where_they_take_turns():
    made = []

    def make(index: int):
        made.append(index)
        return READY

    def reads(*indices: int, turns: bool) -> list[int]:
        room = Room(1)
        room.left = int(2.5 * READY.nbytes)
        store = CaseStore(4, make, room, turns=turns)
        made.clear()
        for index in indices:
            assert store[index] is READY
        return list(made)

    assert reads(0, 1, 0, 1, 2, 3, 2, 3, turns=True) == [0, 1, 2, 3]
    assert reads(0, 1, 0, 1, 2, 3, 2, 3, turns=False) == [0, 1, 2, 3, 2, 3]


def test_boxes_alone_make_targets_without_masks():
    held = dataclasses.replace(READY, stack=dataclasses.replace(READY.stack, instances=None))
    assert set(target_of(held, 0)) == {"boxes", "labels"}


def test_a_crowd_is_nothing_to_be_found():
    boxes = torch.tensor([[1.0, 5.0, 5.0, 8.0], [0.0, 0.0, 9.0, 9.0]])
    held = Objects(boxes, torch.tensor([0, 0]), torch.tensor([False, True]), torch.tensor([12.0, 81.0]))
    ready = preparation(masks=False).prepare(dataclasses.replace(stack(), instances=None, boxes={2: held}))
    target = target_of(ready, 2)
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[1.0, 5.0, 5.0, 8.0]], [1])


def test_filling_a_store_lets_go_of_nothing():
    made = []
    room = Room(1)
    room.left = 2 * READY.nbytes
    store = CaseStore(4, lambda index: made.append(index) or READY, room, turns=True)
    store.fill()
    assert made == [0, 1, 2]
    for index in (0, 1, 3, 1):
        assert store[index] is READY
    assert made == [0, 1, 2, 3]  # the first one made room
