"""What an audit finds, in fields for a program and in sentences for a person."""

import textwrap
from dataclasses import dataclass
from typing import Literal, NoReturn

__all__ = ["Audit", "Finding", "Verdict"]

Verdict = Literal["agrees", "deviates", "cannot be compared"]
WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Args:
        kind: What it is about, in one word that stays: "pool-order", "bias", "extra-residual", "square-only".
        sentence: What the published layer does and what this one does.
        deviates: Whether it makes a copy deviate. False: a note, such as a choice that was published too.
    """

    kind: str
    sentence: str
    deviates: bool = True


@dataclass(frozen=True)
class Audit:
    """How a module compares with the published mechanism that it claims to be.

    It has no truth value: ask `verdict`.

    Args:
        name: The mechanism, by its name in the catalogue; "attention-gate" for the attention gate.
        module: The class of the module.
        channels: Channels at which the two were compared; None where no input was found that the module takes.
        verdict: "agrees", "deviates", or "cannot be compared" where its weights fit no form that we know and no
            property tells it from the published layer.
        parameters: Parameters of the module.
        our_parameters: Parameters of the published layer at the module's own sizes where the paper leaves them open.
        largest_difference: Between its output and ours at the same weights, relative to its largest output; None where
            its weights could not be matched.
        remaining_difference: The same between its output and ours with the named deviations; None where no form
            that we know explains the output.
        findings: Deviations first, then notes.
    """

    name: str
    module: str
    channels: int | None
    verdict: Verdict
    parameters: int
    our_parameters: int | None
    largest_difference: float | None
    remaining_difference: float | None
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        at = f" at {self.channels} channels" if self.channels is not None else ""
        lines = [f"{self.module} as {self.name}{at}: {self.verdict}", *self._numbers()]
        for finding in self.findings:
            lead = f"  {'deviates' if finding.deviates else 'note':<8}  {finding.kind}: "
            lines += textwrap.wrap(lead + finding.sentence, WIDTH, subsequent_indent=" " * 12)
        return "\n".join(lines)

    def __bool__(self) -> NoReturn:
        raise TypeError('an audit has no truth value; compare its verdict, as in audit.verdict == "agrees"')

    def _numbers(self) -> list[str]:
        ours = "unknown" if self.our_parameters is None else f"{self.our_parameters:,}"
        lines = [f"  parameters: {self.parameters:,} here, {ours} published"]
        if self.largest_difference is not None:
            lines.append(f"  at the same weights, outputs differ by {self.largest_difference:.2g} of the largest")
        if self.remaining_difference is not None and any(finding.deviates for finding in self.findings):
            lines.append(f"  with what is named below taken into account, by {self.remaining_difference:.2g}")
        return lines
