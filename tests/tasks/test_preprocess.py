from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import open_pictures
from foveate.networks.published.inputs import Inputs
from foveate.tasks.classify_run import read_preprocess
from foveate.tasks.config import RunConfig, config_for
from foveate.tasks.preprocess import Preprocess, lost_fraction, preprocess_for
from foveate.tasks.run import train


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
    assert preprocess.where_from(20, 40) == ((0.5, 0.5), 0, 5)
    assert preprocess.where_from(10, 10) == ((1.0, 1.0), 0, 0)


def wide() -> torch.Tensor:
    """20 x 40 pixels: columns 0 to 9 are 50, the box of rows 4 to 7 and columns 30 to 37 is 250, all else is 100."""
    image = torch.full((1, 20, 40), 100, dtype=torch.uint8)
    image[:, :, :10] = 50
    image[:, 4:8, 30:38] = 250
    return image


def fitted(rule: str, size: tuple[int, int] = (10, 10)) -> Preprocess:
    return Preprocess(["a", "b"], 1, size, (0.0,), (1.0,), shape_rule=rule)


def test_padding_keeps_all_of_a_picture_and_its_shape():
    found = fitted("pad").fit(wide())
    assert found.shape == (1, 10, 10)
    assert (found[:, :2] == 0).all()
    assert (found[:, 7:] == 0).all()
    assert found[0, 5, 0] == 50
    assert found[0, 6, 5] == 100
    tall = fitted("pad").fit(wide().movedim(2, 1))
    assert (tall[:, :, :2] == 0).all()
    assert tall[0, 0, 5] == 50


def test_stretching_keeps_all_of_a_picture_and_fills_the_size():
    found = fitted("stretch").fit(wide())
    assert found.shape == (1, 10, 10)
    assert found[0, 9, 0] == 50
    assert found[0, 9, 9] == 100
    assert found[0, 3, 8] > 200


@pytest.mark.parametrize(
    ("rule", "box"), [("crop", [10.0, 2, 10, 4]), ("pad", [7.5, 3, 9.5, 4]), ("stretch", [7.5, 2, 9.5, 4])]
)
def test_boxes_are_carried_along_by_each_rule(rule: str, box: list[float]):
    preprocess = fitted(rule)
    carried = preprocess.carry(torch.tensor([[30.0, 4, 38, 8]]), 20, 40)
    assert carried.tolist() == [box]
    if rule != "crop":  # which cuts it away
        assert preprocess.fit(wide())[0, 3, 8] > 150
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_the_fraction_that_is_cut_is_known():
    assert lost_fraction([(20, 40)], (10, 10)) == 0.5
    assert lost_fraction([(10, 10), (20, 40)], (10, 10)) == 0.25
    assert lost_fraction([(20, 40)], (10, 20)) == 0
    assert lost_fraction([(20, 40)], (10, 10), crop=0.5) == 0.875


def test_weights_say_how_images_of_another_shape_are_brought_to_size_unless_it_is_set(shapes: Path):
    pictures = open_pictures(shapes)
    known = Inputs("somebody", 10, (0.1,), (0.4,), (16, 16), 1.0, "bilinear", "pad")
    assert preprocess_for(RunConfig(), pictures, (1, 16, 16), known).shape_rule == "pad"
    assert preprocess_for(RunConfig(fit="stretch"), pictures, (1, 16, 16), known).shape_rule == "stretch"
    assert preprocess_for(RunConfig(), pictures, (1, 16, 16)).shape_rule == "crop"


def test_what_keeps_all_of_an_image_takes_no_crop_of_the_weights(shapes: Path):
    known = Inputs("somebody", 10, (0.1,), (0.4,), (16, 16), 0.875)
    found = preprocess_for(RunConfig(fit="pad"), open_pictures(shapes), (1, 16, 16), known)
    assert (found.shape_rule, found.crop) == ("pad", 1.0)
    with pytest.raises(ValueError, match=r'^crop 0\.5 needs fit="crop"; got fit="pad"$'):
        RunConfig(fit="pad", crop=0.5)


def test_a_kept_preprocessing_that_was_edited_is_refused():
    text = fitted("pad").to_json()
    with pytest.raises(ValueError, match=r'^shape_rule must be "crop", "pad" or "stretch"; got \'tile\'$'):
        Preprocess.from_json(text.replace('"pad"', '"tile"'))
    with pytest.raises(
        ValueError, match=r"^test_crops and crop other than 1 are for the shape rule .*; got 1 and 0\.5"
    ):
        Preprocess.from_json(text.replace('"crop": 1.0', '"crop": 0.5'))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("crop", "their sides are cut: 50.0% of the pixels are lost, 50.0% at most (fit=pad or fit=stretch keep all)"),
        ("pad", "they are padded with black, and nothing is lost"),
        ("stretch", "they are stretched, and nothing is lost"),
    ],
)
def test_training_says_how_much_of_the_pictures_is_lost(tmp_path: Path, rule: str, said: str):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (40, 20), 9 * index).save(tmp_path / "data" / name / f"{index}.png")
    told: list[str] = []
    options = {"network": "resnet_tiny", "image_size": 16, "fit": rule, "epochs": 1, "device": "cpu"}
    config = config_for(str(tmp_path / "data"), **options)
    train(config, tmp_path / "run", progress=lambda state: told.extend(state.notes))
    assert told[-1] == f"8 of 8 sizes that were looked at have another shape than 16 x 16; {said}"
    assert read_preprocess(tmp_path / "run").shape_rule == rule


def test_parts_along_the_longer_side_need_a_cut():
    with pytest.raises(ValueError, match=r'^test_crops 3 looks at parts that fit="crop" cuts; got fit="pad"$'):
        RunConfig(network="c2d_tiny", test_crops=3, fit="pad")
