"""What attention gates cost: a training step with and without them, here and in MONAI, and the memory of a large one.

python benchmarks/attention_gate.py, or make bench. Time is that of forward pass, Dice with cross-entropy, backward pass
and a step of AdamW, on one volume; ratios are of CPU time. MONAI's U-Net steps down in its first convolution and so
never computes at full resolution, where its AttentionUnet has convolutions too: the ratio of the two tells little of
the gates. Its AttentionUnet without its gates, all else as it is, stands between them and tells it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from processes import in_fresh_process, peak_of_process
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import nn

CLASSES = 4
WIDTHS = (16, 32, 64, 128, 256)
GIB = 2**30
LIMIT_GIB = 8  # what a step at 96 x 96 x 96 may take
OURS = ("unet", "attention_unet", "attention_unet, two gates")
THEIRS = ("MONAI UNet", "MONAI AttentionUnet ungated", "MONAI AttentionUnet")
# What each is held against: the U-Net of its library, and itself without gates.
BASES: dict[str, tuple[str, str | None]] = dict.fromkeys(OURS[1:], (OURS[0], OURS[0]))
BASES |= {THEIRS[1]: (THEIRS[0], None), THEIRS[2]: (THEIRS[0], THEIRS[1])}


def main(
    size: Annotated[int, typer.Option(help="Side of the volumes that are timed.")] = 64,
    large: Annotated[int, typer.Option(help="Side of the volume whose memory is measured.")] = 96,
    turns: Annotated[int, typer.Option(help="Training steps of each network that count.")] = 12,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 1,
    peers: Annotated[bool, typer.Option(help="Whether MONAI's networks are measured too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what attention gates cost, and print it."""
    memory = in_fresh_process(step_memory, large, threads)
    set_threads(threads)
    times = interleaved({name: training_step(network, size) for name, network in networks(peers).items()}, turns)
    show(times, memory, size, large, threads)
    about: dict[str, Any] = {"size": size, "large": large, "turns": turns, "threads": threads}
    save(json_file, ratios(times, size), **about, memory=memory, times=times)


def ratios(times: dict[str, Times], size: int) -> list[Ratio]:
    """The line of the table."""
    peer = times[THEIRS[2]].cpu_ms / times[THEIRS[0]].cpu_ms if THEIRS[2] in times else None
    over = times[OURS[1]], times[OURS[0]]
    return [time_ratio(f"attention_unet over unet, step at {size}^3", "MONAI", *over, target="<= 1.1", peer=peer)]


def networks(peers: bool) -> dict[str, "nn.Module"]:
    """Our networks, and MONAI's of the same widths."""
    import foveate as fv

    ours = {
        name: fv.networks.unet(num_classes=CLASSES, widths=WIDTHS, gates=gates, spatial_dims=3)
        for gates, name in enumerate(OURS)
    }
    return ours | (monai_networks() if peers else {})


def monai_networks() -> dict[str, "nn.Module"]:
    """MONAI's U-Net, its AttentionUnet, and that without its gates."""
    from monai.networks.nets.attentionunet import AttentionBlock, AttentionUnet
    from monai.networks.nets.unet import UNet
    from torch import Tensor, nn

    class Open(nn.Module):
        """A gate that lets everything through."""

        def forward(self, g: Tensor, x: Tensor) -> Tensor:
            return x

    shape: Any = {"spatial_dims": 3, "in_channels": 1, "out_channels": CLASSES, "channels": WIDTHS, "strides": [2] * 4}
    gated, bare = AttentionUnet(**shape), AttentionUnet(**shape)
    for name, module in list(bare.named_modules()):
        if isinstance(module, AttentionBlock):
            bare.set_submodule(name, Open())
    return dict(zip(THEIRS, (UNet(**shape), bare, gated), strict=True))


def training_step(network: "nn.Module", size: int) -> Callable[[], None]:
    """What does one step of training on a random volume of that side."""
    import torch

    from foveate.tasks.segment.losses import dice_ce

    images = torch.randn(1, 1, size, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(CLASSES, (1, size, size, size), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        dice_ce(network(images), labels).backward()
        optimizer.step()

    return step


def step_memory(size: int, threads: int) -> dict[str, float]:
    """Peak memory of two training steps of attention_unet on one volume, in GiB; the second has the optimizer's state.

    "followed" is what tensors took, as fv.profile counts it; "process" is the most that the process ever held, with
    libraries and the scratch memory of kernels.
    """
    set_threads(threads)
    from foveate.compare.cost import LiveBytes

    network = networks(peers=False)["attention_unet"]
    step = training_step(network, size)
    with LiveBytes([*network.parameters(), *network.buffers()]) as live:
        step()
        step()
    return {"followed": live.peak / GIB, "process": peak_of_process() / GIB}


def show(times: dict[str, Times], memory: dict[str, float], size: int, large: int, threads: int) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    table.add_column("network", no_wrap=True)
    for heading in ("CPU ms", "wall ms", "x its U-Net", "x ungated"):
        table.add_column(heading, justify="right")
    for name, each in times.items():
        ratios = [f"{each.cpu_ms / times[base].cpu_ms:.3f}" if base else "" for base in BASES.get(name, ())]
        table.add_row(name, f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}", *ratios)
    print(f"A training step at {size}^3, batch 1, {threads} thread{'s' * (threads > 1)}:")
    Console().print(table)
    print(
        f"Two steps of attention_unet at {large}^3, batch 1: {memory['followed']:.2f} GiB of tensors, a process of "
        f"{memory['process']:.2f} GiB; the limit is {LIMIT_GIB}"
    )


if __name__ == "__main__":
    typer.run(main)
