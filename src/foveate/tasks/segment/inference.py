"""Inference on whole cases: windows slid over the network's grid, blended, and brought back to the grid of the file."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from foveate.errors import MissingExtra
from foveate.tasks.segment.grid import Grid

__all__ = ["Prediction", "keep_largest", "predict_case", "slide"]

WINDOWS = 4  # at once
SIGMA = 0.125  # of the Gaussian weights, in windows


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of a case.

    Args:
        probabilities: (class, *space) on the network's grid.
        grid: The way back.
    """

    probabilities: Tensor
    grid: Grid

    def probability(self, index: int) -> Tensor:
        """Of one class, on the file's grid."""
        return self.grid.back(self.probabilities[index : index + 1])[0]

    def label(self) -> Tensor:
        """The most probable class of each voxel of the file, decided on its own grid; a class at a time."""
        best = self.probability(0)
        label = torch.zeros(best.shape, dtype=torch.uint8 if len(self.probabilities) <= 256 else torch.int64)
        for index in range(1, len(self.probabilities)):
            probability = self.probability(index)
            label[probability > best] = index
            best = torch.maximum(best, probability)
        return label


def predict_case(
    network: nn.Module,
    image: Tensor,
    grid: Grid,
    patch_size: Sequence[int],
    *,
    overlap: float = 0.5,
    flips: Sequence[int] = (),
    device: torch.device,
) -> Prediction:
    """Probabilities of every class over a whole case, in eval mode.

    Args:
        network: From patches to logits.
        image: (channel, *space) on the network's grid.
        grid: How it lies to the file.
        patch_size: Of the windows.
        overlap: Of neighbouring windows.
        flips: Axes over whose flips, all and none of them, is averaged.
        device: Where the network is.
    """

    def probabilities(patches: Tensor) -> Tensor:
        return network(patches).float().softmax(dim=1)

    axes = [2 + axis for axis in flips]
    turns = [turn for count in range(len(axes) + 1) for turn in itertools.combinations(axes, count)]
    network.eval()
    total = torch.zeros(())
    for turn in turns:
        found = slide(probabilities, image[None].flip(turn), patch_size, overlap=overlap, device=device)
        total = total + found.flip(turn)[0]
    return Prediction(total / len(turns), grid)


def slide(
    predictor: Callable[[Tensor], Tensor],
    image: Tensor,
    patch_size: Sequence[int],
    *,
    overlap: float,
    device: torch.device,
) -> Tensor:
    """Apply a function to overlapping windows of (1, channel, *space), and blend what it gives with Gaussian weights.

    The windows are computed on `device` and blended on the CPU. What is smaller than a window is padded with zeros.
    """
    try:
        from monai.inferers.utils import sliding_window_inference
    except ImportError:
        raise MissingExtra("monai", "medical") from None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sliding_window_inference(
            image,
            tuple(patch_size),
            WINDOWS,
            predictor,
            overlap=overlap,
            mode="gaussian",
            sigma_scale=SIGMA,
            sw_device=device,
            device=torch.device("cpu"),
        )
    return torch.as_tensor(found)


def keep_largest(label: Tensor) -> Tensor:
    """Keep of each class the largest part whose voxels touch by faces; what is taken away becomes background."""
    import numpy as np
    from scipy import ndimage

    kept = label.numpy().copy()
    for index in range(1, int(kept.max(initial=0)) + 1):
        parts, count = ndimage.label(kept == index)  # pyright: ignore[reportGeneralTypeIssues]
        if count > 1:
            sizes = np.bincount(np.asarray(parts).ravel())[1:]
            kept[(parts != 1 + int(sizes.argmax())) & (parts != 0)] = 0
    return torch.from_numpy(kept)
