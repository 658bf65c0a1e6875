"""foveate profile: what a network costs."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from foveate.cli.options import Json
from foveate.escaping import printable

__all__ = ["profile"]


def profile(
    network: Annotated[
        str, typer.Argument(help="A network's name, timm/NAME, torchvision/NAME, or the folder of a run.")
    ],
    input_shape: Annotated[
        str | None,
        typer.Option(help="Channels and space, such as 3x224x224 or 1x64x64x32. Default: the network's own."),
    ] = None,
    mechanism: Annotated[str, typer.Option(help="Put this mechanism in first.")] = "none",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one input.")] = 1,
    as_json: Json = False,
) -> None:
    """Count parameters and MACs, and measure latency, training step and memory.

    Example: foveate profile resnet50 --mechanism se --input-shape 3x224x224

    Example: foveate profile attention-unet --input-shape 1x64x64x32
    """
    from foveate.compare.cost import profile as measure
    from foveate.tasks.run import example_inputs, open_network

    model, shape = open_network(network, mechanism, parse_shape(input_shape) if input_shape else None)
    cost = asdict(measure(model, example_inputs(model, shape, batch_size)))
    if as_json:
        print(
            json.dumps(
                {"network": network, "mechanism": mechanism, "input_shape": [batch_size, *shape], **cost}, indent=2
            )
        )
        return
    print_cost(f"{network}, {mechanism}, input {batch_size} x {' x '.join(map(str, shape))}", cost)


def parse_shape(text: str) -> tuple[int, ...]:
    """Sizes written like 3x224x224 or 1x64x64x32: channels, then one to three axes of space."""
    sizes = text.lower().split("x")
    if not all(size.isdigit() and int(size) > 0 for size in sizes) or not 2 <= len(sizes) <= 4:
        raise ValueError(f"an input shape is written like 3x224x224 or 1x64x64x32; got {text!r}")
    return tuple(int(size) for size in sizes)


def print_cost(title: str, cost: dict[str, float | int | None]) -> None:
    """Show each figure of a cost on a line of its own."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    table.add_column()
    table.add_column(justify="right")
    for name, value in cost.items():
        shown = "not measured" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
