import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from tests.golden import published
from torch import nn

from foveate.capture import capture, edit, taps
from foveate.layers import AttentionGate, attention_gate

NORMALISATIONS = attention_gate.NORMALISATIONS
SPACES = [(11,), (7, 5), (5, 3, 4)]
# The modes of ozan-oktay/Attention-Gated-Networks, by the options that make them here.
MODES = {
    "concatenation": {},
    "concatenation_debug": {"activation": "softplus"},
    "concatenation_residual": {"normalisation": "softmax"},
}
NAMES = [("W.0", "out"), ("W.1", "norm"), ("theta", "theta"), ("phi", "phi"), ("psi", "psi")]


def gated_networks_key(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    return f"{dict(NAMES)[module]}.{tensor}"


def watched(layer: AttentionGate, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and coefficients, with their gradients."""
    maps = []
    with layer.gate.register_forward_hook(lambda module, args, output: maps.append(output)):
        output = layer(x, g)
    return output, maps[0]


def built(dims: int, **options) -> AttentionGate:
    """A gate for 5 channels, 3 of a gating signal, in eval and off its start."""
    torch.manual_seed(3)
    layer = AttentionGate(5, 3, 7, spatial_dims=dims, **options).double().eval()
    for name, buffer in layer.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(len(name)))
    return layer


def inputs(*space: int, gating: tuple[int, ...] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    coarse = tuple(max(1, size // 2) for size in space) if gating is None else gating
    x = torch.randn(2, 5, *space, generator=generator, dtype=torch.float64)
    return x, torch.randn(2, 3, *coarse, generator=generator, dtype=torch.float64)


def looped(layer: AttentionGate, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The coefficients of one sample on theta's grid by the equation, one position at a time; g on theta's grid."""
    grid = [size // step for size, step in zip(x.shape[1:], layer.stride, strict=True)]
    scores = {}
    for position in product(*map(range, grid)):
        theta = torch.zeros(layer.theta.out_channels, dtype=x.dtype)
        for offset in product(*map(range, layer.stride)):
            at = [step * index + o for step, index, o in zip(layer.stride, position, offset, strict=True)]
            theta += layer.theta.weight[(..., *offset)] @ x[(..., *at)]
        phi = layer.phi.weight.flatten(1) @ g[(..., *position)] + (0 if layer.phi.bias is None else layer.phi.bias)
        both = layer.psi.weight.flatten() @ (theta + phi).clamp(min=0) + layer.psi.bias
        scores[position] = both.item()
    lowest, highest, exponentials = min(scores.values()), max(scores.values()), sum(map(math.exp, scores.values()))
    rule = {
        "sigmoid": lambda q: 1 / (1 + math.exp(-q)),
        "softmax": lambda q: math.exp(q) / exponentials,
        "mean": lambda q: q / sum(scores.values()),
        "mean_flow": lambda q: (q - lowest) / sum(other - lowest for other in scores.values()),
        "range": lambda q: (q - lowest) / (highest - lowest),
    }[layer.normalisation]
    gate = torch.empty(grid, dtype=x.dtype)
    for position, score in scores.items():
        gate[position] = rule(score)
    return gate


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_it_computes_what_the_authors_compute(mode, dims):
    layer = AttentionGate(16, 24, 8, spatial_dims=dims, **MODES[mode])

    def call(x, g):
        output, gate = watched(layer, x, g)
        return {"gated": output, "attention": gate.unsqueeze(1)}

    published.check(f"grid_attention_{mode}_{dims}d", layer, gated_networks_key, call)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_it_computes_the_equation_position_by_position(normalisation, space, stride):
    layer = built(len(space), normalisation=normalisation, stride=stride, bias=stride == 2, output=False)
    x, g = inputs(*space, gating=tuple(size // stride for size in space))
    output, gate = watched(layer, x, g)
    expected = torch.stack([looped(layer, *sample) for sample in zip(x, g, strict=True)]).detach()
    mode = attention_gate.RESIZES[len(space)]
    expected = F.interpolate(expected.unsqueeze(1), size=space, mode=mode).squeeze(1)
    torch.testing.assert_close(gate, expected)
    torch.testing.assert_close(output, x * expected.unsqueeze(1))


def test_a_case_by_hand():
    layer = AttentionGate(1, 1, 1, stride=2, output=False, spatial_dims=1)
    with torch.no_grad():
        for parameter, value in zip(
            layer.parameters(), ([[[1.0, -1.0]]], [[[2.0]]], [1.0], [[[1.0]]], [-3.0]), strict=True
        ):
            parameter.copy_(torch.tensor(value))
    x, g = torch.tensor([[[5.0, 3.0, 1.0, 4.0]]]), torch.tensor([[[0.0, 1.5]]])
    # theta = (5 - 3, 1 - 4), phi = (1, 4); relu of the sums: (3, 1); scores: (0, -2); between them at 1/4 and 3/4.
    low = 1 / (1 + math.exp(2))
    expected = torch.tensor([[0.5, 0.375 + low / 4, 0.125 + 0.75 * low, low]])
    output, gate = watched(layer, x, g)
    torch.testing.assert_close(gate, expected)
    torch.testing.assert_close(output[:, 0], x[:, 0] * expected)


def test_with_aligned_corners_the_ends_are_kept_and_the_middle_is_even():
    layer = built(1, align_corners=True)
    x, g = inputs(6, gating=(3,))
    coarse = torch.stack([looped(layer, *sample) for sample in zip(x, g, strict=True)])
    expected = torch.stack([coarse[:, 0] + (coarse[:, 1] - coarse[:, 0]) * share for share in (0, 0.4, 0.8)], dim=1)
    torch.testing.assert_close(watched(layer, x, g)[1][:, :3], expected.detach())
    torch.testing.assert_close(watched(layer, x, g)[1][:, -1], coarse[:, -1].detach())


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("gating", [(1, 1), (3, 2), (4, 7), (9, 5)])
def test_a_gating_signal_on_any_grid_is_resized_to_thetas(gating, align_corners):
    layer = built(2, align_corners=align_corners)
    x, g = inputs(9, 5, gating=gating)
    resized = F.interpolate(g, size=(4, 2), mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(layer(x, g), layer(x, resized))  # a 1x1 projection before or behind: the same


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_flat_input_gives_finite_outputs_and_gradients(normalisation, dtype):
    layer = built(2, normalisation=normalisation).to(dtype)
    for value in (0.0, 1e-30, 0.3, -100.0):
        x = torch.full((2, 5, 6, 8), value, dtype=dtype, requires_grad=True)
        output, gate = watched(layer, x, torch.zeros(2, 3, 3, 4, dtype=dtype))
        output.square().mean().backward()
        assert output.dtype == dtype
        for tensor in (output, gate, x.grad, *(parameter.grad for parameter in layer.parameters())):
            assert tensor is not None
            assert tensor.isfinite().all()


@pytest.mark.parametrize(
    ("normalisation", "share"), [("softmax", 1 / 12), ("mean", 1 / 12), ("mean_flow", 1 / 12), ("range", 1)]
)
def test_where_all_scores_are_alike_the_shares_are_equal_and_the_range_passes_everything(normalisation, share):
    scores = torch.zeros(2, 1, 3, 4, requires_grad=True)
    weights = attention_gate.coefficients(scores, normalisation)
    torch.testing.assert_close(weights, torch.full_like(weights, share))
    near = attention_gate.coefficients(torch.full((1, 1, 3, 4), 0.1).double(), normalisation)
    torch.testing.assert_close(near, torch.full_like(near, share))


def test_scores_that_cancel_do_not_divide_by_zero():
    scores = torch.tensor([3.0, -3.0, 1.0, -1.0]).reshape(1, 1, 4)
    assert attention_gate.coefficients(scores, "mean").equal(torch.full((1, 1, 4), 0.25))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_coefficients_are_in_their_range(normalisation):
    _, gate = watched(built(2, normalisation=normalisation, stride=1), *inputs(7, 5))
    sums = gate.flatten(1).sum(dim=1)
    match normalisation:
        case "sigmoid":
            assert ((gate > 0) & (gate < 1)).all()
        case "range":
            assert gate.flatten(1).amin(dim=1).eq(0).all()
            assert gate.flatten(1).amax(dim=1).eq(1).all()
        case _:
            torch.testing.assert_close(sums, torch.ones_like(sums))
            assert normalisation == "mean" or (gate >= 0).all()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("space", SPACES)
def test_the_gate_is_captured_on_the_grid_of_x_and_can_be_replaced(space, normalisation):
    layer, (x, g) = built(len(space), normalisation=normalisation), inputs(*space)
    assert taps(layer) == {"gate": "batch *space"}
    unwatched = layer(x, g)
    with capture(layer) as maps:
        assert layer(x, g).equal(unwatched)
    assert maps["gate"].shape == (2, *space)
    assert not maps["gate"].requires_grad
    with edit(layer, {"gate": 1.0}):
        torch.testing.assert_close(layer(x, g), layer.norm(layer.out(x)))


@pytest.mark.parametrize("options", [{}, {"normalisation": "mean_flow", "output": False}, {"norm": "instance"}])
def test_the_gradients_are_exact_and_every_parameter_has_one(options):
    layer, (x, g) = built(2, **options), inputs(5, 4)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(), g.requires_grad_()), fast_mode=True)
    layer(x, g).pow(3).sum().backward()
    silent = {name for name, parameter in layer.named_parameters() if parameter.grad.abs().max() < 1e-12}
    unseen = (
        {"psi.bias"} if options.get("normalisation") == "mean_flow" else {"out.bias"} if "norm" in options else set()
    )
    assert silent == unseen  # what is subtracted again leaves no trace


def test_each_axis_can_have_a_stride_of_its_own():
    layer = built(3, stride=(2, 2, 1))
    assert layer.theta.weight.shape == (7, 5, 2, 2, 1)
    assert layer(*inputs(4, 6, 3)).shape == (2, 5, 4, 6, 3)


def test_samples_do_not_see_each_other_and_memory_formats_agree():
    layer, (x, g) = built(2, normalisation="range"), inputs(7, 5)
    torch.testing.assert_close(layer(x, g)[1:], layer(x[1:], g[1:]))
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last), g), layer(x, g))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_bfloat16_autocast_stays_close_to_single_precision(normalisation):
    layer = built(2, normalisation=normalisation).float()
    x, g = (tensor.float() for tensor in inputs(7, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x, g)
    torch.testing.assert_close(output.float(), layer(x, g), rtol=0.1, atol=0.1)


def test_it_has_the_parameters_of_the_published_gate_and_starts_as_it():
    layer = AttentionGate(128, 256, 128, spatial_dims=3)
    parameters = 8 * 128 * 128 + (256 + 1) * 128 + (128 + 1) + (128 + 1) * 128 + 2 * 128
    assert sum(parameter.numel() for parameter in layer.parameters()) == parameters
    assert layer.theta.weight.std().item() == pytest.approx(math.sqrt(2 / (8 * 128)), rel=0.05)
    assert layer.norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert layer.norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert AttentionGate(channels=64, gating_channels=128).theta.out_channels == 32


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["sigmoid", "softmax", "range"])
def test_it_compiles_into_one_graph_and_exports_with_open_sizes(normalisation):
    torch.compiler.reset()
    layer, (x, g) = built(2, normalisation=normalisation), inputs(9, 6, gating=(4, 3))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, g), layer(x, g))
    open_axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(layer, (x, g), dynamic_shapes=(open_axes, open_axes))
    other = inputs(12, 11, gating=(7, 2))
    other = [torch.cat([tensor, tensor + 1]) for tensor in other]
    torch.testing.assert_close(program.module()(*other), layer(*other))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": 0}, "channels must be at least 1; got 0"),
        ({"gating_channels": 0}, "gating_channels must be at least 1; got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1; got 0"),
        ({"activation": "gelu"}, 'activation must be one of "relu", "softplus"; got'),
        (
            {"normalisation": "tanh"},
            'normalisation must be one of "sigmoid", "softmax", "mean", "mean_flow", "range"; got',
        ),
        ({"stride": 0}, "stride is one positive number or 2 of them; got 0"),
        ({"stride": (2, 2, 2)}, r"stride is one positive number or 2 of them; got \(2, 2, 2\)"),
        ({"norm": "layer"}, 'norm must be one of "batch", "instance"; got'),
        ({"norm": "batch", "output": False}, "norm goes with W, and output=False has none; got norm='batch'"),
        ({"spatial_dims": 4}, "spatial_dims must be 1, 2 or 3; got 4"),
    ],
)
def test_a_wrong_option_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        AttentionGate(**({"channels": 4, "gating_channels": 3} | options))


@pytest.mark.parametrize(
    ("x", "g", "sentence"),
    [
        (
            (2, 4, 6, 6),
            (2, 3, 3, 3),
            r"AttentionGate takes \(batch, 5, \*space\) with spatial_dims=2; got \(2, 4, 6, 6\)",
        ),
        ((2, 5, 6), (2, 3, 3), r"AttentionGate takes \(batch, 5, \*space\) with spatial_dims=2; got \(2, 5, 6\)"),
        (
            (2, 5, 6, 6),
            (2, 4, 3, 3),
            r"AttentionGate takes a gating signal of \(2, 3, \*space\) .*; got \(2, 4, 3, 3\)",
        ),
        (
            (2, 5, 6, 6),
            (1, 3, 3, 3),
            r"AttentionGate takes a gating signal of \(2, 3, \*space\) .*; got \(1, 3, 3, 3\)",
        ),
        ((2, 5, 6, 6), (2, 3, 3), r"AttentionGate takes a gating signal of \(2, 3, \*space\) .*; got \(2, 3, 3\)"),
        ((2, 5, 6, 1), (2, 3, 3, 1), r"AttentionGate takes at least \(2, 2\) positions; got \(6, 1\)"),
    ],
)
def test_a_wrong_input_is_refused(x, g, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        AttentionGate(5, 3)(torch.zeros(x), torch.zeros(g))


def test_one_position_of_one_sample_has_no_batch_statistics():
    layer, x, g = AttentionGate(5, 3, stride=1), torch.zeros(1, 5, 1, 1), torch.zeros(1, 3, 1, 1)
    with pytest.raises(ValueError, match=r"^AttentionGate in training takes at least 2 values per channel"):
        layer(x, g)
    assert layer.eval()(x, g).shape == (1, 5, 1, 1)
    assert nn.Module.train(layer)(torch.zeros(2, 5, 1, 1), torch.zeros(2, 3, 1, 1)).isfinite().all()
