"""What a training step of DETR costs, here and in Hugging Face's transformers, and the memory that it takes.

python benchmarks/detr.py, or make bench. Time is that of forward pass, matching and losses of all six decoder layers,
backward pass, clipping of gradients and a step of AdamW with two learning rates, on the same random pictures and
objects; ratios are of CPU time. Weights are random: nothing is fetched. The two do not train the same:

- Theirs trains the stem and stage 1 of the backbone, which the paper's release keeps as they are; "frozen" keeps them.
- Theirs drops nothing of attention's weights and of hidden features, where the release drops a tenth as ours does;
  "frozen, dropout" drops it. Attention then leaves the fused kernel, in theirs as in ours.
- Theirs has another dropout before the encoder, and hands each decoder layer the normalised output of the one before.

"Channels last" is the memory layout in which Foveate trains; the network's own, as built, stands beside it.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from processes import in_fresh_process, peak_of_process
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSES = 91
LAYERS = 6  # of the encoder, and of the decoder
MIB = 2**20
LAST = ", channels last"
OURS = ("Foveate", f"Foveate{LAST}")
FROZEN = "Hugging Face, frozen"
THEIRS = ("Hugging Face", FROZEN, f"{FROZEN}{LAST}", f"{FROZEN}, dropout", f"{FROZEN}, dropout{LAST}")


def main(
    height: Annotated[int, typer.Option(help="Of the pictures.")] = 480,
    width: Annotated[int, typer.Option(help="Of the pictures.")] = 640,
    batch: Annotated[int, typer.Option(help="Pictures in a batch.")] = 2,
    objects: Annotated[int, typer.Option(help="Objects in a picture.")] = 10,
    turns: Annotated[int, typer.Option(help="Training steps of each network that count.")] = 8,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    peers: Annotated[bool, typer.Option(help="Whether Hugging Face's network is measured too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what a training step of DETR costs, and print it."""
    if peers and find_spec("transformers") is None:
        raise typer.BadParameter("transformers is missing: pip install 'foveate[bench]', or give --no-peers")
    shape = batch, objects, height, width
    names = OURS + (THEIRS if peers else ())
    memory = {name: in_fresh_process(step_memory, name, shape, threads) for name in names}
    set_threads(threads)
    times = interleaved({name: training_step(name, shape) for name in names}, turns)
    show(times, memory, shape, threads)
    about: dict[str, Any] = {"batch": batch, "objects": objects, "height": height, "width": width}
    save(json_file, ratios(times), **about, turns=turns, threads=threads, memory_mib=memory, times=times)


def ratios(times: dict[str, Times]) -> list[Ratio]:
    """The lines of the table: ours over theirs, each as it trains; and over theirs that trains and drops the same."""
    if THEIRS[0] not in times:
        return []
    mine = times[OURS[1]]
    line = time_ratio("DETR training step, ours over theirs", THEIRS[0], mine, times[THEIRS[0]], "<= 0.9")
    return [line, time_ratio("the same with the same parts trained and dropped", THEIRS[-1], mine, times[THEIRS[-1]])]


def training_step(name: str, shape: Sequence[int]) -> Callable[[], float]:
    """What does one step of training on random pictures, and gives its loss."""
    import torch

    batch, objects, height, width = shape
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, height, width, generator=generator)
    labels = [torch.randint(CLASSES, (objects,), generator=generator) for _ in range(batch)]
    boxes = [torch.rand(objects, 4, generator=generator) * 0.5 + 0.1 for _ in range(batch)]
    torch.manual_seed(0)
    network, loss = ours(labels, boxes) if name in OURS else theirs(name, labels, boxes)
    network.train()
    if name.endswith(LAST):
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    backbone = [each for name, each in trained.items() if "backbone" in name]
    others = [each for name, each in trained.items() if "backbone" not in name]
    groups = [{"params": backbone, "lr": 1e-5}, {"params": others, "lr": 1e-4}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(images)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 0.1)
        optimizer.step()
        return value.item()

    return step


Trainee = tuple["nn.Module", Callable[["Tensor"], "Tensor"]]


def ours(labels: list["Tensor"], boxes: list["Tensor"]) -> Trainee:
    """Our network, and what gives its loss."""
    import foveate as fv
    from foveate.tasks.detect.criterion import judge
    from foveate.tasks.detect.targets import Target

    network = fv.networks.detr_resnet50(num_classes=CLASSES, encoder_layers=LAYERS, decoder_layers=LAYERS)
    targets = [Target(*each) for each in zip(labels, boxes, strict=True)]
    return network, lambda images: judge(network(images), targets).loss


def theirs(name: str, labels: list["Tensor"], boxes: list["Tensor"]) -> Trainee:
    """Hugging Face's network, and what gives its loss."""
    from transformers import DetrConfig, DetrForObjectDetection

    dropped = {"attention_dropout": 0.1, "activation_dropout": 0.1} if "dropout" in name else {}
    config = DetrConfig(
        num_labels=CLASSES, encoder_layers=LAYERS, decoder_layers=LAYERS, auxiliary_loss=True, **dropped
    )
    network = DetrForObjectDetection._from_config(config, attn_implementation="sdpa")
    if name.startswith(FROZEN):
        body = network.model.backbone.model
        for part in (body.conv1, body.layer1):
            part.requires_grad_(False)
    targets = [{"class_labels": each, "boxes": box} for each, box in zip(labels, boxes, strict=True)]
    return network, lambda images: network(pixel_values=images, labels=targets).loss


def step_memory(name: str, shape: Sequence[int], threads: int) -> float:
    """MiB that a process held at most in which a network made two training steps; libraries count too."""
    set_threads(threads)
    step = training_step(name, shape)
    step()
    step()
    return peak_of_process() / MIB


def show(times: dict[str, Times], memory: dict[str, float], shape: Sequence[int], threads: int) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    table.add_column("network", no_wrap=True)
    for heading in ("CPU ms", "wall ms", *(f"{name} / this" for name in OURS), "peak MiB"):
        table.add_column(heading, justify="right")
    for name, each in times.items():
        ratios = [f"{times[mine].cpu_ms / each.cpu_ms:.3f}" for mine in OURS]
        table.add_row(name, f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}", *ratios, f"{memory[name]:.0f}")
    batch, objects, height, width = shape
    print(
        f"A training step at {height} x {width}, batch {batch}, {objects} objects a picture, "
        f"{threads} thread{'s' * (threads > 1)}:"
    )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
