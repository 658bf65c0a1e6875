"""Bring a mechanism into a trained network, from the identity to full strength."""

import math

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["RAMP_STEPS", "SIZES", "Blend", "Blended", "blended", "size_ratio"]

RAMP_STEPS = 50  # optimizer steps from the identity to full strength
SIZES = (0.9, 1.5)  # what a mechanism may bring the size of features to when it comes in


class Blended(nn.Module):
    """Base of what is blended in: (1 - r) x + gain (r + alpha) m(x), for input x and output m(x) of a mechanism.

    r is the ramp: 0 at insertion, 1 after 50 optimizer steps. alpha is learned from 0. At insertion the result is x,
    bit for bit on finite features; at the end it is the mechanism, times one number. gain is constant. It brings the
    size of m(x) to between 0.9 and 1.5 times the size of x, and is 1 if the size is that already: a sigmoid gate that
    starts at one half would otherwise halve what the next layers were trained on.

    No optimizer has to know of the ramp. A forward pass in training compares alpha with its value in the pass before:
    if it differs, an optimizer step lies between, and r rises by 1/50. So r counts optimizer steps and nothing else:
    accumulated, checkpointed and repeated passes do not move it, nor do steps that a gradient scaler skips. It rests in
    evaluation, and while alpha is frozen. All its state is in the state dict: alpha, gain, ramp and last_alpha.

    Args:
        blend: False for a mechanism that is applied plainly: then alpha and the buffers are None.
    """

    alpha: nn.Parameter | None
    gain: Tensor
    ramp: Tensor
    last_alpha: Tensor

    def __init__(self, blend: bool = True) -> None:
        super().__init__()
        self.register_parameter("alpha", nn.Parameter(torch.zeros(())) if blend else None)
        self.register_buffer("gain", torch.ones(()) if blend else None)
        self.register_buffer("ramp", torch.zeros(()) if blend else None)
        self.register_buffer("last_alpha", torch.zeros(()) if blend else None)
        # The handle of the hook that applies it goes through deepcopy and pickle together with the hook and, when
        # loaded, reserves the hook's number. Without it the next hook that anybody sets could take the place of ours.
        self.handle: RemovableHandle | None = None

    def blend(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the equation above, and count the optimizer step that lies behind this pass."""
        if self.alpha is None:
            return attended
        ramp = self._advanced(self.alpha) if self.training else self.ramp
        weight = self.gain * (ramp + self.alpha)
        return (1 - ramp).to(x.dtype) * x + weight.to(x.dtype) * attended

    @torch.no_grad()
    def _advanced(self, alpha: Tensor) -> Tensor:
        """Raise the ramp if alpha has moved, and return it as a tensor that later passes do not write on."""
        moved = alpha.ne(self.last_alpha)
        ramp = (self.ramp + moved.to(self.ramp.dtype) / RAMP_STEPS).clamp(max=1)
        self.ramp.copy_(ramp)
        self.last_alpha.copy_(alpha)
        return ramp

    @property
    def strength(self) -> float:
        """r + alpha: 0 for the plain host, about 1 for the mechanism at full strength, 1 if it is applied plainly."""
        return 1.0 if self.alpha is None else (self.ramp + self.alpha).item()

    def fit_gain(self, ratio: float) -> None:
        """Set the gain for a mechanism that changes the size of features by a ratio, see size_ratio."""
        if self.alpha is not None and 0 < ratio < math.inf:
            self.gain.fill_(min(max(ratio, SIZES[0]), SIZES[1]) / ratio)


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
    """Return what is blended in, by the name of the module: of inserted mechanisms that ends with `inserted`."""
    found = ((name, module) for name, module in network.named_modules() if isinstance(module, Blended))
    return {name.removesuffix(".blend"): module for name, module in found if module.alpha is not None}
