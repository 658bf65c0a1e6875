import numpy as np
import pytest
import torch

from foveate.tasks.cases import CaseStore, Room
from foveate.tasks.segment.grid import Grid
from foveate.tasks.segment.patches import PatchSet, augmentation, cut, places_of
from foveate.tasks.segment.preparation import Prepared


def case(number: int, shape: tuple[int, ...] = (12, 13, 14)) -> Prepared:
    """A case in which every voxel has its own value, with a class in a corner."""
    image = torch.arange(np.prod(shape), dtype=torch.float32).reshape(1, *shape) + 10_000 * number
    label = torch.zeros(shape, dtype=torch.uint8)
    label[-2:, -2:, -2:] = 1
    axes = tuple(range(len(shape)))
    return Prepared(str(number), image, label, Grid(axes, (), shape, shape), places_of(label, 2))


def patches(change: object = None, seed: int = 0, foreground: float = 1 / 3) -> PatchSet:
    return PatchSet(CaseStore(3, case, Room(100)), (8, 8, 8), 9, foreground, change, seed)


def test_patches_are_a_function_of_seed_epoch_and_number():
    one, other = patches(foreground=0), patches(foreground=0)
    alone = other[5]
    images, labels = one.__getitems__([2, 5, 7])
    assert torch.equal(images[1], alone[0])
    assert torch.equal(labels[1], alone[1])
    other.epoch = 1
    assert not torch.equal(other[5][0], alone[0])
    assert not torch.equal(patches(seed=1, foreground=0)[5][0], alone[0])


def test_cases_take_turns_from_epoch_to_epoch():
    held = patches()
    held.count = 4
    numbers = []
    for held.epoch in range(3):
        numbers += [int(held[index][0].min()) // 10_000 for index in range(4)]
    assert numbers == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_the_share_of_foreground_is_kept():
    always, never = patches(foreground=1.0), patches(foreground=0.0)
    assert all(always[index][1].any() for index in range(9))
    random = np.random.default_rng(0)
    large = case(0, (30, 30, 30))
    found = [bool(cut(large, (6, 6, 6), 0.5, random)[1].any()) for _ in range(200)]
    assert 80 < sum(found) < 120
    assert not all(never[index][1].any() for index in range(9))


def test_every_class_is_as_likely():
    label = torch.zeros(30, 30, 30, dtype=torch.uint8)
    label[:15] = 1
    label[29, 29, 29] = 2
    held = Prepared("a", torch.zeros(1, 30, 30, 30), label, case(0).grid, places_of(label, 4))
    random = np.random.default_rng(0)
    rare = [bool((cut(held, (4, 4, 4), 1.0, random)[1] == 2).any()) for _ in range(200)]
    assert 80 < sum(rare) < 120


def test_image_and_label_are_cut_alike_and_padded_with_zeros():
    held = case(0, (5, 20, 6))
    image, label = cut(held, (8, 8, 8), 1.0, np.random.default_rng(0))
    assert image.shape == (1, 8, 8, 8)
    assert label.shape == (8, 8, 8)
    assert torch.equal(image[0, [0, -2, -1]], torch.zeros(3, 8, 8))  # 5 of 8, one before and two behind
    assert held.label is not None
    marked = held.image[0][held.label > 0]
    assert set(image[0][label > 0].tolist()) <= set(marked.tolist())


def test_a_store_keeps_what_fits_and_makes_the_rest_again():
    made: list[int] = []

    def make(index: int) -> Prepared:
        made.append(index)
        return case(index, (64, 64, 32))  # 640 KiB

    room = Room(1)
    store = CaseStore(3, make, room)
    store.fill()
    before = len(made)
    assert store[0].name == "0"
    assert len(made) == before
    assert store[2].name == "2"
    assert len(made) == before + 1
    beside = CaseStore(3, make, room)  # which finds no room for another one
    assert beside[0] is not beside[0]


def test_axes_that_do_not_exist_are_not_flipped():
    with pytest.raises(ValueError, match=r"^flip_axes are 0 to 1; got \[2\]$"):
        augmentation("flips", 2, [2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flips", "standard", "elastic"])
@pytest.mark.parametrize("dims", [2, 3])
def test_augmentation_is_repeatable_and_moves_labels_with_images(name, dims):
    shape = (24, 24, 24)[:dims]
    label = torch.zeros(shape, dtype=torch.uint8)
    label[tuple(slice(3, 15 + axis) for axis in range(dims))] = 2
    held = Prepared("a", label[None].float() * 100, label, Grid(tuple(range(dims)), (), shape, shape))
    change = augmentation(name, dims)
    sets = [PatchSet(CaseStore(1, lambda index: held, Room(100)), shape, 20, 0.0, change, 3) for _ in range(2)]
    images, labels = sets[0].__getitems__(list(range(20)))
    assert torch.equal(sets[1][7][0], images[7])
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) == {0, 2}
    assert len({tuple(each.flatten().tolist()) for each in labels}) > 3
    inside, outside = images[:, 0][labels == 2], images[:, 0][labels == 0]
    assert inside.mean() > 120
    assert outside.mean() < 40
