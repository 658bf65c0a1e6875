"""What is measured of how a network weighs the slices of a bag."""

import pytest
import torch
from tests.tasks.lesions.stacks import preparation, stack

from foveate.data.stack_checks import StackFacts
from foveate.networks import va_mask_rcnn_tiny
from foveate.tasks.lesions.looks import look


class OneStack:
    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return "s"

    def stack(self, index: int):
        return stack(self.depth)


def neighbours(depth: int, lesion: int, **options) -> float | None:
    torch.manual_seed(0)
    network = va_mask_rcnn_tiny(bag=3, min_size=64, max_size=64, **options).eval()
    facts = [StackFacts("test", "s", depth, (12, 10), (2.0, 1.0, 1.0), 1, [lesion], [], None)]
    return look(network, list(network.sites), preparation(), OneStack(depth), facts).neighbours


def test_the_target_that_stands_again_beyond_an_end_is_no_neighbour():
    assert neighbours(1, 0) == 0
    # Slices are nearly alike to random weights, which weigh the three pictures of a bag alike.
    assert neighbours(6, 0) == pytest.approx(1 / 3, abs=0.05)
    assert neighbours(6, 2) == pytest.approx(2 / 3, abs=0.05)


def test_a_bag_without_its_target_has_nothing_but_neighbours():
    assert neighbours(6, 2, include_target=False) is None
