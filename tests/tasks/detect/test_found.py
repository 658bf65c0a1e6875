"""From answers back to the picture: what answers exactly is found exactly."""

import pytest
import torch
from tests.tasks.detect.conftest import OPTIONS
from tests.tasks.detect.scenes import Scenes
from torch import Tensor

from foveate.networks import detr_tiny
from foveate.tasks.detect.augment import Augmentation, BoxSet, Size
from foveate.tasks.detect.found import Found, detect, read_answer
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.targets import Target, collate

BOXES = [[4, 7, 21, 30], [33, 11, 71, 29], [0, 0, 73, 41]]
PICTURE = Scenes((41, 73), BOXES)


def oracle(target: Target, classes: int, masks: Tensor | None = None) -> dict[str, Tensor]:
    """The answer of a network that knows: a query for each object, then one that finds nothing."""
    count = len(target.labels)
    logits = torch.full((1, count + 1, classes + 1), -9.0)
    logits[0, torch.arange(count), target.labels] = 9.0
    logits[0, count, classes] = 9.0
    boxes = torch.cat([target.boxes, torch.tensor([[0.5, 0.5, 0.1, 0.1]])])[None]
    return {"pred_logits": logits, "pred_boxes": boxes} | ({} if masks is None else {"pred_masks": masks})


@pytest.mark.parametrize("size", [Size(), Size(23, 31), Size(41, 73), Size(97, 130), Size(480, 1333)])
def test_boxes_come_back_in_the_pixels_of_the_picture_whatever_its_size_was(size: Size):
    image, target, _ = BoxSet(PICTURE, size)[0]
    found = read_answer(oracle(target, 7), (41, 73), (image.shape[1], image.shape[2]))
    wanted = torch.tensor(BOXES, dtype=torch.float32)
    assert (found.boxes_xyxy[:3] - wanted).abs().max() < 1
    assert found.labels[:3].tolist() == [3, 4, 5]
    assert (found.scores[:3] > 0.999).all()
    assert found.scores[3] < 1e-6  # no object is no class
    assert found.boxes_xyxy.dtype == found.scores.dtype == torch.float32


def test_what_pads_a_batch_does_not_move_a_box():
    others = BoxSet(Scenes((80, 31), [[0, 0, 9, 9]]), Size(23, 90))
    batch = collate([BoxSet(PICTURE, Size(23, 90))[0], others[0]])
    assert batch.images.shape == (2, 3, 59, 40)
    assert batch.padding[0].any()
    found = read_answer(oracle(batch.targets[0], 7), (41, 73), (23, 40))
    assert (found.boxes_xyxy[:3] - torch.tensor(BOXES)).abs().max() < 1


def test_what_is_flipped_and_cut_comes_back_as_what_is_left_of_it():
    change = Augmentation((31,), 60, (37,), (20, 29), flip=1.0, cropped=0.0)
    image, target, _ = BoxSet(PICTURE, augmentation=change)[0]
    found = read_answer(oracle(target, 7), (41, 73), (image.shape[1], image.shape[2]))
    mirrored = torch.tensor([[73 - right, top, 73 - left, bottom] for left, top, right, bottom in BOXES])
    assert (found.boxes_xyxy[:3] - mirrored).abs().max() < 1


@pytest.mark.parametrize("size", [Size(24, 48), Size(41, 73), Size(96, 192)])
def test_masks_come_back_in_the_pixels_of_the_picture(size: Size):
    given = size.of(41, 73)
    image, target, _ = BoxSet(PICTURE, size, masks=True)[0]
    assert tuple(image.shape[1:]) == given
    masks = torch.cat([target.masks, torch.zeros(1, *given, dtype=torch.bool)])  # pyright: ignore[reportCallIssue, reportArgumentType]
    grid = [-(-side // 2) for side in given]
    logits = torch.nn.functional.interpolate(masks[None].float() * 18 - 9, grid, mode="area")
    found = read_answer(oracle(target, 7, logits), (41, 73), given)
    assert found.masks is not None
    assert (found.masks.dtype, found.masks.shape) == (torch.bool, (4, 41, 73))
    for mask, (left, top, right, bottom) in zip(found.masks[:3], BOXES, strict=True):
        rows, columns = mask.nonzero().unbind(dim=1)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [edge.item() for edge in edges] == pytest.approx([left, top, right, bottom], abs=4 * 41 / given[0])
        assert mask.sum() == pytest.approx((right - left) * (bottom - top), rel=0.25)
    assert not found.masks[3].any()


def test_a_mask_is_where_its_logit_is_above_zero():
    logits = torch.tensor([[[[-0.2, 0.3], [0.0, 0.1]]]])
    found = read_answer(
        {"pred_logits": torch.zeros(1, 1, 3), "pred_boxes": torch.rand(1, 1, 4), "pred_masks": logits}, (4, 6), (2, 2)
    )
    assert found.masks is not None
    assert found.masks[0].tolist() == [[False] * 3 + [True] * 3] * 4


def test_scores_are_of_the_best_class_beside_no_object():
    logits = torch.tensor([[[0.0, 1.0, 5.0], [2.0, 1.0, 0.0]]])
    found = read_answer({"pred_logits": logits, "pred_boxes": torch.rand(1, 2, 4)}, (5, 7), (5, 7))
    assert found.labels.tolist() == [1, 0]
    assert torch.allclose(found.scores, logits[0].softmax(dim=1)[[0, 1], [1, 0]])
    assert found.masks is None


def test_queries_above_a_score_are_told_the_highest_first():
    scores = torch.tensor([0.3, 0.7, 0.5, 0.7, 0.1])
    found = Found(scores, torch.zeros(5, dtype=torch.long), torch.zeros(5, 4))
    assert len(found) == 5
    assert found.above(0.0).tolist() == [1, 3, 2, 0, 4]
    assert found.above(0.3).tolist() == [1, 3, 2]
    assert found.above(0.7).tolist() == []


def test_a_picture_is_detected_in_alone_at_its_size_without_gradients():
    network = detr_tiny(num_classes=2, num_queries=7, **OPTIONS).eval()
    prepared = Preparation(["a", "b"], [1, 2], [], 24, 40, 7, False)
    seen = []
    network.register_forward_pre_hook(lambda module, given: seen.append(given))
    found, answer = detect(network, prepared, PICTURE.image(0))
    assert [tuple(given[0].shape) for given in seen] == [(1, 3, 22, 39)]
    assert len(found) == 7
    assert not answer["pred_boxes"].requires_grad
    cx, cy, width, height = (answer["pred_boxes"][0] * torch.tensor([73, 41, 73, 41])).unbind(dim=1)
    edges = torch.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], dim=1)
    torch.testing.assert_close(found.boxes_xyxy, edges)
