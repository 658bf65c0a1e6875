from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from foveate.data import open_pictures
from foveate.tasks.config import RunConfig
from foveate.tasks.preprocess import Preprocess, preprocess_for


def test_it_survives_its_text():
    preprocess = Preprocess(["a", "b"], 3, (5, 7), (0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_mean_and_deviation_are_those_of_the_training_pictures(shapes: Path):
    pictures = open_pictures(shapes)
    found = preprocess_for(RunConfig(), pictures, nn.Identity(), (1, 16, 16))
    values = np.load(shapes)["train_images"] / 255
    assert found.mean[0] == pytest.approx(values.mean(), abs=1e-6)
    assert found.std[0] == pytest.approx(values.std(), abs=1e-6)
    normal = found.normalise(torch.from_numpy(np.load(shapes)["train_images"])[:, None])
    assert normal.mean().item() == pytest.approx(0, abs=1e-4)
    assert normal.std().item() == pytest.approx(1, abs=1e-3)


def test_trained_weights_keep_their_own_mean_and_deviation(shapes: Path):
    pictures, host = open_pictures(shapes), nn.Identity()
    config = RunConfig(network="torchvision/resnet18", pretrained=True)
    assert preprocess_for(config, pictures, host, (3, 16, 16)).mean == (0.485, 0.456, 0.406)
    host.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # pyright: ignore[reportArgumentType]
    assert preprocess_for(config, pictures, host, (3, 16, 16)).std == (0.25, 0.25, 0.25)


def test_a_picture_is_brought_to_size_without_being_stretched():
    image = torch.zeros(1, 20, 40, dtype=torch.uint8)
    image[:, :, 10:30] = 200  # the middle of a picture twice as wide as it is high
    fitted = Preprocess(["a", "b"], 1, (10, 10), (0.0,), (1.0,)).fit(image)
    assert fitted.shape == (1, 10, 10)
    assert (fitted[:, :, 1:-1] == 200).all()


def test_colours_are_added_or_taken_away():
    grey = torch.full((1, 4, 4), 7, dtype=torch.uint8)
    assert torch.equal(Preprocess(["a", "b"], 3, (4, 4), (0.0,) * 3, (1.0,) * 3).fit(grey), grey.expand(3, 4, 4))
    colour = torch.full((3, 4, 4), 7, dtype=torch.uint8)
    assert Preprocess(["a", "b"], 1, (4, 4), (0.0,), (1.0,)).fit(colour).shape == (1, 4, 4)


def test_a_box_is_carried_along():
    preprocess = Preprocess(["a", "b"], 1, (10, 10), (0.0,), (1.0,))
    # 20 x 40 is halved to 10 x 20; five columns are cut from each side.
    assert preprocess.where_from(20, 40) == (0.5, 0, 5)
    assert preprocess.where_from(10, 10) == (1.0, 0, 0)
