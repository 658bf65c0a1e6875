"""foveate export: the network of a run as one file that runs without Foveate."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options import Json
from foveate.escaping import printable

__all__ = ["export"]


class Format(StrEnum):
    """A kind of file."""

    onnx = "onnx"
    pt2 = "pt2"


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    kind: Annotated[Format, typer.Option("--format", help="onnx, or pt2: the archive of torch.export.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    maps: Annotated[bool, typer.Option("--maps", help="Give the gates and attention maps as outputs too.")] = False,
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="Leave only the batch open, not height and width.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="The largest difference put up with, as a share of an output's largest value.")
    ] = 1e-4,
    as_json: Json = False,
) -> None:
    """Write a run's network to one file, and compare it with the network at a second batch and a second size.

    Example: foveate export runs/se --format onnx --out se.onnx
    """
    from dataclasses import asdict

    from foveate.tasks.export import export_run

    exported = export_run(run, out, format=kind.value, maps=maps, fixed_size=fixed_size, tolerance=tolerance)
    if as_json:
        print(json.dumps(asdict(exported), indent=2))
        return
    for name, text in told(exported):
        print(printable(f"{name:<12}{text}"))


def told(exported: Any) -> list[tuple[str, str]]:
    """What a person wants to know of an export, line by line."""
    shapes = " and ".join(" x ".join(map(str, shape)) for shape in exported.checked)
    lines = [("input", f"images: {' x '.join(map(str, exported.input))}, as the run's network takes them")]
    lines.append(("outputs", ", ".join(exported.outputs)))
    lines += [("", f"{name}: {axes}") for name, axes in exported.maps.items()]
    if exported.fixed is not None:
        lines.append(("fixed", f"{' x '.join(map(str, exported.input[2:]))} is the only size: {exported.fixed}"))
    lines.append(("checked", f"{exported.runtime} against the network, at {shapes}"))
    lines.append(("difference", f"{exported.largest_difference:.1e} of an output's largest value, at most"))
    return [*lines, ("file", exported.path)]
