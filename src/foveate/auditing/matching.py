"""Which of a module's weights plays which part: by shape, by name and by order of use."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from foveate.auditing.stages import Geometry, Stage

__all__ = ["Match", "Role", "Structure", "matches"]

LIMIT = 48
"""Assignments of weights to roles that are tried."""


@dataclass(frozen=True)
class Role:
    """A projection or convolution of a published layer.

    Args:
        name: Its name in the layer's equation.
        out: Channels it answers with: a number, or a symbol that stands for the same number in every role.
        inn: Channels it takes.
        says: What a person calls it.
        kernel: "point" (1x1 or linear), "space" (over the spatial axes), "line" (over one axis), or "stride" (over the
            spatial axes in steps as wide as itself).
        bias: Whether the published one has a bias; None where it was published with and without.
        norm: Whether a normalisation follows the published one; None as above.
        dilation: Of the published kernel.
        sizes: Extents of the kernel that were published; none where any will do.
        hints: Words in the names of submodules that tell this role from others of the same shape.
    """

    name: str
    out: str | int
    inn: str | int
    says: str
    kernel: str = "point"
    bias: bool | None = True
    norm: bool | None = False
    dilation: int = 1
    sizes: tuple[int, ...] = ()
    hints: tuple[str, ...] = ()

    def fits(self, stage: Stage) -> bool:
        """Whether a stage has the kind of kernel."""
        match self.kernel:
            case "point":
                return stage.pointwise and (stage.geometry is None or max(stage.geometry.stride, default=1) == 1)
            case "line":
                return len(stage.kernel) == 1
            case "stride":
                return True
            case _:
                return bool(stage.kernel)


@dataclass(frozen=True)
class Structure:
    """A set of roles that a module may consist of.

    Args:
        roles: All of them have to be found.
        kind: The kind of finding, where this is not the published structure.
        sentence: What is published and what this one does.
    """

    roles: tuple[Role, ...]
    kind: str = ""
    sentence: str = ""

    @property
    def published(self) -> bool:
        return not self.kind

    def role(self, name: str) -> Role:
        return next(role for role in self.roles if role.name == name)


@dataclass(frozen=True, eq=False)
class Match:
    """Stages by role, the numbers that the symbols stand for, and the weights that were left over."""

    structure: Structure
    stages: Mapping[str, Stage]
    sizes: Mapping[str, int]
    left: tuple[str, ...] = ()
    loose: Mapping[str, Tensor] = field(default_factory=dict)

    def moving(self, geometry: str) -> "Match":
        """With kernels that move as published, or "as built"."""
        if geometry == "as built":
            return self
        stages = {name: stage.moving(self.published_geometry(name)) for name, stage in self.stages.items()}
        return Match(self.structure, stages, self.sizes, self.left, self.loose)

    def published_geometry(self, name: str) -> Geometry | None:
        """How the kernel of a role moves in the published layer; None for a projection."""
        role, stage = self.structure.role(name), self.stages[name]
        if role.kernel == "stride":
            kernel = stage.kernel
            return Geometry(kernel, (0,) * len(kernel), (1,) * len(kernel)) if kernel else None
        return None if stage.pointwise else Geometry.centred(stage.kernel, role.dilation)

    def extent(self, name: str, otherwise: int, *, strict: bool) -> int:
        """The extent of a role's kernel; with `strict` only if it was published, and `otherwise` if not."""
        sizes = set(self.stages[name].kernel) if name in self.stages else set()
        published = self.structure.role(name).sizes if sizes else ()
        if len(sizes) != 1 or (strict and published and sizes.isdisjoint(published)):
            return otherwise
        return sizes.pop()

    @property
    def built_otherwise(self) -> list[str]:
        """Roles whose convolution is built to move otherwise than the published one."""
        return [
            name
            for name, stage in self.stages.items()
            if stage.geometry is not None and stage.geometry != (self.published_geometry(name) or _still(stage.kernel))
        ]


def matches(
    structures: Sequence[Structure], stages: Sequence[Stage], loose: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> list[Match]:
    """Every way to fill the structures that take most of the module's weights, the likeliest first."""
    found: list[Match] = []
    for structure in structures:
        for filled, bound in _fill(structure, stages, dict(sizes), {}):
            taken = {stage.name for stage in filled.values()}
            left = tuple(stage.name for stage in stages if stage.name not in taken)
            found.append(Match(structure, filled, bound, left, loose))
            if len(found) >= LIMIT:
                break
    most = max((len(match.stages) for match in found), default=0)
    return [match for match in found if len(match.stages) == most]


def _fill(
    structure: Structure, stages: Sequence[Stage], sizes: dict[str, int], filled: dict[str, Stage]
) -> Iterator[tuple[dict[str, Stage], dict[str, int]]]:
    if len(filled) == len(structure.roles):
        yield filled, sizes
        return
    role = structure.roles[len(filled)]
    others = {hint for other in structure.roles if other is not role for hint in other.hints} - set(role.hints)
    for stage in sorted(stages, key=lambda stage: _rank(stage, role, others)):
        if stage in filled.values() or not role.fits(stage):
            continue
        bound = _bind(role, stage, sizes)
        if bound is not None:
            yield from _fill(structure, stages, bound, {**filled, role.name: stage})


def _rank(stage: Stage, role: Role, others: set[str]) -> tuple[int, int]:
    words = set(re.split(r"[._]", stage.name.lower()))
    return (0 if words & set(role.hints) else 2 if words & others else 1), stage.place


def _bind(role: Role, stage: Stage, sizes: dict[str, int]) -> dict[str, int] | None:
    """The symbols with this role's widths, or None where they are already bound to other numbers."""
    bound = dict(sizes)
    for symbol, width in ((role.out, stage.weight.shape[0]), (role.inn, stage.weight.shape[1])):
        wanted = symbol if isinstance(symbol, int) else bound.setdefault(symbol, width)
        if wanted != width:
            return None
    return bound


def _still(kernel: tuple[int, ...]) -> Geometry:
    """A kernel of one position, which any padding would move."""
    assert math.prod(kernel) == 1
    return Geometry.centred(kernel)
