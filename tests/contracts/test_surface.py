"""The public surface is what __all__ says, and all of it works."""

import importlib
import pkgutil

import pytest

import foveate

MODULES = [module.name for module in pkgutil.walk_packages(foveate.__path__, "foveate.")]


def test_every_public_name_can_be_had_and_a_wrong_one_is_named():
    for name in foveate.__all__:
        assert getattr(foveate, name) is not None
    with pytest.raises(AttributeError, match="foveate has no name 'captures'"):
        foveate.captures  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_module_lists_its_public_names(name):
    module = importlib.import_module(name)
    if name.endswith("_version"):
        return
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ names {public}, which is not there"


def test_the_room_capture_is_also_the_function():
    import torch

    layer = foveate.layers.SE(7, reduction=7)
    with foveate.capture(layer) as maps:
        layer(torch.ones(2, 7, 3))
    assert maps["gate"].shape == (2, 7)


def test_insert_takes_a_mechanism_by_name_with_its_options():
    import torch
    from torch import nn

    host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    x = torch.randn(2, 3, 5, 7)
    plain = host(x)
    sites = foveate.insert(host, "0", "se", reduction=4, example=x)
    assert [site.channels for site in sites] == [8]
    assert torch.equal(host(x), plain)
    assert foveate.remove(host) == ["0"]


def test_options_without_a_name_are_refused():
    from torch import nn

    with pytest.raises(TypeError, match=r"options \['reduction'\] need a mechanism by name"):
        foveate.insert(nn.Sequential(nn.Conv2d(3, 8, 3)), "0", lambda channels: nn.Identity(), reduction=4)


def test_a_named_mechanism_with_a_kernel_takes_tokens_and_volumes():
    import torch
    from torch import nn

    for conv, space in ((nn.Conv1d, (11,)), (nn.Conv3d, (3, 5, 7))):
        host = nn.Sequential(conv(3, 8, 1), nn.ReLU())
        x = torch.randn(2, 3, *space)
        plain = host(x)
        foveate.insert(host, "0", "cbam", reduction=4, example=x)
        assert torch.equal(host(x), plain)
