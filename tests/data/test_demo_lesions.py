import copy
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.inv3_files import write_inv3

from foveate.data import demo_lesions
from foveate.data.demo_lesions import DEPTH, SIDE, Blob, open_demo_lesions
from foveate.data.stacks import Stacks
from foveate.errors import DataError


@pytest.fixture(params=["texture", "head"])
def lesions(request, tmp_path: Path, monkeypatch) -> Stacks:
    """The set on either background; the head is a made one, so that the test is the same everywhere."""
    path = tmp_path / "head.inv3"
    if request.param == "head":
        write_inv3(path, np.full((90, 160, 160), 30, np.int16))
    monkeypatch.setattr(demo_lesions, "HEAD", path)
    return open_demo_lesions.__wrapped__()


def test_the_set_says_what_it_is_and_what_is_behind_the_lesions(lesions):
    assert (lesions.classes, lesions.modality, lesions.masks) == (["lesion"], "CT", True)
    assert [len(split) for split in lesions.splits.values()] == [48, 8, 24]
    assert str(demo_lesions.HEAD) in lesions.rule
    assert ("a texture" in lesions.rule) == (not demo_lesions.HEAD.is_file())
    stack = lesions.splits["val"].stack(1)
    assert (stack.name, len(stack)) == (lesions.splits["val"].name(1), DEPTH)
    assert (stack.slices.dtype, stack.slices.shape) == (torch.float32, (DEPTH, SIDE, SIDE))
    assert stack.annotated.all()
    with pytest.raises(IndexError, match="volumes 0 to 7; got 8"):
        lesions.splits["val"].stack(8)


def test_a_volume_is_decided_by_its_number_whatever_was_asked_before(lesions):
    split, other = lesions.splits["test"], open_demo_lesions.__wrapped__().splits["test"]
    split.stack(3)
    one, two = split.stack(2), pickle.loads(pickle.dumps(copy.copy(other))).stack(2)
    assert torch.equal(one.slices, two.slices)
    assert torch.equal(one.instances, two.instances)
    assert not torch.equal(one.instances, split.stack(3).instances)
    assert not torch.equal(one.instances, lesions.splits["train"].stack(2).instances)
    assert not torch.equal(one.instances, open_demo_lesions.__wrapped__(seed=1).splits["test"].stack(2).instances)


def test_the_masks_are_those_of_the_lesions_and_of_no_distractor(lesions):
    split = lesions.splits["train"]
    stack, found = split.stack(0), split.lesions(0)
    assert len(stack.labels) == len(found) == 4
    assert len(split.distractors(0)) == 20
    for number, blob in enumerate(found, start=1):
        mask = stack.instances == number
        assert 7 <= blob.length <= 13
        assert mask.flatten(1).any(dim=1).nonzero()[:, 0].tolist() == list(range(DEPTH)[blob.slices])
        assert (mask[blob.slices] == torch.from_numpy(blob.mask())).all()
    for blob in split.distractors(0):
        assert not stack.instances[blob.slices, round(blob.row), round(blob.column)].any()
    objects, masks = stack.objects(found[0].first)
    assert masks is not None
    assert len(objects) == len(masks) >= 1


def test_a_volume_holds_its_background_and_equal_signals_over_whole_ranges_of_slices(lesions, monkeypatch):
    split = lesions.splits["train"]
    held, blobs = split.stack(1).slices, [*split.lesions(1), *split.distractors(1)]
    wanted = torch.zeros(DEPTH, SIDE, SIDE)
    for blob in blobs:
        wanted[blob.slices] += torch.from_numpy(blob.signal())
    monkeypatch.setattr(Blob, "signal", lambda self: np.zeros((SIDE, SIDE), np.float32))
    background = split.stack(1).slices
    assert torch.allclose(held - background, wanted, atol=1e-3)
    assert all(blob.length == 3 for blob in split.distractors(1))
    assert all(0 < blob.first < blob.slices.stop < DEPTH for blob in blobs)


def test_nothing_touches_anything_in_any_slice(lesions):
    split = lesions.splits["val"]
    blobs = [*split.lesions(0), *split.distractors(0)]
    for number, one in enumerate(blobs):
        for other in blobs[:number]:
            distance = np.hypot(one.row - other.row, one.column - other.column)
            assert distance > one.radii[0] + other.radii[0] + 2


def test_distractors_look_as_the_lesions_of_their_volume_do(lesions):
    split = lesions.splits["train"]
    looks = [Counter((blob.radii, blob.contrast) for blob in draw(2)) for draw in (split.lesions, split.distractors)]
    assert set(looks[0].values()) == {1}
    assert looks[1] == dict.fromkeys(looks[0], 5)
    areas = [np.mean([blob.mask().sum() for blob in draw(2)]) for draw in (split.lesions, split.distractors)]
    assert areas[0] == pytest.approx(areas[1], rel=0.03)


@pytest.mark.slow
def test_three_slices_tell_neither_a_lesion_nor_where_there_are_more_of_them(lesions):
    """Inside of lesions and in the middle of distractors: contrast, extent, place and slice have one distribution."""
    split = lesions.splits["train"]
    inside, middle = [], []
    for index in range(len(split)):
        for blob in split.lesions(index):
            inside.extend((number, blob) for number in range(blob.first + 1, blob.slices.stop - 1))
        middle.extend((blob.first + 1, blob) for blob in split.distractors(index))
    draws = 4 * len(split)  # the slices of a lesion are no draws of their own
    for measure in (
        lambda number, blob: number,
        lambda number, blob: blob.contrast,
        lambda number, blob: blob.radii[0] * blob.radii[1],
        lambda number, blob: abs(blob.row - SIDE / 2),
        lambda number, blob: abs(blob.column - SIDE / 2),
    ):
        one, other = (np.array([measure(*each) for each in kind], float) for kind in (inside, middle))
        error = one.std() / draws**0.5
        assert abs(one.mean() - other.mean()) < 3 * error
        assert 0.85 < one.std() / other.std() < 1.15


def test_a_volume_lies_in_space_so_that_predictions_can_be_written(lesions):
    stack = lesions.splits["val"].stack(0)
    assert stack.volume is not None
    assert stack.back is not None
    assert torch.equal(stack.back(stack.slices), stack.volume.image[0])
    assert torch.equal(stack.back(stack.instances) > 0, stack.volume.label > 0)
    assert np.allclose(np.abs(np.diag(stack.volume.affine))[:3], stack.volume.spacing)
    assert stack.volume.spacing == stack.spacing[::-1]
    assert stack.spacing[0] == 1.5


def test_the_splits_share_no_slice_of_the_head(tmp_path, monkeypatch):
    """Each slice of the made head has a number of its own."""
    head = np.repeat(np.arange(90, dtype=np.int16), 64 * 64).reshape(90, 64, 64)
    write_inv3(tmp_path / "head.inv3", head)
    monkeypatch.setattr(demo_lesions, "HEAD", tmp_path / "head.inv3")
    monkeypatch.setattr(Blob, "signal", lambda self: np.zeros((SIDE, SIDE), np.float32))
    splits = open_demo_lesions.__wrapped__().splits
    seen = {
        name: {value for k in range(3) for value in split.stack(k).slices.round().unique().tolist()}
        for name, split in splits.items()
    }
    assert min(map(len, seen.values())) >= DEPTH
    assert not seen["train"] & seen["val"]
    assert not seen["val"] & seen["test"]
    assert not seen["train"] & seen["test"]


def test_where_tissue_is_scarce_fewer_are_put_in(tmp_path, monkeypatch):
    write_inv3(tmp_path / "head.inv3", np.full((90, 64, 64), -1000, np.int16))
    monkeypatch.setattr(demo_lesions, "HEAD", tmp_path / "head.inv3")
    stack = open_demo_lesions.__wrapped__().splits["val"].stack(0)
    assert len(stack.labels) == 0
    assert not stack.instances.any()


def test_a_head_that_is_damaged_or_too_short_is_an_error_and_no_texture(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_lesions, "HEAD", tmp_path / "head.inv3")
    demo_lesions.HEAD.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"head.inv3 is damaged and cannot be read"):
        open_demo_lesions.__wrapped__()
    write_inv3(demo_lesions.HEAD, np.zeros((89, 8, 8), np.int16))
    with pytest.raises(DataError, match=r"head.inv3 must have 90 slices or more; it has 89"):
        open_demo_lesions.__wrapped__()
