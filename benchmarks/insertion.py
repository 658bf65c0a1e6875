"""Measure mechanisms inserted as the identity: after 60 steps, and in the fine-tuning of a trained network.

    python benchmarks/insertion.py steps                    # 60 steps on one batch, in four hosts
    python benchmarks/insertion.py accuracy PICTURES.npz    # five trained networks, fine-tuned with every mechanism

Both print the tables of docs/insertion.md. PICTURES.npz is in the layout of MedMNIST, 32 x 32 pixels.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import timm
import torch
import torchvision
from scipy import stats
from torch import Tensor, nn

import foveate as fv
from foveate.layers import catalogue
from foveate.surgery import Inserted, inserted
from foveate.tasks.places import usual_places

MECHANISMS = [name for name in catalogue.MECHANISMS if name != "placebo"]
NON_LOCAL = {
    "nonlocal": {},
    "nonlocal, dot product": {"pairwise": "dot_product"},
    "nonlocal, norm none": {"norm": "none"},
}
HOSTS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "timm resnet18": (lambda: timm.create_model("resnet18", num_classes=10), "layer3.1", 64),
    "torchvision mobilenet_v3_small": (
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
        "features.7",
        64,
    ),
    "timm convnext_tiny": (lambda: timm.create_model("convnext_tiny", num_classes=10), "stages.2.blocks.4", 64),
    "timm vit_tiny_patch16_224": (
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=10),
        "blocks.6",
        224,
    ),
}
STEPS, HOST_EPOCHS, EPOCHS, BATCH = 60, 20, 5, 64


def learned(child: Inserted, x: Tensor, attended: Tensor, scale: float) -> Tensor:
    """x + scale * alpha * (m(x) - x): alpha through a fixed scale, learned from 0."""
    assert child.alpha is not None
    return torch.lerp(x, attended, scale * child.alpha)


def without_gain(child: Inserted) -> None:
    """Let the ramp end at the published layer, whatever that does to the size of features."""
    child.gain.fill_(1.0)


STARTS: dict[str, Callable[[Inserted], None]] = {
    "identity": lambda child: None,
    "alpha": lambda child: setattr(child, "blend", partial(learned, child, scale=1.0)),
    "20 alpha": lambda child: setattr(child, "blend", partial(learned, child, scale=20.0)),
    "ramp alone": without_gain,
}


def put(host: nn.Module, where: object, name: str, start: str, example: Tensor) -> None:
    """Insert a mechanism, with one of the starts that are compared."""
    options = NON_LOCAL.get(name, {})
    build = partial(catalogue.build, name.partition(",")[0], **options)
    published = "published" if start == "published" else "identity"
    fv.insert(host, where, build, start=published, example=example)  # pyright: ignore[reportArgumentType]
    for child in inserted(host).values():
        if start != "published" and child.alpha is not None:
            STARTS[start](child)


def after_steps(host_name: str, name: str, start: str) -> tuple[int, int, float, float]:
    """Count the parameters and those that never moved; return both with the strength and the change of the features."""
    build, where, size = HOSTS[host_name]
    torch.manual_seed(0)
    host = build()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4 if size > 64 else 8, 3, size, size, generator=generator)
    labels = torch.randint(0, 10, (len(x),), generator=generator)
    put(host, where, name, start, x)
    (child,) = inserted(host).values()
    before = {key: value.detach().clone() for key, value in child.named_parameters()}
    optimizer = torch.optim.AdamW(host.parameters(), lr=1e-3, weight_decay=0.0)
    host.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(host(x), labels).backward()
        optimizer.step()
    still = sum(value.equal(before[key]) for key, value in child.named_parameters())
    return len(before), still, child.strength, change_of(host, child, x)


def change_of(host: nn.Module, child: nn.Module, x: Tensor) -> float:
    """|features with the mechanism - features without it| / |features without it|, in evaluation."""
    seen: dict[str, Tensor] = {}
    handle = child.register_forward_hook(lambda module, args, output: seen.update(x=args[0], y=output))
    with torch.no_grad():
        host.eval()(x)
    handle.remove()
    return ((seen["y"] - seen["x"]).norm() / seen["x"].norm()).item()


def steps_table(hosts: list[str], mechanisms: list[str]) -> None:
    """Print a table a host."""
    for host in hosts:
        print(f"\n{host}, behind {HOSTS[host][1]}\n")
        print("| inserted | parameters that never moved | strength | change of features | published start changes |")
        print("|---|---|---|---|---|", flush=True)
        for name in mechanisms:
            count, still, strength, change = after_steps(host, name, "identity")
            published = after_steps(host, name, "published")[3]
            row = (name, f"{still} of {count}", f"{strength:.2f}", f"{100 * change:.1f} %", f"{100 * published:.1f} %")
            print(f"| {' | '.join(row)} |", flush=True)


class Pictures:
    """The splits of an npz file, as tensors from -1 to 1 and labels."""

    def __init__(self, path: Path) -> None:
        held = np.load(path, allow_pickle=False)
        self.train, self.test = ((self._images(held, split), self._labels(held, split)) for split in ("train", "test"))

    @staticmethod
    def _images(held: np.lib.npyio.NpzFile, split: str) -> Tensor:
        return torch.from_numpy(held[f"{split}_images"]).permute(0, 3, 1, 2).float() / 127.5 - 1

    @staticmethod
    def _labels(held: np.lib.npyio.NpzFile, split: str) -> Tensor:
        return torch.from_numpy(held[f"{split}_labels"]).long().flatten()


def fit(network: nn.Module, pictures: Pictures, epochs: int, rate: float, seed: int) -> list[float]:
    """Train with AdamW, flips and shifts; the test accuracy in percent after each epoch."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = pictures.train
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps + 1, pct_start=0.1, cycle_momentum=False)
    accuracies = []
    for _ in range(epochs):
        network.train()
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH)[: len(images) // BATCH]:
            x = images[chosen]
            flipped = torch.rand(len(x), generator=generator) < 0.5
            x[flipped] = x[flipped].flip(-1)
            shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.roll(x, shift, (2, 3))), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
        accuracies.append(accuracy(network, pictures))
    return accuracies


@torch.no_grad()
def accuracy(network: nn.Module, pictures: Pictures) -> float:
    """Test accuracy in percent."""
    images, labels = pictures.test
    answers = torch.cat([network.eval()(part).argmax(dim=1) for part in images.split(250)])
    return 100 * (answers == labels).double().mean().item()


def tuned(state: dict[str, Tensor], pictures: Pictures, seed: int, rate: float, name: str, start: str) -> list[float]:
    """Insert into a trained network and fine-tune it; the accuracy after each epoch."""
    network = fv.networks.resnet_tiny(num_classes=10)
    network.load_state_dict(state)
    torch.manual_seed(1000 + seed)
    if name != "none":
        places = usual_places(network, catalogue.describe(name.partition(",")[0]).place)
        put(network, lambda at, module: at in places, name, start, torch.zeros(2, 3, 32, 32))
    return fit(network, pictures, EPOCHS, rate, 77 + seed)


def accuracy_table(path: Path, mechanisms: list[str], seeds: int, rate: float, others: list[str]) -> None:
    """Train the hosts, fine-tune each with every mechanism and start, and print the differences."""
    pictures, states = Pictures(path), []
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = fv.networks.resnet_tiny(num_classes=10)
        fit(network, pictures, HOST_EPOCHS, 3e-3, seed)
        states.append(network.state_dict())
    plain = [tuned(state, pictures, seed, rate, "none", "") for seed, state in enumerate(states)]
    means = ", ".join(f"{fmean(values):.1f}" for values in zip(*plain, strict=True))
    print(f"\nplain fine-tuning: {means} % after epochs 1 to {EPOCHS}; below, points above it and 95 % intervals\n")
    print("| inserted | start | " + " | ".join(f"epoch {epoch}" for epoch in range(1, EPOCHS + 1)) + " |")
    print("|---|---|" + "---|" * EPOCHS, flush=True)
    for name in mechanisms:
        for start in ("identity", "published", *(others if name in ("se", "cbam") else ())):
            runs = [tuned(state, pictures, seed, rate, name, start) for seed, state in enumerate(states)]
            over = np.subtract(runs, plain)
            reach = stats.t.ppf(0.975, seeds - 1) * over.std(axis=0, ddof=1) / seeds**0.5
            cells = [f"{mean:+.1f} ± {half:.1f}" for mean, half in zip(over.mean(axis=0), reach, strict=True)]
            print(f"| {name} | {start} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("steps", "accuracy"))
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--hosts", nargs="+", choices=list(HOSTS), default=list(HOSTS))
    every = [name for name in MECHANISMS if name != "nonlocal"] + list(NON_LOCAL)
    parser.add_argument("--mechanisms", nargs="+", choices=every, help="Default: all.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--others", nargs="*", choices=[*STARTS, "published"], default=["alpha", "20 alpha", "ramp alone"]
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "steps":
        steps_table(given.hosts, given.mechanisms or every)
    elif given.pictures is None:
        parser.error("accuracy takes the path of PICTURES.npz")
    else:
        accuracy_table(given.pictures, given.mechanisms or MECHANISMS, given.seeds, given.rate, given.others)


if __name__ == "__main__":
    main()
