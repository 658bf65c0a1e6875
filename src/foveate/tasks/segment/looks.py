"""What a trained network attends to in a few test cases: the health of its gates, and maps over one slice of each."""

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from foveate.capture import capture, health
from foveate.data.labels import IGNORED
from foveate.data.scans import read_case
from foveate.data.volumes import Case, Volume, Volumes
from foveate.files import write_atomic
from foveate.networks.unet import UNet
from foveate.tasks.attention import HEALTH_VALUES, own_taps
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import slide
from foveate.tasks.segment.network import new_modules
from foveate.tasks.segment.overlays import grey_levels, slice_of
from foveate.tasks.segment.patches import cut
from foveate.tasks.segment.preparation import Preparation, Prepared
from foveate.tasks.segment.scoring import infer, score_volume
from foveate.tasks.square import SIDE, Square

__all__ = ["gate_health", "looker", "placed_taps", "write_slices"]

CASES = 4  # whose slices are kept
PATCHES = 8  # over which the health of gates is measured
QUERIES = "batch *query *key"

Array = np.ndarray[Any, Any]


def gate_health(
    network: nn.Module, preparation: Preparation, volumes: Volumes, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Health of each tap of the mechanism over patches of test cases; see foveate.capture.health.

    A single case gives every second patch mirrored and at half its contrast, so that it is two inputs.
    """
    watched, cases = own_taps(network, new_modules(network)), _labelled(volumes)
    if not watched or not cases:
        return {}
    kept: dict[str, list[Tensor]] = {name: [] for name in watched}
    network.to(device).eval()
    for number in range(PATCHES):
        turn, index = divmod(number, len(cases))
        ready = preparation.prepare(read_case(cases[index], volumes))
        patch, _ = cut(ready, preparation.patch_size, 1.0, np.random.default_rng(turn))
        if len(cases) == 1 and turn % 2:
            patch = patch.flip(tuple(range(1, patch.ndim))) / 2
        with torch.no_grad(), capture(network, only=list(watched)) as maps:
            network(patch[None].to(device))
        for name, values in kept.items():
            if len(values) < max(2, HEALTH_VALUES // maps[name].numel()):
                values.append(maps[name].float().cpu())
    return {name: dict(health(torch.cat(values), watched[name])) for name, values in kept.items()}


def placed_taps(axes: Mapping[str, str]) -> dict[str, str]:
    """Those taps whose maps say something of places: gates over space, and weights between all places."""
    return {name: given for name, given in axes.items() if given.endswith("*space") or given == QUERIES}


def looker(network: nn.Module, axes: Mapping[str, str], dims: int) -> Callable[[Tensor], Tensor]:
    """From patches to the maps of a network on the patches' grid, (batch, map, *space).

    A gate of channels and places is averaged over channels; of weights it is how much all others draw on a place.
    """

    def look(patches: Tensor) -> Tensor:
        size = patches.shape[2:]
        # What the network would pad by itself, so that the grid of its maps is known.
        padded = F.pad(patches, network.padding(patches)) if isinstance(network, UNet) else patches
        with capture(network, only=list(axes)) as maps:
            network(padded)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[dims]
        found = []
        for name in axes:
            seen = maps[name].float()
            others = seen.shape[1 : seen.ndim - dims].numel()  # channels, or queries
            seen = seen.reshape(len(seen), others, *seen.shape[-dims:]).mean(dim=1, keepdim=True)
            large = F.interpolate(seen, padded.shape[2:], mode=mode, align_corners=False)
            found.append(large[(..., *(slice(length) for length in size))])
        return torch.cat(found, dim=1)

    return look


def write_slices(
    folder: Path,
    network: nn.Module,
    preparation: Preparation,
    config: SegmentConfig,
    volumes: Volumes,
    device: torch.device,
) -> None:
    """Write maps.npz and maps.json: of some test cases the axial slice through the middle of what is to be found.

    With each stand the truth, the prediction and the maps of the mechanism. Cases are evenly spread over the split, and
    so the same in every arm of a study.
    """
    cases = _labelled(volumes)
    count = min(CASES, len(cases))
    cases = [cases[number * len(cases) // count] for number in range(count)]
    if not cases:
        return
    axes = placed_taps(own_taps(network.to(device).eval(), new_modules(network)))
    seen = [_slice_of_case(network, axes, preparation, config, read_case(case, volumes), device) for case in cases]
    arrays = {name: np.stack([each[name] for each, _ in seen]) for name in seen[0][0]}
    entries = [{"tap": "prediction", "kind": "prediction", "key": "prediction"}]
    for number, (tap, given) in enumerate(axes.items()):
        kind = "weights" if given == QUERIES else "spatial"
        entries.append({"tap": tap, "kind": kind, "key": f"spatial_{number}"})
    samples = [{"index": index, **told, "box_xyxy": None} for index, (_, told) in enumerate(seen)]
    index = {"samples": samples, "classes": preparation.classes, "image_size": [SIDE, SIDE], "maps": entries}
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomic(folder / "maps.npz", body.getvalue())
    write_atomic(folder / "maps.json", json.dumps(index, indent=1) + "\n")


def _labelled(volumes: Volumes) -> list[Case]:
    return [case for case in volumes.splits["test"] if case.label is not None]


def _slice_of_case(
    network: nn.Module,
    axes: Mapping[str, str],
    preparation: Preparation,
    config: SegmentConfig,
    volume: Volume,
    device: torch.device,
) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of one case, all SIDE x SIDE, and what is said of it."""
    label, _, ready = infer(network, preparation, config, volume, device)
    assert volume.label is not None
    assert ready.label is not None
    scores = score_volume(label, volume, preparation.classes)
    found = [score.dice for score in scores if score.dice is not None]
    truth = ready.label.numpy()
    if len(preparation.classes) <= IGNORED:
        truth = np.where(truth == IGNORED, 0, truth)
    level = _middle_slice(truth)
    fit = Square(truth.shape[:2] if truth.ndim == 2 else truth.shape[1::-1], _spacing(ready, volume))
    grey = (grey_levels(ready.image[0].float().numpy()) * 255).astype(np.uint8)
    predicted = ready.grid.there(label[None], labels=True)[0].numpy()
    cuts = [slice_of(each, 2, level) for each in (grey, truth, predicted)]
    arrays = {
        "images": np.repeat(fit(cuts[0], Image.Resampling.BILINEAR, 0)[..., None], 3, axis=2),
        "truth": fit(cuts[1].astype(np.uint8), Image.Resampling.NEAREST, 0),
        "prediction": fit(cuts[2].astype(np.uint8), Image.Resampling.NEAREST, 0),
    }
    if axes:
        look = looker(network, axes, truth.ndim)
        maps = slide(look, ready.image[None], preparation.patch_size, overlap=config.overlap, device=device)[0]
        for number, values in enumerate(maps.numpy()):
            arrays[f"spatial_{number}"] = fit(slice_of(values, 2, level), Image.Resampling.BILINEAR, math.nan)
    told = {
        "name": volume.name,
        "label": volume.name if truth.ndim == 2 else f"{volume.name}, slice {level + 1} of {truth.shape[2]}",
        "prediction": f"Dice {math.fsum(found) / len(found):.3f}" if found else "nothing there, nothing found",
    }
    return arrays, told


def _middle_slice(truth: Array) -> int:
    """The level of the voxel in the middle of all that is marked, so that something is on it; 0 of a picture."""
    if truth.ndim == 2:
        return 0
    levels = np.sort(np.nonzero(truth)[2])
    return int(levels[len(levels) // 2]) if len(levels) else truth.shape[2] // 2


def _spacing(ready: Prepared, volume: Volume) -> list[float]:
    """The height and the width of a pixel of an axial slice, or of a picture, on the network's grid."""
    own = [volume.spacing[axis] for axis in ready.grid.order]
    found = [mm * n / to for mm, n, to in zip(own, ready.grid.shape, ready.grid.size, strict=True)]
    return found if len(found) == 2 else [found[1], found[0]]
