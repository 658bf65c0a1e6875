"""The Transformer's speed: beam search beside Hugging Face's, and a training step beside torch.nn.Transformer's.

python benchmarks/decoding.py. The first part needs transformers (pip install transformers), which nothing else does.
Networks have the sizes of the paper's base model, 37,000 tokens and random weights. Targets are forced to one length,
which is checked, so that all searches take as many steps. Ratios are of CPU time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS, PADDING, BEGIN, END, FIRST = 37_000, 0, 1, 2, 3
SIZES: dict[str, int] = {"embed_dim": 512, "num_heads": 8, "hidden_channels": 2048}
LAYERS = 6
OURS, HUGGING_FACE = "foveate", "transformers"
TORCH, SAME_DROPOUT = "torch.nn.Transformer", "foveate, torch's dropout"
EVERYWHERE = {"attention_dropout": 0.1, "activation_dropout": 0.1}


def main(
    batches: Annotated[str, typer.Option(help="Sentences in a batch, several separated by commas.")] = "1,8",
    length: Annotated[int, typer.Option(help="Tokens of every source and target.")] = 40,
    turns: Annotated[int, typer.Option(help="Searches and steps of each kind that count.")] = 5,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    peers: Annotated[bool, typer.Option(help="Measure transformers too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure decoding and a training step, and print both."""
    set_threads(threads)

    decoding = {int(batch): decode(int(batch), length, turns, peers=peers) for batch in batches.split(",")}
    training = {int(batch): train(int(batch), length, turns) for batch in batches.split(",")}
    said = f"{length} tokens, {threads} thread{'s' * (threads > 1)}"
    print(f"Sentences decoded with a beam of 4, {said}:")
    show(decoding, ours=OURS, peer=HUGGING_FACE)
    print(f"Forward and backward pass of a training step, {said}:")
    show(training, ours=OURS, peer=TORCH)
    about: dict[str, Any] = {"length": length, "turns": turns, "threads": threads}
    save(json_file, ratios(decoding, training), **about, decoding=decoding, training=training)


def ratios(decoding: dict[int, dict[str, Times]], training: dict[int, dict[str, Times]]) -> list[Ratio]:
    """The lines of the table."""
    lines = []
    for batch, times in decoding.items():
        if HUGGING_FACE in times:
            both = times[HUGGING_FACE], times[OURS]
            lines.append(time_ratio(f"beam-4 decoding, batch {batch}", f"{HUGGING_FACE} generate", *both, ">= 1.2"))
    for batch, times in training.items():
        lines.append(time_ratio(f"Transformer forward and backward, batch {batch}", TORCH, times[TORCH], times[OURS]))
    return lines


def decode(batch: int, length: int, turns: int, *, peers: bool) -> dict[str, Times]:
    """Times of a search over a batch of sentences."""
    import torch

    from foveate.networks import Transformer, beam_search

    torch.manual_seed(0)
    source = torch.randint(FIRST, TOKENS, (batch, length))
    network = Transformer(TOKENS, **SIZES, encoder_layers=LAYERS, decoder_layers=LAYERS).eval()

    def ours() -> list[int]:
        found = beam_search(network, source, begin=BEGIN, end=END, extra_length=0)
        return [len(target) for target in found.tokens]

    steps: dict[str, Callable[[], object]] = {OURS: ours}
    lengths = ours()
    if peers:
        marian = hugging_face(length)

        def theirs() -> list[int]:
            given = {"min_new_tokens": length, "max_new_tokens": length, "num_beams": 4, "length_penalty": 0.6}
            found = marian.generate(input_ids=source, attention_mask=torch.ones_like(source), do_sample=False, **given)
            return [len(target) - 1 for target in found]

        steps[HUGGING_FACE] = theirs
        lengths += theirs()
    if set(lengths) != {length}:
        raise RuntimeError(f"every target must have {length} tokens, so that all take as many steps; got {lengths}")
    return interleaved(steps, turns, warmup=1)


def hugging_face(length: int) -> Any:
    """Marian's network, a Transformer with normalisations behind its parts, at the same sizes."""
    try:
        from transformers import MarianConfig, MarianMTModel
    except ModuleNotFoundError:
        raise RuntimeError("the peer needs transformers (pip install transformers), or give --no-peers") from None

    config = MarianConfig(
        vocab_size=TOKENS,
        d_model=SIZES["embed_dim"],
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=SIZES["num_heads"],
        decoder_attention_heads=SIZES["num_heads"],
        encoder_ffn_dim=SIZES["hidden_channels"],
        decoder_ffn_dim=SIZES["hidden_channels"],
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=length + 1,
        pad_token_id=PADDING,
        decoder_start_token_id=BEGIN,
        eos_token_id=END,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config).eval()


def train(batch: int, length: int, turns: int) -> dict[str, Times]:
    """Times of a forward and a backward pass, with cross-entropy and label smoothing."""
    import torch
    import torch.nn.functional as F

    from foveate.networks import Transformer

    torch.manual_seed(0)
    source, target, wanted = torch.randint(FIRST, TOKENS, (3, batch, length))
    layers = {"encoder_layers": LAYERS, "decoder_layers": LAYERS}
    networks: dict[str, nn.Module] = {
        OURS: Transformer(TOKENS, **SIZES, **layers),
        SAME_DROPOUT: Transformer(TOKENS, **SIZES, **layers, **EVERYWHERE),
        TORCH: torch_transformer(),
    }

    def step(network: "nn.Module") -> "Tensor":
        network.zero_grad()
        loss = F.cross_entropy(network(source, target).flatten(0, 1), wanted.flatten(), label_smoothing=0.1)
        loss.backward()
        return loss

    return interleaved({name: lambda network=each: step(network) for name, each in networks.items()}, turns, warmup=1)


def torch_transformer() -> "nn.Module":
    """torch.nn.Transformer with the paper's embedding, positions and logits."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from foveate.layers import SinusoidalPositions

    class Peer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, heads, hidden = SIZES.values()
            self.embed = nn.Embedding(TOKENS, width)
            self.positions, self.dropout = SinusoidalPositions(width), nn.Dropout(0.1)
            self.stacks = nn.Transformer(width, heads, LAYERS, LAYERS, hidden, batch_first=True)

        def forward(self, source: "Tensor", target: "Tensor") -> "Tensor":
            later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
            placed = [self.embed(each) * self.embed.embedding_dim**0.5 for each in (source, target)]
            placed = [self.dropout(each + self.positions(each)) for each in placed]
            return F.linear(self.stacks(*placed, tgt_mask=later, tgt_is_causal=True), self.embed.weight)

    return Peer()


def show(found: dict[int, dict[str, Times]], *, ours: str, peer: str) -> None:
    """Print the numbers of one part."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in ("batch", "network", "CPU ms", "wall ms", "sentences a CPU second", f"x faster than {peer}"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for batch, times in found.items():
        for name, each in times.items():
            speed = f"{1000 * batch / each.cpu_ms:.2f}"
            ratio = f"{times[peer].cpu_ms / each.cpu_ms:.2f}" if peer in times and name != peer else ""
            table.add_row(str(batch), name, f"{each.cpu_ms:.0f}", f"{each.wall_ms:.0f}", speed, ratio)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
