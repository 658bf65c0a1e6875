"""foveate inspect: what a checkpoint is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options import Json
from foveate.escaping import printable

__all__ = ["inspect"]


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A file of weights: .pth, .pt, .tar or .safetensors.")],
    as_json: Json = False,
) -> None:
    """Say whose checkpoint a file is, what network is in it, and what does not fit; nothing in the file is executed.

    Exit status 2 if it does not fit, or is nobody's.

    Example: foveate inspect RESNET50_CBAM_new_name_wrap.pth
    """
    from foveate.networks.published import inspect as look

    found = look(checkpoint)
    facts: dict[str, Any] = {
        "file": found.source,
        "publisher": found.publisher,
        "network": found.title,
        "architecture": None if found.architecture is None else dict(found.architecture.options),
        "assumed": dict(found.assumed),
        "parameters": found.parameters or None,
        "macs": None,
        "input_shape": None,
        "problems": list(found.problems),
    }
    if found.architecture is not None and not found.problems:
        facts |= _macs(found.architecture)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts)
    if found.problems:
        raise typer.Exit(2)


def _macs(architecture: Any) -> dict[str, Any]:
    """Multiply-accumulates for one picture; none for a layer, whose input may have any size."""
    import torch

    from foveate.compare.cost import count_macs

    if architecture.kind not in ("resnet", "mobilenet_v2"):
        return {}
    side = 32 if architecture.options.get("stem") == "cifar" else 224
    shape = (architecture.options.get("in_channels", 3), side, side)
    with torch.device("meta"):
        macs = count_macs(architecture.build(), torch.zeros(1, *shape))
    return {"macs": macs, "input_shape": list(shape)}


def _show(facts: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(printable(facts["file"])),
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(printable(text)))

    row("publisher", facts["publisher"] or "not known")
    row("network", facts["network"] or "cannot be told")
    for name, value in (facts["architecture"] or {}).items():
        if value is None:
            continue
        row(f"  {name.replace('_', ' ')}", f"{value}" + (" (the publisher's code)" if name in facts["assumed"] else ""))
    if facts["parameters"]:
        row("parameters", f"{facts['parameters']:,}")
    if facts["macs"]:
        row("macs", f"{facts['macs']:,} at {'x'.join(map(str, facts['input_shape']))}")
    problems = facts["problems"]
    row("fits", "whole" if not problems else "no")
    for problem in problems[:10]:
        row("", problem)
    if len(problems) > 10:
        row("", f"and {len(problems) - 10} more")
    Console().print(table)
