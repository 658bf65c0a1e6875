import itertools
import re
import time

import pytest

from foveate.capture.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("layer3", "layer3"),
        ("layer3.*", "layer3.0"),
        ("*.*", "layer3.0"),
        ("*", "fc"),
        ("*_gate", "channel_gate"),
        ("layer?.0", "layer3.0"),
        ("layer[34].0", "layer3.0"),
        ("layer[2-4].0", "layer3.0"),
        ("layer[!12].0", "layer3.0"),
        ("layer3.**", "layer3.0.conv1"),
        ("**.gate", "layer3.0.gate"),
        ("**.gate", "gate"),
        ("layer3.**.gate", "layer3.gate"),
        ("layer**gate", "layer3.0.channel_gate"),
        ("**", "layer3.0.conv1"),
        ("**", ""),
        ("", ""),
        ("a[]", "a[]"),
        ("a[!]", "a!"),
    ],
)
def test_the_pattern_describes_the_name(pattern, name):
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("layer3", "layer3.0"),
        ("layer3", "layer30"),
        ("layer3.*", "layer3"),
        ("layer3.*", "layer3.0.conv1"),
        ("*", "layer3.0"),
        ("layer3?0", "layer3.0"),
        ("layer3[.]0", "layer3.0"),
        ("layer3[!a]0", "layer3.0"),
        ("layer[!34].0", "layer3.0"),
        ("**.gate", "layer3.channel_gate"),
        ("layer3.**", "layer3"),
        ("Layer3", "layer3"),
    ],
)
def test_the_pattern_does_not_describe_the_name(pattern, name):
    assert not matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"), [("a.c", "abc"), ("a+", "aa"), ("(a|b)", "a"), (r"\w", "a"), ("^a$", "a")]
)
def test_what_a_regular_expression_would_read_stands_for_itself(pattern, name):
    assert not matches(pattern, name)
    assert matches(pattern, pattern)


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(ValueError, match=r"\[c-a\] holds a range that runs backwards"):
        matches("layer[c-a]", "layerb")


@pytest.mark.parametrize("pattern", ["*" * 60, "*a" * 60, "**a" * 60, "?*" * 30, "[a-z]*" * 60, "**." * 60])
def test_many_wild_cards_take_no_longer_than_few(pattern):
    name = "layer3.0.conv1." + "a" * 400 + "!"
    began = time.perf_counter()
    matches(pattern, name)
    assert time.perf_counter() - began < 1


def test_every_short_pattern_describes_what_its_regular_expression_does():
    wild = {"*": "[^.]*", "**": ".*", "?": "[^.]", "a": "a", ".": r"\.", "[ab]": "[ab]"}
    names = ["".join(letters) for size in range(4) for letters in itertools.product("ab.", repeat=size)]
    for tokens in itertools.product(wild, repeat=3):
        pattern = "".join(tokens)
        if "***" in pattern or pattern.startswith("**.") or ".**." in pattern:
            continue
        expected = re.compile("".join(wild[token] for token in tokens if token), re.DOTALL)
        if "**" not in pattern or "**" in tokens:
            for name in names:
                assert matches(pattern, name) == bool(expected.fullmatch(name)), (pattern, name)
