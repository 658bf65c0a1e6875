"""Bring a mechanism into a trained network, from the identity to full strength."""

import math

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["LEARNED", "RAMP_STEPS", "SIZES", "Blend", "Blended", "blended", "size_ratio"]

RAMP_STEPS = 50  # optimizer steps from the identity to full strength
LEARNED = 0.25  # how much the learned part may add to or take from full strength
SIZES = (0.9, 1.5)  # what a mechanism may bring the size of features to when it comes in


class Blended(nn.Module):
    """Base of what is blended in: (1 - r) x + gain (r + a) m(x), for input x and output m(x) of a mechanism.

    r is the ramp: 0 at insertion, 1 after 50 optimizer steps. a = alpha / (1 + 4 |alpha|) is learned from 0 and stays
    within a quarter. At insertion the result is x, bit for bit if x and m(x) are finite; at the end it is the
    mechanism, times one number. gain is constant. It brings the size of m(x) to between 0.9 and 1.5 times the size of
    x, and is 1 if the size is that already: a sigmoid gate that starts at one half would otherwise halve what the next
    layers were trained on.

    No optimizer has to know of the ramp. A forward pass in training compares alpha with its value in the pass before:
    if it differs, an optimizer step lies between, and r rises by 1/50. Accumulated, checkpointed and repeated passes
    do not move it, nor do steps that a gradient scaler skips. It rests in evaluation, and while alpha is frozen. All
    its state is in the state dict: alpha, gain, steps and last_alpha.

    Args:
        blend: False for a mechanism that is applied plainly: then alpha and the buffers are None.
    """

    alpha: nn.Parameter | None
    gain: Tensor
    steps: Tensor
    last_alpha: Tensor

    def __init__(self, blend: bool = True) -> None:
        super().__init__()
        self.register_parameter("alpha", nn.Parameter(torch.zeros(())) if blend else None)
        self.register_buffer("gain", torch.ones(()) if blend else None)
        self.register_buffer("steps", torch.zeros(()) if blend else None)
        self.register_buffer("last_alpha", torch.zeros(()) if blend else None)
        # The handle of the hook that applies it goes through deepcopy and pickle together with the hook and, when
        # loaded, reserves the hook's number. Without it the next hook that anybody sets could take the place of ours.
        self.handle: RemovableHandle | None = None

    def blend(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the equation above; in training count the optimizer step before this pass."""
        if self.alpha is None:
            return attended
        steps = _counted(self.alpha, self.steps, self.last_alpha) if self.training else self.steps
        ramp = steps / RAMP_STEPS
        weight = self.gain * (ramp + _within(self.alpha))
        return (1 - ramp).to(x.dtype) * x + weight.to(x.dtype) * attended

    @property
    def ramp(self) -> float:
        """r: 0 at insertion, 1 once the mechanism is blended in or if it is applied plainly."""
        return 1.0 if self.alpha is None else self.steps.item() / RAMP_STEPS

    @property
    def strength(self) -> float:
        """r + a: 0 for the plain host, within a quarter of 1 at full strength, 1 if it is applied plainly."""
        return 1.0 if self.alpha is None else self.ramp + _within(self.alpha).item()

    def fit_gain(self, ratio: float) -> None:
        """Set the gain for a mechanism that changes the size of features by a ratio, see size_ratio."""
        if self.alpha is not None and 0 < ratio < math.inf:
            self.gain.fill_(min(max(ratio, SIZES[0]), SIZES[1]) / ratio)


@torch.fx.wrap
@torch.no_grad()
def _counted(alpha: Tensor, steps: Tensor, last_alpha: Tensor) -> Tensor:
    """Count a step if alpha has moved; return the number as a tensor that later passes do not write on.

    A leaf of torch.fx, which would drop the writing as code without a result.
    """
    counted = (steps + alpha.ne(last_alpha)).clamp(max=RAMP_STEPS)
    steps.copy_(counted)
    last_alpha.copy_(alpha)
    return counted


def _within(alpha: Tensor) -> Tensor:
    """Keep the learned part within its bounds, with a slope of 1 at 0."""
    return LEARNED * F.softsign(alpha / LEARNED)


def size_ratio(x: Tensor, attended: Tensor) -> float:
    """Return |m(x)| / |x|."""
    return (attended.detach().float().norm() / x.detach().float().norm()).item()


class Blend(Blended):
    """Blend in a mechanism that is built into a network, as the child `blend` of its module.

    Shape:
        x and m(x), of one shape -> the same.
    """

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        return self.blend(x, attended)


def blended(network: nn.Module) -> dict[str, Blended]:
    """Return what is blended in, by name: `<site>.inserted`, or the name of a module with a child `blend`."""
    found = ((name, module) for name, module in network.named_modules() if isinstance(module, Blended))
    return {name.removesuffix(".blend"): module for name, module in found if module.alpha is not None}
