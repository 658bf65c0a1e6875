import pytest
import torch
from torch import nn

from foveate.layers import SE
from foveate.surgery import Site, find_sites, insert


def names(sites):
    return [site.name for site in sites]


def test_a_pattern_stays_within_one_name_and_two_stars_cross(host):
    assert names(find_sites(host, "stage.*")) == ["stage.0", "stage.1"]
    assert names(find_sites(host, "stage.*.bn")) == ["stage.0.bn", "stage.1.bn"]
    assert names(find_sites(host, "**.conv")) == ["stage.0.conv", "stage.1.conv"]


def test_a_kind_or_a_function_finds_modules_too(host):
    assert names(find_sites(host, nn.Conv2d)) == ["stem", "stage.0.conv", "stage.1.conv"]
    assert names(find_sites(host, lambda name, module: name.endswith("0"))) == ["stage.0"]


def test_the_site_of_a_sequential_is_its_last_module(host):
    assert names(find_sites(host, "stage")) == ["stage.1"]
    # Named twice it is one site, and sites come in the order of the host.
    assert names(find_sites(host, lambda name, module: name in ("stage", "stage.1", "stem"))) == ["stem", "stage.1"]
    nested = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU()))
    assert find_sites(nested, "1", example=torch.zeros(1, 3, 4, 6)) == [
        Site("1.1", 7, (1, 7, 4, 6), "channels_first", calls=1)
    ]


def test_a_module_under_two_names_is_one_site_under_either(host):
    host.again = host.stem
    assert names(find_sites(host, nn.Conv2d)) == ["stem", "stage.0.conv", "stage.1.conv"]
    assert names(find_sites(host, "again")) == ["again"]


def test_what_was_inserted_is_no_place_to_insert(host):
    insert(host, "stage.*", lambda channels: SE(channels, reduction=1))
    assert names(find_sites(host, "**conv*")) == ["stage.0.conv", "stage.1.conv"]
    with pytest.raises(LookupError, match=r"no module matches 'stage.0.inserted"):
        find_sites(host, "stage.0.inserted.*")


def test_channels_and_shapes_are_measured(host):
    (site,) = find_sites(host, "stem", example=torch.zeros(3, 3, 9, 13))
    assert site == Site("stem", 5, (3, 5, 7, 11), "channels_first", calls=1)
    (site,) = find_sites(host, "head")
    assert (site.channels, site.shape) == (2, (1, 2))


def test_calls_are_counted():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x)[:, :, 2:])

    (site,) = find_sites(Twice(), "conv", example=torch.zeros(1, 3, 7, 7))
    assert (site.calls, site.shape) == (2, (1, 3, 7, 7))


def test_a_module_with_several_numbers_of_channels_is_refused():
    class Relus(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.relu = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 7, 1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.two(self.relu(self.one(x))))

    with pytest.raises(ValueError, match=r"one number of channels; 'relu' gives \[5, 7\] in turn"):
        find_sites(Relus(), "relu")


def test_a_module_used_only_by_its_weights_is_named():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(3, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.embed(x)
            return self.attention(x, x, x)[0]

    example = torch.zeros(2, 5, 3)
    with pytest.raises(LookupError, match=r"Attention never calls \['attention.out_proj'\]"):
        find_sites(Attention(), "attention.out_proj", example=example)
    with pytest.raises(TypeError, match=r"insert takes modules that give one tensor .*; 'attention' gives a tuple"):
        find_sites(Attention(), "attention", example=example)


def test_many_uncalled_modules_are_counted(host):
    host.spare = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(5))
    with pytest.raises(LookupError, match=r"never calls \['spare.0', 'spare.1', 'spare.2'\] and 2 more"):
        find_sites(host, "spare.*")


@pytest.mark.parametrize(
    ("output", "given"),
    [
        (lambda x: [x], "a list"),
        (lambda x: {"features": x}, "a dict"),
        (lambda x: x.argmax(1), "a tensor of int64"),
        (lambda x: x.mean(), r"shape \(\)"),
        (lambda x: x.flatten(), r"shape \(2880,\)"),
    ],
)
def test_outputs_that_no_mechanism_can_follow_are_refused(output, given):
    class Odd(nn.Module):
        def forward(self, x):
            return output(x)

    host = nn.Sequential(nn.Conv2d(3, 5, 1), Odd())
    with pytest.raises(TypeError, match=f"insert takes modules that give one tensor .*; '1' gives {given}"):
        find_sites(host, "1", example=torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize("container", [nn.ModuleList, nn.Sequential, lambda: nn.ModuleDict()])
def test_containers_without_an_output_are_refused(host, container):
    host.empty = container()
    with pytest.raises(ValueError, match=r"insert takes a module inside 'empty', such as 'empty\.\*'; got the"):
        find_sites(host, "empty")


def test_a_sequential_with_a_forward_of_its_own_is_refused(host):
    class Pooled(nn.Sequential):
        def forward(self, x):
            for module in self:
                x = module(x)
            return x.mean(2, keepdim=True)

    host.stage = Pooled(*host.stage)
    with pytest.raises(ValueError, match=r"insert takes a module inside 'stage'.*; got the Pooled itself"):
        find_sites(host, "stage")
    assert names(find_sites(host, "stage.*")) == ["stage.0", "stage.1"]


def test_a_pattern_that_matches_nothing_is_answered_with_near_names(host):
    with pytest.raises(LookupError, match=r"no module matches 'stag.0'; near it are \['stage.0'"):
        find_sites(host, "stag.0")
    with pytest.raises(LookupError, match=r"no module matches 'bn'; near it are \['stage.0.bn', 'stage.1.bn'\]"):
        find_sites(host, "bn")
    with pytest.raises(LookupError, match=r"near it are \['stem', 'stage', 'head'\]"):
        find_sites(host, "qqqq.7")
    with pytest.raises(LookupError, match=r"no module of Host is as asked; it has the kinds \['BatchNorm2d', 'Conv2d'"):
        find_sites(host, nn.GRU)


def test_the_host_itself_is_no_site(host):
    with pytest.raises(LookupError, match="no module matches ''"):
        find_sites(host, "")


def test_where_of_another_kind_is_refused(host):
    with pytest.raises(TypeError, match=r"where takes a pattern, a class of modules or a function .*; got 3"):
        find_sites(host, 3)
