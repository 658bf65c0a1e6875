"""Build the network of a run that translates."""

import dataclasses
from pathlib import Path

import torch

from foveate.networks import Transformer, catalogue
from foveate.tasks import files
from foveate.tasks.finished import fill, kept, rebuilding
from foveate.tasks.translate.config import TranslateConfig
from foveate.tasks.translate.preparation import KEY, Preparation
from foveate.tasks.weights import start_from

__all__ = ["build_network", "load_run", "peak_of", "preparation_of", "tokens_of"]

DECIDED = ("num_tokens",)


def build_network(config: TranslateConfig, num_tokens: int) -> Transformer:
    """The network of a run, its weights drawn from the seed or taken from `init`."""
    catalogue.describe(config.network, config.task)
    taken = sorted(set(DECIDED) & set(config.network_options))
    if taken:
        raise ValueError(f"network_options cannot set {', '.join(taken)}; the run decides that")
    if config.width != 1.0:
        raise ValueError(
            f"a Transformer's width is its embed_dim, an option of the network; got width={config.width:g}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            network = catalogue.build(config.network, num_tokens=num_tokens, **config.network_options)
        except TypeError as error:  # of a value of another kind Python says less than is needed
            told = f"{config.network} with options {config.network_options} cannot be built: {error}"
            raise ValueError(told) from None
    assert isinstance(network, Transformer)
    if network.length is not None and config.longest > network.length:
        raise ValueError(
            f"longest must be at most the number of positions that are learned, {network.length}; got {config.longest}"
        )
    if config.init is not None:
        start_from(network, config.init, (), (), ours=True)
    return network


def peak_of(config: TranslateConfig, network: Transformer) -> float:
    """The highest learning rate of a run: its own, or the paper's."""
    return config.learning_rate or (network.embed_dim * config.warmup_steps) ** -0.5


def load_run(run: Path) -> tuple[Transformer, TranslateConfig, Preparation]:
    """The trained network of a finished run, in eval mode on the CPU, with all that it needs."""
    preparation = preparation_of(run)
    config = TranslateConfig.from_file(Path(run) / files.CONFIG)
    # The trained weights are in the folder: where the run started from need not exist any more.
    with rebuilding(run):
        network = build_network(dataclasses.replace(config, init=None), len(preparation.vocabulary))
    fill(network, run)
    return network.eval(), config, preparation


def preparation_of(run: Path) -> Preparation:
    """What a finished run's network takes and gives, kept with its weights."""
    return kept(run, KEY, Preparation.from_json)


def tokens_of(checkpoint: str) -> str | None:
    """The vocabulary that a run kept with its weights, to which they belong; None of another file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, framework="pt") as held:
            text = (held.metadata() or {}).get(KEY)
    except (OSError, SafetensorError):
        return None  # whether its weights can be read is found out with them
    return None if text is None else Preparation.from_json(text).tokens
