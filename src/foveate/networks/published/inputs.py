"""What published weights of ImageNet and Kinetics were trained on: sizes, and how pixels are normalised.

To add a publisher, add a row. timm and torchvision say it themselves, network by network.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["INPUTS", "Inputs", "of_timm", "of_torchvision"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Inputs:
    """The images that a network was trained on.

    Args:
        source: Whose numbers these are, in words.
        classes: Number of classes of the weights that were trained like this.
        mean: Of each channel, of pixels in 0..1.
        std: Likewise.
        size: (height, width).
        crop: Fraction of the covering image that the publisher's evaluation cuts out, in the middle.
        interpolation: "bilinear" or "bicubic".
        fit: How images of another shape were brought to the size: "crop", "pad" or "stretch".
    """

    source: str
    classes: int = 1000
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    size: tuple[int, int] = (224, 224)
    crop: float = 224 / 256
    interpolation: str = "bilinear"
    fit: str = "crop"


# Their code for ImageNet resizes to 256, cuts out 224 and divides by ImageNet's deviations; SlowFast's is of Kinetics.
INPUTS = {
    name: Inputs(name)
    for name in (
        "Jongchan/attention-module",
        "BangguWu/ECANet",
        "moskomule/senet.pytorch",
        "Cadene/pretrained-models.pytorch",
        "torchvision",
    )
} | {
    "timm": Inputs("timm", interpolation="bicubic", crop=0.875),
    "facebookresearch/SlowFast": Inputs("facebookresearch/SlowFast", 400, (0.45,) * 3, (0.225,) * 3),
}


def of_torchvision(name: str, file: str | Path | None = None) -> Inputs | None:
    """Return what a classifier of torchvision was trained on; None if torchvision publishes no weights of that name.

    Args:
        name: The network, such as "resnet50".
        file: The weights, whose name says the version if it is that of the download. Default: the newest.
    """
    import torchvision

    try:
        versions = torchvision.models.get_model_weights(name)
    except ValueError:
        return None
    weights: Any = versions["DEFAULT"]  # pyright: ignore[reportIndexIssue]
    called = None if file is None else Path(file).name
    weights = next((each for each in versions if each.url.rpartition("/")[2] == called), weights)  # pyright: ignore[reportAttributeAccessIssue]
    asked = weights.transforms()
    if not hasattr(asked, "crop_size"):
        return None
    side = asked.crop_size[0]
    return Inputs(
        f"torchvision's {weights}",
        len(weights.meta.get("categories") or ()),
        tuple(asked.mean),
        tuple(asked.std),
        (side, side),
        round(min(1.0, side / asked.resize_size[0]), 6),
        _interpolation(asked.interpolation.value),
    )


def of_timm(name: str | None, file: str | Path | None = None) -> Inputs | None:
    """Return what a network of timm was trained on; None if timm publishes no such weights.

    Args:
        name: The network, such as "seresnet50" or "seresnet50.ra2_in1k"; None if only the file may say it.
        file: The weights, whose name says the version if it is that of the download. Default: the first of timm.
    """
    import timm

    known = None if file is None else _timm_by_file().get(_stem(file))
    if known is None and name is not None:
        known = name if timm.is_model(name) else None
    found = None if known is None else timm.get_pretrained_cfg(known)
    if found is None or not found.has_weights:
        return None
    size = (int(found.input_size[1]), int(found.input_size[2]))
    return Inputs(
        f"timm's {known}",
        found.num_classes,
        tuple(found.mean),
        tuple(found.std),
        size,
        float(found.crop_pct),
        _interpolation(found.interpolation),
    )


@lru_cache(maxsize=1)
def _timm_by_file() -> dict[str, str]:
    """Return the names of timm's weights by the names of their files, without endings."""
    import timm

    names = timm.list_pretrained()
    urls = {_stem(str(found.url)): name for name in names if (found := timm.get_pretrained_cfg(name)) and found.url}
    return urls | {name: name for name in names}


def _stem(file: str | Path) -> str:
    name = str(file).rpartition("/")[2]
    for ending in (".safetensors", ".pth.tar", ".pth", ".pt", ".bin"):
        name = name.removesuffix(ending)
    return name


def _interpolation(name: str) -> str:
    return "bicubic" if name == "bicubic" else "bilinear"
