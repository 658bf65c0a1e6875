"""What every mechanism of the catalogue promises, whatever it computes."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from foveate import layers, surgery
from foveate.capture import Maps, Tap, capture, taps
from foveate.layers import catalogue

CHANNELS = 7
SPACES = {1: (11,), 2: (5, 3), 3: (3, 5, 2)}
NAMES = list(catalogue.MECHANISMS)
# Wide enough that no bottleneck is a single unit, which a ReLU may silence.
OPTIONS = {name: {"reduction": 2} for name in ("se", "scse", "cbam", "bam")}
VARIANTS = {
    "se-max": ("se", {"squeeze": "max", "bias": False}),
    "se-none": ("se", {"squeeze": "none"}),
    "scse-multiply": ("scse", {"combine": "multiply"}),
    "scse-max": ("scse", {"combine": "max"}),
    "cbam-parallel": ("cbam", {"order": "parallel"}),
    "cbam-spatial-first": ("cbam", {"order": "spatial_first", "kernel_size": 3, "zero_init": False}),
    "cbam-channel-only": ("cbam", {"spatial": False, "pools": ("lp", "lse")}),
    "bam-product": ("bam", {"combine": "product", "dilation": 2}),
    "nonlocal-gaussian": ("nonlocal", {"pairwise": "gaussian"}),
    "nonlocal-dot-product": ("nonlocal", {"pairwise": "dot_product"}),
    "nonlocal-concatenation": ("nonlocal", {"pairwise": "concatenation"}),
}
CASES = [
    *(pytest.param(name, dims, id=f"{name}-{dims}d") for name in NAMES for dims in SPACES),
    *(pytest.param(name, 2, id=f"{name}-2d", marks=pytest.mark.slow) for name in VARIANTS),
]
# What takes long: among the fast tests only for the shortest mechanisms, in two dimensions.
QUICK = ("se", "eca", "placebo")
LONG_CASES = [
    *(pytest.param(name, 2, id=f"{name}-2d") for name in QUICK),
    *(
        pytest.param(name, dims, id=f"{name}-{dims}d", marks=pytest.mark.slow)
        for name in NAMES
        for dims in SPACES
        if (dims, name) not in [(2, quick) for quick in QUICK]
    ),
    *(pytest.param(name, 2, id=f"{name}-2d", marks=pytest.mark.slow) for name in VARIANTS),
]
# What the output does not depend on: a softmax over keys does not see what is added to all of them, and a normalisation
# by batch statistics does not see what is added before it.
UNSEEN = {"nonlocal": {"phi.bias"}}
UNSEEN_IN_TRAINING = {
    "nonlocal": {"phi.bias", "out.bias"},
    "bam": {"channel.reduce.bias", "spatial.reduce.bias", "spatial.conv1.bias", "spatial.conv2.bias"},
}

over_the_catalogue = pytest.mark.parametrize(("name", "dims"), CASES)
over_the_catalogue_at_length = pytest.mark.parametrize(("name", "dims"), LONG_CASES)


def kind(name: str) -> str:
    """The mechanism that a case is a variant of."""
    return VARIANTS.get(name, (name, {}))[0]


def fresh(name: str, dims: int) -> nn.Module:
    """The mechanism as it starts."""
    torch.manual_seed(0)
    mechanism, options = VARIANTS.get(name, (name, {}))
    return catalogue.build(mechanism, CHANNELS, spatial_dims=dims, **OPTIONS.get(mechanism, {}), **options)


def awake(name: str, dims: int) -> nn.Module:
    """The mechanism in eval, its weights and statistics off their start, so that nothing hides behind a zero."""
    layer = fresh(name, dims).eval()
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.ndim > 1:
            tensor.data.normal_(std=tensor[0].numel() ** -0.5)
        elif tensor.is_floating_point():
            tensor.data.uniform_(0.2, 0.9)
    return layer


def features(dims: int, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, *SPACES[dims], generator=generator)


def layers_with_taps(layer: nn.Module) -> list[tuple[type[nn.Module], str, Tap]]:
    """Each tap with its name and the class that documents it."""
    return [
        (type(owner), name, tap)
        for owner in layer.modules()
        for name, tap in owner.named_children()
        if isinstance(tap, Tap)
    ]


def check_shapes(maps: Maps, x: torch.Tensor) -> None:
    """Each map has the axes that its tap names."""
    space = x.shape[2:]
    sizes = {"batch": x.shape[:1], "channel": x.shape[1:2], "*space": space, "*query": space, "*key": space}
    for name, seen in maps.items():
        assert seen.shape == tuple(size for axis in maps.axes[name].split() for size in sizes[axis])
        assert not seen.requires_grad


def documented(owner: type[nn.Module], section: str) -> str:
    assert owner.__doc__ is not None
    found = re.search(rf"^ *{section}:\n((?: {{8}}.*\n)+)", owner.__doc__, re.MULTILINE)
    assert found, f"{owner.__name__} documents no {section}"
    return found.group(1)


@over_the_catalogue
def test_the_output_has_the_documented_shape(name, dims):
    layer, x = awake(name, dims), features(dims)
    assert "(batch, channel, *space) -> the same" in documented(type(layer), "Shape")
    assert layer(x).shape == x.shape
    assert layer(x).dtype == x.dtype


@over_the_catalogue
def test_the_taps_are_those_documented(name, dims):
    layer, x = awake(name, dims), features(dims)
    with capture(layer) as maps:
        layer(x)
    assert set(maps) == set(taps(layer))
    assert len(maps) == len(layers_with_taps(layer))
    check_shapes(maps, x)
    for owner, tap_name, tap in layers_with_taps(layer):
        line = re.search(rf"^ {{8}}{tap_name}: .*\n(?: {{12}}.*\n)*", documented(owner, "Taps"), re.MULTILINE)
        assert line, f"{owner.__name__} does not document {tap_name}"
        assert f"({', '.join(tap.axes.split())})" in line.group()
        seen = next(value for path, value in maps.items() if layer.get_submodule(path) is tap)
        if "in (0, 1)" in line.group():
            assert ((seen > 0) & (seen < 1)).all()
        elif "exactly 1" in line.group():
            assert (seen == 1).all()


@over_the_catalogue
def test_every_parameter_has_a_gradient(name, dims):
    layer, x = awake(name, dims), features(dims).requires_grad_()
    layer(x).square().sum().backward()
    dead = {key for key, parameter in layer.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert dead <= UNSEEN.get(kind(name), set())
    assert x.grad is not None
    assert x.grad.any()


@over_the_catalogue
def test_it_trains_from_its_start(name, dims):
    layer, x = fresh(name, dims), features(dims)
    if not list(layer.parameters()):
        return
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    dead: set[str] = set()
    for _ in range(2):  # a zero start lets go of the weights behind it after the first step
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        for key, parameter in layer.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        dead = {key for key, parameter in layer.named_parameters() if not parameter.grad.any()}
        optimizer.step()
    assert dead <= UNSEEN_IN_TRAINING.get(kind(name), set())


@over_the_catalogue
def test_eval_is_deterministic_and_leaves_the_input_alone(name, dims):
    layer, x = awake(name, dims), features(dims)
    state = copy.deepcopy(layer.state_dict())
    assert layer(x).equal(layer(x))
    assert x.equal(features(dims))
    assert all(value.equal(state[key]) for key, value in layer.state_dict().items())


@over_the_catalogue
def test_a_copy_a_pickle_and_a_loaded_state_compute_the_same(name, dims):
    layer, x = awake(name, dims), features(dims)
    loaded = fresh(name, dims).eval()
    loaded.load_state_dict(layer.state_dict(), strict=True)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert other(x).equal(layer(x))


@over_the_catalogue
def test_nothing_is_kept_on_a_module(name, dims):
    layer, x = fresh(name, dims), features(dims).requires_grad_()
    before = {path: set(vars(module)) for path, module in layer.named_modules()}
    with capture(layer):
        layer(x).sum().backward()
    layer(x).sum().backward()
    for path, module in layer.named_modules():
        assert set(vars(module)) == before[path]
        assert not any(isinstance(value, torch.Tensor) for value in vars(module).values())


@over_the_catalogue
def test_watching_does_not_change_the_output(name, dims):
    layer, x = awake(name, dims), features(dims)
    for training in (False, True):
        layer.train(training)
        unwatched = copy.deepcopy(layer)(x)
        with capture(layer):
            watched = layer(x)
        if kind(name) == "nonlocal":
            torch.testing.assert_close(watched, unwatched)
        else:
            assert watched.equal(unwatched)


@over_the_catalogue
def test_watching_does_not_change_the_gradients(name, dims):
    layer = awake(name, dims).double()
    gradients = []
    for watched in (False, True):
        x = features(dims).double().requires_grad_()
        if watched:
            with capture(layer):
                output = layer(x)
        else:
            output = layer(x)
        gradients.append(torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*gradients)


@over_the_catalogue
def test_samples_do_not_see_each_other(name, dims):
    layer = awake(name, dims)
    a, b = features(dims, batch=2), features(dims, batch=3, seed=2)
    torch.testing.assert_close(layer(torch.cat([a, b])), torch.cat([layer(a), layer(b)]))


@over_the_catalogue
def test_one_sample_of_one_position_will_do(name, dims):
    layer, x = awake(name, dims), torch.randn(1, CHANNELS, *[1] * dims)
    with capture(layer) as maps:
        output = layer(x)
    assert output.shape == x.shape
    assert output.isfinite().all()
    check_shapes(maps, x)


@over_the_catalogue
def test_a_batch_of_none_will_do(name, dims):
    for training in (False, True):
        layer, x = fresh(name, dims).train(training), features(dims)[:0].requires_grad_()
        output = layer(x)
        assert output.shape == x.shape
        output.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


@over_the_catalogue
def test_it_runs_under_bfloat16_autocast(name, dims):
    layer, x = awake(name, dims), features(dims).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == x.dtype
    torch.testing.assert_close(output, layer(x), rtol=0.05, atol=0.05)
    gradients = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


@over_the_catalogue
def test_it_runs_in_half_precision(name, dims):
    layer, x = awake(name, dims), features(dims)
    output = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(x), rtol=0.1, atol=0.1)


@over_the_catalogue_at_length
def test_the_gradients_and_their_gradients_are_exact(name, dims):
    layer = awake(name, dims).double()
    x = torch.randn(2, CHANNELS, *[2] * dims, dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())

    def function(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    names = [key for key, _ in layer.named_parameters()]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [2, 3])
def test_the_memory_format_is_kept(name, dims):
    layer = awake(name, dims)
    memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    plain, channels_last = features(dims).requires_grad_(), features(dims).contiguous(memory_format=memory_format)
    channels_last.requires_grad_()
    first, second = layer(plain), layer(channels_last)
    assert first.is_contiguous()
    assert second.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(first, second.contiguous())
    first.square().sum().backward()
    second.square().sum().backward()
    torch.testing.assert_close(plain.grad, channels_last.grad.contiguous())


@pytest.mark.slow
@over_the_catalogue_at_length
def test_it_compiles_as_one_graph(name, dims):
    torch.compiler.reset()
    layer = awake(name, dims)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, other = features(dims).requires_grad_(), features(dims).requires_grad_()
    output = compiled(x)
    torch.testing.assert_close(output, layer(other))
    output.square().sum().backward()
    layer(other).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.slow
@over_the_catalogue_at_length
def test_it_exports_with_any_batch_and_any_space(name, dims):
    layer, x = awake(name, dims), features(dims, batch=3)
    shapes = (dict.fromkeys((0, *range(2, 2 + dims)), torch.export.Dim.DYNAMIC),)
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes)
    other = torch.randn(5, CHANNELS, *(size + 2 for size in SPACES[dims]))
    torch.testing.assert_close(program.module()(other), layer(other))


@over_the_catalogue
def test_inserted_in_a_host_it_is_the_identity_bit_for_bit(name, dims):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    host = nn.Sequential(conv(2, CHANNELS, 1), nn.ReLU(), conv(CHANNELS, 3, 1)).eval()
    x = torch.randn(2, 2, *SPACES[dims])
    expected = host(x)
    surgery.insert(host, "1", lambda channels: fresh(name, dims), example=x)
    assert host(x).equal(expected)
    assert surgery.remove(host) == ["1"]


@pytest.mark.parametrize("name", NAMES)
def test_another_number_of_channels_or_axes_is_refused_in_one_sentence(name):
    layer = fresh(name, 2)
    for x in (torch.zeros(2, CHANNELS + 1, 5, 3), torch.zeros(2, CHANNELS), torch.zeros(2, CHANNELS, 2, 2, 2, 2)):
        sentence = rf"takes \(batch, {CHANNELS}, \*space\) with .*; got {re.escape(str(tuple(x.shape)))}"
        with pytest.raises(ValueError, match=sentence):
            layer(x)


def test_the_catalogue_and_the_layers_are_the_same():
    built = {catalogue.MECHANISMS[name].layer for name in NAMES}
    built |= {"AttentionGate", "VolumetricAttention", "MultiHeadAttention", "KeyValueCache"}  # two inputs, or tokens
    built |= {"SinusoidalPositions", "LearnedPositions", "SinusoidalPositions2d", "LearnedPositions2d"}
    assert built == {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["se", "scse", "bam", "nonlocal", "spatial"]
)  # one of each family, and two shapes of gate
def test_inductor_computes_the_same(name):
    torch.compiler.reset()
    layer, x = awake(name, 2), features(2).requires_grad_()
    other = features(2).requires_grad_()
    output = torch.compile(layer, fullgraph=True)(x)
    torch.testing.assert_close(output, layer(other))
    output.square().sum().backward()
    layer(other).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
