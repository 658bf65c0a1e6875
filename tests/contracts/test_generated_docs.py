"""Every generator of docs/ runs, and what it writes is what stands in the pages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOVEATE = "from foveate.cli import main; main()"
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def python(*arguments: str, at: Path) -> str:
    """Run Python in a folder, and return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, *arguments], cwd=at, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def deterministic(text: str) -> str:
    """A page without the rounding errors and the versions of libraries, which change from machine to machine."""
    text = re.sub(r"\| (?:0|\d(?:\.\d+)?e-1\d|\d(?:\.\d+)?e-2\d) (?=\|)", "| rounding ", text)
    return re.sub(r"(timm|torchvision) \d+(?:\.\d+)+", r"\1", text)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of docs/, written again from a comparison and a run on scans that take seconds."""
    from tests.tasks.segment.conftest import write_balls

    root = tmp_path_factory.mktemp("copy")
    for name in ("docs", "tests/golden"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for picture in (root / "docs" / "figures").glob("*-maps.png"):
        if picture.name != "video-maps.png":  # from a run of hours, which docs/networks/video_resnet.md describes
            picture.unlink()
    quick = ["--max-time", "5s"]
    arms = "none,se,scse,eca,cbam,eca-spatial,bam,nonlocal"
    compare = ["compare", "--mechanisms", arms, "--seeds", "1", "--workers", "1", *quick, "--out", "demo"]
    python("-c", FOVEATE, *compare, at=root)
    (root / "balls").mkdir()
    write_balls(root / "balls", 10)
    segment = ["train", "segment", "--data", "balls", "--network", "attention-unet", *quick, "--out", "gates"]
    python("-c", FOVEATE, *segment, at=root)
    told = python("docs/make.py", "demo", "gates", at=root)
    assert "no picture" not in told
    return root


def test_no_page_is_stale(copy: Path) -> None:
    pages = sorted((ROOT / "docs").rglob("*.md"))
    assert len(pages) > 10
    stale = [
        str(page.relative_to(ROOT))
        for page in pages
        if deterministic((copy / page.relative_to(ROOT)).read_text()) != deterministic(page.read_text())
    ]
    assert not stale, f"make docs writes these anew: {stale}"


def test_no_diagram_is_stale(copy: Path) -> None:
    diagrams = sorted((ROOT / "docs" / "figures").glob("*.svg"))
    assert len(diagrams) > 10
    assert [path.name for path in diagrams] == sorted(path.name for path in (copy / "docs" / "figures").glob("*.svg"))
    for path in diagrams:
        assert (copy / path.relative_to(ROOT)).read_text() == path.read_text(), f"make docs draws {path.name} anew"


def test_every_picture_of_a_run_is_drawn_again(copy: Path) -> None:
    from PIL import Image

    for path in (ROOT / "docs" / "figures").glob("*-maps.png"):
        drawn = copy / path.relative_to(ROOT)
        assert drawn.stat().st_size > 10_000, path.name
        with Image.open(drawn) as ours, Image.open(path) as committed:
            assert ours.width == committed.width, path.name
