import copy
import resource
import time

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

import foveate as fv
from foveate.compare.cost import MIB, profile
from foveate.compare.forecast import forecast
from foveate.layers import SE, MultiHeadAttention, NonLocal, functional
from foveate.networks import catalogue
from foveate.networks.catalogue import NETWORKS

# Mask R-CNN decides by scores which regions it looks into: that is not known before it runs.
FAMILIES = {network.family: network for network in NETWORKS.values() if "mask_rcnn" not in network.family}


class Formed(nn.Module):
    """A network whose maps are formed in every pass, and kept to the end of it or not."""

    def __init__(self, network: nn.Module, kept: bool) -> None:
        super().__init__()
        self.network = network
        self.kept = kept

    def forward(self, x):
        with fv.capture(self.network, keep=None if self.kept else lambda _: None):
            return self.network(x)


def tokens(*lengths):
    return [torch.zeros(2, length, dtype=torch.int64) for length in lengths]


def small(name):
    """A small network, and its inputs."""
    match name:
        case "non-local":
            return NonLocal(16), (1, 16, 29, 31)
        case "running sums":
            return NonLocal(6, "concatenation"), (1, 6, 23, 29)
        case "two blocks":
            return nn.Sequential(nn.Conv2d(3, 8, 3), NonLocal(8), nn.ReLU(), NonLocal(8, "dot_product")), (2, 3, 19, 23)
        case "multi-head":
            return MultiHeadAttention(12, 3, dropout=0.1), (1, 31, 12)
        case "encoder layer":
            return nn.TransformerEncoderLayer(12, 3, dim_feedforward=20, batch_first=True), (2, 7, 12)
        case "unet 3-D":
            return catalogue.build("attention_unet", spatial_dims=3), (1, 1, 32, 32, 16)
        case "transformer":
            return catalogue.build("transformer_base", num_tokens=37), tokens(7, 5)
        case "timm":
            timm = pytest.importorskip("timm")
            return timm.create_model("vit_tiny_patch16_224", img_size=64), (1, 3, 64, 64)
    network = NETWORKS[name]
    shape = (1, *map(int, network.input.split("x")))
    return catalogue.build(name), tuple(min(size, 96) for size in shape)


@pytest.mark.parametrize(
    "name",
    [
        "non-local",
        "running sums",
        "two blocks",
        "multi-head",
        "encoder layer",
        pytest.param("unet 3-D", marks=pytest.mark.slow),
        pytest.param("transformer", marks=pytest.mark.slow),
        pytest.param("timm", marks=pytest.mark.slow),
        pytest.param("resnet_tiny", marks=pytest.mark.slow),
        pytest.param("cbam_resnet18", marks=pytest.mark.slow),
        pytest.param("nonlocal_resnet50", marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", marks=pytest.mark.slow),
        pytest.param("unet", marks=pytest.mark.slow),
        pytest.param("ag_sononet8", marks=pytest.mark.slow),
        pytest.param("detr_tiny", marks=pytest.mark.slow),
    ],
)
def test_the_figures_are_those_that_profile_measures(name):
    network, shape = small(name)
    said, measured = forecast(network, shape), profile(network, shape, repeats=2, warmup=0)
    assert said.inference_mib == pytest.approx(measured.memory_mib, rel=1e-3)
    assert said.training_mib == pytest.approx(measured.step_memory_mib, rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "non-local",
        "running sums",
        "two blocks",
        "multi-head",
        "encoder layer",
        pytest.param("timm", marks=pytest.mark.slow),
        pytest.param("cbam_resnet18", marks=pytest.mark.slow),
        pytest.param("detr_tiny", marks=pytest.mark.slow),
    ],
)
def test_the_explicit_figures_are_those_of_a_run_that_forms_the_maps(name):
    network, shape = small(name)
    said = forecast(network, shape)
    formed, kept = (profile(Formed(network, kept), shape, repeats=2, warmup=0) for kept in (False, True))
    assert said.explicit_inference_mib == pytest.approx(formed.memory_mib, rel=1e-3)
    assert said.explicit_training_mib == pytest.approx(formed.step_memory_mib, rel=1e-3)
    assert said.captured_inference_mib == pytest.approx(kept.memory_mib, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_catalogue_has_a_forecast_without_its_weights(family):
    network = FAMILIES[family]
    sizes = tuple(map(int, network.input.split("x")))
    with torch.device("meta"):
        model = catalogue.build(network.name)
    said = forecast(model, tokens(*sizes) if network.task == "translate" else (1, *sizes))
    assert 0 < said.parameters_mib < said.inference_mib < said.training_mib
    assert said.training_mib <= said.explicit_training_mib
    assert set(said.maps) == set(fv.taps(model))


@pytest.mark.slow
def test_a_network_that_decides_by_its_numbers_is_sent_to_profile():
    with pytest.raises(ValueError, match=r"^forecast takes a network that computes by shapes alone; .* with profile$"):
        forecast(catalogue.build("mask_rcnn_tiny"), (1, 3, 64, 64))


def test_the_maps_are_those_that_capture_collects():
    network, shape = small("two blocks")
    with fv.capture(network) as maps:
        network(torch.zeros(shape))
    said = forecast(network, shape)
    assert {name: (size.axes, size.shape) for name, size in said.maps.items()} == {
        name: (maps.axes[name], tuple(maps[name].shape)) for name in maps
    }
    assert said.captured_mib == sum(maps[name].nbytes for name in maps) / 2**20


def test_the_map_of_a_half_precision_network_is_single_precision():
    size = forecast(NonLocal(4).bfloat16(), (1, 4, 5, 7)).maps["weights"]
    assert size.mib == 4 * (5 * 7) ** 2 / 2**20


def test_a_tap_that_is_called_twice_has_the_maps_of_both_calls():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = NonLocal(4)

        def forward(self, x):
            return self.layer(self.layer(x)[:, :, ::2])

    size = forecast(Twice(), (2, 4, 14)).maps["layer.weights"]
    assert (size.shape, size.calls) == ((2, 14, 14), 2)
    assert size.mib == 4 * 2 * (14**2 + 7**2) / 2**20


def test_a_network_without_maps_has_the_same_explicit_figures():
    said = forecast(nn.Sequential(nn.Linear(3, 5), nn.ReLU()), (2, 3))
    assert said.maps == {}
    assert said.explicit_inference_mib == said.captured_inference_mib == said.inference_mib
    assert said.explicit_training_mib == said.training_mib
    assert "maps formed" not in str(said)


def test_fused_attention_over_12_544_places_has_no_map():
    said = forecast(NonLocal(64), (1, 64, 112, 112))
    assert said.maps["weights"].mib == 4 * 12544**2 / 2**20
    assert said.inference_mib < 20
    assert said.training_mib < 80
    assert said.explicit_inference_mib > 2 * said.maps["weights"].mib  # the logits and the weights


@pytest.mark.slow
@pytest.mark.parametrize("pairwise", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"])
def test_memory_grows_with_the_places_and_the_map_with_their_square(pairwise):
    one, two, four = (forecast(NonLocal(16, pairwise), (1, 16, 32, 32 * times)) for times in (2, 4, 8))
    for name in ("inference_mib", "training_mib"):  # by differences: the tiles of "gaussian" keep their size
        held = [getattr(each, name) for each in (one, two, four)]
        assert 1.8 < (held[2] - held[1]) / (held[1] - held[0]) < 2.2
    for less, more in ((one, two), (two, four)):
        assert more.maps["weights"].mib == 4 * less.maps["weights"].mib
    assert 3.8 < four.explicit_training_mib / two.explicit_training_mib < 4.1


def test_a_map_of_256_gib_is_forecast_in_seconds_and_without_its_memory():
    network = NonLocal(64)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    said = forecast(network, (1, 64, 64, 64, 64))
    assert time.perf_counter() - start < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100  # MiB on Linux; the input has 64
    assert said.maps["weights"].mib == 256 * 1024
    assert said.explicit_training_mib > 1024 * 1024
    assert said.training_mib < 1400


@pytest.mark.slow
def test_a_map_that_cannot_be_formed_is_refused_with_what_to_do():
    said = forecast(nn.Sequential(NonLocal(8), NonLocal(8, pool="before")), (1, 8, 32, 64, 64))
    assert [size.fits for size in said.maps.values()] == [False, False]
    sentence = (
        r"the map '0.weights' takes at most 4.0 GiB; got \(1, 32, 64, 64, 32, 64, 64\), 64.0 GiB, the largest of "
        r"2 such maps: pool the keys, group by space or time, or give fewer or smaller inputs at once"
    )
    with pytest.raises(ValueError, match=sentence):
        said.check()
    assert forecast(NonLocal(8, group="time"), (1, 8, 32, 64, 64)).check() is None


def test_tokens_are_not_told_to_pool():
    with pytest.raises(ValueError, match=r"'weights' takes .*: give fewer or smaller inputs at once, or watch fewer"):
        forecast(MultiHeadAttention(8, 2), (1, 30000, 8)).check()


def test_what_fits_is_what_a_watched_layer_forms(monkeypatch):
    for limit in (4 * 35**2 - 1, 4 * 35**2):
        monkeypatch.setattr(functional, "MAP_LIMIT_BYTES", limit)
        layer = NonLocal(4)
        said = forecast(layer, (1, 4, 5, 7))
        try:
            with fv.capture(layer):
                layer(torch.zeros(1, 4, 5, 7))
        except ValueError:
            assert not said.maps["weights"].fits
        else:
            assert said.maps["weights"].fits


def test_a_forecast_is_read_as_a_table():
    text = str(forecast(nn.Sequential(SE(8, reduction=2), NonLocal(8)), (1, 8, 32, 64, 64)))
    assert text.splitlines() == [
        "                      as it runs  maps formed",
        "parameters               960.0 B",
        "inference               24.0 MiB    128.0 GiB",
        "training step           69.0 MiB    384.0 GiB",
        "inference in capture                128.0 GiB",
        "0.gate       32.0 B  (1, 8)",
        "1.weights  64.0 GiB  (1, 32, 64, 64, 32, 64, 64)",
        "the map '1.weights' takes at most 4.0 GiB; got (1, 32, 64, 64, 32, 64, 64), 64.0 GiB: "
        "pool the keys, group by space or time, or give fewer or smaller inputs at once",
    ]


def test_a_forecast_leaves_the_network_and_the_random_state_as_they_were():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5).eval(), nn.Dropout(0.5), NonLocal(5))
    network[0].weight.grad = torch.ones_like(network[0].weight)
    network[0].bias.requires_grad_(False)
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    forecast(network, (2, 3, 11, 13))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight))
    assert network[3].theta.weight.grad is None
    assert not network[3].weights.watched
    assert torch.equal(torch.get_rng_state(), random_state)


def test_inputs_may_be_several_tensors_and_shapes():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 3)

        def forward(self, index, vector):
            return {"sum": self.embedding(index) + vector, "none": None}

    both = (torch.zeros(2, dtype=torch.int64), (2, 3))
    assert forecast(Both(), both).training_mib == profile(Both(), both, repeats=2, warmup=0).step_memory_mib


def test_a_network_that_takes_targets_has_the_forecast_of_its_step():
    class Marked(nn.Linear):
        def training_targets(self, x):
            return [{"marks": torch.ones(MIB // 4)} for _ in x]

        def forward(self, x, targets=None):
            found = super().forward(x)
            return found * targets[0]["marks"].mean() if self.training else found

    network = Marked(3, 5)
    plain = forecast(nn.Linear(3, 5), (1, 3)).training_mib
    found = forecast(network, (1, 3)).training_mib
    assert found == pytest.approx(plain + 2, abs=1e-3)
    assert found == profile(network, (1, 3), repeats=2, warmup=0).step_memory_mib


def test_a_frozen_network_has_no_training_step():
    said = forecast(NonLocal(4).requires_grad_(False), (2, 4, 5, 7))
    assert said.training_mib is said.explicit_training_mib is None
    assert "no gradient" in str(said)


def test_a_network_of_fake_tensors_has_the_forecast_of_its_device():
    # Backward passes on CUDA want a device that is there.
    with FakeTensorMode(), torch.device("cuda"):
        network = NonLocal(16, "dot_product").requires_grad_(False)
    said, on_cpu = (forecast(made, (1, 16, 29, 31)) for made in (network, NonLocal(16, "dot_product")))
    assert said.inference_mib == pytest.approx(on_cpu.inference_mib, rel=0.01)
    assert said.maps == on_cpu.maps


def test_attention_on_the_meta_device_is_forecast_as_on_the_cpu():
    assert forecast(NonLocal(16).to("meta"), (1, 16, 29, 31)) == forecast(NonLocal(16), (1, 16, 29, 31))


@pytest.mark.slow
def test_a_compiled_network_has_the_forecast_of_its_eager_self():
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), MultiHeadAttention(5, 1))
    said = forecast(torch.compile(network, backend="eager"), (2, 7, 3))
    assert said == forecast(network, (2, 7, 3))


def test_a_network_that_asks_for_numbers_is_sent_to_profile():
    class Asking(nn.Module):
        def forward(self, x):
            return F.relu(x) if x.mean() > 0 else x

    wanted = "a network that computes by shapes alone; got one that calls aten._local_scalar_dense.default: measure it"
    with pytest.raises(ValueError, match=f"forecast takes {wanted} with profile"):
        forecast(Asking(), (2, 3))


def test_a_shape_is_of_positive_integers():
    with pytest.raises(ValueError, match=r"an input is a tensor or a shape of positive integers"):
        forecast(NonLocal(4), (2, 0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this measures on a CUDA device, and there is none")
def test_the_forecast_on_cuda_says_no_more_than_the_allocator():
    network, shape = NonLocal(64).cuda(), (1, 64, 112, 112)
    said, measured = forecast(network, shape), profile(network, shape, repeats=2)
    assert said.inference_mib < measured.memory_mib * 1.01
    assert said.training_mib < measured.step_memory_mib * 1.01
