from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.data import open_pictures
from foveate.data.medmnist import ArraySplit
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import EpochBatches, PictureSet, WholeBatches, augmentation, draw_seed

GREY = Preprocess(["a", "b", "c"], 1, (16, 16), (0.0,), (1.0,))


def test_an_epoch_sees_every_picture_at_most_once():
    batches = list(EpochBatches(23, 5, seed=0, epoch=0))
    seen = [index for batch in batches for index in batch]
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len(set(seen)) == 20
    assert len(EpochBatches(23, 5, seed=0, epoch=0)) == 4


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[list[int]]:
        torch.manual_seed(int(np.random.default_rng().integers(1000)))
        return list(EpochBatches(23, 5, seed, epoch))

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_an_epoch_goes_on_where_it_was_left():
    whole = list(EpochBatches(23, 5, 0, 0))
    assert list(EpochBatches(23, 5, 0, 0, start=3)) == whole[3:]
    assert len(EpochBatches(23, 5, 0, 0, start=3)) == 1


def test_processes_share_a_batch():
    whole = list(EpochBatches(23, 6, 0, 0))
    shares = [list(EpochBatches(23, 6, 0, 0, rank=rank, world=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(first + second) == sorted(batch)
        assert len(first) == len(second) == 3


def test_fewer_pictures_than_a_batch_are_one_batch():
    assert [sorted(batch) for batch in EpochBatches(3, 5, 0, 0)] == [[0, 1, 2]]


def test_every_picture_is_evaluated_once():
    shares = [index for rank in range(3) for batch in WholeBatches(11, 2, rank, 3) for index in batch]
    assert sorted(shares) == list(range(11))
    assert len(WholeBatches(11, 2, 0, 3)) == 2


@pytest.mark.parametrize("augment", ["digits", "standard", "crops", "trivial"])
def test_augmentation_depends_on_seed_epoch_and_number_alone(shapes: Path, augment: str):
    split = open_pictures(shapes).splits["train"]

    def fetch(seed: int, epoch: int, indices: list[int]) -> torch.Tensor:
        torch.manual_seed(int(np.random.default_rng().integers(1000)))
        pictures = PictureSet(split, GREY, augment, seed)
        pictures.epoch = epoch
        return pictures.__getitems__(indices)[0]

    images = fetch(0, 0, [3, 5, 7, 11])
    assert images.shape == (4, 1, 16, 16)
    assert images.dtype == torch.uint8
    # Neither the neighbours in the batch nor what was drawn before matter.
    assert torch.equal(fetch(0, 0, [7, 2])[0], images[2])
    assert not torch.equal(fetch(0, 1, [3, 5, 7, 11]), images)
    assert not torch.equal(fetch(1, 0, [3, 5, 7, 11]), images)


def test_augmentation_leaves_the_random_numbers_of_others_alone(shapes: Path):
    pictures = PictureSet(open_pictures(shapes).splits["train"], GREY, "trivial", 0)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    pictures.__getitems__([1, 2])
    assert torch.equal(torch.rand(3), expected)


def test_shifted_digits_are_never_mirrored():
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[0, 3, 2], image[0, 3, 4] = 1, 2
    change = augmentation("digits", (8, 8))
    assert change is not None
    for _ in range(30):
        flat = change(image).flatten().tolist()
        assert 2 not in flat or 1 not in flat or flat.index(1) < flat.index(2)


def test_without_augmentation_a_picture_is_itself(shapes: Path):
    split = open_pictures(shapes).splits["val"]
    images, labels = PictureSet(split, GREY).__getitems__([4, 2, 4])
    assert torch.equal(images[0], split.image(4))
    assert torch.equal(images[0], images[2])
    assert labels.tolist() == [split.label(4), split.label(2), split.label(4)]


def test_crops_are_cut_from_the_picture_as_it_is():
    # A large picture with one bright corner: what is brought to size first would blur, crops see single pixels.
    picture = np.zeros((1, 64, 64, 1), np.uint8)
    picture[0, ::2] = 255
    pictures = PictureSet(ArraySplit(picture, np.zeros(1, int)), GREY, "crops", 0)
    assert pictures.__getitems__([0])[0].shape == (1, 1, 16, 16)


def test_seeds_are_well_mixed():
    seeds = {draw_seed(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert draw_seed(1, 23) != draw_seed(12, 3)
