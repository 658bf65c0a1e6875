import copy
from collections import OrderedDict
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foveate.compare.cost import MIB, count_macs, count_parameters, profile


class Chain(nn.Module):
    """A linear layer of one number and `length` sigmoids, each of which keeps its output for the backward pass."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 1), *[nn.Sigmoid() for _ in range(length)])

    def forward(self, x):
        return self.layers(x)


class Noisy(nn.Module):
    """A network with all that a measurement could disturb: batch statistics, dropout, two inputs, a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5).eval()  # frozen by its owner
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(5 + 7, 2)

    def forward(self, image, vector):
        pooled = self.dropout(self.norm(self.conv(image))).mean(dim=(2, 3))
        return OrderedDict(logits=self.linear(torch.cat([pooled, vector], dim=1)), extra=[pooled.argmax()])


def test_a_convolution_costs_its_kernel_at_every_place():
    network = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)
    # 5x7 places, 6 outputs, each from 2 channels of 3x3.
    assert count_macs(network, (1, 4, 5, 7)) == 5 * 7 * 6 * 2 * 9
    assert count_parameters(network) == 6 * 2 * 9


def test_macs_grow_with_the_batch():
    network = nn.Linear(3, 5)
    assert count_macs(network, (7, 3)) == 7 * 3 * 5


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_counted_wherever_it_runs(device):
    class Attend(nn.Module):
        def forward(self, query, key, value):
            return F.scaled_dot_product_attention(query, key, value)

    query, key, value = (torch.zeros(2, 3, tokens, dim, device=device) for tokens, dim in ((5, 8), (7, 8), (7, 8)))
    # 2 samples, 3 heads, 5 x 7 pairs, a product of 8 numbers for the weight and 8 for the value.
    assert count_macs(Attend().to(device), (query, key, value)) == 2 * 3 * 5 * 7 * (8 + 8)


@pytest.mark.parametrize("training", [True, False])
def test_torch_multi_head_attention_is_counted_with_and_without_its_fused_path(training):
    network = nn.MultiheadAttention(12, 3, batch_first=True).train(training)
    tokens = torch.zeros(2, 7, 12)
    projections = 4 * 2 * 7 * 12 * 12
    assert count_macs(network, (tokens, tokens, tokens)) == projections + 2 * 7 * 7 * (12 + 12)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_fused_encoder_layer_is_counted():
    network = nn.TransformerEncoderLayer(12, 3, dim_feedforward=20, batch_first=True).eval()
    attention = 4 * 2 * 7 * 12 * 12 + 2 * 7 * 7 * (12 + 12)
    assert count_macs(network, (2, 7, 12)) == attention + 2 * 2 * 7 * 12 * 20


def test_products_with_a_vector_are_counted():
    class Vector(nn.Module):
        def forward(self, matrix):
            return (matrix @ matrix[0]) @ matrix[:, 0]

    assert count_macs(Vector(), (5, 3)) == 5 * 3 + 5


@pytest.mark.slow
def test_a_compiled_network_is_counted_like_its_eager_self():
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    compiled = torch.compile(network, backend="eager")
    compiled(torch.zeros(7, 3))
    assert count_macs(compiled, (7, 3)) == count_macs(network, (7, 3)) == 7 * (3 * 5 + 5 * 2)


@pytest.mark.slow
def test_a_vit_tiny_at_224_has_1_25_billion_macs():
    timm = pytest.importorskip("timm")
    tokens, width, layers = 14 * 14 + 1, 192, 12
    block = tokens * (4 + 8) * width**2 + 2 * tokens**2 * width
    expected = 14 * 14 * 3 * 16 * 16 * width + layers * block + width * 1000
    assert f"{expected / 1e9:.2f}" == "1.25"
    network = timm.create_model("vit_tiny_patch16_224")
    assert count_macs(network, (1, 3, 224, 224)) == expected


@pytest.mark.parametrize("length", [2, 11])
def test_peak_memory_is_what_one_would_count_by_hand(length):
    numbers = MIB // 4
    cost = profile(Chain(length), (numbers, 1), repeats=2, warmup=0)
    # Inference: the input, a layer's output and its input. Training: the input and every sigmoid's output, and while
    # the first gradient passes, that of the output and that of the input of the last sigmoid.
    assert cost.memory_mib == pytest.approx(3, abs=1e-3)
    assert cost.step_memory_mib == pytest.approx(1 + length + 2, abs=1e-3)


def test_gradients_and_momentum_belong_to_the_memory_of_a_step():
    cost = profile(nn.Linear(MIB // 4, 2, bias=False), (1, MIB // 4), repeats=2, warmup=0)
    # 2 MiB of weights and 1 of input; a step has two samples, and gradients and momentum as large as the weights.
    assert cost.memory_mib == pytest.approx(2 + 1, abs=1e-3)
    assert cost.step_memory_mib == pytest.approx(3 * 2 + 2, abs=1e-3)


def test_memory_is_the_same_at_every_measurement():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 11, 13))
    first, second = (profile(network, (2, 3, 11, 13), repeats=2, warmup=0) for _ in range(2))
    assert first.memory_mib == second.memory_mib
    assert first.step_memory_mib == second.step_memory_mib


def test_a_measurement_leaves_the_network_and_the_random_state_as_they_were():
    network = Noisy()
    network.linear.weight.requires_grad_(False)
    network.conv.weight.grad = torch.ones_like(network.conv.weight)
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    profile(network, ((2, 3, 11, 13), (2, 7)), repeats=2, warmup=1)
    count_macs(network, ((2, 3, 11, 13), (2, 7)))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(network.conv.weight.grad, torch.ones_like(network.conv.weight))
    assert network.conv.bias.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


def test_times_are_in_milliseconds_and_the_95th_percentile_is_no_less_than_the_median():
    class Slow(nn.Linear):
        def forward(self, x):
            torch.randn(300, 300) @ torch.randn(300, 300)
            return super().forward(x)

    cost = profile(Slow(3, 5), (2, 3), repeats=5, warmup=1)
    assert 0.01 < cost.latency_ms <= cost.latency_p95_ms < 1000
    assert 0.01 < cost.step_ms <= cost.step_p95_ms < 1000


def test_an_inference_alone_has_no_costs_of_a_step():
    network = nn.Linear(3, 5).requires_grad_(False)
    cost = asdict(profile(network, (2, 3), train=False, repeats=2))
    assert {key for key, value in cost.items() if value is None} == {"step_ms", "step_p95_ms", "step_memory_mib"}
    assert cost["parameters"] == 20
    assert cost["macs"] == 30


def test_a_step_has_two_samples_where_batch_statistics_need_them():
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    assert profile(network, (1, 3), repeats=2).step_ms > 0
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        profile(network, (7, 3), repeats=2, step_input_shape=(1, 3))


def test_a_network_that_takes_targets_makes_those_of_a_step():
    class Marked(nn.Linear):
        def training_targets(self, x):
            return [{"marks": torch.ones(2 * MIB // 4)} for _ in x]

        def forward(self, x, targets=None):
            found = super().forward(x)
            return found + len(targets[1]["marks"]) if self.training else found

    cost = profile(Marked(MIB // 4, 2, bias=False), (1, MIB // 4), repeats=2, warmup=0)
    assert cost.memory_mib == pytest.approx(2 + 1, abs=1e-3)
    # Weights, gradients and momentum; two samples, and marks twice as large for each.
    assert cost.step_memory_mib == pytest.approx(3 * 2 + 2 + 4, abs=1e-3)


def test_what_is_drawn_in_a_step_is_drawn_the_same_in_every_measurement():
    class Drawn(nn.Linear):
        def forward(self, x):
            return super().forward(torch.cat([x] * (1 + int(torch.randint(1000, ())))))

    costs = []
    for seed in range(3):
        torch.manual_seed(seed)
        costs.append(profile(Drawn(3, 5), (2, 3), repeats=2, warmup=0))
    assert len({(cost.macs, cost.memory_mib, cost.step_memory_mib) for cost in costs}) == 1


def test_a_double_precision_network_gets_double_precision_inputs():
    assert profile(nn.Linear(3, 5).double(), (2, 3), repeats=2).macs == 30


def test_the_meta_device_can_be_counted_but_not_measured():
    network = nn.Linear(3, 5, device="meta")
    assert count_macs(network, (2, 3)) == 30
    with pytest.raises(ValueError, match=r"profile runs the network, which the meta device cannot; count_macs can"):
        profile(network, (2, 3))


def test_a_frozen_network_has_no_training_step():
    with pytest.raises(ValueError, match="no parameter requires a gradient, so there is no training step; pass train="):
        profile(nn.Linear(3, 5).requires_grad_(False), (2, 3))


def test_a_percentile_needs_two_runs():
    with pytest.raises(ValueError, match="repeats must be at least 2; got 1"):
        profile(nn.Linear(3, 5), (2, 3), repeats=1)


@pytest.mark.parametrize("shape", [((2, 3), (0, 3)), ((2, "3"),)])
def test_a_shape_is_of_positive_integers(shape):
    with pytest.raises(ValueError, match=r"an input is a tensor or a shape of positive integers with the batch in fro"):
        count_macs(nn.Linear(3, 5), shape)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this measures on a CUDA device, and there is none")
def test_the_allocator_of_cuda_says_no_less_than_the_tensors_alive():
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    on_cpu = profile(network, (2, 3, 64, 64), repeats=2)
    on_cuda = profile(network.cuda(), (2, 3, 64, 64), repeats=2)
    assert on_cuda.macs == on_cpu.macs
    assert on_cuda.memory_mib >= on_cpu.memory_mib * 0.99
    assert on_cuda.step_memory_mib >= on_cpu.step_memory_mib * 0.99
