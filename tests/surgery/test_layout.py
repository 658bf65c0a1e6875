import pytest
import torch
from torch import nn

from foveate.surgery import find_sites


class Then(nn.Module):
    """A host of one linear or convolutional layer, followed by what is asked."""

    def __init__(self, layer, then):
        super().__init__()
        self.layer = layer
        self.site = Apply(then)

    def forward(self, x):
        return self.site(self.layer(x))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def layout(host, example, **options):
    (site,) = find_sites(host, "site", example=example, **options)
    return site.layout, site.channels


def test_after_a_convolution_the_channels_are_second():
    assert layout(Then(nn.Conv2d(3, 5, 1), nn.ReLU()), torch.zeros(1, 3, 7, 11)) == ("channels_first", 5)


def test_after_a_linear_map_the_channels_are_last():
    assert layout(Then(nn.Linear(3, 5), nn.ReLU()), torch.zeros(1, 7, 11, 3)) == ("channels_last", 5)


def test_a_second_run_is_spared_where_the_last_layer_gave_the_same_shape():
    runs = []
    host = Then(nn.Conv2d(3, 5, 1), lambda x: runs.append(tuple(x.shape)) or x)
    assert layout(host, torch.zeros(1, 3, 7, 11)) == ("channels_first", 5)
    assert runs == [(1, 5, 7, 11)]


def test_a_permuted_output_is_found_by_the_axis_that_does_not_change_with_the_input():
    permuted = Then(nn.Conv2d(3, 5, 1), lambda x: x.permute(0, 2, 3, 1))
    assert layout(permuted, torch.zeros(1, 3, 7, 11)) == ("channels_last", 5)
    # Also where all axes are equally long.
    assert layout(permuted, torch.zeros(1, 3, 5, 5)) == ("channels_last", 5)
    # Also where the last layer misleads: 20 channels become 5, and the width happens to be 20.
    shuffled = Then(nn.Conv2d(3, 20, 1), nn.PixelShuffle(2))
    assert layout(shuffled, torch.zeros(1, 3, 10, 10)) == ("channels_first", 5)


def test_tokens_are_the_axis_that_grows():
    tokens = Then(nn.Conv2d(3, 5, 1), lambda x: x.flatten(2).transpose(1, 2))
    assert layout(tokens, torch.zeros(1, 3, 7, 11)) == ("channels_last", 5)


@pytest.mark.parametrize("norm", [nn.LayerNorm(5), nn.RMSNorm(5)])
def test_a_normalisation_tells_by_its_length(norm):
    # Nine fixed tokens: the size of the input says nothing.
    pooled = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(3), nn.Flatten(2), _Transpose(), norm)
    assert layout(Then(pooled, nn.ReLU()), torch.zeros(1, 3, 7, 11)) == ("channels_last", 5)


def test_a_host_of_one_size_is_told_by_the_channels_of_its_last_layer():
    def fixed(x):
        assert x.shape[2:] == (7, 11)
        return x.permute(0, 2, 3, 1)

    assert layout(Then(nn.Conv2d(3, 5, 1), fixed), torch.zeros(1, 3, 7, 11)) == ("channels_last", 5)


def test_a_layout_that_cannot_be_told_is_asked_for():
    host = Then(nn.Conv2d(3, 6, 1), lambda x: nn.functional.adaptive_avg_pool2d(x, 7).reshape(-1, 2, 3, 7, 7).mean(2))
    example = torch.zeros(1, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"which axis of 'site' \(1, 2, 7, 7\) holds the channels cannot be told; pass"
    ):
        find_sites(host, "site", example=example)
    assert layout(host, example, layout="channels_first") == ("channels_first", 2)
    assert layout(host, example, layout="channels_last") == ("channels_last", 7)
    with pytest.raises(ValueError, match='layout takes "auto", "channels_first" or "channels_last"; got \'nhwc\''):
        find_sites(host, "site", example=example, layout="nhwc")


@pytest.mark.parametrize("batch", [1, 2])
def test_sequences_with_the_batch_second_are_refused(batch):
    class Tokens(nn.Module):
        def forward(self, x):
            return x.flatten(2).permute(2, 0, 1)

    host = Then(nn.Sequential(nn.Conv2d(3, 5, 1), Tokens(), nn.Linear(5, 7)), nn.ReLU())
    with pytest.raises(ValueError, match=rf"'site' gives \(token, batch, channel\) \(12, {batch}, 7\)"):
        find_sites(host, "site", example=torch.zeros(batch, 3, 4, 3))


class _Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)
