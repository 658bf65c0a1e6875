"""What the layers of gates cost, beside timm's and the code of their authors, and beside what memory allows at best.

python benchmarks/gates.py, or make bench. Each layer gets the same weights and features in all forms, whose outputs and
gradients are checked to agree before anything is timed; BAM multiplies its branches and scSE takes the maximum, as
their authors' code does. Batches are of 8, layers train, and both memory layouts are measured.

The least possible time counts the passes over the features that any form must make, reads and writes apart: a gate
cannot be applied before it is known, nor a gradient. It holds them against the copying of this machine. Compiled, two
forms of a gate often end in the same code: how far equal code differs is told by a second copy of the published form.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, geometric_mean, interleaved, save, set_threads

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

BATCH = 8
SIZES = "256x56,512x28,1024x14"
OURS, TIMM, PUBLISHED, AGAIN = "foveate", "timm", "published", "published again"
# What goes with the published code, where it is not the default.
OPTIONS = {"bam": {"combine": "product"}, "scse": {"combine": "max"}, "cbam": {"zero_init": False}}
# Passes over the features: of the forward pass, and of it and the backward pass.
PASSES = {"se": (3, 7), "eca": (3, 7), "cbam": (4, 10), "bam": (3, 8), "scse": (3, 8)}
TARGETS = {"forward": ">= 1.2", "forward and backward": ">= 1.6"}


def main(
    sizes: Annotated[str, typer.Option(help="Channels x side of square features, separated by commas.")] = SIZES,
    gates: Annotated[str, typer.Option(help="Which, separated by commas.")] = "se,eca,cbam,bam,scse",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile all forms.")] = False,
    turns: Annotated[int, typer.Option(help="Passes of each kind that count.")] = 20,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what gates cost, and print it."""
    set_threads(threads)
    import torch

    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in (
        "layer",
        "features",
        "layout",
        "passes",
        f"{OURS}, CPU ms",
        TIMM,
        PUBLISHED,
        "best / ours",
        "x limit",
    ):
        table.add_column(heading, justify="right" if table.columns else "left")
    found: list[dict[str, Any]] = []
    for size in sizes.split(","):
        channels, side = map(int, size.split("x"))
        features = torch.randn(BATCH, channels, side, side, generator=torch.Generator().manual_seed(0))
        pass_ms = milliseconds_of_a_pass(features, turns)
        for layout, form in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
            for gate in gates.split(","):
                layers = forms(gate, channels, form)
                x = features.contiguous(memory_format=form)
                check(gate, layers, x)
                if compiled:
                    layers[AGAIN] = copy.deepcopy(layers[PUBLISHED])
                torch.compiler.reset()
                for kind, passes in zip(TARGETS, PASSES[gate], strict=True):
                    times = interleaved(steps(layers, x, backward="backward" in kind, compiled=compiled), turns)
                    peers = [name for name in (TIMM, PUBLISHED) if name in times]
                    best = min(peers, key=lambda name: times[name].cpu_ms)
                    each = {"gate": gate, "features": size, "layout": layout, "passes": kind, "times": times}
                    each |= {"ratio": times[best].cpu_ms / times[OURS].cpu_ms, "limit_ms": passes * pass_ms}
                    each["wall_ratio"] = times[best].wall_ms / times[OURS].wall_ms
                    found.append(each)
                    table.add_row(gate, size, layout, kind, *row(times, each))
    print(f"Gates at batch {BATCH}, {'compiled' if compiled else 'eager'}, {threads} thread{'s' * (threads > 1)}:")
    Console(width=150).print(table)
    save(json_file, ratios(found, compiled), compiled=compiled, turns=turns, threads=threads, found=found)


def forms(gate: str, channels: int, memory_format: "torch.memory_format") -> dict[str, "nn.Module"]:
    """Our layer and its peers, with the same weights, none of which is where training starts."""
    import torch
    from published_gates import PUBLISHED as MODULES

    from foveate.layers import catalogue

    torch.manual_seed(0)
    ours = catalogue.build(gate, channels, **OPTIONS.get(gate, {}))
    state = ours.state_dict()
    built = {OURS: ours, PUBLISHED: MODULES[gate](channels)}
    built[PUBLISHED].load_state_dict(
        {key: state[key].view_as(value) for key, value in built[PUBLISHED].state_dict().items()}
    )
    theirs = timm_form(gate, channels)
    if theirs is not None:
        names = (("channel.", ""), ("spatial.conv.bn", "spatial.norm"), ("conv.conv", "conv"))
        renamed = {}
        for key, value in theirs.state_dict().items():
            ours_key = key
            for old, new in names:
                ours_key = ours_key.replace(old, new)
            given = state[ours_key].view_as(value)
            renamed[key] = (
                given.flip(1) if gate == "cbam" and "conv.weight" in key else given
            )  # theirs has the mean first
        theirs.load_state_dict(renamed)
        built[TIMM] = theirs
    return {name: each.to(memory_format=memory_format) for name, each in built.items()}


def timm_form(gate: str, channels: int) -> "nn.Module | None":
    """The layer of timm, where there is one."""
    from timm.layers.cbam import CbamModule
    from timm.layers.eca import EcaModule
    from timm.layers.squeeze_excite import SEModule

    match gate:
        case "se":
            return SEModule(channels, rd_channels=channels // 16)
        case "eca":
            return EcaModule(channels)
        case "cbam":
            return CbamModule(channels, rd_channels=channels // 16, mlp_bias=True)
        case _:
            return None


def check(gate: str, layers: dict[str, "nn.Module"], x: "Tensor") -> None:
    """Raise a RuntimeError unless all forms compute the same features and gradients.

    They are told apart by norms: which of two nearly equal numbers is the maximum, and gets the gradient, rounding
    decides.
    """
    import torch

    expected: list[Tensor] = []
    for name, layer in layers.items():
        given = x.clone().requires_grad_()
        y = layer(given)
        computed = [y.detach(), *torch.autograd.grad(y.square().sum(), given)]
        expected = expected or computed
        for ours, theirs in zip(expected, computed, strict=True):
            difference = ((ours - theirs).norm() / theirs.norm()).item()
            if not difference < 1e-4:
                raise RuntimeError(f"all forms of {gate} must compute the same; {name} is {difference:.2g} of it away")


def steps(
    layers: dict[str, "nn.Module"], x: "Tensor", *, backward: bool, compiled: bool
) -> dict[str, Callable[[], object]]:
    """What takes turns: a forward pass without gradients, or a forward and a backward pass."""
    import torch

    cotangent = torch.randn_like(x)

    def step(layer: Callable[["Tensor"], "Tensor"], owner: "nn.Module") -> None:
        with torch.set_grad_enabled(backward):
            y = layer(x.detach().requires_grad_(backward))
        if backward:
            owner.zero_grad(set_to_none=True)
            y.backward(cotangent)

    called = {name: torch.compile(each) if compiled else each for name, each in layers.items()}
    return {name: lambda name=name: step(called[name], layers[name]) for name in layers}


def milliseconds_of_a_pass(x: "Tensor", turns: int) -> float:
    """Half of what copying takes, which reads once and writes once."""
    copy = x.clone()
    return interleaved({"copy": lambda: copy.copy_(x)}, turns)["copy"].cpu_ms / 2


def row(times: dict[str, Times], each: dict[str, Any]) -> list[str]:
    """The numbers of one line."""
    shown = [f"{times[name].cpu_ms:.2f}" if name in times else "" for name in (OURS, TIMM, PUBLISHED)]
    return [*shown, f"{each['ratio']:.2f}", f"{times[OURS].cpu_ms / each['limit_ms']:.2f}"]


def ratios(found: list[dict[str, Any]], compiled: bool) -> list[Ratio]:
    """The lines of the table: the mean of all, and the least."""
    lines = []
    for kind, target in TARGETS.items():
        these = [each for each in found if each["passes"] == kind]
        what = f"gates, {kind}{', compiled' if compiled else ''}"
        mean = [geometric_mean(each[name] for each in these) for name in ("ratio", "wall_ratio")]
        least = min(these, key=lambda each: each["ratio"])
        at = f"{least['gate']} at {least['features']}, {least['layout']}"
        against = "the best of timm and the published code"
        lines.append(Ratio(f"{what}: mean", against, mean[0], "" if compiled else target, mean[1]))
        lines.append(Ratio(f"{what}: least, {at}", against, least["ratio"], ">= 1", least["wall_ratio"]))
        if compiled:
            twice = [(each["times"][PUBLISHED], each["times"][AGAIN]) for each in these]
            cpu = min(once.cpu_ms / again.cpu_ms for once, again in twice)
            wall = min(once.wall_ms / again.wall_ms for once, again in twice)
            lines.append(Ratio(f"{what}: least of the published code", "a second copy of it", cpu, wall=wall))
    return lines


if __name__ == "__main__":
    typer.run(main)
