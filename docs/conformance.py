"""Measure every layer and network against the code that published it: docs/conformance.md."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the golden numbers belong to the tests

from tests.golden import published  # noqa: E402

from foveate.compare.cost import count_macs, count_parameters  # noqa: E402
from foveate.layers import AttentionGate  # noqa: E402
from foveate.networks import DETR, catalogue  # noqa: E402
from foveate.networks.published import from_checkpoint, inspect, to_publisher  # noqa: E402

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.npz"))
TIMM = ("legacy_seresnet18", "legacy_seresnet101", "legacy_seresnext101_32x4d", "legacy_senet154", "seresnet18")
TIMM += ("seresnet50", "seresnext50_32x4d", "ecaresnet26t", "ecaresnet50d", "ecaresnetlight", "resnet50d", "resnetrs50")
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "mobilenet_v2")

# What no file tells, by golden file; for the rest the publisher's defaults hold.
OPTIONS = {
    "cbam_avg": {"pools": ("average",)},
    "cbam_lp_lse": {"pools": ("lp", "lse")},
    "eca_k3": {"channels": 32},
    "eca_k5": {"channels": 32},
    "detr_resnet50_dc5": {"dilation": True},
    **{f"grid_attention_concatenation_debug_{dims}d": {"activation": "softplus"} for dims in (2, 3)},
    **{f"grid_attention_concatenation_residual_{dims}d": {"normalisation": "softmax"} for dims in (2, 3)},
    "nonlocal_official_softmax_pool": {"pool": "before"},
    "nonlocal_official_dot_product": {"pairwise": "dot_product"},
    "nonlocal_official_dot_product_pool": {"pairwise": "dot_product", "pool": "before"},
}

# Where the MACs of each kind of network are counted.
INPUTS = {
    "resnet": (3, 224, 224),
    "mobilenet_v2": (3, 224, 224),
    "unet": (1, 64, 64, 64),
    "sononet": (1, 224, 224),
    "ag_sononet": (1, 224, 224),
    "detr": (3, 800, 1066),
}

# Printed by the publisher in the repository's README, as (parameters, operations).
PRINTED = {
    "resnet18_eca": ("11.15 M", "1.70 G"),
    "resnet50_eca": ("24.37 M", "3.86 G"),
    "mobilenetv2_eca": ("3.34 M", "319.9 M"),
}


def options_of(name: str) -> dict[str, object]:
    """The options that from_checkpoint needs for a golden file."""
    pairwise = {"pairwise": "dot_product"} if name.startswith("nonlocal_dot_product") else {}
    return OPTIONS.get(name, pairwise)


def rows() -> Iterator[tuple[str, list[str]]]:
    """The kind and the cells of each golden file that a publisher here recognises."""
    for path in GOLDEN:
        name = path.stem
        if "state" not in published.read(name)[0]:  # of a function, such as DETR's criterion
            continue
        state = published.state_dict(name)
        found = inspect(state, **options_of(name))
        if found.publisher is None:
            continue
        network = found.architecture.build()
        network.load_state_dict(found.state)
        dims = max(value.ndim for key, value in state.items() if "weight" in key and "concat" not in key) - 2
        theirs = to_publisher(network.eval(), found.publisher, spatial_dims=max(dims, 1))
        ours = dict(zip(theirs, network.state_dict(), strict=True))
        measured = published.differences(name, network, ours.__getitem__, caller_of(network))
        meta, _ = published.read(name)
        equal = "equal" if count_parameters(network) == meta["parameters"] else "DIFFERENT"
        cells = [f"`{name}`", found.title.removeprefix("a layer of "), source_of(name, found.publisher)]
        cells += [largest(measured, kind) for kind in ("output/", "input_grad/", "parameter_grad/")]
        cells += [f"{count_parameters(network):,}", equal]
        if found.architecture.kind not in INPUTS:
            yield "layers", cells
            continue
        shape = (3, 32, 32) if "cifar" in name else INPUTS[found.architecture.kind]
        macs = count_macs(network.float().to("meta"), (1, *shape))
        yield "networks", [*cells, f"{macs:,}", "x".join(map(str, shape)), *PRINTED.get(name, ("", ""))]


def caller_of(network: torch.nn.Module) -> Callable[..., dict[str, torch.Tensor]] | None:
    """How to call what does not take the inputs in their order: an attention gate such that its coefficients come out
    too, and a detector with a list of pictures.
    """
    if isinstance(network, DETR):
        return lambda *images: network([image[0] for image in images])
    if not isinstance(network, AttentionGate):
        return None
    seen = []
    network.gate.register_forward_hook(lambda module, given, gate: seen.append(gate.unsqueeze(1)))
    return lambda x, g: {"gated": network(x, g), "attention": seen[-1]}


def largest(measured: dict[str, float], kind: str) -> str:
    """The largest of the differences of one kind."""
    return shown(max((value for key, value in measured.items() if key.startswith(kind)), default=0.0))


def shown(difference: float) -> str:
    """A difference in one digit."""
    return f"{difference:.0e}" if difference else "0"


def source_of(name: str, publisher: str) -> str:
    """The repository and the commit that were run; a variant says "the same", and the first of its kind says which."""
    texts = [published.read(each)[0]["source"] for each in (name, *(path.stem for path in GOLDEN))]
    commits = (word.rstrip(";") for text in texts for word in text.split() if word.startswith(f"{publisher}@"))
    return next(commits, publisher)


@torch.no_grad()
def beside_installed() -> Iterator[list[str]]:
    """Networks beside timm and torchvision as they are installed, at a size that is not square."""
    import timm
    import torchvision

    models = [(timm, name, lambda name=name: timm.create_model(name)) for name in TIMM]
    models += [(torchvision, name, getattr(torchvision.models, name)) for name in TORCHVISION]
    for library, name, build in models:
        model = build()
        for key, value in model.state_dict().items():
            if value.is_floating_point() and value.ndim <= 1:
                value.copy_(torch.rand_like(value) * 0.4 + (0.8 if key.endswith(("weight", "running_var")) else -0.2))
        model = model.double().eval()
        found, picture = inspect(model.state_dict()), torch.randn(1, 3, 64, 96, dtype=torch.float64)
        network, expected = from_checkpoint(model.state_dict()), model(picture)
        difference = float((network(picture) - expected).abs().max() / expected.abs().max())
        macs = count_macs(network.float(), (1, 3, 224, 224))
        version = f"{library.__name__} {library.__version__.split('+')[0]}"
        yield [f"`{name}`", found.title, version, shown(difference), f"{count_parameters(network):,}", f"{macs:,}"]


def catalogue_costs() -> Iterator[list[str]]:
    """Parameters and MACs of every classifier of the catalogue at the input of its entry."""
    for name, entry in catalogue.NETWORKS.items():
        if entry.task != "classify":
            continue
        with torch.device("meta"):
            network = catalogue.build(name)
        shape = tuple(int(size) for size in entry.input.split("x"))
        macs = count_macs(network, (1, *shape))
        yield [f"`{name}`", entry.paper.split(",")[0], entry.input, f"{count_parameters(network):,}", f"{macs:,}"]


def table(columns: str, lines: list[list[str]]) -> str:
    """A table in Markdown; a column whose name ends with a colon is aligned to the right."""
    names = [name.strip() for name in columns.split("|")]
    rule = ["---:" if name.endswith(":") else "---" for name in names]
    head = [name.rstrip(":") for name in names]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def page() -> str:
    """The whole page."""
    found: dict[str, list[list[str]]] = {"layers": [], "networks": []}
    for kind, cells in rows():
        found[kind].append(cells)
    measures = "outputs: | input gradients: | parameter gradients: | parameters: | beside the publisher's"
    networks = table(
        f"golden numbers | network | publisher | {measures} | MACs: | at | printed parameters: | printed operations:",
        found["networks"],
    )
    layers = table(f"golden numbers | layer | publisher | {measures}", found["layers"])
    installed = table("name | network | library | outputs: | parameters: | MACs:", list(beside_installed()))
    costs = table("name | paper | input | parameters: | MACs:", list(catalogue_costs()))
    return PAGE.format(networks=networks, layers=layers, installed=installed, costs=costs)


PAGE = """# Conformance

Every layer and network here, beside the code that published it. `make docs` measures this page anew, and the tests
hold each difference below 1e-9.

A golden file holds what the publisher's code computed, in float64, from weights made by a recipe out of key names and
shapes. `fv.from_checkpoint` opens those weights under the publisher's keys without being told the architecture; a
difference is the largest one of an array over the array's largest value (of gradient norms: over the largest norm).

## Networks

{networks}

**Parameters** are numbers that training changes. **MACs** are the multiply-accumulates of convolutions, linear
layers and matrix products for one input, counted here.

**Units.** The last two columns are what the publisher's README prints. ECA-Net divides by 2^20 and 2^30 and writes
M and G: 25,557,112 / 2^20 is its "24.37 M". Its operations come from a counter that also counts normalisations:
4,139,363,328 for ResNet-50, which over 2^30 is its "3.86 G". Never compare its "24.37 M" with the "25.56 M" of
others, who divide by 10^6. (The checkpoints that it released have other kernels than these golden files, by 20 and
8 parameters.)

**The stride.** A ResNet-50 whose step is in the 3x3 convolution (torchvision, timm, and the code of CBAM, BAM and
ECA) has 4,089,184,256 MACs; with the step in the first 1x1 (the Caffe release of SENet) 3,857,973,248. No key tells
the two apart: the publisher does, and `stride_in` overrides it.

**What no key tells.** timm's anti-aliased networks (`resnetaa*`, `seresnetaa*`, `resnetblur*`) have the keys of the
plain ones and compute something else; `from_checkpoint` takes them for the plain ones.

**What is not on this page.** Accuracies: the published ones cannot be measured without the publishers' files and
data. Nor figures of papers that could not be read here.

## Networks beside timm and torchvision as installed

One forward pass on 64 x 96 in float64, with random weights and running statistics.

{installed}

## Layers

{layers}

## Costs of the catalogue

{costs}
"""


def write(path: Path) -> None:
    """Measure, and write the page."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(ROOT / "docs" / "conformance.md")
