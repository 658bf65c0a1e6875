import pytest
import torch
from tests.tasks.detect.answers import random_boxes
from torchvision.ops import box_convert, generalized_box_iou

from foveate.tasks.detect.geometry import cxcywh, giou, xyxy


def test_both_ways_of_writing_a_box_are_torchvisions():
    boxes = random_boxes(7)
    torch.testing.assert_close(xyxy(boxes), box_convert(boxes, "cxcywh", "xyxy"))
    torch.testing.assert_close(cxcywh(xyxy(boxes)), boxes)


def test_overlap_of_every_pair_is_torchvisions():
    one, other = xyxy(random_boxes(7)), xyxy(random_boxes(5, seed=1))
    found = giou(one[:, None], other)
    torch.testing.assert_close(found, generalized_box_iou(one, other), rtol=0, atol=1e-15)
    torch.testing.assert_close(giou(one[:5], other), found[:5].diagonal())


def test_overlap_by_hand():
    # Intersection 1, union 7, hull 9.
    found = giou(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3]))
    assert found.item() == pytest.approx(1 / 7 - 2 / 9)


def test_boxes_without_area_overlap_with_nothing_and_have_finite_gradients():
    boxes = torch.zeros(1, 4, requires_grad=True)
    found = giou(boxes, boxes.detach())
    found.sum().backward()
    assert found.item() == 0
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()
