"""What is found in slices, stitched to label maps and traced to lesions, told as JSON."""

import numpy as np
import pytest
import torch
from tests.tasks.lesions.conftest import SHAPE, oriented, truth_of
from tests.tasks.lesions.stacks import preparation, stack

from foveate.data.stacks import boxes_of
from foveate.data.volume_stacks import cut_stack
from foveate.data.volumes import Volume
from foveate.tasks.lesions.found import Found, Stitched, find, found_in
from foveate.tasks.lesions.results import results_of
from foveate.tasks.lesions.tracing import trace


def at(*boxes: tuple[float, float], label: int = 0) -> Found:
    """Boxes of 10 x 10 by the column where each begins and its score, the highest first."""
    edges = torch.tensor([[left, 0.0, left + 10, 10.0] for left, _ in boxes]).reshape(-1, 4)
    return Found(edges, torch.tensor([s for _, s in boxes]), torch.full((len(boxes),), label), None)


class Oracle(torch.nn.Module):
    """Finds what is there: the instances of a stack, in every slice."""

    def __init__(self, ready, score: float = 0.9) -> None:
        super().__init__()
        self.ready, self.score = ready, torch.nn.Parameter(torch.tensor(score))

    def detect(self, slices, bag_stride, only):
        assert bag_stride == self.ready.bag_stride
        for index in range(len(slices)):
            if index in only:
                objects, masks = self.ready.stack.objects(index)
                scores = self.score.detach().expand(len(objects))
                held = {"boxes": objects.boxes_xyxy, "labels": objects.labels + 1, "scores": scores}
                yield held | {"masks": masks[:, None].float()}


def test_an_answer_counts_classes_from_zero_and_masks_from_one_half():
    masks = torch.tensor([[[[0.4, 0.5]]]])
    found = found_in({"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2]), "masks": masks})
    assert found.labels.tolist() == [1]
    assert found.masks.tolist() == [[[False, True]]]
    assert found.above(1.0) is not found
    assert len(found.above(1.1)) == 0


def test_only_wanted_slices_are_found_each_with_its_number():
    ready = preparation().prepare(stack())
    seen = dict(find(Oracle(ready), ready, [4, 2]))  # pyright: ignore[reportArgumentType]
    assert list(seen) == [2, 4]
    assert [len(each) for each in seen.values()] == [1, 0]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("spacing", [(None, None), (1.0, 0.5)])
@pytest.mark.parametrize("turn", [0.0, 0.4])  # oblique, about the axis from feet to head
def test_what_is_there_comes_back_to_the_voxels_of_the_file_whatever_its_axes(number, plane, spacing, turn):
    truth = truth_of(number)
    assert truth.shape == SHAPE
    held, affine = oriented(truth, number)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = turned @ affine
    label = torch.from_numpy(held.astype(np.int32))
    mm = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    volume = Volume(label[None].float(), None, affine, mm, "v")
    cut = cut_stack(volume, 0, plane, label, torch.tensor([0]))
    ready = preparation(slice_mm=spacing[0], pixel_mm=spacing[1]).prepare(cut)
    stitched = Stitched(ready, 0.5)
    for index, found in find(Oracle(ready), ready, range(len(ready))):  # pyright: ignore[reportArgumentType]
        stitched.add(index, found)
    assert cut.back is not None
    assert cut.back(ready.back(stitched.labels)).equal(label.short())


def test_a_voxel_has_the_class_of_the_highest_score_that_claims_it():
    ready = preparation().prepare(stack())
    masks = torch.zeros(3, 12, 10, dtype=torch.bool)
    masks[0, :6], masks[1, 4:], masks[2] = True, True, True
    stitched = Stitched(ready, 0.5)
    stitched.add(1, Found(boxes_of(masks), torch.tensor([0.9, 0.7, 0.4]), torch.tensor([0, 1, 2]), masks))
    assert stitched.labels[1, :6].unique().tolist() == [1]
    assert stitched.labels[1, 6:].unique().tolist() == [2]
    assert not stitched.labels[[0, 2, 3, 4, 5]].any()


def test_boxes_that_follow_each_other_are_one_lesion_through_a_missing_slice_but_not_through_two():
    found = {0: at((0, 0.6)), 1: at((1, 0.9), (40, 0.8)), 2: at(), 3: at((3, 0.7)), 6: at((3, 0.65))}
    lesions = trace(found, 0.5)
    assert [lesion.slices for lesion in lesions] == [(0, 3), (1, 1), (6, 6)]
    assert [lesion.number for lesion in lesions] == [1, 2, 3]
    assert (lesions[0].surest, lesions[0].score, lesions[0].boxes) == (1, pytest.approx(0.9), {0: 0, 1: 0, 3: 0})
    assert lesions[0].box_xyxy == [1.0, 0.0, 11.0, 10.0]


def test_a_lesion_takes_one_box_a_slice_of_its_own_class_and_of_enough_score():
    twice = trace({0: at((0, 0.9)), 1: at((0, 0.8), (1, 0.7))}, 0.5)
    assert [lesion.boxes for lesion in twice] == [{0: 0, 1: 0}, {1: 1}]
    assert len(trace({0: at((0, 0.9)), 1: at((0, 0.8), label=1)}, 0.5)) == 2
    assert len(trace({0: at((0, 0.9)), 1: at((0, 0.4))}, 0.5)) == 1
    assert trace({0: at()}, 0.5) == []


def test_results_are_in_the_pixels_of_the_file_and_name_the_lesion_of_each_box():
    held = stack()
    prepared = preparation(slice_mm=1.0, pixel_mm=0.5)
    ready = prepared.prepare(held)
    found = dict(find(Oracle(ready), ready, range(len(ready))))  # pyright: ignore[reportArgumentType]
    told = results_of("s", held, ready, found, trace(found, 0.5), prepared)
    assert (told["slices"], told["slice_mm"], told["pixel_mm"]) == (12, 1.0, [1.0, 1.0])
    assert [image["slice"] for image in told["images"]] == [4, 5, 6, 7]
    assert {(image["height"], image["width"]) for image in told["images"]} == {(12, 10)}
    assert [entry["bbox"] for entry in told["annotations"]] == [[1.0, 5.0, 4.0, 3.0]] * 4
    assert {entry["lesion"] for entry in told["annotations"]} == {1}
    assert {entry["category_id"] for entry in told["annotations"]} == {1}
    from pycocotools import mask as coco

    drawn = coco.decode(told["annotations"][0]["segmentation"])
    assert drawn.shape == (12, 10)
    assert drawn.astype(bool).tolist() == (held.instances[2] > 0).tolist()
    (lesion,) = told["lesions"]
    assert (lesion["slices"], lesion["score"]) == ([4, 7], 0.9)
