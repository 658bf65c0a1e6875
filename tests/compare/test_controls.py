"""How wide the wider control is."""

import pytest

from foveate.compare.controls import matching_width, why_not_wider
from foveate.compare.cost import count_parameters
from foveate.networks import resnet_tiny


def squares(width):
    return round(100 * width) ** 2


@pytest.mark.parametrize(
    ("target", "width", "parameters"),
    [
        (10_000, 1.0, 10_000),  # already there
        (10_404, 1.015, 10_404),  # 102 ** 2; Python rounds 101.5 to 102
        (10_300, 1.005, 10_201),  # 101 ** 2 = 10,201 is nearer than 102 ** 2 = 10,404
        (10_303, 1.015, 10_404),  # and now it is not
        (9_000, 1.0, 10_000),  # a host is never made narrower
        (10**9, 4.0, 160_000),  # nor wider than four times
    ],
)
def test_the_width_is_the_one_whose_count_is_nearest(target, width, parameters):
    assert matching_width(squares, target) == (pytest.approx(width, abs=0.011), parameters)


def test_the_width_starts_from_the_hosts_own():
    assert matching_width(squares, 2_601, start=0.5) == (pytest.approx(0.51, abs=0.006), 2_601)


def test_few_networks_are_built_to_find_it():
    tried = []

    def count(width):
        tried.append(width)
        return squares(width)

    matching_width(count, 23_000)
    assert len(tried) == len(set(tried)) < 16


@pytest.mark.parametrize("mechanism", ["se", "cbam", "nonlocal"])
def test_a_real_host_comes_within_one_percent_of_the_arm(mechanism):
    target = count_parameters(resnet_tiny(mechanism=mechanism))
    width, parameters = matching_width(lambda width: count_parameters(resnet_tiny(width=width)), target)
    assert width > 1
    assert parameters == count_parameters(resnet_tiny(width=width))
    assert parameters == pytest.approx(target, rel=0.01)


def test_hosts_that_cannot_be_widened_say_why():
    assert why_not_wider("resnet18", trained=False) == ""
    assert why_not_wider("timm/resnet50", trained=False) == (
        "wider was left out: timm/resnet50 has no width to set, only networks of Foveate's catalogue have"
    )
    assert why_not_wider("resnet18", trained=True) == (
        "wider was left out: trained weights fit resnet18 at its own width only"
    )
