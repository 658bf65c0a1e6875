"""What the numbers of a run may depend on besides its configuration, and the device it is computed on."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from foveate._version import __version__

__all__ = ["environment", "pick_device"]

LIBRARIES = ("torch", "torchvision", "lightning", "timm", "numpy")


def environment() -> dict[str, dict[str, Any]]:
    """What the numbers of a run may depend on: "versions" of the libraries and the "machine"."""
    machine = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    versions = {"foveate": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES} | {"torch": torch.__version__}  # with its build
    return {"versions": versions, "machine": machine}


def pick_device(name: str) -> torch.device:
    """The device of a run's `device`; "auto" is the best there is."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
