import numpy as np
import pytest
import torch
from torch import nn

from foveate.data.volumes import Volume
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.grid import Grid, grid_for
from foveate.tasks.segment.inference import Prediction, keep_largest, predict_case, slide
from foveate.tasks.segment.scoring import _flipped

CPU = torch.device("cpu")


def test_the_largest_part_of_each_class_is_kept():
    label = torch.tensor([[1, 1, 0, 2], [0, 0, 1, 2], [2, 0, 0, 2]], dtype=torch.uint8)
    expected = torch.tensor([[1, 1, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]], dtype=torch.uint8)
    assert torch.equal(keep_largest(label), expected)  # parts that touch by a corner are two
    assert label[1, 2] == 1
    assert torch.equal(keep_largest(torch.zeros(2, 2, dtype=torch.uint8)), torch.zeros(2, 2, dtype=torch.uint8))


def test_classes_are_decided_on_the_grid_of_the_file():
    # Two voxels of the network's grid over four of the file: the change lies where the blended probabilities cross.
    volume = Volume(torch.zeros(1, 4, 1, 1), None, np.diag([-1.0, 1, 1, 1]), (1, 1, 1), "scan")
    grid = grid_for(volume, (2, 1, 1))
    probabilities = torch.tensor([[0.9, 0.3], [0.1, 0.7]]).reshape(2, 2, 1, 1)
    found = Prediction(probabilities, grid)
    # On the network's grid 0.1 0.1+0.15 0.7-0.15 0.7; the file runs from right to left.
    torch.testing.assert_close(found.probability(1).flatten(), torch.tensor([0.7, 0.55, 0.25, 0.1]))
    assert found.label().flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(17, 30, 21), (5, 9, 40)])
def test_windows_of_an_identity_give_the_volume_back(shape):
    image = torch.randn(1, 2, *shape)
    found = slide(lambda patches: patches, image, (16, 16, 16), overlap=0.5, device=CPU)
    torch.testing.assert_close(found, image, rtol=0, atol=1e-5)


class Sided(nn.Module):
    """Says class 1 where a position is in the first half of a patch along the last axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        logits = torch.zeros(x.shape[0], 2, *x.shape[2:])
        logits[:, 1, ..., : x.shape[-1] // 2] = 10
        return logits


@pytest.mark.slow
def test_flips_are_averaged_over_the_axes_that_may_be_flipped():
    grid = Grid((0, 1), (), (8, 8), (8, 8))
    network = Sided().train()
    plain = predict_case(network, torch.zeros(1, 8, 8), grid, (8, 8), device=CPU).probabilities[1]
    flipped = predict_case(network, torch.zeros(1, 8, 8), grid, (8, 8), flips=(0, 1), device=CPU).probabilities[1]
    across = predict_case(network, torch.zeros(1, 8, 8), grid, (8, 8), flips=(0,), device=CPU).probabilities[1]
    sure = torch.tensor(10.0).sigmoid()
    torch.testing.assert_close(plain[0], torch.tensor([sure] * 4 + [0.5] * 4))
    torch.testing.assert_close(across, plain)
    assert [*_flipped(SegmentConfig(data="scans"), 2)] == [0, 1]
    assert _flipped(SegmentConfig(data="scans", flip_axes=[1]), 2) == [1]
    torch.testing.assert_close(flipped, torch.full((8, 8), (sure.item() + 0.5) / 2))
