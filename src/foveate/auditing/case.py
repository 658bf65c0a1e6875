"""One audit under way: the published layer, the copy, an input, and the copy's answer."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor, nn

from foveate.auditing.equation import Equation
from foveate.auditing.inputs import SPACES, Fit, at_space
from foveate.auditing.subject import Refusal, Subject

__all__ = ["Case", "trained"]

LOUD = 8.0


@dataclass(frozen=True, eq=False)
class Case:
    """What the steps of an audit share.

    Args:
        equation: The published layer.
        subject: The module, with drawn weights.
        fit: Shapes that it takes.
        inputs: Drawn inputs of these shapes, x first.
        theirs: Its answer to them.
    """

    equation: Equation
    subject: Subject
    fit: Fit
    inputs: Sequence[Tensor]
    theirs: Tensor

    @classmethod
    def of(cls, equation: Equation, subject: Subject, fit: Fit) -> "Case":
        """At shapes that the module takes; raises a Refusal where it does not."""
        inputs = fit.inputs(equation.input_size(fit.channels))
        return cls(equation, subject, fit, inputs, subject(*fit.arranged(inputs)))

    def at(self, space: tuple[int, ...]) -> "Case":
        """The same module on another size of space; raises a Refusal where it does not take that."""
        return Case.of(self.equation, self.subject, at_space(self.fit, space))

    def loud(self) -> "Case":
        """The same module on inputs LOUD times as large, where what clips shows."""
        inputs = [LOUD * x for x in self.inputs]
        return replace(self, inputs=inputs, theirs=self.answer(*inputs))

    def square(self) -> "Case | None":
        """The same module on the first square input that it takes, where this one is oblong."""
        if len(set(self.fit.space)) == 1:
            return None
        for space in SPACES[self.spatial_dims]:
            if len(set(space)) == 1 and max(space) > 1:
                with suppress(Refusal):
                    return self.at(space)
        return None

    @property
    def x(self) -> Tensor:
        return self.inputs[0]

    @property
    def tolerance(self) -> float:
        return self.subject.tolerance

    @property
    def spatial_dims(self) -> int:
        return len(self.fit.space)

    def answer(self, *inputs: Tensor, given: bool = False) -> Tensor:
        """The module's answer to other inputs, x first; `given`: with the weights that it came with."""
        return self.subject(*self.fit.arranged(inputs), given=given)


def trained(module: nn.Module) -> bool:
    """Whether a normalisation has seen batches, so that the weights are no start."""
    return any(int(value) > 0 for key, value in module.named_buffers() if key.endswith("num_batches_tracked"))
