"""What a module takes: its channels, its spatial axes, and sizes of space."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from foveate.auditing.subject import Refusal, Subject, draw_input

__all__ = ["SPACES", "Fit", "at_space", "find_fit", "fit_of_example"]

BATCH = 3
SPACES: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((11,), (16,), (32,), (1,)),
    2: ((7, 9), (12, 8), (14, 28), (32, 16), (7, 7), (8, 8), (14, 14), (16, 16), (32, 32), (1, 1)),
    3: ((3, 7, 5), (4, 8, 6), (8, 4, 12), (4, 4, 4), (7, 7, 7), (8, 8, 8), (1, 1, 1)),
}
"""Sizes that are tried, in this order: oblong and odd ones first, for they show most."""

NAMES = (
    "channels",
    "in_channels",
    "channel",
    "gate_channels",
    "gate_channel",
    "in_planes",
    "inplanes",
    "planes",
    "dim",
)
GATING_NAMES = ("g", "gate", "gating", "gating_signal", "signal")
ANY = 64
"""Channels that are tried last, for modules whose weights do not depend on them."""


@dataclass(frozen=True)
class Fit:
    """Shapes that the module takes.

    Args:
        channels: Channels of x.
        space: Sizes of x's spatial axes.
        gating: Channels and space of the gating signal, where there is one.
        swapped: Whether the module takes the gating signal first.
        keeps: Whether the output has the shape of x.
        assumed: Whether nothing in the module says how many channels it takes.
    """

    channels: int
    space: tuple[int, ...]
    gating: tuple[int, tuple[int, ...]] | None = None
    swapped: bool = False
    keeps: bool = True
    assumed: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The symbols of roles that the shapes settle."""
        return {"channels": self.channels} | ({} if self.gating is None else {"gating": self.gating[0]})

    def shapes(self, batch: int = BATCH) -> list[tuple[int, ...]]:
        """Shapes of x and of the gating signal."""
        shapes = [(batch, self.channels, *self.space)]
        return shapes if self.gating is None else [*shapes, (batch, self.gating[0], *self.gating[1])]

    def inputs(self, size: float = 1.0, batch: int = BATCH) -> list[Tensor]:
        """Drawn inputs, x first."""
        return [draw_input(shape, seed, size) for seed, shape in enumerate(self.shapes(batch))]

    def arranged(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs in the order in which the module takes them."""
        return [*reversed(inputs)] if self.swapped else [*inputs]


def find_fit(subject: Subject, channels: int | None, spatial_dims: int | None, gated: bool) -> tuple[Fit | None, str]:
    """Shapes that the module takes, or none and what it said to the likeliest."""
    return _first_taken(subject, list(candidates(subject, channels, spatial_dims, gated)))


def fit_of_example(subject: Subject, example: Tensor | tuple[Tensor, ...], gated: bool) -> tuple[Fit | None, str]:
    """The shapes of an example, or none and what the module said to it.

    Raises:
        ValueError: If it holds other inputs than the mechanism takes.
    """
    shapes = [tuple(x.shape) for x in (example if isinstance(example, tuple) else (example,))]
    if len(shapes) != 1 + gated or any(len(shape) not in (3, 4, 5) for shape in shapes):
        wanted = "two inputs of (batch, channel, *space)" if gated else "one input of (batch, channel, *space)"
        raise ValueError(f"example takes {wanted}; got {', '.join(map(str, shapes))}")
    x, g = shapes[0], shapes[-1]
    if not gated:
        return _first_taken(subject, [Fit(x[1], x[2:])])
    return _first_taken(subject, [Fit(x[1], x[2:], (g[1], g[2:])), Fit(g[1], g[2:], (x[1], x[2:]), swapped=True)])


def _first_taken(subject: Subject, fits: Sequence[Fit]) -> tuple[Fit | None, str]:
    """The first that the module answers in the shape of x, or else at all, and what it said to one that it refused.

    A module that refuses all of them in double precision is asked in single precision.
    """
    said = ""
    for in_float32 in (False, True):
        if in_float32:
            subject.in_float32()
        answered: list[Fit] = []
        for fit in fits:
            try:
                answer = subject(*fit.arranged(fit.inputs()))
            except Refusal as refusal:
                said = said or str(refusal)
                continue
            if answer.shape == fit.shapes()[0]:
                return fit, said
            answered.append(replace(fit, keeps=False))
        if answered:
            return answered[0], said
    return None, said


def candidates(subject: Subject, channels: int | None, spatial_dims: int | None, gated: bool) -> Iterator[Fit]:
    """Shapes to try, the likeliest first."""
    for dims in [spatial_dims] if spatial_dims else _dims(subject):
        for space in SPACES[dims]:
            if gated:
                yield from _gated(subject, channels, space)
            else:
                yield from _alone(subject, channels, space)


def _alone(subject: Subject, channels: int | None, space: tuple[int, ...]) -> Iterator[Fit]:
    if channels is not None:
        yield Fit(channels, space)
        return
    seen = _widths(subject)
    yield from (Fit(width, space) for width in seen)
    if ANY not in seen:
        yield Fit(ANY, space, assumed=True)
    yield Fit(1, space)


def _gated(subject: Subject, channels: int | None, space: tuple[int, ...]) -> Iterator[Fit]:
    widths = _widths(subject)
    for width in [channels] if channels else widths:
        for gating in sorted(widths, key=lambda gating: gating == width):
            for coarser in dict.fromkeys([tuple(-(-size // 2) for size in space), space]):
                for swapped in sorted((False, True), key=lambda swapped: swapped != _takes_gating_first(subject)):
                    yield Fit(width, space, (gating, coarser), swapped)


def _takes_gating_first(subject: Subject) -> bool:
    """What the names of the forward's arguments say, for modules that take both orders of equal shapes."""
    names = list(inspect.signature(subject.module.forward).parameters)
    return bool(names) and names[0].lower() in GATING_NAMES


def at_space(fit: Fit, space: tuple[int, ...]) -> Fit:
    """The same channels on another space, a gating signal on the same grid or at half of it as before."""
    if fit.gating is None:
        return replace(fit, space=space)
    coarser = space if fit.gating[1] == fit.space else tuple(-(-size // 2) for size in space)
    return replace(fit, space=space, gating=(fit.gating[0], coarser))


def _widths(subject: Subject) -> list[int]:
    """Numbers of channels that the module may take: the widest of its weights first."""
    owners = list(subject.module.modules())
    weights = [(owner, weight) for owner in owners if isinstance(weight := getattr(owner, "weight", None), Tensor)]
    taken = {weight.shape[1] * getattr(owner, "groups", 1) for owner, weight in weights if weight.ndim >= 2}
    taken |= {parameter.shape[1] for parameter in subject.module.parameters(recurse=False) if parameter.ndim >= 2}
    plain = [owner for owner in owners if not hasattr(owner, "weight")]  # a convolution across channels has channels: 1
    named = [getattr(owner, name, None) for owner in plain for name in NAMES]
    return list(
        dict.fromkeys([*sorted(taken - {1}, reverse=True), *(n for n in named if isinstance(n, int) and n > 0)])
    )


def _dims(subject: Subject) -> list[int]:
    """Numbers of spatial axes, those of its kernels first and one last: a kernel across channels has one axis too."""
    weights = [w for owner in subject.module.modules() if isinstance(w := getattr(owner, "weight", None), Tensor)]
    seen = {weight.ndim - 2 for weight in weights if weight.ndim > 3}
    return [*sorted(seen & {2, 3}), *sorted({2, 3} - seen), 1]
