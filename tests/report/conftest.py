"""A realistic study folder, made without training: nine arms, three seeds, maps, and some things gone wrong."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

SIZE = 40
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
BLOCKS = [("layer1.0", 16, 40), ("layer2.0", 32, 20), ("layer3.0", 64, 10), ("layer4.0", 128, 5)]


@dataclass(frozen=True)
class Arm:
    """What the invented results of an arm are made of."""

    name: str
    accuracy: float
    parameters: int
    macs: int
    latency_ms: float
    channel: str = ""  # the name of its channel gate's tap
    spatial: str = ""
    rows: str = ""
    pointing: float = 0.5


ARMS = [
    Arm("none", 0.842, 176_890, 21_400_000, 3.1, pointing=0.58),
    Arm("se", 0.851, 180_120, 21_410_000, 3.6, channel="mechanism.gate", pointing=0.61),
    Arm("eca", 0.849, 176_906, 21_405_000, 3.4, channel="mechanism.gate", pointing=0.60),
    Arm("eca-spatial", 0.872, 177_300, 21_900_000, 4.4, "mechanism.eca.gate", "mechanism.spatial.gate", pointing=0.74),
    Arm("cbam", 0.874, 180_530, 21_950_000, 5.0, "mechanism.channel_gate", "mechanism.spatial_gate", pointing=0.73),
    Arm("bam", 0.846, 181_020, 22_060_000, 4.1, "mechanism.gate", "mechanism.gate", pointing=0.66),
    Arm("nonlocal", 0.855, 189_380, 23_800_000, 4.8, rows="mechanism.weights", pointing=0.63),
    Arm("placebo", 0.841, 176_890, 21_400_000, 3.2, channel="mechanism.gate", pointing=0.57),
    Arm("wider", 0.850, 189_760, 22_930_000, 3.3, pointing=0.59),
]
VERSIONS = {"foveate": "0.1.0", "python": "3.11.7", "torch": "2.14.1", "torchvision": "0.29.1", "lightning": "2.6.6"}
MACHINE = {"platform": "Linux-6.1-x86_64", "processor": "an invented processor", "cores": 2, "memory_gib": 8.0}


def cluttered(digit: int, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """A digit somewhere on a canvas among strokes, and its true box."""
    picture = Image.new("L", (SIZE, SIZE))
    drawing = ImageDraw.Draw(picture)
    for _ in range(7):
        x, y = random.integers(0, SIZE - 8, size=2)
        corners = [int(x), int(y), int(x + random.integers(3, 8)), int(y + random.integers(3, 8))]
        drawing.arc(corners, 0, int(random.integers(90, 300)), fill=int(random.integers(110, 220)), width=2)
    left, top = (int(value) for value in random.integers(2, SIZE - 18, size=2))
    drawing.rectangle([left, top, left + 14, top + 16], fill=0)
    drawing.text((left + 2, top - 3), str(digit), font=ImageFont.load_default(size=18), fill=255)
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2), [left, top, left + 14, top + 16]


def blob(size: int, box: list[int], sharpness: float, random: np.random.Generator) -> np.ndarray:
    """A map of size x size that is high at the box, more or less, with noise."""
    y, x = (np.mgrid[:size, :size] + 0.5) * SIZE / size
    middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    heat = np.exp(-((x - middle_x) ** 2 + (y - middle_y) ** 2) / 120)
    return (0.25 + 0.5 * sharpness * heat + 0.2 * (1 - sharpness) * random.random((size, size))).astype(np.float32)


def is_dead(arm: Arm, depth: int) -> bool:
    """Whether a gate is the same for every picture: the placebo's by design, the first one of BAM by mishap."""
    return arm.name == "placebo" or (arm.name == "bam" and depth == 0)


def write_maps(folder: Path, arm: Arm, random: np.random.Generator) -> None:
    drawn = np.random.default_rng(0)  # the same pictures in every arm
    pictures, boxes = zip(*(cluttered(digit, drawn) for digit in range(8) for _ in range(2)), strict=True)
    arrays: dict[str, np.ndarray] = {"images": np.stack(pictures)}
    listed: list[dict[str, Any]] = []

    def add(tap: str, kind: str, values: np.ndarray, point: Any = None) -> None:
        arrays[f"map{len(listed)}"] = values
        listed.append({"tap": tap, "kind": kind, "key": f"map{len(listed)}", "point": point})

    centres = [[(box[1] + box[3]) / 2 / SIZE, (box[0] + box[2]) / 2 / SIZE] for box in boxes]
    for depth, (block, channels, size) in enumerate(BLOCKS):
        sharp = arm.pointing * (0.4 + 0.2 * depth)
        if arm.channel:
            profile = (
                0.5 + 0.13 * random.standard_normal(channels) + 0.03 * depth * random.standard_normal((10, channels))
            )
            dead = is_dead(arm, depth)
            add(f"{block}.{arm.channel}", "channel_profile", np.full_like(profile, 0.5) if dead else profile.clip(0, 1))
        if arm.spatial:
            gates = np.stack([blob(size, box, sharp, random) for box in boxes])
            dead = is_dead(arm, depth)
            add(f"{block}.{arm.spatial}", "spatial", np.full_like(gates, 0.5) if dead else gates)
        if arm.rows and depth == 2:
            rows = np.stack([blob(size, box, sharp, random) for box in boxes])
            add(f"{block}.{arm.rows}", "rows", rows / rows.sum(axis=(1, 2), keepdims=True), centres)
    add("network", "network", np.stack([blob(5, box, arm.pointing, random) for box in boxes]))
    labels = [digit for digit in range(8) for _ in range(2)]
    samples = [
        {
            "index": i,
            "name": f"test/{label}/{i:05}.png",
            "label": CLASSES[label],
            "prediction": CLASSES[label if i % 5 else 3],
            "box_xyxy": boxes[i],
        }
        for i, label in enumerate(labels)
    ]
    (folder / "maps").mkdir()
    np.savez(folder / "maps" / "maps.npz", **arrays)  # pyright: ignore[reportArgumentType]
    index = {"samples": samples, "classes": CLASSES, "image_size": [SIZE, SIZE], "maps": listed}
    (folder / "maps" / "maps.json").write_text(json.dumps(index))


def gate_health(arm: Arm) -> dict[str, dict[str, Any]]:
    health = {}
    for depth, (block, _, _) in enumerate(BLOCKS):
        gates = (
            (arm.channel, "batch channel"),
            (arm.spatial, "batch *space"),
            (arm.rows if depth == 2 else "", "batch *query *key"),
        )
        for tap, axes in gates:
            dead = is_dead(arm, depth)
            values = {
                "axes": axes,
                "mean": 0.5,
                "std": 0.0 if dead else 0.11,
                "entropy": 0.97,
                "saturation": 0.02 * depth,
            }
            if tap:
                health[f"{block}.{tap}"] = values | {
                    "variation": 0.0 if dead else 0.05 + 0.02 * depth,
                    "alive": not dead,
                }
    return health


def write_run(folder: Path, arm: Arm, seed: int, epochs: int = 6, max_time_s: float | None = None) -> None:
    random = np.random.default_rng([seed, arm.parameters, arm.macs, round(arm.latency_ms * 10)])
    folder.mkdir(parents=True)
    accuracy = arm.accuracy + 0.006 * (seed - 1) + 0.004 * random.standard_normal()
    config = {
        "task": "classify",
        "data": "demo",
        "network": "resnet_tiny",
        "arm": arm.name,
        "mechanism": arm.name,
        "seed": seed,
    }
    config |= {
        "epochs": None if max_time_s else epochs,
        "max_time_s": max_time_s,
        "batch_size": 64,
        "learning_rate": 0.05,
        "start": "auto",
    }
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "seconds", "learning_rate", "train_loss", "val_loss", "val_accuracy"])
        for epoch in range(1, epochs + 1):
            reached = accuracy * (1 - 0.75 * np.exp(-1.1 * epoch)) + 0.008 * random.standard_normal()
            loss = 2.3 * np.exp(-0.35 * epoch)
            row = [epoch, epoch * 20, epoch * 4.5, 0.05 * (1 - epoch / epochs), loss, loss + 0.1, reached]
            writer.writerow([row[0], row[1], *(f"{value:.5f}" for value in row[2:])])
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "name", "label", "prediction", *(f"p_{name}" for name in CLASSES)])
        for i in range(200):
            label = i % 10
            prediction = label if random.random() < accuracy else int(random.integers(10))
            writer.writerow([i, f"test/{label}/{i:05}.png", CLASSES[label], CLASSES[prediction], *[0.1] * 10])
    if seed == 0:
        write_maps(folder, arm, random)
    metrics = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 0.003,
        "macro_f1": accuracy - 0.004,
        "auroc": 0.5 + accuracy / 2,
    }
    mechanism = arm.pointing - 0.06 if arm.spatial or arm.rows else None
    blocks = [] if arm.name in ("none", "wider") else BLOCKS[2:3] if arm.rows else BLOCKS
    seen = float(epochs) if max_time_s is None else 0.7 + 0.9 / arm.latency_ms
    summary = {
        "version": 1,
        **{name: config[name] for name in ("task", "arm", "mechanism", "network", "seed")},
        "start": "published",
        "metrics": metrics | {"loss": 0.52, "val_accuracy": accuracy + 0.01},
        "sites": [
            {"name": f"{block}.mechanism", "channels": channels, "strength": None, "ramp": None, "change": 0.21}
            for block, channels, _ in blocks
        ],
        "parameters": arm.parameters,
        "macs": arm.macs,
        "epochs": seen,
        "steps": epochs * 20,
        "training_seconds": epochs * 4.5,
        "stopped_by": "max_time" if max_time_s else "epochs",
        "resumed": int(seed == 2),
        "train_size": 1257,
        "val_size": 270,
        "test_size": 360,
        "gate_health": gate_health(arm),
        "pointing": {
            "network": arm.pointing + 0.01 * seed,
            "mechanism": mechanism,
            "chance": 0.149,
            "samples": 360,
            "taps": {
                f"{block}.{arm.spatial}": 0.2 + 0.1 * depth for depth, (block, _, _) in enumerate(BLOCKS) if arm.spatial
            },
        },
        "versions": VERSIONS,
        "machine": MACHINE,
        "command": f"foveate train classify --data demo --mechanism {arm.name} --seed {seed}",
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def write_study(
    folder: Path, arms: list[Arm] = ARMS, seeds: int = 3, max_time_s: float | None = None, fail: bool = True
) -> Path:
    epochs = 1 if max_time_s else 6
    for arm in arms:
        for seed in range(seeds):
            write_run(folder / "runs" / arm.name / f"seed{seed}", arm, seed, epochs, max_time_s)
    wider = {"wider": {"mechanism": "none", "width": 1.04}}
    entries = [
        {"arm": arm.name, "mechanism": arm.name, "width": 1.0, "options": {}} | wider.get(arm.name, {}) for arm in arms
    ]
    plan = {
        "version": 1,
        "task": "classify",
        "data": "demo",
        "network": "resnet_tiny",
        "start": "published",
        "baseline": "none",
        "budget": {"max_time_s": max_time_s} if max_time_s else {"epochs": epochs},
        "arms": entries,
        "seeds": list(range(seeds)),
        "left_out": {},
        "notes": ["wider is resnet_tiny at width 1.04: 189,760 parameters, where nonlocal has 189,380"],
        "config": {"batch_size": 64},
        "versions": VERSIONS,
        "machine": MACHINE,
        "created": "2026-11-22T19:40:00+00:00",
        "wall_seconds": 411.0,
        "command": "foveate compare classify --data demo --network resnet_tiny --seeds 3 --epochs 6 --out study",
    }
    (folder / "study.json").write_text(json.dumps(plan))
    costs = {
        arm.name: {
            "parameters": arm.parameters,
            "macs": arm.macs,
            "latency_ms": arm.latency_ms,
            "latency_p95_ms": arm.latency_ms * 1.2,
        }
        | {
            "step_ms": arm.latency_ms * 21,
            "step_p95_ms": arm.latency_ms * 24,
            "memory_mib": 9.5,
            "step_memory_mib": 41.0 + arm.latency_ms,
        }
        for arm in arms
    }
    (folder / "costs.json").write_text(json.dumps(costs))
    if fail:
        (folder / "runs" / "nonlocal" / "seed2" / "summary.json").unlink()
        sentence = "the loss must stay finite; got nan at step 41 of run nonlocal seed 2"
        (folder / "failures.json").write_text(json.dumps([{"arm": "nonlocal", "seed": 2, "sentence": sentence}]))
    return folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    return write_study(folder)


@pytest.fixture
def study(tmp_path: Path, pristine: Path) -> Path:
    """Nine arms, three seeds, one failed run, one arm with dead gates; a copy of one's own."""
    return shutil.copytree(pristine, tmp_path / "study")


@pytest.fixture(scope="session")
def segmentations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms that segment, two seeds, six cases."""
    from tests.report import segmented

    return segmented.write_study(tmp_path_factory.mktemp("segmentations"))
