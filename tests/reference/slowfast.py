"""C2D and I3D with non-local blocks under SlowFast's names, written down from its description, for tests."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """branch1 (1x1x1 with a step) + branch2 (t x1x1, 1x3x3 with the step, 1x1x1), each with its normalisation."""

    def __init__(self, channels: int, inner: int, out: int, time: int, step: int) -> None:
        super().__init__()
        if channels != out or step != 1:
            self.branch1 = nn.Conv3d(channels, out, 1, (1, step, step), bias=False)
            self.branch1_bn = nn.BatchNorm3d(out)
        self.branch2 = nn.Module()
        self.branch2.a = nn.Conv3d(channels, inner, (time, 1, 1), padding=(time // 2, 0, 0), bias=False)
        self.branch2.a_bn = nn.BatchNorm3d(inner)
        self.branch2.b = nn.Conv3d(inner, inner, (1, 3, 3), (1, step, step), (0, 1, 1), bias=False)
        self.branch2.b_bn = nn.BatchNorm3d(inner)
        self.branch2.c = nn.Conv3d(inner, out, 1, bias=False)
        self.branch2.c_bn = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.branch2
        y = F.relu(branch.a_bn(branch.a(x)))
        y = F.relu(branch.b_bn(branch.b(y)))
        y = branch.c_bn(branch.c(y))
        return F.relu((self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x) + y)


class NonLocalBlock(nn.Module):
    """softmax over the pooled positions of theta . phi / root of the width, or theta . phi / their number."""

    def __init__(self, channels: int, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.conv_theta, self.conv_phi, self.conv_g = (nn.Conv3d(channels, channels // 2, 1) for _ in range(3))
        self.conv_out = nn.Conv3d(channels // 2, channels, 1)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.conv_theta(x)
        pooled = F.max_pool3d(x, (1, 2, 2))
        phi, g = self.conv_phi(pooled).flatten(2), self.conv_g(pooled).flatten(2)
        weights = theta.flatten(2).mT @ phi
        weights = (weights * theta.shape[1] ** -0.5).softmax(dim=-1) if self.softmax else weights / phi.shape[2]
        return x + self.bn(self.conv_out((g @ weights.mT).unflatten(2, theta.shape[2:])))


class SlowFast(nn.Module):
    """One pathway. `kernels`: frames of the stem's kernel, and in turn those of the blocks of each stage."""

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        kernels: tuple[int, tuple[tuple[int, ...], ...]],
        blocks: tuple[tuple[int, ...], ...] = ((), (), (), ()),
        softmax: bool = True,
        pool: int = 2,
        classes: int = 7,
    ) -> None:
        super().__init__()
        self.pool, self.depths = pool, depths
        stem, stages = kernels
        self.s1 = nn.Module()
        self.s1.pathway0_stem = nn.Module()
        self.s1.pathway0_stem.conv = nn.Conv3d(3, width, (stem, 7, 7), (1, 2, 2), (stem // 2, 3, 3), bias=False)
        self.s1.pathway0_stem.bn = nn.BatchNorm3d(width)
        channels = width
        for number, (depth, times, chosen) in enumerate(zip(depths, stages, blocks, strict=True)):
            stage, out = nn.Module(), 4 * width * 2**number
            for index in range(depth):
                step = 2 if number > 0 and index == 0 else 1
                time = times[index % len(times)]
                stage.add_module(f"pathway0_res{index}", Block(channels, width * 2**number, out, time, step))
                if index in chosen:
                    stage.add_module(f"pathway0_nonlocal{index}", NonLocalBlock(out, softmax))
                channels = out
            self.add_module(f"s{number + 2}", stage)
        self.head = nn.Module()
        self.head.projection = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.s1.pathway0_stem
        x = F.max_pool3d(F.relu(stem.bn(stem.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for number, depth in enumerate(self.depths, start=2):
            stage = self.get_submodule(f"s{number}")
            for index in range(depth):
                x = stage.get_submodule(f"pathway0_res{index}")(x)
                if hasattr(stage, f"pathway0_nonlocal{index}"):
                    x = stage.get_submodule(f"pathway0_nonlocal{index}")(x)
            if number == 2:
                x = F.max_pool3d(x, (self.pool, 1, 1))
        return self.head.projection(x.mean(dim=(2, 3, 4)))


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation mode, with statistics and weights of normalisation that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point() and value.ndim < 2:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    return network
