"""What the attention gate of Attention U-Net is, and what copies of it do."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.auditing.case import Case
from foveate.auditing.equation import Equation, Switch, Variant, choice
from foveate.auditing.equations import common
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage
from foveate.layers import AttentionGate
from foveate.layers.attention_gate import RESIZES, coefficients

__all__ = ["EQUATION"]

THETA = Role("theta", "hidden", "channels", "theta", kernel="stride", bias=False, hints=("theta", "x", "skip"))
PHI = Role("phi", "hidden", "gating", "phi", bias=None, hints=("phi", "g", "gate", "gating"))
PSI = Role("psi", 1, "hidden", "psi", hints=("psi",))
OUT = Role("out", "channels", "channels", "output projection W", norm=True, hints=("w", "out"))
NORMALISATIONS = {
    "softmax": "a softmax over all positions, as in the release's concatenation_residual",
    "mean": "shares of the scores' sum, as in the release's gate for classification",
    "mean_flow": "shares of the scores above their minimum, as in the release's gate for classification",
    "range": "the scores' place between minimum and maximum, as in the release's gate for classification",
}


FORMS = [
    *((normalisation, "relu", False) for normalisation in ("sigmoid", *NORMALISATIONS)),
    ("sigmoid", "relu", True),
    ("sigmoid", "softplus", False),
    ("sigmoid", "softplus", True),
    ("softmax", "relu", True),
]
"""What was released together: a normalisation, an activation, and whether corners are aligned."""


def compute(
    x: Tensor,
    g: Tensor,
    stages: Mapping[str, Stage],
    *,
    activation: str = "relu",
    normalisation: str = "sigmoid",
    align_corners: bool = False,
    grid: str = "theta",
    resize: str = "gate",
    mode: str = "linear",
    target: str = "x",
    application: str = "multiply",
) -> Tensor:
    """norm(W(a x)), a = sigmoid(psi(relu(theta x + phi g))) resized to x's grid."""

    def resized(features: Tensor, space: Sequence[int]) -> Tensor:
        if features.shape[2:] == tuple(space):
            return features
        if mode == "nearest":
            return F.interpolate(features, size=tuple(space), mode="nearest")
        linear = RESIZES[features.ndim - 2]
        return F.interpolate(features, size=tuple(space), mode=linear, align_corners=align_corners)

    theta, phi = stages["theta"](x), stages["phi"](g)
    space = {"theta": theta.shape[2:], "x": x.shape[2:], "g": phi.shape[2:]}[grid]
    scores = stages["psi"](common.activated(resized(theta, space) + resized(phi, space), activation))
    if resize == "scores":
        gate = _weighed(resized(scores, x.shape[2:]), normalisation)
    else:
        gate = resized(_weighed(scores, normalisation), x.shape[2:])
    answer = common.applied(x if target == "x" else g, gate, application)
    return stages["out"](answer) if "out" in stages else answer


def _weighed(scores: Tensor, normalisation: str) -> Tensor:
    if normalisation in ("sigmoid", *NORMALISATIONS):
        return coefficients(scores, normalisation)
    return common.gated(scores, normalisation)


def variants(match: Match) -> Sequence[Variant]:
    """The published choices for a match, the likeliest first."""

    found = []
    for normalisation, activation, aligned in FORMS:
        options = {"normalisation": normalisation, "activation": activation, "align_corners": aligned}
        found.append(Variant(options, options, _said(normalisation, activation, aligned)))
    return found


def _said(normalisation: str, activation: str, aligned: bool) -> dict[str, str]:
    said = {} if normalisation == "sigmoid" else {"normalisation": f"takes {NORMALISATIONS[normalisation]}"}
    if activation != "relu":
        said["activation"] = "has a softplus in place of the ReLU, as the release's concatenation_debug"
    if aligned:
        said["align_corners"] = "aligns corners when it resizes, as the release did on PyTorch 0.3"
    return said


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    published = "the published coefficients are computed on theta's grid and resized to x's"
    others = [
        *common.activation_switches("activation", "activation of theta + phi"),
        *common.gate_switches("normalisation"),
    ]
    return [
        *choice("grid", "grid", published, x="computes them on x's grid", g="computes them on the grid of g"),
        *choice("resize", "resized-scores", "the published sigmoid comes before the resize", scores="comes after it"),
        *choice("mode", "interpolation", "the published resize is linear", nearest="takes the nearest neighbour"),
        *choice("target", "swapped-inputs", "the published gate multiplies the skip connection", g="multiplies g"),
        *(switch for switch in others if switch.value not in ("softplus", "softmax")),  # published too
        *common.application_switches(),
    ]


def remarks(match: Match, fit: Fit) -> Sequence[Finding]:
    """Findings on the sizes of a match, at shapes that the module takes."""

    channels, theta = fit.channels, match.stages["theta"]
    strided = theta.geometry is not None and max(theta.geometry.stride) > 1
    if strided and "out" in match.stages:
        return []
    if not strided and "out" not in match.stages:
        said = "of the published forms, this one has neither a stride nor W, as the release's gate for classification"
        return [Finding("form", said, deviates=False)]
    if strided:
        said = "the published gate with a strided theta ends in W and a batch normalisation"
        return [Finding("no-output", f"{said} ({channels * (channels + 3):,} parameters); this one has neither")]
    said = "the published gate that ends in W has a theta with a stride of 2 and kernels of 2"
    return [Finding("theta", f"{said}; this one projects every position of x")]


def start(case: Case) -> Sequence[Finding]:
    """Findings on the weights that the module came with."""

    findings = []
    if case.fit.swapped:
        said = "the release's forward takes x and then g; this one's takes g first"
        findings.append(Finding("argument-order", said, deviates=False))
    if case.fit.gating is not None and case.fit.gating[1] == case.fit.space:
        said = "the published gate takes g on any grid and resizes"
        findings.append(Finding("grid", f"{said}; this one takes it on the grid of x only"))
    return findings


def layer(fit: Fit, match: Match | None, *, strict: bool, **build: str | bool) -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    assert fit.gating is not None
    options: dict = {"spatial_dims": len(fit.space), **build}
    if match is not None:
        geometry = match.stages["theta"].geometry
        steps = geometry.stride if geometry else (1,)
        options |= {
            "hidden_channels": match.sizes["hidden"],
            "stride": steps if len(steps) == len(fit.space) else 1,
            "bias": match.stages["phi"].bias is not None,
            "output": "out" in match.stages,
        }
    return AttentionGate(fit.channels, fit.gating[0], **options)


EQUATION = Equation(
    name="attention-gate",
    structures=(Structure((THETA, PHI, PSI, OUT)), Structure((THETA, PHI, PSI))),
    compute=compute,
    variants=variants,
    switches=switches,
    remarks=remarks,
    layer=layer,
    keys={"theta": ("theta", None), "phi": ("phi", None), "psi": ("psi", None), "out": ("out", "norm")},
    start=start,
    gate=None,
    moves=False,
    gated=True,
)
