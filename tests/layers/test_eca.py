import pytest
import torch
from tests.golden import published
from timm.layers import EcaModule

from foveate.layers import ECA
from foveate.layers.eca import adaptive_kernel_size


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_it_computes_what_the_release_computes(kernel_size):
    published.check(f"eca_k{kernel_size}", ECA(32, kernel_size=kernel_size), lambda key: key)


def test_it_computes_what_timm_computes():
    theirs = EcaModule(kernel_size=5)
    ours = ECA(13, kernel_size=5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 13, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("channels", "kernel_size"),
    [(1, 1), (16, 3), (24, 3), (32, 3), (64, 3), (96, 3), (128, 5), (160, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_the_kernel_follows_the_code_in_the_paper(channels, kernel_size):
    assert adaptive_kernel_size(channels) == kernel_size
    assert ECA(channels).conv.kernel_size == (kernel_size,)


def test_a_given_kernel_is_honoured():
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3  # the blocks of ResNet-50
    published_kernels = [3] * 3 + [5] * 4 + [5] * 6 + [7] * 3
    layers = [ECA(channels, kernel_size=k) for channels, k in zip(widths, published_kernels, strict=True)]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == 80
    assert sum(p.numel() for channels in widths for p in ECA(channels).parameters()) == 86


def test_a_hand_computed_gate_with_zeros_beyond_the_ends():
    layer = ECA(3, kernel_size=3)
    layer.load_state_dict({"conv.weight": torch.tensor([[[1.0, 10.0, 100.0]]])})
    x = torch.tensor([[[0.02, 0.04], [0.01, 0.03], [-0.02, 0.0]]])  # means 0.03, 0.02, -0.01
    gate = torch.tensor([0.3 + 2.0, 0.03 + 0.2 - 1.0, 0.02 - 0.1]).sigmoid()
    torch.testing.assert_close(layer(x), x * gate[None, :, None])


def test_the_first_channel_does_not_reach_the_last():
    layer = ECA(11, kernel_size=5)
    gates = []
    layer.gate.register_forward_hook(lambda module, args, output: gates.append(output))
    x = torch.zeros(2, 11, 3)
    x[1, 0] = 1.0
    layer(x)
    changed = (gates[0][1] != 0.5).nonzero().flatten().tolist()
    assert changed == [0, 1, 2]


@pytest.mark.parametrize("kernel_size", [4, 0, -1])
def test_a_kernel_without_a_middle_is_refused(kernel_size):
    with pytest.raises(ValueError, match=f"kernel_size must be odd and positive; got {kernel_size}"):
        ECA(8, kernel_size=kernel_size)


def test_an_input_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"ECA takes \(batch, 64, \*space\) with 1 to 3 spatial axes; got \(2, 32"):
        ECA(64)(torch.zeros(2, 32, 8, 8))
    with pytest.raises(ValueError, match=r"got \(2, 64\)"):
        ECA(64)(torch.zeros(2, 64))


def test_there_must_be_channels():
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        ECA(0)
