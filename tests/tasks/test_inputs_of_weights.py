"""The images of a run that starts from weights are scaled and normalised as those of the weights were."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from foveate.data import open_pictures
from foveate.networks import catalogue
from foveate.networks.published import PUBLISHERS, packed, to_publisher
from foveate.networks.published.inputs import INPUTS, of_timm, of_torchvision
from foveate.tasks.config import RunConfig
from foveate.tasks.hosts import input_shape
from foveate.tasks.inputs_of_weights import inputs_of, notes_on
from foveate.tasks.preprocess import KEY, Preprocess, preprocess_for

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PUBLISHED = [
    ("resnet18", {"mechanism": "cbam"}, "Jongchan/attention-module"),
    ("resnet18", {"mechanism": "eca", "options": {"kernel_size": 3}}, "BangguWu/ECANet"),
    ("resnet18", {"mechanism": "se"}, "moskomule/senet.pytorch"),
]


def saved(path: Path, state: dict[str, torch.Tensor]) -> str:
    torch.save({"state_dict": state}, path)
    return str(path)


@pytest.mark.parametrize(("network", "options", "publisher"), PUBLISHED, ids=lambda value: str(value))
def test_a_publishers_file_of_imagenet_says_it(network, options, publisher, tmp_path):
    built = catalogue.build(network, num_classes=1000, **options)
    path = saved(tmp_path / "net.pth", to_publisher(built, publisher))
    found = inputs_of(RunConfig(network=network, init=path))
    assert found is not None
    assert (found.source, found.mean, found.std, found.size) == (publisher, *IMAGENET, (224, 224))
    assert (found.crop, found.interpolation) == (0.875, "bilinear")


def test_a_file_of_other_classes_does_not_say_it(tmp_path):
    path = saved(tmp_path / "net.pth", torchvision.models.resnet18(num_classes=7).state_dict())
    for network in ("resnet18", "torchvision/resnet18"):
        assert inputs_of(RunConfig(network=network, init=path)) is None


@pytest.mark.parametrize("network", ["resnet18", "torchvision/resnet18"])
def test_torchvision_says_it_itself(network, tmp_path):
    path = saved(tmp_path / "resnet18-f37072fd.pth", torchvision.models.resnet18().state_dict())
    found = inputs_of(RunConfig(network=network, init=path))
    assert found is not None
    assert (found.mean, found.std, found.size, found.crop) == (*IMAGENET, (224, 224), 0.875)
    assert found.source == "torchvision's ResNet18_Weights.IMAGENET1K_V1"


def test_the_version_of_weights_is_known_by_the_name_of_the_file():
    first, second = of_torchvision("resnet50", "a/resnet50-0676ba61.pth"), of_torchvision("resnet50")
    assert first is not None
    assert second is not None
    assert (first.crop, second.crop) == (0.875, round(224 / 232, 6))
    found = of_timm(None, "seresnet50_ra_224-8efdb4bb.pth")
    assert found is not None
    assert (found.source, found.interpolation) == ("timm's seresnet50.ra2_in1k", "bicubic")
    assert of_timm("not_there") is None
    assert of_torchvision("not_there") is None


def test_a_network_of_timm_says_it_itself(tmp_path):
    model = timm.create_model("test_vit", num_classes=1000)
    found = inputs_of(RunConfig(network="timm/test_vit", init=saved(tmp_path / "a.pth", model.state_dict())))
    assert found is not None
    assert (found.mean, found.std, found.size) == ((0.5,) * 3, (0.5,) * 3, (160, 160))


def test_a_run_of_ours_says_it_in_its_header(tmp_path):
    held = Preprocess(["a", "b"], 1, (16, 16), (0.25,), (0.125,), crop=0.5, interpolation="bicubic")
    network = catalogue.build("resnet_tiny", num_classes=2, in_channels=1)
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(network.state_dict(), {KEY: held.to_json()}))
    found = inputs_of(RunConfig(network="resnet_tiny", init=str(path)))
    assert found is not None
    assert (found.mean, found.std, found.size) == ((0.25,), (0.125,), (16, 16))
    path.write_bytes(packed(network.state_dict(), {KEY: json.dumps({"classes": 3})}))
    assert inputs_of(RunConfig(network="resnet_tiny", init=str(path))) is None


def test_published_weights_say_it():
    found = inputs_of(RunConfig(network="i3d_resnet50", pretrained=True))
    assert found == of_torchvision("resnet50")
    found = inputs_of(RunConfig(network="timm/resnet18", pretrained=True))
    assert found is not None
    assert found.source.startswith("timm's resnet18")


def test_without_weights_there_is_nothing_to_say(shapes: Path):
    config = RunConfig(data=str(shapes))
    assert inputs_of(config) is None
    assert notes_on(config, preprocess_for(config, open_pictures(shapes), (1, 16, 16))) == ()


def test_the_size_is_that_of_the_weights_unless_another_is_asked_for(shapes: Path):
    pictures = open_pictures(shapes)
    assert input_shape(RunConfig(network="resnet18", pretrained=True), pictures) == (3, 224, 224)
    assert input_shape(RunConfig(network="resnet18", pretrained=True, image_size=64), pictures) == (3, 64, 64)


def test_what_is_chosen_is_told(shapes: Path):
    pictures = open_pictures(shapes)
    config = RunConfig(network="resnet18", pretrained=True)
    found = notes_on(config, preprocess_for(config, pictures, (3, 224, 224), inputs_of(config)))
    assert found == (
        "images are scaled and normalised as those of torchvision's ResNet18_Weights.IMAGENET1K_V1: 224 x 224, "
        "bilinear, crop 0.875, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225",
    )
    config = RunConfig(network="resnet18", pretrained=True, image_size=32, mean=[0.5] * 3)
    found = notes_on(config, preprocess_for(config, pictures, (3, 32, 32), inputs_of(config)))
    assert found[0].startswith("images are scaled and normalised otherwise than those of torchvision's ")
    assert found[1] == ("images of 32 x 32 are far from the 224 x 224 that the weights were trained on; see image_size")


def test_weights_of_unknown_images_are_told(shapes: Path, tmp_path: Path):
    path = saved(tmp_path / "net.pth", torchvision.models.resnet18(num_classes=7).state_dict())
    config = RunConfig(network="resnet18", init=path)
    (told,) = notes_on(config, preprocess_for(config, open_pictures(shapes), (3, 16, 16)))
    assert told.startswith(f"it is not known which images {path} was trained on; images are normalised by the training")


def test_every_row_of_the_table_is_a_publisher():
    assert set(INPUTS) <= set(PUBLISHERS)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"crop": 0.0}, r"^crop must be from above 0 to 1; got 0\.0$"),
        ({"std": [1.0, 0.0, 1.0]}, r"^std must be finite numbers above 0; got"),
        ({"mean": [float("nan")]}, r"^mean must be finite numbers; got \[nan\]$"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        RunConfig(**settings)
