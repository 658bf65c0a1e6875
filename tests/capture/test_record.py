import copy
import io
import pickle
import threading

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import foveate.capture
from foveate.capture import Tap, capture, edit, taps

NAMES = ["gate.gate", "blocks.0.weights", "blocks.1.weights"]


class Gate(nn.Module):
    """A channel gate: (batch, channel, *space) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.gate = Tap("batch channel")

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(self.linear(x.flatten(start_dim=2).mean(dim=2)).sigmoid())
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


class Attention(nn.Module):
    """Attention that forms its weights only while somebody looks: (batch, token, channel) -> the same."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.weights = Tap("batch head query key")

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.weights.watched:
            logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
            x = self.weights(logits.softmax(dim=-1)) @ value
        else:
            x = F.scaled_dot_product_attention(query, key, value)
        return x.transpose(1, 2).flatten(start_dim=2)


class Host(nn.Module):
    """A gate and an attention in two blocks: (batch, 3, height, width) -> (batch, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.gate = Gate(6)
        self.blocks = nn.ModuleList(Attention(6, num_heads=2) for _ in range(2))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.gate(self.stem(x)).flatten(start_dim=2).transpose(1, 2)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.head(tokens.mean(dim=1))


@pytest.fixture
def host():
    torch.manual_seed(0)
    return Host()


@pytest.fixture
def images():
    return torch.randn(5, 3, 4, 7, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def hooks_on(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# What is collected


def test_every_map_is_collected_under_its_name_and_with_its_axes(host, images):
    with capture(host) as maps:
        host(images)
    assert list(maps) == NAMES
    assert {name: (maps.axes[name], tuple(maps[name].shape)) for name in maps} == {
        "gate.gate": ("batch channel", (5, 6)),
        "blocks.0.weights": ("batch head query key", (5, 2, 28, 28)),
        "blocks.1.weights": ("batch head query key", (5, 2, 28, 28)),
    }
    assert not any(maps[name].requires_grad for name in maps)
    assert maps.axes == taps(host)


def test_the_maps_are_those_that_the_model_used(host, images):
    with capture(host) as maps:
        host(images)
    stem = host.stem(images)
    gate = host.gate.linear(stem.mean(dim=(2, 3))).sigmoid()
    assert_close(maps["gate.gate"], gate)
    tokens = (stem * gate[:, :, None, None]).flatten(2).transpose(1, 2)
    query, key, _ = host.blocks[0].qkv(tokens).reshape(5, 28, 3, 2, 3).permute(2, 0, 3, 1, 4)
    assert_close(maps["blocks.0.weights"], ((query @ key.transpose(2, 3)) / 3**0.5).softmax(dim=3))


def test_looking_does_not_change_the_output(host, images):
    plain = host(images)
    with capture(host, only="gate.gate"):
        gated = host(images)
    with capture(host):
        seen = host(images)
    assert torch.equal(gated, plain)
    assert_close(seen, plain, rtol=1e-6, atol=1e-6)


def test_several_calls_are_joined_along_the_batch_axis(host, images):
    with capture(host) as maps:
        host(images[:2])
        host(images[2:])
    with capture(host) as at_once:
        host(images)
    for name in NAMES:
        assert_close(maps[name], at_once[name])
        assert [len(call) for call in maps.calls(name)] == [2, 3]


def test_calls_that_cannot_be_joined_say_so_and_can_be_read_one_by_one(host, images):
    with capture(host) as maps:
        host(images)
        host(images[:, :, :, :5])
    assert_close(maps["gate.gate"].shape, torch.Size([10, 6]))
    with pytest.raises(
        ValueError, match=r"joined along the batch axis; got \[\(5, 2, 28, 28\), \(5, 2, 20, 20\)\]; maps.calls"
    ):
        maps["blocks.0.weights"]
    assert [tuple(call.shape) for call in maps.calls("blocks.0.weights")] == [(5, 2, 28, 28), (5, 2, 20, 20)]


def test_a_pattern_selects(host, images):
    with capture(host, only="blocks.*.weights") as maps:
        host(images)
    assert list(maps) == NAMES[1:]
    with capture(host, only=["**.gate", "blocks.1.*"]) as maps:
        host(images)
    assert list(maps) == [NAMES[0], NAMES[2]]


def test_what_is_not_selected_stays_on_its_fast_path(host, images):
    with capture(host, only="blocks.1.weights"):
        assert not host.blocks[0].weights.watched
        assert host.blocks[1].weights.watched
        host(images)


def test_keep_is_applied_the_moment_a_map_appears(host, images):
    alive = []

    def one_head(weights: Tensor) -> Tensor:
        alive.append(weights.requires_grad)
        return weights[:, 0].half()

    with capture(host, only="blocks.**", keep=one_head) as maps:
        host(images)
    assert alive == [False, False]
    assert maps["blocks.0.weights"].shape == (5, 28, 28)
    assert maps["blocks.0.weights"].dtype == torch.float16


def test_a_part_that_is_kept_does_not_hold_the_whole_in_memory(host, images):
    with capture(host, only="blocks.0.*", keep=lambda weights: weights[:, 0]) as maps:
        host(images)
    assert maps["blocks.0.weights"].untyped_storage().nbytes() == 5 * 28 * 28 * 4


def test_a_keep_without_tensors_is_read_call_by_call(host, images):
    with capture(host, only="gate.gate", keep=lambda gate: gate.mean().item()) as maps:
        host(images[:2])
        host(images[2:])
    assert len(maps.calls("gate.gate")) == 2
    with pytest.raises(ValueError, match=r"joined along the batch axis; got \['float', 'float'\]"):
        maps["gate.gate"]


def test_a_map_stays_as_it_was_though_the_layer_writes_into_it():
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Tap("batch channel")

        def forward(self, x):
            return self.gate(x * 1).mul_(0)

    model = Careless()
    with capture(model) as maps:
        model(torch.ones(2, 3))
    assert torch.equal(maps["gate"], torch.ones(2, 3))


def test_a_name_that_was_not_captured_is_answered_with_those_that_were(host, images):
    with capture(host, only="gate.*") as maps:
        host(images)
    assert "blocks.0.weights" not in maps
    with pytest.raises(KeyError, match=r"no map was captured at 'blocks.0.weights'; there are \['gate.gate'\]"):
        maps["blocks.0.weights"]


# What is an error


def test_a_pattern_without_a_tap_names_what_there_is(host):
    sentence = r"no tap matches 'layer\*'; the model has \['gate.gate', 'blocks.0.weights', 'blocks.1.weights'\]"
    with pytest.raises(LookupError, match=sentence), capture(host, only=["gate.*", "layer*"]):
        pass


def test_a_long_list_of_taps_is_cut():
    model = nn.Sequential(*(Tap("batch channel") for _ in range(20)))
    with pytest.raises(LookupError, match=r"'10', '11', ... 8 more\]$"), capture(model, only="x"):
        pass


def test_a_model_without_taps_is_an_error():
    sentence = "Linear has no taps: none of its layers is a gate or attention known here"
    with pytest.raises(LookupError, match=sentence), capture(nn.Linear(2, 3)):
        pass


def test_a_block_that_calls_nothing_is_an_error(host, images):
    sentence = r"no tap that matches '\*\*' was called inside the block; it waited for \['gate.gate', 'blocks.0"
    with pytest.raises(LookupError, match=sentence), capture(host):
        pass
    sentence = r"matches 'gate.\*' was called inside the block; it waited for \['gate.gate'\]"
    with pytest.raises(LookupError, match=sentence), capture(host, only=["blocks.**", "gate.*"]):
        host.blocks[0](torch.randn(2, 5, 6))


def test_only_modules_can_be_captured():
    with pytest.raises(TypeError, match=r"capture and edit take a torch.nn.Module; got function"), capture(lambda x: x):
        pass


def test_an_empty_list_of_patterns_is_an_error(host):
    with pytest.raises(ValueError, match=r"only takes one pattern or more; got \[\]"), capture(host, only=[]):
        pass


def test_an_exception_in_the_block_is_not_masked_and_leaves_no_hook(host, images):
    with pytest.raises(ZeroDivisionError), capture(host):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="channels"), edit(host, {"**": 1.0}):
        host(images[:, :2])
    assert hooks_on(host) == 0
    assert not host.blocks[0].weights.watched


def test_leaving_the_block_removes_every_hook(host, images):
    with capture(host), edit(host, {"gate.gate": 1.0}):
        assert hooks_on(host) == 4
        host(images)
    assert hooks_on(host) == 0


# Edits


def test_a_gate_of_ones_is_ablated(host, images):
    with edit(host, {"gate.gate": 1.0}):
        ablated = host(images)
    host.gate = nn.Identity()
    assert torch.equal(ablated, host(images))


@pytest.mark.parametrize("change", [lambda gate: gate * 0, torch.zeros(6), torch.zeros(5, 6, dtype=torch.float64), 0])
def test_a_map_is_replaced_by_a_function_a_tensor_or_a_number(host, images, change):
    with edit(host, {"gate.gate": change}), capture(host, only="gate.gate") as maps:
        host(images)
    assert torch.equal(maps["gate.gate"], torch.zeros(5, 6))


def test_attention_weights_are_replaced_too(host, images):
    with edit(host, {"blocks.*.weights": 0.0}):
        edited = host(images)
    tokens = host.gate(host.stem(images)).flatten(2)
    assert_close(edited, host.head(tokens.mean(dim=2)))


def test_several_patterns_at_one_name_apply_in_turn(host, images):
    with edit(host, {"**.gate": 3.0, "gate.*": lambda gate: gate + 1}), capture(host, only="gate.gate") as maps:
        host(images)
    assert torch.equal(maps["gate.gate"], torch.full((5, 6), 4.0))


def test_gradients_flow_through_an_edit(host, images):
    scale = torch.tensor(0.5, requires_grad=True)
    with edit(host, {"gate.gate": lambda gate: gate * scale}):
        host(images).sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0
    assert host.gate.linear.weight.grad.abs().sum() > 0


def test_an_edit_that_nobody_can_use_is_an_error(host, images):
    sentence = r"edit of 'gate.gate' takes what broadcasts to \(5, 6\); got \(7,\)"
    with pytest.raises(ValueError, match=sentence), edit(host, {"gate.gate": torch.ones(7)}):
        host(images)
    sentence = "takes a number, a tensor or a function to one; got NoneType"
    with pytest.raises(TypeError, match=sentence), edit(host, {"gate.gate": lambda gate: None}):
        host(images)
    with pytest.raises(LookupError, match=r"no tap matches 'gates'; the model has"), edit(host, {"gates": 1.0}):
        host(images)
    with pytest.raises(LookupError, match="was called inside the block"), edit(host, {"gate.gate": 1.0}):
        pass


# Blocks in blocks


def test_a_capture_opened_inside_an_edit_sees_the_map_as_replaced(host, images):
    with capture(host, only="gate.gate") as outer, edit(host, {"gate.gate": 0.25}), capture(host) as inner:
        host(images)
    assert torch.equal(inner["gate.gate"], torch.full((5, 6), 0.25))
    assert not torch.equal(outer["gate.gate"], inner["gate.gate"])


def test_captures_nest(host, images):
    with capture(host) as outer:
        with capture(host, only="gate.**") as inner:
            host(images)
        host(images)
    assert len(inner["gate.gate"]) == 5
    assert len(outer["gate.gate"]) == 10


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_made_inside_the_block_is_watched_by_nobody(host, images, copied):
    with capture(host) as maps, edit(host, {"gate.gate": lambda gate: gate}):
        twin = copied(host.gate.gate if copied is copy.copy else host)
        assert hooks_on(twin) == 0
        host(images)
    assert [len(maps.calls(name)) for name in NAMES] == [1, 1, 1]
    assert taps(twin) == taps(host.gate.gate if copied is copy.copy else host)


def test_a_copy_called_inside_the_block_is_not_collected(host, images):
    with capture(host) as maps:
        host(images)
        copy.deepcopy(host)(images)
    assert len(maps["gate.gate"]) == 5


def test_a_whole_model_is_saved_inside_the_block(host, images):
    saved = io.BytesIO()
    with capture(host):
        torch.save(host, saved)
        plain = host(images)
    saved.seek(0)
    assert_close(torch.load(saved, weights_only=False)(images), plain)


# Compiled, distributed, checkpointed


class Counting:
    """A compiler backend that counts what it compiles."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def backend():
    torch.compiler.reset()
    yield Counting()
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_captured_without_compiling_again(host, images, backend, in_place):
    if in_place:
        compiled = host
        host.compile(backend=backend)
    else:
        compiled = torch.compile(host, backend=backend)
    plain = compiled(images)
    graphs = backend.graphs
    assert graphs > 0
    for _ in range(10):
        with capture(compiled) as maps:
            assert_close(compiled(images), plain)
        assert list(maps) == NAMES
    with edit(compiled, {"gate.gate": 1.0}):
        assert not torch.allclose(compiled(images), plain)
    assert torch.equal(compiled(images), plain)
    assert backend.graphs == graphs


@pytest.mark.slow
def test_a_model_compiled_by_parts_keeps_its_names(host, images, backend):
    host.blocks[0] = torch.compile(host.blocks[0], backend=backend)
    host(images)
    with capture(host) as maps:
        host(images)
    assert list(maps) == NAMES


@pytest.mark.slow
def test_a_model_compiled_by_aot_eager_is_captured(host, images):
    compiled = torch.compile(host, backend="aot_eager")
    plain = compiled(images)
    torch._dynamo.utils.counters.clear()
    with capture(compiled) as maps:
        assert_close(compiled(images), plain)
    assert_close(compiled(images), plain)
    assert list(maps) == NAMES
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_a_distributed_model_is_captured(host, images, process_group):
    wrapped = DistributedDataParallel(host)
    plain = wrapped(images)
    with capture(wrapped) as maps:
        assert_close(wrapped(images), plain)
    assert list(maps) == NAMES
    assert list(taps(wrapped)) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("compiled_first", [False, True])
def test_a_distributed_and_compiled_model_is_captured(host, images, process_group, backend, compiled_first):
    if compiled_first:
        wrapped = DistributedDataParallel(torch.compile(host, backend=backend))
    else:
        wrapped = torch.compile(DistributedDataParallel(host), backend=backend)
    plain = wrapped(images)
    graphs = backend.graphs
    assert graphs > 0
    with capture(wrapped) as maps:
        assert_close(wrapped(images), plain)
    assert list(maps) == NAMES
    assert_close(wrapped(images), plain)
    assert backend.graphs == graphs


def test_a_child_that_happens_to_be_called_module_keeps_its_name():
    model = nn.Module()
    model.module = Gate(3)
    assert list(taps(model)) == ["module.gate"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_under_activation_checkpointing_the_backward_pass_collects_nothing_twice(host, images, reentrant):
    host(images).sum().backward()
    plain = host.stem.weight.grad
    host.zero_grad()
    with capture(host) as maps:
        output = checkpoint(host, images.clone().requires_grad_(), use_reentrant=reentrant)
        output.sum().backward()
    assert [len(maps[name]) for name in NAMES] == [5, 5, 5]
    assert_close(host.stem.weight.grad, plain)


def test_under_activation_checkpointing_an_edit_holds_in_the_backward_pass(host, images):
    with edit(host, {"gate.gate": 0.5}):
        host(images).sum().backward()
        plain = host.stem.weight.grad
        host.zero_grad()
        checkpoint(host, images, use_reentrant=False).sum().backward()
    assert_close(host.stem.weight.grad, plain)


def test_a_forward_in_another_thread_is_collected(host, images):
    with capture(host) as maps:
        thread = threading.Thread(target=host, args=(images,))
        thread.start()
        thread.join()
    assert list(maps) == NAMES


def test_half_precision_and_double_are_collected_as_they_are(host, images):
    with capture(host) as maps, torch.autocast("cpu", torch.bfloat16):
        host(images)
    assert maps["gate.gate"].dtype == torch.bfloat16
    host.double()
    with capture(host) as maps:
        host(images.double())
    assert maps["gate.gate"].dtype == torch.float64


# The room


def test_the_room_is_also_the_function(host, images):
    with foveate.capture(host, only="gate.*") as maps:
        host(images)
    assert list(maps) == ["gate.gate"]
    assert foveate.capture.capture is capture
