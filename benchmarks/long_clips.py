"""Memory of a training step on a long and large clip: C2D of ResNet-50 with five non-local blocks and nothing pooled.

The first convolution makes no step in time, and blocks see all positions: of a clip of 32 x 224 x 224 there are 12,544
in stage 2 and 3,136 in stage 3. What fv.forecast says before the run stands beside the peak of the process.
"""

import resource
from typing import Annotated

import torch
import typer

import foveate as fv

GIB = 2**20  # in the KiB that the system counts


def main(
    frames: Annotated[int, typer.Option(help="Of the clip.")] = 32,
    side: Annotated[int, typer.Option(help="Its height and width.")] = 224,
    blocks: Annotated[bool, typer.Option(help="Whether there are non-local blocks.")] = True,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
) -> None:
    """Measure the memory of two training steps on one clip."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given = {"mechanism": "nonlocal", "options": {"scale": True}, "blocks": 5} if blocks else {}
    network = fv.networks.c2d_resnet50(geometry="slowfast", **given)
    shape = (1, 3, frames, side, side)
    print("forecast of an inference of one clip, and of a training step of two:")
    print(fv.forecast(network, shape))
    before = peak()
    network.to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    clip = torch.randn(shape).to(memory_format=torch.channels_last_3d)
    for _ in range(2):
        optimizer.zero_grad()
        network(clip).logsumexp(dim=1).mean().backward()
        optimizer.step()
    print(f"process training on one clip: {peak() / GIB:.2f} GiB at its peak, {before / GIB:.2f} GiB before")


def peak() -> int:
    """The most memory that this process has held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    typer.run(main)
