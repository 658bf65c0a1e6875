import pytest

from foveate.auditing import Audit, Finding


def made(**changed):
    fields = {
        "name": "eca",
        "module": "Copy",
        "channels": 64,
        "verdict": "deviates",
        "parameters": 4,
        "our_parameters": 3,
        "largest_difference": 0.25,
        "remaining_difference": 1e-16,
        "findings": (Finding("bias", "the published one has none; this one has one"), Finding("form", "a", False)),
    }
    return Audit(**{**fields, **changed})


def test_it_prints_itself_for_a_person():
    assert str(made()).splitlines() == [
        "Copy as eca at 64 channels: deviates",
        "  parameters: 4 here, 3 published",
        "  at the same weights, outputs differ by 0.25 of the largest",
        "  with what is named below taken into account, by 1e-16",
        "  deviates  bias: the published one has none; this one has one",
        "  note      form: a",
    ]


def test_what_is_unknown_is_not_printed_as_a_number():
    printed = str(made(channels=None, our_parameters=None, largest_difference=None, remaining_difference=None))
    assert printed.splitlines()[:2] == ["Copy as eca: deviates", "  parameters: 4 here, unknown published"]
    assert "differ by" not in printed


def test_long_sentences_are_folded_under_each_other():
    lines = str(made(findings=(Finding("bias", "word " * 60),))).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[-1].startswith(" " * 12 + "word")


def test_it_has_no_truth_value():
    with pytest.raises(TypeError, match="an audit has no truth value; compare its verdict"):
        bool(made())
