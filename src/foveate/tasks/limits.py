"""Limits of settings: numbers out of range and pairs that contradict each other are ValueErrors."""

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["check_bits", "check_numbers", "check_pairs", "check_pixels"]

DECODED = 178_956_970  # pixels of a picture that Pillow decodes at most


def check_numbers(config: Any) -> None:
    """Raise a ValueError if a number of a TrainingConfig is out of range."""
    for name in ("epochs", "patience", "batch_size", "devices", "threads", "max_pixels", "max_file_mib"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more; got {value}")
    for name in ("max_time_s", "learning_rate", "width"):
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be greater than 0; got {value}")
    for name in ("weight_decay", "warmup_epochs", "host_learning_rate", "num_workers", "seed"):
        value = getattr(config, name)
        if value is not None and value < 0:
            raise ValueError(f"{name} must be 0 or more; got {value}")
    if config.seed >= 2**32:
        raise ValueError(f"seed must be below 2**32; got {config.seed}")
    if len(config.betas) != 2 or not all(0 <= beta < 1 for beta in config.betas):
        raise ValueError(f"betas are two numbers from 0 to below 1; got {config.betas}")
    if config.max_pixels > DECODED:
        raise ValueError(f"max_pixels must be at most {DECODED}, the most that is decoded; got {config.max_pixels}")
    if config.epsilon <= 0:
        raise ValueError(f"epsilon must be greater than 0; got {config.epsilon}")
    if config.batch_size % config.devices:
        raise ValueError(f"batch_size {config.batch_size} must be a multiple of devices {config.devices}")


def check_pairs(config: Any) -> None:
    """Raise a ValueError if settings of a TrainingConfig contradict each other."""
    if config.train_only == "inserted" and config.host_learning_rate is not None:
        raise ValueError('host_learning_rate has nothing to teach with train_only="inserted"; give one of them')
    if config.mechanism == "none" and config.options:
        raise ValueError(f"options {config.options} need a mechanism; mechanism is none")
    if config.precision == "16" and config.device == "cpu":
        raise ValueError('precision "16" needs a GPU; use "bf16" or "32" on the CPU')


def check_bits(bits: int | None) -> None:
    """Raise a ValueError unless a setting of bits is one that 16-bit images can use."""
    if bits is not None and not 8 <= bits <= 16:
        raise ValueError(f"bits must be from 8 to 16; got {bits}")


def check_pixels(mean: Sequence[float] | None, std: Sequence[float] | None, crop: float | None) -> None:
    """Raise a ValueError if settings of normalising and cutting images make no sense."""
    if crop is not None and not 0 < crop <= 1:
        raise ValueError(f"crop must be from above 0 to 1; got {crop}")
    if mean is not None and not all(map(math.isfinite, mean)):
        raise ValueError(f"mean must be finite numbers; got {mean}")
    if std is not None and not all(0 < value < math.inf for value in std):
        raise ValueError(f"std must be finite numbers above 0; got {std}")
