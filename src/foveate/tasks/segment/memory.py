"""Whether a training step fits into memory, told before it is tried: a process that does not fit is killed unheard."""

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.errors import TrainingError

__all__ = ["check_memory", "free_memory", "step_memory"]

GIB = 2**30
LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def check_memory(
    network: nn.Module, channels: int, patch_size: Sequence[int], batch_size: int, device: torch.device, half: bool
) -> None:
    """Refuse patches whose activations alone are more than the free memory of a device.

    Raises:
        TrainingError: If they are; says how much is needed and there.
    """
    needed, free = step_memory(network, (batch_size, channels, *patch_size), half=half), free_memory(device)
    if free is not None and needed > free:
        raise TrainingError(
            f"{batch_size} patches of {tuple(patch_size)} need at least {needed / GIB:.1f} GiB of memory, and "
            f"{free / GIB:.1f} GiB of {device} are free; a smaller patch_size, batch_size or width needs less"
        )


def step_memory(network: nn.Module, shape: Sequence[int], *, half: bool = False) -> int:
    """Bytes of what the layers of a network give to each other in a training step; nothing is computed."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            sizes.append(math.prod(output.shape) * (2 if half else 4))

    ghost = copy.deepcopy(network).to("meta").train()
    for module in ghost.modules():
        # What is computed in place takes no memory of its own.
        if not list(module.children()) and not getattr(module, "inplace", False):
            module.register_forward_hook(note)
    ghost(torch.zeros(*shape, device="meta"))
    return sum(sizes)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [free for free in (_machine_memory(), *_container_memory(Path("/sys/fs/cgroup"))) if free is not None]
    return min(found, default=None)


def _container_memory(root: Path) -> list[int]:
    """Bytes that are left below the limits of a container, in either version of control groups; none without limits."""
    found = []
    for limit, usage in LIMITS:
        try:
            held = dict(line.split() for line in (root / limit).with_name("memory.stat").read_text().splitlines())
            # Files that were read stay in memory only until somebody needs it.
            cached = int(held["inactive_file"]) + int(held["active_file"])
            found.append(int((root / limit).read_text()) - int((root / usage).read_text()) + cached)
        except (OSError, ValueError, KeyError):
            continue
    return found


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None
