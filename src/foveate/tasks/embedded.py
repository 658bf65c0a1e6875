"""Settings that suit the embedded pictures and clips."""

from typing import Any

__all__ = ["CLIP_SETTINGS", "DEMO_SETTINGS", "EMBEDDED_SETTINGS"]

# What `foveate compare` and `foveate train` use on the embedded pictures where nothing else is asked for.
DEMO_SETTINGS: dict[str, Any] = {
    "network": "resnet_tiny",
    "epochs": 6,
    "batch_size": 32,
    "learning_rate": 6e-3,
    "augment": "none",
    "threads": 1,
}

# Likewise on the embedded clips; a flip would change a direction.
CLIP_SETTINGS: dict[str, Any] = {
    "network": "c2d_tiny",
    "epochs": 12,
    "batch_size": 32,
    "learning_rate": 6e-3,
    "augment": "none",
    "threads": 1,
}
EMBEDDED_SETTINGS = {"demo": DEMO_SETTINGS, "direction": CLIP_SETTINGS, "mover": CLIP_SETTINGS}
