"""Memory of a training step on a long and large clip: C2D of ResNet-50 with five non-local blocks and nothing pooled.

The clip is 32 x 224 x 224, the first convolution makes no step in time, and blocks see all positions: 12,544 of them in
stage 2, 3,136 in stage 3. Prints the peak of the process and of what is alive, and what fv.forecast says before the run,
of this network and of one that forms the map of positions against positions.

    python benchmarks/long_clips.py [--frames 32] [--mechanism nonlocal|none]
"""

import argparse
import resource

import torch

import foveate as fv

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--mechanism", choices=("nonlocal", "none"), default="nonlocal")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    given = {"mechanism": "nonlocal", "options": {"scale": True}, "blocks": 5}
    network = fv.networks.c2d_resnet50(geometry="slowfast", **(given if arguments.mechanism == "nonlocal" else {}))
    shape = (1, 3, arguments.frames, 224, 224)
    print("forecast of an inference of one clip, and of a training step of two:")
    print(fv.forecast(network, shape))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    network.to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    clip = torch.randn(shape).to(memory_format=torch.channels_last_3d)
    for _ in range(2):
        optimizer.zero_grad()
        network(clip).logsumexp(dim=1).mean().backward()
        optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"process training on one clip: {peak / GIB:.2f} GiB at its peak, {before / GIB:.2f} GiB before the first step")


if __name__ == "__main__":
    main()
