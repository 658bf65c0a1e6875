import math

import pytest
import torch
from tests.golden import published
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.layers import functional, symmetric
from foveate.layers.non_local import FORMS, NonLocal

SPACES = [(7,), (5, 3), (2, 3, 5)]
# Tracing takes seconds: each time one kind, the one with a derivative of its own; all of them in CI.
TRACED = [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "concatenation")) for kind in FORMS]


def alexhex7_key(key: str) -> str:
    names = {"W.0": "out", "W.1": "norm", "g.0": "g", "phi.0": "phi", "concat_project.0": "concat"}
    module, _, tensor = key.rpartition(".")
    return f"{names.get(module, module)}.{tensor}"


def slowfast_key(key: str) -> str:
    return key.removeprefix("conv_").replace("bn.", "norm.")


def trained(channels: int, pairwise: str = "embedded_gaussian", **options) -> NonLocal:
    """A layer in double precision and eval that is no longer the identity."""
    layer = NonLocal(channels, pairwise, **options).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def watched(layer: NonLocal, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and map."""
    maps = []
    with layer.weights.register_forward_hook(lambda module, args, output: maps.append(output)):
        y = layer(x)
    return y, maps[0]


def looped(layer: NonLocal, x: torch.Tensor) -> torch.Tensor:
    """The layer on (channel, *space) by its equation, one pair of positions at a time."""
    state = layer.state_dict()

    def project(name: str, features: torch.Tensor) -> torch.Tensor:
        bias = state[f"{name}.bias"].reshape(-1, *[1] * (features.ndim - 1))
        return torch.einsum("oc,c...->o...", state[f"{name}.weight"], features) + bias

    def pooled(features: torch.Tensor) -> torch.Tensor:
        for axis in range(max(1, features.ndim - 2), features.ndim):
            half = features.shape[axis] // 2
            even = features.narrow(axis, 0, 2 * half).unflatten(axis, (half, 2))
            features = even.amax(dim=axis + 1)
        return features

    source = pooled(x) if layer.pool == "before" else x
    embedded = layer.pairwise != "gaussian"
    query, key = (project("theta", x), project("phi", source)) if embedded else (x, source)
    value = project("g", source)
    if layer.pool == "after":
        key, value = pooled(key), pooled(value)
    query, key, value = (part.flatten(1).T for part in (query, key, value))
    y = torch.zeros(len(query), value.shape[1], dtype=x.dtype)
    for i in range(len(query)):
        if layer.pairwise == "concatenation":
            pairs = [torch.cat([query[i], key[j]]) for j in range(len(key))]
            f = torch.stack([(state["concat.weight"] @ pair).relu()[0] for pair in pairs])
        else:
            f = torch.stack([query[i].dot(key[j]) * layer.scale for j in range(len(key))])
            f = f if layer.pairwise == "dot_product" else f.exp()
        total = f.sum() if "gaussian" in layer.pairwise else len(key)
        for j in range(len(key)):
            y[i] += f[j] * value[j] / total
    z = project("out", y.T).T
    if layer.norm is not None and isinstance(layer.norm, nn.BatchNorm1d):
        z = (z - layer.norm.running_mean) / (layer.norm.running_var + layer.norm.eps).sqrt()
        z = z * layer.norm.weight + layer.norm.bias
    return x + z.T.reshape(x.shape)


@pytest.mark.parametrize("suffix", ["1d", "2d", "2d_train", "3d", "3d_sub"])
@pytest.mark.parametrize("pairwise", FORMS)
def test_it_computes_what_alexhex7_computes_pooling_after_the_projection(pairwise, suffix):
    layer = NonLocal(16, pairwise, pool="after" if suffix == "3d_sub" else "none")
    published.check(f"nonlocal_{pairwise}_{suffix}", layer, alexhex7_key)


@pytest.mark.parametrize("pool", ["none", "before"])
@pytest.mark.parametrize("pairwise", ["embedded_gaussian", "dot_product"])
def test_it_computes_what_slowfast_computes_pooling_before_the_projection_and_scaling(pairwise, pool):
    softmax = pairwise == "embedded_gaussian"
    name = f"nonlocal_official_{'softmax' if softmax else pairwise}{'_pool' if pool == 'before' else ''}"
    published.check(name, NonLocal(16, pairwise, scale=softmax, pool=pool), slowfast_key)


@pytest.mark.parametrize("pool", ["none", "before", "after"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pairwise", FORMS)
@torch.no_grad()
def test_it_computes_the_equation_pair_by_pair(pairwise, space, pool):
    layer = trained(4, pairwise, hidden_channels=3, pool=pool, scale="gaussian" in pairwise, norm="none")
    x = draw(2, 4, *space)
    expected = torch.stack([looped(layer, sample) for sample in x])
    torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(watched(layer, x)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("pool", ["none", "before"])
@pytest.mark.parametrize("pairwise", FORMS)
def test_grouped_by_space_each_frame_is_a_picture_of_its_own(pairwise, pool):
    video = trained(5, pairwise, pool=pool, group="space")
    picture = trained(5, pairwise, pool=pool)
    picture.load_state_dict(video.state_dict())
    x = draw(2, 5, 3, 5, 7)
    y, weights = watched(video, x)
    frames = [watched(picture, x[:, :, t]) for t in range(3)]
    torch.testing.assert_close(y, torch.stack([frame for frame, _ in frames], dim=2))
    torch.testing.assert_close(weights, torch.stack([map_ for _, map_ in frames], dim=1))
    torch.testing.assert_close(video(x), y)


@pytest.mark.parametrize("pairwise", FORMS)
def test_grouped_by_time_each_position_is_a_sequence_of_its_own(pairwise):
    video, sequence = trained(5, pairwise, group="time"), trained(5, pairwise)
    sequence.load_state_dict(video.state_dict())
    x = draw(2, 5, 3, 2, 7)
    y, weights = watched(video, x)
    for h in range(2):
        for w in range(7):
            expected, expected_weights = watched(sequence, x[..., h, w])
            torch.testing.assert_close(y[..., h, w], expected)
            torch.testing.assert_close(weights[:, h, w], expected_weights)
    torch.testing.assert_close(video(x), y)


@pytest.mark.parametrize(
    ("space", "options", "axes", "shape"),
    [
        ((11,), {}, "batch *query *key", (2, 11, 11)),
        ((5, 7), {}, "batch *query *key", (2, 5, 7, 5, 7)),
        ((5, 7), {"pool": "before"}, "batch *query *key", (2, 5, 7, 2, 3)),
        ((3, 5, 7), {"pool": "after"}, "batch *query *key", (2, 3, 5, 7, 3, 2, 3)),
        ((3, 5, 7), {"group": "space"}, "batch time *query *key", (2, 3, 5, 7, 5, 7)),
        ((3, 5, 7), {"group": "time"}, "batch *space query key", (2, 5, 7, 3, 3)),
    ],
)
def test_the_map_keeps_the_grids_and_never_pools_time(space, options, axes, shape):
    layer = trained(5, **options)
    _, weights = watched(layer, draw(2, 5, *space))
    assert layer.weights.axes == axes
    assert weights.shape == shape
    keys = {"time": 1, "space": 2, "spacetime": len(space)}[layer.group]
    sums = weights.flatten(-keys).sum(dim=-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pairwise", FORMS)
def test_watching_does_not_change_output_or_gradients(pairwise, space):
    layer = trained(5, pairwise).train()
    results = []
    for run in (layer, lambda x: watched(layer, x)[0]):
        x = torch.linspace(-1, 1, 2 * 5 * math.prod(space), dtype=torch.float64).sin().reshape(2, 5, *space)
        x.requires_grad_()
        y = run(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("pairwise", FORMS)
def test_a_replaced_map_is_used(pairwise):
    layer = trained(5, pairwise)
    x = draw(2, 5, 3, 2)
    with layer.weights.register_forward_hook(lambda module, args, output: torch.zeros_like(output)):
        y = layer(x)
    only_bias = layer.norm(layer.out.bias.expand(2, -1))
    torch.testing.assert_close(y, x + only_bias[:, :, None, None])


@pytest.mark.parametrize("pairwise", FORMS)
def test_without_pooling_a_permutation_of_positions_permutes_the_output(pairwise):
    layer = trained(5, pairwise)
    x, order = draw(2, 5, 13), torch.randperm(13)
    torch.testing.assert_close(layer(x[..., order]), layer(x)[..., order])


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("pairwise", FORMS)
def test_it_starts_as_the_identity_and_does_not_stay_there(pairwise, norm):
    layer = NonLocal(6, pairwise, norm=norm)
    x = torch.randn(2, 6, 5, 7)
    y = layer(x)
    assert y.equal(x)
    y.square().sum().backward()
    last = layer.norm if norm == "batch" else layer.out
    assert last.weight.count_nonzero() == 0
    assert last.weight.grad.count_nonzero() > 0


def test_it_starts_with_the_released_projections():
    layer = NonLocal(256)
    for projection in (layer.theta, layer.phi, layer.g, layer.out):
        assert projection.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert projection.bias.count_nonzero() == 0


@pytest.mark.parametrize(("channels", "parameters"), [(256, 132_224), (512, 526_592), (1024, 2_101_760)])
def test_it_has_the_parameters_of_the_published_block(channels, parameters):
    assert sum(p.numel() for p in NonLocal(channels).parameters()) == parameters


def test_every_parameter_learns_once_it_is_no_longer_the_identity():
    for pairwise in FORMS:
        layer = trained(5, pairwise)
        layer(draw(2, 5, 3, 7)).square().sum().backward()
        gradients = {name: p.grad.abs().max() for name, p in layer.named_parameters()}
        silent = {name for name, largest in gradients.items() if largest < 1e-12}
        assert silent == ({"phi.bias"} if pairwise == "embedded_gaussian" else set())  # softmax does not see it


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that is computed in the block, gradients included."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves(result)
        self.numel = max(self.numel, *(x.numel() for x in leaves if isinstance(x, torch.Tensor)), 0)
        return result


@pytest.mark.parametrize(
    ("pairwise", "positions"),
    [
        ("embedded_gaussian", 1024),
        pytest.param("embedded_gaussian", 8192, marks=pytest.mark.slow),
        ("gaussian", 2048),
        pytest.param("gaussian", 8192, marks=pytest.mark.slow),
        ("dot_product", 8192),
        ("concatenation", 8192),
    ],
)
def test_unwatched_the_map_of_thousands_of_positions_is_never_formed(pairwise, positions):
    layer = trained(4, pairwise).float()
    x = torch.randn(1, 4, positions, requires_grad=True)
    with LargestTensor() as largest:
        layer(x).sum().backward()
    assert largest.numel <= (symmetric.TILE if pairwise == "gaussian" else 8 * x.numel())


def test_watched_the_map_is_formed():
    with LargestTensor() as largest:
        watched(trained(4), draw(1, 4, 499))
    assert largest.numel == 499**2


def test_a_watched_map_that_is_too_large_is_refused_before_it_is_formed(monkeypatch):
    monkeypatch.setattr(functional, "MAP_LIMIT_BYTES", 2**20)
    layer = NonLocal(4)
    sentence = (
        r"^a watched map takes at most 0.00098 GiB; got \(1, 32, 32, 32, 32\), 0.0039 GiB: "
        "pool the keys, group by space or time, or give fewer or smaller inputs at once$"
    )
    with LargestTensor() as largest, pytest.raises(ValueError, match=sentence):
        watched(layer, torch.randn(1, 4, 32, 32))
    assert largest.numel <= 4 * 32 * 32
    assert layer(torch.randn(1, 4, 32, 32)).shape == (1, 4, 32, 32)
    assert watched(layer, torch.randn(1, 4, 16, 32))[1].shape == (1, 16, 32, 16, 32)


@pytest.mark.slow
def test_a_watched_map_that_is_too_large_is_not_exported(monkeypatch):
    monkeypatch.setattr(functional, "MAP_LIMIT_BYTES", 4 * 35**2 - 1)
    layer = NonLocal(4).eval()
    layer.weights.register_forward_hook(lambda module, args, weights: weights * 1)
    with pytest.raises(ValueError, match=r"^a watched map takes at most .*; got \(1, 5, 7, 5, 7\)"):
        torch.export.export(layer, (torch.zeros(1, 4, 5, 7),), strict=False)


@pytest.mark.parametrize("pairwise", FORMS)
def test_the_second_derivative_is_right(pairwise):
    layer = trained(4, pairwise, pool="after").train()
    x = draw(2, 4, 5, 7).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: watched(layer, x)[0], x, fast_mode=True)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(layer, x, fast_mode=True)


@pytest.mark.parametrize("pairwise", FORMS)
def test_both_memory_layouts_give_the_same(pairwise):
    layer = trained(5, pairwise, pool="before")
    x = draw(2, 5, 6, 7)
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), layer(x))


@pytest.mark.parametrize("pairwise", FORMS)
def test_bfloat16_autocast_stays_close_to_single_precision(pairwise):
    layer = trained(16, pairwise).float()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 16, 5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, seen = layer(x), watched(layer, x)
    assert y.dtype == torch.float32
    assert seen[1].dtype == torch.float32
    torch.testing.assert_close(y, layer(x), rtol=0.05, atol=0.05)
    torch.testing.assert_close(seen[0], y, rtol=0.05, atol=0.05)


def compiled(layer: NonLocal, **options):
    torch.compiler.reset()  # forward is one code object, and keeps what other tests compiled
    return torch.compile(layer, fullgraph=True, **options)


def check_same(one, other, x: torch.Tensor) -> None:
    """Compare outputs and gradients."""
    results = []
    for run in (one, other):
        y = run(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), x)])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.slow
@pytest.mark.parametrize("pairwise", TRACED)
def test_it_compiles_into_one_graph_and_computes_the_same(pairwise):
    layer = trained(5, pairwise, pool="before")
    check_same(compiled(layer, backend="aot_eager"), layer, draw(2, 5, 6, 7).requires_grad_())


@pytest.mark.slow
@pytest.mark.parametrize("pairwise", FORMS)
def test_compiled_once_it_takes_any_size(pairwise):
    layer = trained(5, pairwise, pool="after")
    run = compiled(layer, backend="eager", dynamic=True)
    for space in ((2, 3), (5, 7), (31, 29)):  # pooled to one position, to a few, and to many
        check_same(run, layer, draw(2, 5, *space).requires_grad_())


@pytest.mark.slow
@pytest.mark.parametrize("pairwise", ["embedded_gaussian", "concatenation"])
def test_inductor_computes_the_same(pairwise):
    layer = trained(5, pairwise, pool="before")
    check_same(compiled(layer), layer, draw(2, 5, 31, 37).requires_grad_())


@pytest.mark.slow
@pytest.mark.parametrize("pairwise", TRACED)
def test_an_export_with_open_batch_and_space_runs_at_another_size(pairwise):
    layer = trained(5, pairwise, pool="after")
    open_axes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(layer, (draw(2, 5, 6, 8),), dynamic_shapes=(open_axes,))
    x = draw(3, 5, 9, 31)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_too_few_positions_to_pool_are_refused():
    with pytest.raises(ValueError, match=r"^pool takes at least 2 positions along each axis of space; got \(1, 7\)$"):
        NonLocal(4, pool="before")(torch.randn(2, 4, 1, 7))
    assert NonLocal(4, pool="after")(torch.randn(2, 4, 1, 2, 2)).shape == (2, 4, 1, 2, 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pairwise": "cosine"}, 'pairwise must be one of "embedded_gaussian", "gaussian", "dot_product", "conc'),
        ({"pool": "max"}, 'pool must be one of "none", "before", "after"; got'),
        ({"group": "frames"}, 'group must be one of "spacetime", "space", "time"; got'),
        ({"norm": "layer"}, 'norm must be one of "batch", "none"; got'),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1; got 0"),
        ({"pairwise": "dot_product", "scale": True}, "scale takes a softmax, of embedded_gaussian or gaussian; got"),
        ({"pool": "before", "group": "time"}, "pool takes positions in space, and group='time' has none; got"),
    ],
)
def test_a_wrong_option_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        NonLocal(4, **options)


def test_a_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"^NonLocal takes \(batch, 4, \*space\) with 1 to 3 spatial axes; got"):
        NonLocal(4)(torch.randn(2, 5, 7))
    for group in ("space", "time"):
        sentence = rf"^NonLocal with group='{group}' takes \(batch, 4, time, height, width\); got \(2, 4, 5, 7\)$"
        with pytest.raises(ValueError, match=sentence):
            NonLocal(4, group=group)(torch.randn(2, 4, 5, 7))


def test_one_position_of_one_sample_has_no_batch_statistics():
    with pytest.raises(ValueError, match=r"^NonLocal in training takes at least 2 values per channel"):
        NonLocal(4)(torch.randn(1, 4, 1, 1))
    assert NonLocal(4).eval()(torch.randn(1, 4, 1, 1)).shape == (1, 4, 1, 1)
