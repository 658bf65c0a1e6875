"""What a mechanism adds to a training step of ResNet-50, here and in timm: time, and peak memory.

python benchmarks/resnet_step.py, or make bench. Time is that of forward pass, cross-entropy, backward pass and a step
of SGD with momentum; each network is held against the plain one of its own library, in the same turns. Memory is that
of all tensors alive at one time of a step, the optimizer's state included.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from processes import peak_of_tensors
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

MECHANISMS = {"se": "<= 1.05", "eca": "<= 1.04", "cbam": "<= 1.14"}  # and what each may cost
LAYOUTS = {False: "contiguous", True: "channels last"}
MIB = 2**20


def main(
    network: Annotated[str, typer.Option(help="A ResNet that both libraries have.")] = "resnet50",
    size: Annotated[int, typer.Option(help="Height and width of the pictures.")] = 128,
    batch: Annotated[int, typer.Option(help="Pictures in a batch.")] = 4,
    turns: Annotated[int, typer.Option(help="Training steps of each network that count.")] = 16,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what mechanisms add to a training step, and print it."""
    set_threads(threads)
    times, memory, ratios = {}, {}, []
    names = [(library, mechanism) for mechanism in ("none", *MECHANISMS) for library in ("foveate", "timm")]
    for last, layout in LAYOUTS.items():
        built = {f"{library} {mechanism}": build(network, library, mechanism) for library, mechanism in names}
        made = {name: training_step(each, batch, size, last) for name, each in built.items()}
        steps = {name: step for name, (step, _) in made.items()}
        times[layout] = interleaved(steps, turns)
        memory[layout] = {
            name: peak_of_tensors(step, residents(built[name], state)) for name, (step, state) in made.items()
        }
        ratios += lines(network, layout, times[layout], memory[layout])
    print(f"A training step of {network}, {batch} x 3 x {size} x {size}, {threads} thread{'s' * (threads > 1)}:")
    show(times, memory)
    save(json_file, ratios, network=network, turns=turns, threads=threads, times=times, memory=memory)


def build(network: str, library: str, mechanism: str) -> "nn.Module":
    """The network of one library, with the mechanism in every block."""
    import timm
    import torch

    import foveate as fv

    torch.manual_seed(0)
    given = {} if mechanism == "none" else {"mechanism": mechanism}
    if library == "foveate":
        return getattr(fv.networks, network)(num_classes=1000, **given)
    return timm.create_model(network, block_args={"attn_layer": mechanism} if given else {})


def training_step(network: "nn.Module", batch: int, size: int, last: bool) -> tuple[Callable[[], None], "Optimizer"]:
    """What does one step of training on random pictures, and what holds its state."""
    import torch
    import torch.nn.functional as F

    layout = torch.channels_last if last else torch.contiguous_format
    network.train().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(1000, (batch,), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step, optimizer


def residents(network: "nn.Module", optimizer: "Optimizer") -> "list[Tensor]":
    """What is there before a step: parameters, buffers and momentum."""
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    return [*network.parameters(), *network.buffers(), *momentum]


def lines(network: str, layout: str, times: dict[str, Times], memory: dict[str, int]) -> list[Ratio]:
    """The lines of the table for one layout."""
    found = []
    for mechanism, target in MECHANISMS.items():
        theirs = times[f"timm {mechanism}"].cpu_ms / times["timm none"].cpu_ms
        over = times[f"foveate {mechanism}"], times["foveate none"]
        found.append(
            time_ratio(f"{network} step, {layout}: {mechanism} over none", "timm", *over, target=target, peer=theirs)
        )
    surplus = {library: memory[f"{library} cbam"] - memory[f"{library} none"] for library in ("foveate", "timm")}
    what = f"{network} step, {layout}: memory that cbam adds"
    return [*found, Ratio(what, "timm", surplus["foveate"] / surplus["timm"], "<= 0.5")]


def show(times: dict[str, dict[str, Times]], memory: dict[str, dict[str, int]]) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in ("layout", "network", "CPU ms", "wall ms", "x none", "x none, wall", "peak MiB", "+ MiB"):
        table.add_column(heading, justify="right" if len(table.columns) > 1 else "left")
    for layout, measured in times.items():
        for name, each in measured.items():
            base = f"{name.split()[0]} none"
            held, more = memory[layout][name], memory[layout][name] - memory[layout][base]
            over = each.cpu_ms / measured[base].cpu_ms, each.wall_ms / measured[base].wall_ms
            numbers = [f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}", *(f"{ratio:.3f}" for ratio in over)]
            table.add_row(layout, name, *numbers, f"{held / MIB:.1f}", f"{more / MIB:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
