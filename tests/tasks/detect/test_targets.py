import pytest
import torch

from foveate.tasks.detect.targets import Target, collate


def sample(height: int, width: int, index: int) -> tuple[torch.Tensor, Target, int]:
    picture = torch.full((3, height, width), float(index))
    masks = torch.ones(1, height, width, dtype=torch.bool)
    return picture, Target(torch.tensor([index]), torch.rand(1, 4), masks, torch.tensor([0])), index


def test_pictures_are_padded_to_the_right_and_below_with_the_mean():
    batch = collate([sample(5, 11, 7), sample(8, 3, 2)])
    assert (batch.images.shape, batch.padding.shape) == ((2, 3, 8, 11), (2, 8, 11))
    assert (batch.images[0, :, :5] == 7).all()
    assert (batch.images[1, :, :, :3] == 2).all()
    assert batch.images.sum() == 3 * (7 * 5 * 11 + 2 * 8 * 3)
    assert not batch.padding[0, :5].any()
    assert not batch.padding[1, :, :3].any()
    assert batch.padding.sum() == 2 * 8 * 11 - 5 * 11 - 8 * 3
    assert batch.indices == [7, 2]
    assert [target.labels.item() for target in batch.targets] == [7, 2]


@pytest.mark.parametrize("by", ["itself", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_batch_moves_whole(by):
    batch = collate([sample(5, 11, 7)])
    if by == "itself":
        batch = batch.to("meta")
    else:
        from lightning.fabric.utilities.apply_func import move_data_to_device

        batch = move_data_to_device(batch, torch.device("meta"))
    assert (batch.images.device.type, batch.padding.device.type) == ("meta", "meta")
    (target,) = batch.targets
    assert {getattr(target, name).device.type for name in ("labels", "boxes", "masks", "numbers")} == {"meta"}
    assert Target(torch.zeros(0), torch.zeros(0, 4)).to("meta").masks is None
