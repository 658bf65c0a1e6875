import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from foveate.layers import SE, NonLocal
from foveate.surgery import Blend, blend_in, blended, insert, inserted, load_host, remove
from foveate.surgery.blend import RAMP_STEPS, size_ratio


def half(channels):
    """A gate that is one half everywhere until it learns."""
    gate = SE(channels, reduction=1)
    nn.init.zeros_(gate.fc2.weight)
    nn.init.zeros_(gate.fc2.bias)
    return gate


def steps(host, x, count, optimizer=None, passes=1):
    """Train on the same batch; every step takes the gradients of several forward passes."""
    optimizer = optimizer or torch.optim.AdamW(host.parameters(), lr=1e-3)
    for _ in range(count):
        optimizer.zero_grad()
        for _ in range(passes):
            (host(x).square().mean() / passes).backward()
        optimizer.step()
    host(x)  # a step is counted by the pass after it


def only(host):
    (child,) = inserted(host).values()
    return child


def test_the_blend_is_its_equation():
    blend = Blend().eval()
    x, attended = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    assert torch.equal(blend(x, attended), x)
    for value, buffer in ((1.8, blend.gain), (15, blend.steps), (0.0625, blend.alpha.data)):
        buffer.fill_(value)
    torch.testing.assert_close(blend(x, attended), 0.7 * x + 1.8 * 0.35 * attended)
    assert blend.strength == pytest.approx(0.35)
    blend.steps.fill_(50)
    torch.testing.assert_close(blend(x, attended), 1.8 * 1.05 * attended)


def test_the_learned_part_stays_within_a_quarter():
    blend = Blend()
    for alpha, strength in ((0.0, 0.0), (1e-3, 1e-3), (0.25, 0.125), (100.0, 0.25), (-100.0, -0.25)):
        blend.alpha.data.fill_(alpha)
        assert blend.strength == pytest.approx(strength, rel=1e-2)


def test_the_blend_has_exact_gradients():
    blend = Blend().double().eval()
    blend.steps.fill_(20)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def function(x, attended, alpha):
        return torch.func.functional_call(blend, {"alpha": alpha}, (x, attended))

    arguments = (x, torch.randn_like(x, requires_grad=True), blend.alpha)
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_the_gain_brings_the_size_near_that_of_the_input_and_no_further():
    for ratio, gain in ((0.5, 1.8), (0.95, 1.0), (1.4, 1.0), (2.0, 0.75), (0.0, 1.0), (float("nan"), 1.0)):
        blend = Blend()
        blend.fit_gain(ratio)
        assert blend.gain.item() == pytest.approx(gain)
    assert size_ratio(torch.ones(3), torch.full((3,), 0.5)) == pytest.approx(0.5)


def test_the_gain_is_fitted_to_the_features_of_the_host(host, x):
    class Positive(nn.Module):
        """Keep what is positive, and half of the rest: nothing is lost after a ReLU, some of random numbers."""

        def forward(self, x):
            return nn.functional.leaky_relu(x, 0.5)

    insert(host, "stem", lambda channels: Positive(), example=x)
    halved = only(host).gain.item()
    remove(host)
    host.stem = nn.Sequential(host.stem, nn.ReLU())
    insert(host, "stem", lambda channels: Positive(), example=torch.zeros_like(x))
    assert halved > 1.05
    assert only(host).gain.item() == 1


def test_gains_are_fitted_to_the_statistics_of_a_batch_and_leave_no_trace(host, x):
    class Norm(nn.BatchNorm2d):
        def forward(self, x):
            return 3 * super().forward(x)

    insert(host.train(), "stem", Norm, example=100 * x)
    size = host.stem(100 * x)  # a step of the ramp is not due: alpha has not moved
    with torch.no_grad():
        features = nn.functional.conv2d(100 * x, host.stem.weight, host.stem.bias)
    ratio = (3 * nn.functional.batch_norm(features, None, None, training=True)).norm() / features.norm()
    assert only(host).gain.item() == pytest.approx(0.9 / ratio.item(), rel=1e-3)
    assert size.isfinite().all()
    assert only(host).training
    assert only(host).mechanism.training


def test_the_ramp_reaches_one_after_fifty_steps_and_rests(host, x):
    insert(host.train(), "stage.0", half)
    steps(host, x, 10)
    assert only(host).ramp == pytest.approx(10 / RAMP_STEPS)
    steps(host, x, RAMP_STEPS)
    assert only(host).ramp == 1


@pytest.mark.parametrize("passes", [1, 3])
def test_the_ramp_counts_steps_and_not_forward_passes(host, x, passes):
    insert(host.train(), "stage.0", half)
    steps(host, x, 7, passes=passes)
    for _ in range(5):
        host(x)
    assert only(host).ramp == pytest.approx(7 / RAMP_STEPS)


def test_a_checkpointed_pass_counts_once(host, x):
    insert(host.train(), "stage.0", half)
    optimizer = torch.optim.AdamW(host.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        features = checkpoint(host.stage, host.stem(x), use_reentrant=False)
        host.head(features.mean((2, 3))).square().mean().backward()
        optimizer.step()
    host(x)
    assert only(host).ramp == pytest.approx(4 / RAMP_STEPS)


def test_evaluation_and_frozen_mechanisms_do_not_move_it(host, x):
    insert(host, "stage.0", half)
    plain = copy.deepcopy(host)
    with torch.no_grad():
        only(host).alpha.fill_(0.1)
    host.eval()(x)
    assert only(host).ramp == 0
    for parameter in only(plain).parameters():
        parameter.requires_grad_(False)
    steps(plain.train(), x, 3, torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=1e-3))
    assert only(plain).strength == 0


def test_a_step_that_a_gradient_scaler_skips_does_not_count(host, x):
    insert(host.train(), "stage.0", half)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(host.parameters(), lr=1e-3)
    scaler.scale(host(x).square().mean() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    host(x)
    assert only(host).ramp == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1),
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-5),
        lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=1e-4),
        lambda parameters: torch.optim.RMSprop(parameters, lr=1e-4),
    ],
)
def test_any_plain_optimizer_brings_it_to_full_strength(host, x, make):
    insert(host.train(), "stage.0", half)
    steps(host, x, RAMP_STEPS + 1, make(host.parameters()))
    assert only(host).ramp == 1
    assert 0.75 < only(host).strength < 1.25


def test_clipped_gradients_do_not_slow_it(host, x):
    insert(host.train(), "stage.0", half)
    optimizer = torch.optim.SGD(host.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        host(x).square().mean().backward()
        nn.utils.clip_grad_norm_(host.parameters(), 1e-4)
        optimizer.step()
    host(x)
    assert only(host).ramp == pytest.approx(5 / RAMP_STEPS)


def test_it_resumes_to_the_same_bits(host, x):
    insert(host.train(), "stage.0", half)
    optimizer = torch.optim.AdamW(host.parameters(), lr=1e-3)
    steps(host, x, 5, optimizer)
    other = copy.deepcopy(host)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.zero_()
    other.load_state_dict(host.state_dict())
    resumed = torch.optim.AdamW(other.parameters(), lr=1e-3)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(host, x, 5, optimizer)
    steps(other, x, 5, resumed)
    assert all(value.equal(other.state_dict()[key]) for key, value in host.state_dict().items())


def test_an_average_of_weights_averages_the_ramp_if_it_averages_buffers(host, x):
    insert(host.train(), "stage.0", half)
    average, plain = AveragedModel(host, use_buffers=True), AveragedModel(host)
    optimizer, ramps = torch.optim.AdamW(host.parameters(), lr=1e-3), []
    for _ in range(10):
        steps(host, x, 1, optimizer)
        average.update_parameters(host)
        plain.update_parameters(host)
        ramps.append(only(host).ramp)
    assert only(average.module).ramp == pytest.approx(sum(ramps) / len(ramps))
    assert only(plain.module).ramp == ramps[-1]


def test_a_host_that_torch_fx_traces_counts_its_steps(host, x):
    insert(host.train(), "stage.0", lambda channels: nn.Conv2d(channels, channels, 1))
    traced = torch.fx.symbolic_trace(host)
    steps(traced, x, 4)
    assert traced.get_buffer("stage.0.inserted.steps") == 4


def test_a_mechanism_that_starts_at_zero_is_refused(host):
    def nothing(channels):
        conv = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        return conv

    with pytest.raises(
        ValueError, match=r"starts at zero, as at 'stage.0', cannot begin as the identity; add its input"
    ):
        insert(host, "stage.0", nothing)
    insert(host, "stage.0", nothing, start="published")


def test_the_strength_lies_in_the_state_of_the_host(host):
    insert(host, "stage.0", half)
    own = {key.removeprefix("stage.0.inserted.") for key in host.state_dict() if ".inserted." in key}
    assert {key for key in own if not key.startswith("mechanism.")} == {"alpha", "gain", "steps", "last_alpha"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_reaches_full_strength_in_half_precision(host, x, dtype):
    insert(host.to(dtype).train(), "stage.0", half)
    blend = only(host)
    for step in range(RAMP_STEPS + 1):
        with torch.no_grad():
            blend.alpha.fill_(1e-3 * (step % 2 + 1))
        blend.blend(x.to(dtype), x.to(dtype))
    assert blend.ramp == 1


def test_loading_the_host_and_removal_leave_the_plain_host(host, x):
    plain = copy.deepcopy(host)
    insert(host.train(), "stage.0", half)
    steps(host, x, 3)
    strength = only(host).strength
    load_host(host, plain.state_dict())
    assert only(host).strength == strength > 0
    remove(host)
    assert torch.equal(host.eval()(x), plain(x))


def test_a_mechanism_with_a_zero_of_its_own_is_not_blended(host, x):
    insert(host, "stage.0", NonLocal)
    assert only(host).alpha is None
    assert not only(host).mechanism.norm.running_mean.any()  # the trial in training left no trace
    before = copy.deepcopy(only(host).state_dict())
    steps(host.train(), x, 4)
    still = [key for key, value in only(host).named_parameters() if value.equal(before[key])]
    assert not still


def test_a_mechanism_that_is_the_identity_on_small_features_alone_is_blended(host):
    insert(host, "stage.0", lambda channels: nn.Hardtanh(-100, 100))
    assert only(host).alpha is not None


def test_a_mechanism_that_is_the_identity_in_evaluation_alone_is_blended(host):
    insert(host, "stage.0", lambda channels: nn.Dropout(0.5))
    assert only(host).alpha is not None


@pytest.mark.slow
def test_a_compiled_host_counts_its_steps(host, x):
    insert(host.train(), "stage.0", half)
    twin = copy.deepcopy(host)
    steps(twin, x, 4)
    torch.compiler.reset()
    compiled = torch.compile(host, fullgraph=True, backend="aot_eager")
    steps(compiled, x, 4, torch.optim.AdamW(host.parameters(), lr=1e-3))
    assert only(host).ramp == only(twin).ramp == 4 / RAMP_STEPS


def test_data_parallel_training_counts_its_steps(host, x, tmp_path):
    insert(host.train(), "stage.0", half)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        steps(DistributedDataParallel(host), x, 3, passes=2)
    finally:
        torch.distributed.destroy_process_group()
    assert only(host).steps == 3


class Gated(nn.Module):
    """A gate of two inputs, as that of a skip connection."""

    def forward(self, x, g):
        return x * g.sigmoid()


def test_what_is_built_in_begins_as_the_identity_of_its_first_input():
    gate, x, g = Gated(), torch.randn(2, 3, 5), torch.zeros(2, 3, 5)
    assert blend_in(gate, x, g)
    assert list(blended(nn.ModuleDict({"gate": gate}))) == ["gate"]
    assert torch.equal(gate(x, g), x)
    twin = copy.deepcopy(gate)
    twin.blend.steps.fill_(RAMP_STEPS)
    torch.testing.assert_close(twin.eval()(x, g), 0.9 * x)
    assert torch.equal(gate(x, g), x)
    with pytest.raises(ValueError, match="blend_in takes a module without an attribute 'blend'; Gated has one"):
        blend_in(gate, x, g)


def test_what_is_built_in_and_the_identity_by_itself_is_left_alone():
    layer = NonLocal(5)
    assert not blend_in(layer, torch.randn(2, 5, 7, 3))
    assert not hasattr(layer, "blend")
