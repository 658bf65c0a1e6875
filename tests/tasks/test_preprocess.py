from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.data import open_pictures
from foveate.networks.published.inputs import Inputs
from foveate.tasks.config import RunConfig
from foveate.tasks.preprocess import Preprocess, preprocess_for


def test_it_survives_its_text():
    preprocess = Preprocess(["a", "b"], 3, (5, 7), (0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_mean_and_deviation_are_those_of_the_training_pictures(shapes: Path):
    pictures = open_pictures(shapes)
    found = preprocess_for(RunConfig(), pictures, (1, 16, 16))
    values = np.load(shapes)["train_images"] / 255
    assert found.mean[0] == pytest.approx(values.mean(), abs=1e-6)
    assert found.std[0] == pytest.approx(values.std(), abs=1e-6)
    normal = found.normalise(torch.from_numpy(np.load(shapes)["train_images"])[:, None])
    assert normal.mean().item() == pytest.approx(0, abs=1e-4)
    assert normal.std().item() == pytest.approx(1, abs=1e-3)


def test_trained_weights_keep_what_their_own_images_were_like(shapes: Path):
    pictures = open_pictures(shapes)
    known = Inputs("somebody", 10, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (16, 16), 0.5, "bicubic")
    found = preprocess_for(RunConfig(pretrained=True), pictures, (3, 16, 16), known)
    assert (found.mean, found.std, found.crop, found.interpolation) == (known.mean, known.std, 0.5, "bicubic")
    chosen = {"mean": [0.0, 0.5, 1], "std": [1, 1, 2], "crop": 1.0, "interpolation": "bilinear"}
    found = preprocess_for(RunConfig(pretrained=True, **chosen), pictures, (3, 16, 16), known)
    assert (found.mean, found.std, found.crop, found.interpolation) == (
        (0.0, 0.5, 1.0),
        (1.0, 1.0, 2.0),
        1.0,
        "bilinear",
    )


def test_one_of_mean_and_deviation_may_be_set(shapes: Path):
    pictures = open_pictures(shapes)
    plain, found = (preprocess_for(RunConfig(**some), pictures, (1, 16, 16)) for some in ({}, {"std": [0.5]}))
    assert (found.mean, found.std) == (plain.mean, (0.5,))
    with pytest.raises(ValueError, match=r"^mean must have a number for each of 1 channels; got \[0\.1, 0\.2\]$"):
        preprocess_for(RunConfig(mean=[0.1, 0.2]), pictures, (1, 16, 16))


def test_the_middle_is_cut_out_of_what_is_scaled_and_boxes_go_along():
    held = Preprocess(["a", "b"], 1, (10, 10), (0.0,), (1.0,), crop=0.5)
    image = torch.zeros(1, 20, 20, dtype=torch.uint8)
    image[:, 5:15, 5:15] = 200
    assert (held.fit(image) == 200).all()
    assert held.carry(torch.tensor([[5.0, 5.0, 10.0, 10.0]]), 20, 20).tolist() == [[0.0, 0.0, 5.0, 5.0]]
    assert Preprocess.from_json(held.to_json()) == held


def test_pictures_are_scaled_as_is_asked_for():
    image = torch.randint(0, 255, (1, 30, 30), dtype=torch.uint8)
    fitted = [
        Preprocess(["a"], 1, (9, 9), (0.0,), (1.0,), interpolation=how).fit(image) for how in ("bilinear", "bicubic")
    ]
    assert not torch.equal(*fitted)


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
