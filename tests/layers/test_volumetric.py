"""Volumetric attention: the equation, what it sees of the bag and what it cannot, and where it runs."""

import copy
import pickle

import pytest
import torch
from tests.reference import volumetric

from foveate.capture import capture, edit, taps
from foveate.layers import VolumetricAttention, catalogue

ORDERS = ("channel_spatial", "spatial_channel", "parallel")
AXES = {
    "channel_weights": "batch slice",
    "channel_gate": "batch channel",
    "spatial_weights": "batch slice",
    "spatial_gate": "batch *space",
}


def built(channels=5, **options):
    """A small layer in double precision; wide enough that no unit of the bottleneck silences it."""
    torch.manual_seed(3)
    if options.get("channel", True):
        options = {"hidden_channels": 8, "embed_channels": 7} | options
    if options.get("spatial", True):
        options = {"kernel_size": 3} | options
    return VolumetricAttention(channels, **options).double()


def inputs(slices=3, batch=2, channels=5, space=(4, 7), seed=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, *space, generator=generator, dtype=torch.float64)
    return x, torch.randn(batch, slices, channels, *space, generator=generator, dtype=torch.float64)


def looped(layer, x, bag):
    state = {key: value.detach() for key, value in layer.state_dict().items()}
    options = layer.order, layer.scale, layer.add_target
    gated = torch.stack([volumetric.volumetric(*each, state, *options) for each in zip(x, bag, strict=True)])
    return x + gated if layer.residual else gated


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "options", [{}, {"scale": "sqrt", "add_target": True}, {"scale": "none", "residual": True, "kernel_size": 5}]
)
def test_it_computes_the_equation_slice_by_slice_and_position_by_position(order, options):
    layer, (x, bag) = built(order=order, **options), inputs()
    torch.testing.assert_close(layer(x, bag), looped(layer, x, bag))


def test_the_sum_of_maps_can_go_straight_into_the_sigmoid():
    layer, (x, bag) = built(spatial_projection=False), inputs()
    assert "conv2.weight" not in layer.state_dict()
    torch.testing.assert_close(layer(x, bag), looped(layer, x, bag))


def test_either_gate_can_be_off():
    x, bag = inputs()
    channel, spatial = built(spatial=False), built(channel=False)
    state = channel.state_dict() | spatial.state_dict()
    given = x[0], bag[0], state, "mean"
    torch.testing.assert_close(
        channel(x, bag)[0], x[0] * volumetric.channel_gate(*given, add_target=False)[:, None, None]
    )
    torch.testing.assert_close(spatial(x, bag)[0], x[0] * volumetric.spatial_gate(*given, seen=None)[None])
    assert set(taps(channel)) == {"channel_weights", "channel_gate"}
    assert set(taps(spatial)) == {"spatial_weights", "spatial_gate"}


def test_a_case_by_hand():
    layer = VolumetricAttention(1, hidden_channels=1, spatial=False, scale="none")
    state = {"fc1.weight": 1.0, "fc2.weight": 1.0, "fc3.weight": 2.0, "fc1.bias": 0.0, "fc2.bias": 0.0, "fc3.bias": 0.5}
    layer.load_state_dict({key: torch.full_like(layer.state_dict()[key], value) for key, value in state.items()})
    x, bag = (
        torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2),
        torch.tensor([[1.0, 1.0], [-5.0, 1.0]]).reshape(1, 2, 1, 1, 2),
    )
    # e(x) = 2, e(bag) = (1, 0): scores (2, 0), weights (s, 1 - s) with s = sigmoid(2), their sum is s.
    share = torch.tensor(2.0).sigmoid()
    with capture(layer) as maps:
        torch.testing.assert_close(layer(x, bag), x * (2 * share + 0.5).sigmoid())
    torch.testing.assert_close(maps["channel_weights"], torch.stack([share, 1 - share])[None])


def test_the_parameters_are_those_of_the_literal_reading():
    assert sum(each.numel() for each in VolumetricAttention(256).parameters()) == 8_885
    wide = VolumetricAttention(256, embed_channels=256)
    assert sum(each.numel() for each in wide.parameters()) - 8_885 == 240 * 17 + 240 * 256


def test_a_changed_slice_of_the_bag_changes_the_output_of_its_sample_alone():
    layer, (x, bag) = built(), inputs()
    for index in range(3):
        other = bag.clone()
        other[0, index] += 1
        before, after = layer(x, bag), layer(x, other)
        assert not torch.allclose(before[0], after[0])
        torch.testing.assert_close(before[1], after[1])


def test_the_bag_is_a_set():
    layer, (x, bag) = built(), inputs(slices=4)
    with capture(layer) as maps:
        torch.testing.assert_close(layer(x, bag[:, [2, 0, 3, 1]]), layer(x, bag))
    for name in ("channel_weights", "spatial_weights"):
        shuffled, given = maps.calls(name)
        torch.testing.assert_close(shuffled, given[:, [2, 0, 3, 1]])


def test_equal_slices_share_the_weight_equally():
    layer, (x, bag) = built(), inputs(slices=5)
    with capture(layer) as maps:
        layer(x, bag[:, :1].expand_as(bag))
    for name in ("channel_weights", "spatial_weights"):
        torch.testing.assert_close(maps[name], torch.full((2, 5), 0.2, dtype=torch.float64))


def entropy(scale, target):
    """That of the spatial weights of a bag of random features, as a share of the largest; target is in the bag."""
    torch.manual_seed(0)
    layer = VolumetricAttention(16, channel=False, scale=scale)
    bag = torch.randn(2, 9, 16, 48, 48)
    with capture(layer) as maps:
        layer(bag[:, target], bag)
    weights = maps["spatial_weights"].double()
    return (-(weights * weights.clamp(min=1e-30).log()).sum(dim=1) / torch.tensor(9.0).log()).min()


def test_undivided_products_over_maps_leave_the_context_unseen_and_their_mean_does_not():
    assert entropy("mean", 4) > 0.9
    assert entropy("none", 4) < 0.05


@pytest.mark.parametrize("detach", [False, True])
def test_a_gradient_reaches_the_bag_as_the_option_says(detach):
    layer, (x, bag) = built(detach=detach), inputs()
    x.requires_grad_()
    bag.requires_grad_()
    layer(x, bag).square().sum().backward()
    assert (bag.grad is None) == detach
    if not detach:
        assert all(bag.grad[:, index].any() for index in range(3))
    assert all(parameter.grad.any() for parameter in layer.parameters())


def test_the_gradients_of_the_weights_through_the_bag_stay_when_it_is_detached():
    x, bag = inputs()
    gradients = []
    for detach in (False, True):
        layer = built(detach=detach)
        gradients.append(torch.autograd.grad(layer(x, bag).square().sum(), list(layer.parameters())))
    torch.testing.assert_close(*gradients)


def test_a_slice_that_joins_its_bag_has_the_last_weight():
    layer, (x, bag) = built(add_target=True, order="parallel"), inputs()
    inside = built(order="parallel")
    inside.load_state_dict(layer.state_dict())
    with capture(layer) as maps:
        found = layer(x, bag)
    with capture(inside) as expected:
        torch.testing.assert_close(found, inside(x, torch.cat([bag, x[:, None]], dim=1)))
    for name in ("channel_weights", "spatial_weights"):
        assert maps[name].shape == (2, 4)
        torch.testing.assert_close(maps[name], expected[name])


def test_what_is_embedded_once_can_be_joined_and_used_again():
    layer, (x, bag) = built(), inputs()
    each = [layer.embed(bag[:, index : index + 1]) for index in range(3)]
    joined = type(each[0])(*(torch.cat(parts, dim=1) for parts in zip(*each, strict=True)))
    torch.testing.assert_close(layer.attend(x, joined), layer(x, bag))


def test_every_map_is_captured_and_can_be_replaced():
    layer, (x, bag) = built(), inputs()
    assert taps(layer) == AXES
    plain = layer(x, bag)
    with capture(layer) as maps:
        assert layer(x, bag).equal(plain)
    shapes = {name: tuple(value.shape) for name, value in maps.items()}
    assert shapes == {
        "channel_weights": (2, 3),
        "channel_gate": (2, 5),
        "spatial_weights": (2, 3),
        "spatial_gate": (2, 4, 7),
    }
    for name in ("channel_weights", "spatial_weights"):
        torch.testing.assert_close(maps[name].sum(dim=1), torch.ones(2, dtype=torch.float64))
    for name in ("channel_gate", "spatial_gate"):
        assert ((maps[name] > 0) & (maps[name] < 1)).all()
    with edit(layer, {"*_gate": 1.0}):
        assert layer(x, bag).equal(x)


@pytest.mark.parametrize("order", ORDERS)
def test_its_gradients_and_their_gradients_are_exact(order):
    layer, (x, bag) = built(order=order, residual=True, add_target=True), inputs(space=(2, 3))
    names = [key for key, _ in layer.named_parameters()]

    def function(x, bag, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, bag))

    given = (x.requires_grad_(), bag.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(function, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, given, fast_mode=True)


@pytest.mark.parametrize("space", [(1, 1), (5, 3), (11, 8)])
def test_any_grid_and_any_number_of_slices_will_do(space):
    layer = built()
    for slices in (1, 4):
        x, bag = inputs(slices=slices, space=space)
        output = layer(x, bag)
        assert output.shape == x.shape
        assert output.isfinite().all()


def test_a_copy_a_pickle_and_a_loaded_state_compute_the_same():
    layer, (x, bag) = built(), inputs()
    loaded = VolumetricAttention(5, hidden_channels=8, embed_channels=7, kernel_size=3).double()
    loaded.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert other(x, bag).equal(layer(x, bag))
    assert not any(isinstance(value, torch.Tensor) for module in layer.modules() for value in vars(module).values())


def test_the_memory_format_is_kept():
    layer = built().float()
    x, bag = (each.float() for each in inputs())
    last = x.contiguous(memory_format=torch.channels_last)
    assert layer(x, bag).is_contiguous()
    assert layer(last, bag).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(last, bag), layer(x, bag))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_runs_in_half_precision_and_under_autocast(dtype):
    layer = built().float()
    x, bag = (each.float() for each in inputs(space=(40, 40)))
    halved = copy.deepcopy(layer).to(dtype)(x.to(dtype), bag.to(dtype))
    assert halved.dtype == dtype
    torch.testing.assert_close(halved.float(), layer(x, bag), rtol=0.05, atol=0.05)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(layer(x, bag).float(), layer(x, bag).float(), rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_it_compiles_as_one_graph(order):
    torch.compiler.reset()
    layer, (x, bag) = built(order=order), inputs()
    found = torch.compile(layer, fullgraph=True, backend="aot_eager")(x.requires_grad_(), bag.requires_grad_())
    torch.testing.assert_close(found, layer(x, bag))
    gradients = [torch.autograd.grad(each.square().sum(), [x, bag]) for each in (found, layer(x, bag))]
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_it_exports_with_any_batch_any_number_of_slices_and_any_space():
    layer, given = built().eval(), inputs(batch=3)
    open_axes = dict.fromkeys((0, 1, 2, 3, 4), torch.export.Dim.DYNAMIC)
    shapes = ({axis: open_axes[axis] for axis in (0, 2, 3)}, {axis: open_axes[axis] for axis in (0, 1, 3, 4)})
    program = torch.export.export(layer, given, dynamic_shapes=shapes)
    other = inputs(slices=6, batch=2, space=(9, 5))
    torch.testing.assert_close(program.module()(*other), layer(*other))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"order": "first"}, 'order must be one of "channel_spatial", "spatial_channel", "parallel"; got \'first\''),
        ({"order": ""}, 'order must be one of "channel_spatial", "spatial_channel", "parallel"; got \'\''),
        ({"scale": "root"}, 'scale must be one of "mean", "sqrt", "none"; got \'root\''),
        ({"kernel_size": 4}, "kernel_size must be odd and positive; got 4"),
        ({"embed_channels": 0}, "embed_channels must be at least 1; got 0"),
        ({"reduction": 2, "hidden_channels": 3}, "give reduction or hidden_channels, not both; got 2 and 3"),
        ({"channel": False, "spatial": False}, "takes channel=True or spatial=True; got neither"),
        ({"channel": False, "reduction": 2}, "with channel=False has no use for reduction=2"),
        ({"channel": False, "order": "parallel"}, "with channel=False has no use for order='parallel'"),
        ({"spatial": False, "spatial_projection": False}, "with spatial=False has no use for spatial_projection=False"),
    ],
)
def test_a_wrong_option_is_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        VolumetricAttention(8, **options)


@pytest.mark.parametrize(
    ("x", "bag", "sentence"),
    [
        ((2, 4, 3, 3), (2, 3, 5, 3, 3), r"takes \(batch, 5, \*space\) with spatial_dims=2; got \(2, 4, 3, 3\)"),
        ((2, 5, 3, 3), (2, 5, 3, 3), r"takes a bag of \(batch, slice, 5, height, width\) with .*; got \(2, 5, 3, 3\)"),
        ((2, 5, 3, 3), (2, 0, 5, 3, 3), r"with at least one slice; got \(2, 0, 5, 3, 3\)"),
        ((2, 5, 3, 3), (1, 3, 5, 3, 3), r"takes a bag of \(2, slice, 5, 3, 3\) here; got \(1, 3, 5, 3, 3\)"),
        ((2, 5, 3, 3), (2, 3, 5, 3, 4), r"takes a bag of \(2, slice, 5, 3, 3\) here; got \(2, 3, 5, 3, 4\)"),
    ],
)
def test_a_bag_that_does_not_go_with_the_slice_is_refused_in_one_sentence(x, bag, sentence):
    with pytest.raises(ValueError, match=sentence):
        built()(torch.zeros(x, dtype=torch.float64), torch.zeros(bag, dtype=torch.float64))


def test_it_is_no_mechanism_that_goes_behind_any_layer():
    sentence = "^volumetric takes a bag of slices beside its input, as in the network va_mask_rcnn_resnet50$"
    with pytest.raises(LookupError, match=sentence):
        catalogue.build("volumetric", 8)
    assert catalogue.find("volumetric").layer == "VolumetricAttention"
    assert catalogue.find("se") is catalogue.describe("se")
    assert "scale" in catalogue.options_of("volumetric")
