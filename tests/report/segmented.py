"""A study of segmentations made without training: three arms, two seeds, six cases, slices and gates."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from foveate.tasks.segment.metrics import Score, interval, write_scores

SIDE, CASES = 32, [f"scan_{number:03}" for number in range(6)]
DICE = {"none": 0.80, "attention-gate": 0.84, "wider": 0.80}
GATE = "skips.2.gates.0.gate"


def scores_of(arm: str, seed: int) -> list[Score]:
    random = np.random.default_rng([len(arm), seed])
    found = []
    for number, case in enumerate(CASES):
        for structure in ("anterior", "posterior"):
            dice = DICE[arm] + 0.02 * number - 0.01 * seed + 0.004 * random.standard_normal()
            measured = {
                "dice": dice,
                "precision": dice,
                "recall": dice,
                "surface_dice": dice,
                "hd95_mm": 6 * (1 - dice),
            }
            volumes = {"truth_ml": 3.0, "predicted_ml": 3.1, "false_positive_ml": 2 * (1 - dice)}
            found.append(Score(case=case, structure=structure, state="scored", assd_mm=0.5, **measured, **volumes))
    return found


def write_maps(folder: Path, arm: str) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    organ = ((y - 16) ** 2 + (x - 14) ** 2 < 60).astype(np.uint8)
    gate = np.exp(-((y - 16) ** 2 + (x - 14) ** 2) / 90).astype(np.float16)
    gate[:, :6] = np.nan  # beyond the picture
    arrays = {"images": np.repeat((90 + 90 * organ)[None, ..., None], 3, axis=3).astype(np.uint8)}
    arrays |= {"truth": organ[None], "prediction": np.roll(organ, 2, axis=1)[None]}
    entries = [{"tap": "prediction", "kind": "prediction", "key": "prediction"}]
    if arm == "attention-gate":
        arrays["spatial_0"] = gate[None]
        entries.append({"tap": GATE, "kind": "spatial", "key": "spatial_0"})
    sample = {"index": 0, "name": CASES[0], "label": f"{CASES[0]}, slice 9 of 20", "prediction": "Dice 0.812"}
    folder.mkdir()
    np.savez(folder / "maps.npz", **arrays)  # pyright: ignore[reportArgumentType]
    index = {"samples": [sample], "classes": ["background", "organ"], "image_size": [SIDE, SIDE], "maps": entries}
    (folder / "maps.json").write_text(json.dumps(index))


def write_run(folder: Path, arm: str, seed: int) -> None:
    folder.mkdir(parents=True)
    mechanism = "none" if arm in ("none", "wider") else arm
    about = {"task": "segment", "arm": arm, "mechanism": mechanism, "network": "unet", "seed": seed}
    (folder / "config.json").write_text(json.dumps(about | {"data": "/data/hippocampus", "epochs": 2}))
    scores = scores_of(arm, seed)
    write_scores(folder / "cases.csv", scores)
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = [["epoch", "step", "seconds", "learning_rate", "train_loss", "val_dice"]]
        csv.writer(file).writerows([*rows, [1, 10, 3.0, 0.01, 0.9, ""], [2, 20, 6.0, 0.0, 0.6, 0.78]])
    write_maps(folder / "maps", arm)
    mean, low, high = interval([score.dice for score in scores if score.dice is not None])
    metrics = {"cases": 6, "missed": 0, "dice": mean, "dice_low": low, "dice_high": high, "dice.anterior": mean}
    health = {"axes": "batch *space", "mean": 0.5, "std": 0.1, "entropy": 0.9, "saturation": 0.1, "variation": 0.2}
    gated = mechanism != "none"
    summary: dict[str, Any] = {
        **about,
        "version": 1,
        "start": "published",
        "metrics": metrics | {"val_dice": 0.78},
        "sites": [{"name": "skips.2.gates.0", "channels": 8}] if gated else [],
        "parameters": 1000,
        "epochs": 2.0,
        "steps": 20,
        "training_seconds": 6.0,
        "stopped_by": "epochs",
        "resumed": 0,
        "train_size": 20,
        "val_size": 4,
        "test_size": 6,
        "gate_health": {GATE: health | {"alive": True}} if gated else {},
        "pointing": {},
        "versions": {},
        "machine": {},
        "command": "foveate train segment",
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def write_study(folder: Path, seeds: int = 2) -> Path:
    for arm in DICE:
        for seed in range(seeds):
            write_run(folder / "runs" / arm / f"seed{seed}", arm, seed)
    entries = [
        {"arm": arm, "mechanism": arm if arm == "attention-gate" else "none", "width": 1.0, "options": {}}
        for arm in DICE
    ]
    plan = {
        "version": 1,
        "task": "segment",
        "data": "/data/hippocampus",
        "network": "unet",
        "start": "published",
        "baseline": "none",
        "budget": {"epochs": 2},
        "arms": entries,
        "seeds": list(range(seeds)),
        "left_out": {},
        "notes": [],
        "config": {},
        "command": "foveate compare segment --data /data/hippocampus",
    }
    (folder / "study.json").write_text(json.dumps(plan))
    cost = {"parameters": 1000, "macs": 7_000_000, "latency_ms": 5.0, "step_ms": 20.0, "step_batch": 1}
    (folder / "costs.json").write_text(json.dumps(dict.fromkeys(DICE, cost)))
    return folder
