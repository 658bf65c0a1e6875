"""The published mechanisms by name."""

import difflib
import re

from foveate.auditing.equation import Equation
from foveate.auditing.equations import attention_gate, bam, cbam, eca, non_local, scse, se

__all__ = ["EQUATIONS", "equation_of"]

EQUATIONS: dict[str, Equation] = {
    equation.name: equation
    for equation in (
        se.EQUATION,
        scse.EQUATION,
        eca.EQUATION,
        cbam.EQUATION,
        cbam.SPATIAL,
        bam.EQUATION,
        non_local.EQUATION,
        attention_gate.EQUATION,
    )
}
ALIASES = {"spatialgate": "spatial"}


def equation_of(name: str) -> Equation:
    """The published layer of a name, whatever its case and hyphens.

    Raises:
        LookupError: If no published mechanism has that name.
    """
    plain = {_plain(known): known for known in EQUATIONS} | ALIASES
    if _plain(name) in plain:
        return EQUATIONS[plain[_plain(name)]]
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    hint = f'did you mean "{plain[near[0]]}"?' if near else f"there are {', '.join(EQUATIONS)}"
    raise LookupError(f'no published mechanism "{name}"; {hint}')


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
