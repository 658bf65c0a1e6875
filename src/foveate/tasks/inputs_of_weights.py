"""Scale and normalise the images of a run that starts from weights as the weights' own images were."""

import dataclasses
from functools import lru_cache
from pathlib import Path

from foveate.errors import CheckpointError
from foveate.networks.published import inspect, read_file
from foveate.networks.published.inputs import INPUTS, Inputs, of_timm, of_torchvision
from foveate.tasks.config import RunConfig
from foveate.tasks.preprocess import KEY, Preprocess

__all__ = ["inputs_of", "notes_on"]

FAR = 1.5  # times a side of the weights' own images, or a part of it


def inputs_of(config: RunConfig) -> Inputs | None:
    """Return what the weights that a run starts from were trained on; None if that is not known or there are none."""
    library, _, name = config.network.rpartition("/")
    if config.pretrained:
        return of_timm(name) if library == "timm" else of_torchvision(_of_pictures(name))
    if config.init is None:
        return None
    try:
        changed = Path(config.init).stat().st_mtime_ns
    except OSError:
        return None  # loading the weights says what is wrong
    return _of_file(config.init, changed, library, name)


def _of_pictures(name: str) -> str:
    """Return the network for images whose weights one for clips starts from: resnet50 for i3d_resnet50."""
    return name[name.index("resnet") :] if "resnet" in name and name.split("_")[0] in ("c2d", "i3d") else name


@lru_cache(maxsize=8)
def _of_file(path: str, changed: int, library: str, name: str) -> Inputs | None:
    """Return what the weights in a file were trained on, by their header, their publisher or their library."""
    state, header = read_file(path)
    if KEY in header:
        return _of_run(path, header[KEY])
    if library == "timm":
        found = of_timm(name, path)
    elif library == "torchvision":
        found = of_torchvision(name, path)
    else:
        try:
            look = inspect(path)
        except CheckpointError:
            return None
        found = _of_publisher(look.publisher, path, name)
        state = dict(look.state) or state
    heads = {
        value.shape[0] for value in state.values() if value.ndim > 1 and value.shape[0] == (found and found.classes)
    }
    return found if heads else None


def _of_publisher(publisher: str | None, path: str, name: str) -> Inputs | None:
    if publisher == "torchvision":
        return of_torchvision(_of_pictures(name), path) or INPUTS[publisher]
    if publisher == "timm":
        return of_timm(None, path) or INPUTS[publisher]
    return INPUTS.get(publisher or "")


def _of_run(path: str, text: str) -> Inputs | None:
    """Return what a run of ours was trained on, which is kept with its weights; None if that is damaged."""
    try:
        held = Preprocess.from_json(text)
    except (KeyError, TypeError, ValueError):
        return None
    scaled = (held.size, held.crop, held.interpolation, held.shape_rule)
    return Inputs(f"the run of {path}", len(held.classes), held.mean, held.std, *scaled)


def notes_on(config: RunConfig, preprocess: Preprocess) -> tuple[str, ...]:
    """Return what is to be told of a run's images before training, if the run starts from weights."""
    if not config.pretrained and config.init is None:
        return ()
    known, told = inputs_of(config), _told(preprocess)
    if known is None:
        where = "the published weights" if config.pretrained else config.init
        return (
            f"it is not known which images {where} was trained on; images are normalised by the training data, unless "
            f"mean and std are set: {told}",
        )
    crop = preprocess.crop if preprocess.frames else known.crop
    scaled = {"size": known.size, "crop": crop, "interpolation": known.interpolation, "shape_rule": known.fit}
    own = dataclasses.replace(preprocess, mean=known.mean, std=known.std, **scaled)
    notes = [f"images are scaled and normalised as those of {known.source}: {told}"]
    if _told(own) != told:
        notes = [f"images are scaled and normalised otherwise than those of {known.source}, {_told(own)}: {told}"]
    ratio = max(preprocess.size) / max(known.size)
    if not 1 / FAR <= ratio <= FAR:
        wanted, got = (" x ".join(map(str, size)) for size in (known.size, preprocess.size))
        notes.append(f"images of {got} are far from the {wanted} that the weights were trained on; see image_size")
    return tuple(notes)


def _told(held: Preprocess) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (held.mean, held.std))
    height, width = held.size
    rules = {"crop": f"crop {held.crop:.4g}", "pad": "padded", "stretch": "stretched"}
    return f"{height} x {width}, {held.interpolation}, {rules[held.shape_rule]}, mean {mean}, std {std}"
