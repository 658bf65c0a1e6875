"""What a non-local block is, and what copies of it do."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.auditing.case import Case, trained
from foveate.auditing.equation import Equation, Variant, difference
from foveate.auditing.equations.non_local_switches import switches
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage
from foveate.layers import NonLocal

__all__ = ["EQUATION"]

THETA = Role("theta", "hidden", "channels", "theta", bias=None, hints=("theta", "query", "q", "t"))
PHI = Role("phi", "hidden", "channels", "phi", bias=None, hints=("phi", "key", "k", "p"))
G = Role("g", "hidden", "channels", "g", bias=None, hints=("g", "value", "v"))
OUT = Role("out", "channels", "hidden", "output projection", bias=None, norm=None, hints=("w", "out", "z", "o"))
CONCAT = Role("concat", 1, "pair", "w_f", bias=False, hints=("concat", "project", "wf", "f"))
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEAN_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    pairwise: str = "embedded_gaussian",
    scale: str = "none",
    softmax: str = "keys",
    pool: str = "none",
    pooling: str = "max",
    extent: str = "space",
    queries: str = "all",
    residual: str = "x",
    factor: float = 1.0,
    group: str = "spacetime",
) -> Tensor:
    """x_i + W_z sum_j f(x_i, x_j) g(x_j) / C(x)."""
    options = {"pairwise": pairwise, "scale": scale, "softmax": softmax, "pool": pool, "pooling": pooling}
    options |= {"extent": extent, "queries": queries}
    z = factor * _grouped(x, group, lambda features: _answers(features, stages, **options))
    return {"x": x + z, "none": z, "twice": x + x + z}[residual]


def _grouped(x: Tensor, group: str, answers: Callable[[Tensor], Tensor]) -> Tensor:
    """Who sees whom in (batch, channel, time, height, width): the axis that tells groups apart joins the batch."""
    if group == "spacetime":
        return answers(x)
    if group == "pairs":
        return torch.cat([answers(run) for run in x.split(2, dim=2)], dim=2)
    if group == "space":
        frames = x.movedim(2, 1)
        return answers(frames.flatten(0, 1)).reshape(frames.shape).movedim(1, 2)
    places = x.movedim((3, 4), (1, 2))
    return answers(places.flatten(0, 2)).reshape(places.shape).movedim((1, 2), (3, 4))


def _answers(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    pairwise: str,
    scale: str,
    softmax: str,
    pool: str,
    pooling: str,
    extent: str,
    queries: str,
) -> Tensor:
    """z, what every position is given."""

    def pooled(features: Tensor) -> Tensor:
        return _pooled(features, pooling, extent)

    source = pooled(x) if pool == "before" else x
    after = pooled if pool == "after" else lambda features: features
    theta, phi = _embedded(x, source, stages)
    theta, phi, g = pooled(theta) if queries != "all" else theta, after(phi), after(stages["g"](source))
    scores = _scores(theta.flatten(2).mT, phi.flatten(2).mT, stages, pairwise, scale, x.shape[1])
    weights = _weights(scores, softmax, divided=pairwise in ("dot_product", "concatenation"))
    y = (weights @ g.flatten(2).mT).mT.reshape(*g.shape[:2], *theta.shape[2:])
    if queries != "all":
        y = F.interpolate(y, size=x.shape[2:], mode=queries)
    return stages["out"](y) if "out" in stages else y


def _embedded(x: Tensor, source: Tensor, stages: Mapping[str, Stage]) -> tuple[Tensor, Tensor]:
    if "theta" not in stages:
        return x, source
    return stages["theta"](x), stages["phi" if "phi" in stages else "theta"](source)


def _scores(
    query: Tensor, key: Tensor, stages: Mapping[str, Stage], pairwise: str, scale: str, channels: int
) -> Tensor:
    """f before its normalisation, (batch, query, key), of features (batch, position, channel)."""
    if pairwise == "concatenation":
        halves = stages["concat"].weight.flatten(1).chunk(2, dim=1)
        return (query @ halves[0].mT + (key @ halves[1].mT).mT).relu()
    inner, keys = query.shape[2], key.shape[1]
    factors = {
        "none": 1.0,
        "inner": inner**-0.5,
        "channels": channels**-0.5,
        "upside_down": inner**0.5,
        "channels_upside_down": channels**0.5,
        "keys": keys**-0.5,
        "inner_whole": 1 / inner,
    }
    return factors[scale] * (query @ key.mT)


def _weights(scores: Tensor, softmax: str, divided: bool) -> Tensor:
    """The scores normalised: by the number of keys where the published form is divided by it, else by a softmax."""
    match softmax:
        case "keys":
            return scores / scores.shape[2] if divided else scores.softmax(dim=2)
        case "queries":
            return scores.softmax(dim=1)
        case "batch":
            return scores.softmax(dim=0)
        case "all":
            return scores.flatten(1).softmax(dim=1).reshape(scores.shape)
        case "sigmoid":
            return scores.sigmoid()
        case "by_queries":
            return scores / scores.shape[1]
        case _:
            return scores


def _pooled(x: Tensor, pooling: str, extent: str) -> Tensor:
    dims = x.ndim - 2
    step = (1, 2, 2) if dims == 3 and extent == "space" else (2,) * dims
    return (MAX_POOLS if pooling == "max" else MEAN_POOLS)[dims](x, step)


def variants(match: Match) -> Sequence[Variant]:
    """The published choices for a match, the likeliest first."""

    if "concat" in match.stages:
        pairs = [("concatenation", "none")]
    elif "theta" not in match.stages:
        pairs = [("gaussian", "none"), ("gaussian", "channels")]
    else:
        pairs = [("embedded_gaussian", "none"), ("embedded_gaussian", "inner"), ("dot_product", "none")]
    return [_variant(*pair, pool) for pair, pool in product(pairs, ("none", "before", "after"))]


def _variant(pairwise: str, scale: str, pool: str) -> Variant:
    build = {"pairwise": pairwise, "pool": pool, "scale": scale != "none"}
    pooled = {
        "none": "pools no keys",
        "before": "pools keys before their projection, as released",
        "after": "pools keys after their projection, as the paper says",
    }
    says = {"pairwise": f"is the {pairwise.replace('_', ' ')}", "pool": pooled[pool]}
    if "gaussian" in pairwise:
        says["scale"] = (
            "scales the scores, as released" if scale != "none" else "does not scale the scores, as the paper"
        )
    return Variant({"pairwise": pairwise, "scale": scale, "pool": pool}, build, says)


def layer(
    fit: Fit,
    match: Match | None,
    *,
    strict: bool,
    pairwise: str = "embedded_gaussian",
    scale: bool = False,
    pool: str = "none",
) -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    if match is None or not match.structure.published:
        return NonLocal(fit.channels)
    norm = "none" if match.stages["out"].norm is None else "batch"
    hidden = match.sizes["hidden"]
    return NonLocal(fit.channels, pairwise, hidden_channels=hidden, scale=scale, pool=pool, norm=norm)


def start(case: Case) -> Sequence[Finding]:
    """Whether the block, as it stands, passes its input on unchanged."""
    if trained(case.subject.given) or not case.fit.keeps:
        return []
    apart = difference(case.answer(*case.inputs, given=True), case.x)
    if apart <= 1e-6:
        return []
    said = "the published block starts as the identity"
    return [Finding("start", f"{said}; this one, as it stands, changes the largest output by {apart:.2g}", False)]


EQUATION = Equation(
    name="nonlocal",
    structures=(
        Structure((THETA, PHI, G, OUT, CONCAT)),
        Structure((THETA, PHI, G, OUT)),
        Structure((G, OUT)),
        Structure(
            (THETA, G, OUT),
            "shared-embedding",
            "the published block has a theta for queries and a phi for keys; this one has one for both",
        ),
        Structure(
            (THETA, PHI, Role("g", "channels", "channels", "g", bias=None, hints=("g", "value", "v"))),
            "no-output-projection",
            "the published block ends in an output projection W_z; this one has none",
        ),
    ),
    compute=compute,
    variants=variants,
    switches=switches,
    layer=layer,
    keys={
        "theta": ("theta", None),
        "phi": ("phi", None),
        "g": ("g", None),
        "out": ("out", "norm"),
        "concat": ("concat", None),
    },
    start=start,
    gate=None,
    varies=True,
    input_size=lambda channels: 2 * channels**-0.5,
)
