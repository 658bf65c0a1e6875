"""The command line is a contract: options may be added here on purpose, never renamed by accident."""

import pytest
import typer.main

from foveate.cli.app import app

TRAINING = {"--data", "--network", "--epochs", "--max-time", "--start", "--out", "--fresh", "--device", "--devices"}
TRAINING |= {"--precision", "--set", "--accept-changed-data"}
OPTIONS = {
    "compare": TRAINING
    | {"--mechanisms", "--seeds", "--precision-of", "--total-time", "--where", "--engine", "--workers", "--address"}
    | {"--json"},
    "train": TRAINING | {"--mechanism", "--init", "--seed"},
    "evaluate": {"--data", "--split", "--out", "--json", "--accept-changed-data"},
    "predict": {"--out", "--threshold"},
    "attend": {"--out", "--threshold", "--point", "--heads", "--layer"},
    "report": set(),
    "profile": {"--input-shape", "--mechanism", "--batch-size", "--json"},
    "export": {"--format", "--out", "--maps", "--fixed-size", "--tolerance", "--json"},
    "inspect": {"--json"},
    "list": {"--json"},
}
ARGUMENTS = {
    "compare": ["task"],
    "train": ["task"],
    "evaluate": ["run"],
    "predict": ["run", "inputs"],
    "attend": ["run", "inputs"],
    "report": ["folder"],
    "profile": ["network"],
    "export": ["run"],
    "inspect": ["checkpoint"],
    "list": ["kind"],
}
COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


def test_the_commands_are_those_promised():
    assert set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_a_command_are_frozen(name):
    options = {text for each in COMMANDS[name].params if each.param_type_name == "option" for text in each.opts}
    assert options - {"--help", "-h"} == OPTIONS[name]
    arguments = [each.name for each in COMMANDS[name].params if each.param_type_name == "argument"]
    assert arguments == ARGUMENTS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_command_says_what_it_does_with_an_example(name):
    assert f"Example: foveate {name}" in COMMANDS[name].help
    assert all(each.help for each in COMMANDS[name].params if each.param_type_name == "option")
