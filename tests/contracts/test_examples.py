"""The examples run, and the pages of docs/ hold what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MECHANISMS = sorted((ROOT / "docs" / "mechanisms").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example):
    said = subprocess.run([sys.executable, str(example)], check=True, capture_output=True, text=True).stdout
    assert "False" not in said
    assert "the host is as it was: True" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


@pytest.mark.parametrize("page", MECHANISMS, ids=lambda path: path.stem)
def test_a_mechanism_has_every_part_of_its_page(page):
    text = page.read_text()
    for heading in ("Idea", "Equation", "Place", "Cost", "What it attends to", "What it changes"):
        assert f"\n## {heading}\n" in text
    assert re.search(r"<!-- cost:[\w-]+ -->\n\| \|", text), "the cost table is empty: make docs"


def test_every_mechanism_has_a_page():
    from foveate.layers.catalogue import MECHANISMS as NAMES

    pages = {page.stem for page in MECHANISMS}
    inserted = set(NAMES) - {"placebo", "spatial"}  # a control, and half of cbam's page
    # Two that take two inputs, and so are not in the catalogue.
    assert pages == inserted | {"attention_gate", "volumetric"}
