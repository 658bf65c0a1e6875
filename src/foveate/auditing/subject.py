"""The module under audit: a copy of its own, with drawn weights, in float64 and eval mode on the CPU."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Refusal", "Subject", "draw_input"]

SEED = 20180908  # any number: the draws are the same in every audit
DRAWS = 16


class Refusal(Exception):
    """The module raised on an input, or answered with no tensor; says so in its own words."""


class Subject:
    """A copy that can be called on any input and that the caller never sees.

    Args:
        module: The module; it is not changed, whatever the audit does.

    Raises:
        Refusal: If the module cannot be copied.
    """

    def __init__(self, module: nn.Module) -> None:
        if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
            raise Refusal("its lazy parts have no shapes yet; call it once first")
        try:
            self.given = copy.deepcopy(getattr(module, "_orig_mod", module)).cpu().eval()
        except Exception as error:
            raise Refusal(f"it cannot be copied: {_said(error)}") from error
        self.module = copy.deepcopy(self.given).double()
        self.draw(0)
        self.dtype = torch.float64
        self.outputs = 1

    @property
    def tolerance(self) -> float:
        """The largest relative difference that rounding explains."""
        return 1e-9 if self.dtype == torch.float64 else 1e-4

    def draw(self, seed: int) -> None:
        """Give every weight and running statistic a value that hides nothing: no zeros, no ones, nothing symmetric."""
        generator = torch.Generator().manual_seed(SEED + seed)
        statistics = {k: v for k, v in self.module.named_buffers() if k.endswith(("running_mean", "running_var"))}
        with torch.no_grad():
            for name, tensor in {**dict(self.module.named_parameters()), **statistics}.items():
                normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(_value(name.rpartition(".")[2], normal))

    def draw_lively(self, *inputs: Tensor) -> None:
        """Draw until every parameter matters to the answer, or as many as can: an idle ReLU hides all before it."""
        lively: dict[int, int] = {}
        for seed in range(DRAWS):
            self.draw(seed)
            gradients = [gradient for gradient in self.gradients(*inputs).values() if gradient is not None]
            lively[seed] = sum(bool(gradient.any()) for gradient in gradients)
            if lively[seed] == len(gradients):
                return
        self.draw(max(lively, key=lambda seed: lively[seed]))

    def gradients(self, *inputs: Tensor) -> dict[str, Tensor | None]:
        """The gradient of the summed answer to each parameter; none where no path leads to the answer."""
        parameters = {k: p for k, p in self.module.named_parameters() if p.requires_grad and p.numel()}
        try:
            with torch.enable_grad():
                total = self._answer(self.module, inputs).sum()
            found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        except (Refusal, RuntimeError):  # no path leads to any of them
            return dict.fromkeys(parameters)
        return dict(zip(parameters, found, strict=True))

    def in_float32(self) -> None:
        """Fall back to single precision, for modules that make float32 tensors of their own."""
        self.module, self.dtype = self.module.float(), torch.float32

    def __call__(self, *inputs: Tensor, given: bool = False) -> Tensor:
        """The answer to float64 inputs, in float64: of several tensors, the first that has the shape of an input.

        Args:
            inputs: The inputs, in the order of the module's forward.
            given: Whether the weights are those that the module came with, rather than the drawn ones.

        Raises:
            Refusal: If the module raises, or answers without a tensor.
        """
        with torch.no_grad():
            return self._answer(self.given if given else self.module, inputs)

    def _answer(self, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), self.dtype)
        try:
            with torch.random.fork_rng(devices=[]):
                output = module(*(x.to(dtype, copy=True) for x in inputs))
        except Exception as error:
            raise Refusal(_said(error)) from error
        tensors = [part for part in _flat(output) if isinstance(part, Tensor) and part.is_floating_point()]
        if not tensors:
            raise Refusal(f"an answer of {type(output).__name__} without a tensor")
        self.outputs = len(tensors)
        like = [part for part in tensors if any(part.shape == x.shape for x in inputs)]
        return (like or tensors)[0].double()


def draw_input(shape: Sequence[int], seed: int, size: float = 1.0) -> Tensor:
    """Float64 features whose channels and samples have means of their own, so that no ReLU is idle for all of them."""
    generator = torch.Generator().manual_seed(SEED + seed)
    ones = [1] * (len(shape) - 2)
    of_channels = 0.7 * torch.randn(1, shape[1], *ones, generator=generator, dtype=torch.float64)
    of_samples = torch.tensor([0.0, 1.5, -1.5], dtype=torch.float64).repeat(shape[0])[: shape[0]].reshape(-1, 1, *ones)
    return size * (of_samples + of_channels + torch.randn(*shape, generator=generator, dtype=torch.float64))


def _value(key: str, normal: Tensor) -> Tensor:
    if key == "running_var":
        return 0.7 + 0.5 * normal.abs()
    if normal.ndim >= 2:
        return 0.6 * normal / math.sqrt(max(1, math.prod(normal.shape[1:])))  # gates far from saturation
    if key == "weight" or (normal.numel() == 1 and key != "bias"):
        return 1 + 0.3 * normal
    return 0.4 * (1 + normal)  # more than half of the ReLUs behind it open


def _flat(output: object) -> list[object]:
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [part for item in output for part in _flat(item)]
    return [output]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
