"""docs/audit.md shows what an audit prints."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.mark.slow
def test_the_page_shows_what_is_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for code, shown in blocks:
        exec(code, names)
        assert without_rounding(capsys.readouterr().out) == without_rounding(shown)


def without_rounding(text: str) -> str:
    return re.sub(r"[\d.]+e-1\d", "rounding", text)
