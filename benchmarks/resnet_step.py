"""What a mechanism adds to a training step of ResNet-50, here and in timm: time, and peak memory.

python benchmarks/resnet_step.py, or make bench. Time is that of forward pass, cross-entropy, backward pass and a step
of SGD with momentum; each network is held against the plain one of its own library, in the same turns. Memory is that
of all tensors alive at one time of a step, the optimizer's state included. "recompute" is that option of our network.

The least that a mechanism costs is measured in the same turns too: its passes over the features of every block, in the
fewest operations of torch, and its parameters' products, gradients and updates, without anything around them. "bare" is
a gate in the network that does nothing but take the sigmoid of a channel's mean, which is the limit of ECA.
"""

import functools
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
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

MECHANISMS = {"se": "<= 1.05", "eca": "<= 1.04", "cbam": "<= 1.14"}  # and what each may cost
RECOMPUTE, BARE = "cbam, recompute", "bare"
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
    names += [("foveate", BARE), ("foveate", RECOMPUTE)]
    for last, layout in LAYOUTS.items():
        built = {f"{library} {mechanism}": build(network, library, mechanism) for library, mechanism in names}
        made = {name: training_step(each, batch, size, last) for name, each in built.items()}
        steps = {name: step for name, (step, _) in made.items()}
        for mechanism in MECHANISMS:
            steps[f"least {mechanism}"] = least_step(built[f"foveate {mechanism}"], mechanism, batch, size, last)
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
    if mechanism == RECOMPUTE:
        given = {"mechanism": "cbam", "recompute": True}
    elif mechanism == BARE:
        given = {"mechanism": bare_gate}
    if library == "foveate":
        return getattr(fv.networks, network)(num_classes=1000, **given)
    return timm.create_model(network, block_args={"attn_layer": mechanism} if given else {})


def bare_gate(channels: int) -> "nn.Module":
    """The least that a gate of channels can be, in the operations that ours take."""
    from torch import nn

    from foveate.layers import functional

    class Bare(nn.Module):
        def forward(self, x: "Tensor") -> "Tensor":
            return functional.scale(x, functional.pool(x, "average").sigmoid())

    return Bare()


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


def least_step(network: "nn.Module", mechanism: str, batch: int, size: int, last: bool) -> Callable[[], None]:
    """What does what all forms of the mechanism do, in every block of the network, and nothing else."""
    import torch
    from torch import nn

    layout = torch.channels_last if last else torch.contiguous_format
    works, parameters = [], []
    for features in features_of(network, batch, size):
        x, grad = (torch.randn(features).contiguous(memory_format=layout) for _ in range(2))
        places = (batch, 1, *features[2:])
        channel, position = torch.rand(*features[:2], 1, 1), torch.rand(places)
        works.append(functools.partial(passes, mechanism, x, grad, channel, position))
        channels, rows = features[1], batch * (2 if mechanism == "cbam" else 1)
        if mechanism != "eca":
            layers = nn.Sequential(nn.Linear(channels, channels // 16), nn.ReLU(), nn.Linear(channels // 16, channels))
            works.append(functools.partial(projections, layers, torch.randn(rows, channels)))
            parameters += layers.parameters()
        if mechanism == "cbam":
            layers = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))
            works.append(functools.partial(projections, layers, torch.randn(batch, 2, *features[2:])))
            parameters += layers.parameters()
    optimizer = torch.optim.SGD(parameters or [torch.zeros(1, requires_grad=True)], lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for work in works:
            work()
        optimizer.step()

    return step


def features_of(network: "nn.Module", batch: int, size: int) -> list["torch.Size"]:
    """The sizes of what the mechanisms of a network read."""
    import torch

    found: list[torch.Size] = []
    sites = [network.get_submodule(name) for name in network.sites]  # pyright: ignore[reportGeneralTypeIssues]
    handles = [site.register_forward_pre_hook(lambda _, given: found.append(given[0].shape)) for site in sites]
    with torch.no_grad():
        network(torch.zeros(batch, 3, size, size))
    for handle in handles:
        handle.remove()
    return found


def passes(mechanism: str, x: "Tensor", grad: "Tensor", channel: "Tensor", position: "Tensor") -> None:
    """The passes over features of a forward and a backward pass, those to squeeze first."""
    space = (2, 3)
    x.mean(space)
    y = x * channel
    if mechanism == "cbam":
        x.amax(space)
        y.mean(1)
        y.amax(1)
        y = y * position
        (grad * y).sum(1)
        grad = added(grad, position)
    (grad * x).sum(space)
    added(grad, channel)


def added(grad: "Tensor", gate: "Tensor") -> "Tensor":
    """The gradient through a gate and a mean, in the quicker of two ways. That of a maximum is a few numbers."""
    import torch

    return (grad * gate).add_(gate) if grad.is_contiguous() else torch.addcmul(gate, grad, gate)


def projections(layers: "nn.Module", x: "Tensor") -> None:
    """A forward and a backward pass of what has parameters."""
    layers(x.requires_grad_()).sum().backward()


def residents(network: "nn.Module", optimizer: "Optimizer") -> "list[Tensor]":
    """What is there before a step: parameters, buffers and momentum."""
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    return [*network.parameters(), *network.buffers(), *momentum]


def lines(network: str, layout: str, times: dict[str, Times], memory: dict[str, int]) -> list[Ratio]:
    """The lines of the table for one layout."""
    found = []
    for mechanism, target in MECHANISMS.items():
        theirs = times[f"timm {mechanism}"].cpu_ms / times["timm none"].cpu_ms
        plain = times["foveate none"]
        least = 1 + times[f"least {mechanism}"].cpu_ms / plain.cpu_ms
        if mechanism == "eca":
            least = max(least, times[f"foveate {BARE}"].cpu_ms / plain.cpu_ms)
        over, what = times[f"foveate {mechanism}"], f"{network} step, {layout}: {mechanism} over none"
        found.append(time_ratio(what, "timm", over, plain, target=target, peer=theirs, limit=least))
    over, what = times[f"foveate {RECOMPUTE}"], f"{network} step, {layout}: {RECOMPUTE}, over none"
    found.append(time_ratio(what, "timm", over, times["foveate none"], peer=theirs))
    theirs = memory["timm cbam"] - memory["timm none"]
    for mechanism, target in (("cbam", ""), (RECOMPUTE, "<= 0.5")):
        surplus = (memory[f"foveate {mechanism}"] - memory["foveate none"]) / theirs
        found.append(Ratio(f"{network} step, {layout}: memory that {mechanism} adds", "timm", surplus, target))
    return found


def show(times: dict[str, dict[str, Times]], memory: dict[str, dict[str, int]]) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in ("layout", "network", "CPU ms", "wall ms", "x none", "x none, wall", "peak MiB", "+ MiB"):
        table.add_column(heading, justify="right" if len(table.columns) > 1 else "left")
    for layout, measured in times.items():
        for name, each in measured.items():
            if name.startswith("least"):
                table.add_row(layout, name, f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}")
                continue
            base = f"{name.split()[0]} none"
            held, more = memory[layout][name], memory[layout][name] - memory[layout][base]
            over = each.cpu_ms / measured[base].cpu_ms, each.wall_ms / measured[base].wall_ms
            numbers = [f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}", *(f"{ratio:.3f}" for ratio in over)]
            table.add_row(layout, name, *numbers, f"{held / MIB:.1f}", f"{more / MIB:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
