"""What the pages on networks, mechanisms, segmentation and videos show runs, and the commands that they name exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from foveate.cli.app import app
from foveate.cli.options import Task, parse_settings, task_of

DOCS = Path(__file__).parents[2] / "docs"
MECHANISMS = [DOCS / "mechanisms" / f"{name}.md" for name in ("attention_gate", "nonlocal", "volumetric")]
PAGES = [
    DOCS / "segment.md",
    DOCS / "lesions.md",
    DOCS / "clips.md",
    *MECHANISMS,
    *sorted((DOCS / "networks").glob("*.md")),
]
COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_a_page_shows_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a page may write a file
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert blocks
    names: dict = {}
    for code in blocks:
        exec(code, names)


def test_the_commands_of_the_pages_are_taken():
    text = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
    lines = re.findall(r"^foveate (.*)", text, flags=re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        given = COMMANDS[name].make_context(name, words).params
        task = task_of(Task(given.get("task") or "classify"), "", given.get("network"), given.get("settings"))
        parse_settings(given.get("settings"), task)


@pytest.mark.parametrize(("page", "task"), [("segment", "segment"), ("lesions", "lesions")])
def test_every_setting_that_a_page_shows_is_one(page, task):
    settings = re.findall(r"`(?:--set )?([a-z_]+=[^`\n]*)`", (DOCS / f"{page}.md").read_text())
    assert len(settings) > 5
    for setting in " --set ".join(settings).split(" --set "):
        parse_settings([setting], task)
