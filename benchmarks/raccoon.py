"""A small DETR from random weights learns sixteen pictures by heart: what has to work before anything else can.

python benchmarks/raccoon.py DATA --out RUN, where DATA holds train.json and test.json in COCO's format and the pictures
in images/. The first sixteen pictures of train.json are learned from, half of test.json is validated with, and COCO's
average precision on the sixteen is told. The run is taken up where it was left.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

PICTURES = 16
SETTINGS: dict[str, Any] = {
    "network": "detr_tiny",
    "short": 128,
    "batch_size": 4,
    "learning_rate": 5e-4,
    "augment": "none",
    "validate_every": 50,
    "device": "cpu",
}


def main(
    data: Annotated[Path, typer.Argument(help="The folder with train.json, test.json and images/.")],
    out: Annotated[Path, typer.Option(help="Where the run is kept.")] = Path("raccoon"),
    minutes: Annotated[float, typer.Option(help="Of training.")] = 10.0,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    seed: Annotated[int, typer.Option(help="Decides weights and order.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Train, and print how well the pictures are known that were learned from."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from foveate.tasks.detect.config import DetectConfig
    from foveate.tasks.run import evaluate, train

    divide(data, out / "data")
    given = {"data": str(out / "data"), "images": str(data / "images"), "max_time_s": minutes * 60}
    summary = train(DetectConfig(**SETTINGS, **given, seed=seed, threads=threads), out / "run")
    known = evaluate(out / "run", split="train")
    told = {name: known[name] for name in ("map", "map50", "map75")}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
    print(f"{summary.parameters:,} parameters, {summary.steps:,} steps of {SETTINGS['batch_size']} pictures: {shown}")
    if json_file is not None:
        about = {"minutes": minutes, "threads": threads, "seed": seed, "cores": os.cpu_count()}
        about |= {"parameters": summary.parameters, "steps": summary.steps}
        json_file.write_text(json.dumps(about | told, indent=2) + "\n")


def divide(data: Path, out: Path) -> None:
    """Write the json files of the splits: sixteen pictures to learn, and both halves of test.json."""
    train, test = (json.loads((data / name).read_text()) for name in ("train.json", "test.json"))
    half = len(test["images"]) // 2
    splits = {
        "train": (train, train["images"][:PICTURES]),
        "val": (test, test["images"][:half]),
        "test": (test, test["images"][half:]),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, (content, images) in splits.items():
        held = {image["id"] for image in images}
        annotations = [each for each in content["annotations"] if each["image_id"] in held]
        (out / f"{name}.json").write_text(json.dumps(content | {"images": images, "annotations": annotations}))


if __name__ == "__main__":
    typer.run(main)
