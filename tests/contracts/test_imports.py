"""The rooms import in one direction only, and the command line stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foveate

PACKAGE = Path(foveate.__file__).parent

SHARED = ("errors", "escaping", "files", "locking", "_version")  # modules beside the rooms

# What each room may import of the others.
ALLOWED = {
    "capture": {"capture", "errors"},
    "layers": {"layers", "capture", "errors"},
    "networks": {"networks", "layers", "capture", "errors", "files", "_version"},
    "auditing": {"auditing", "layers", "capture", "errors"},
    "surgery": {"surgery", "capture", "errors"},
    "data": {"data", "errors", "files", "rules"},
    "tasks": {"tasks", "data", "networks", "layers", "surgery", "capture", "rules", *SHARED},
    "compare": {"compare", "tasks", "data", "networks", "layers", "surgery", "capture", *SHARED},
    "report": {"report", "compare", *SHARED},
    "cli": {
        "cli",
        "report",
        "compare",
        "tasks",
        "data",
        "networks",
        "layers",
        "surgery",
        "capture",
        *SHARED,
    },
}
TORCH_ONLY = ("capture", "layers", "surgery")
STANDARD = sys.stdlib_module_names


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_below_it(room):
    assert files(room)
    for path in files(room):
        for name in imported(path):
            if name.startswith("foveate."):
                assert name.split(".")[1] in ALLOWED[room], f"{path.relative_to(PACKAGE)} imports {name}"


@pytest.mark.parametrize("room", TORCH_ONLY)
def test_the_mechanical_rooms_need_torch_and_nothing_else(room):
    for path in files(room):
        for name in imported(path):
            package = name.split(".")[0]
            assert package in {"torch", "foveate"} or package in STANDARD, f"{path.relative_to(PACKAGE)} imports {name}"


def test_surgery_takes_only_the_grammar_of_names_from_capture():
    for path in files("surgery"):
        for name in imported(path):
            assert not name.startswith("foveate.capture") or name.startswith("foveate.capture.patterns"), name


def loaded_after(code: str) -> set[str]:
    listing = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    )


def test_importing_the_package_is_free_until_a_name_is_used():
    assert "torch" not in loaded_after("import foveate")


@pytest.mark.slow
def test_the_layers_bring_torch_and_nothing_else_that_is_heavy():
    heavy = {
        "lightning",
        "timm",
        "torchvision",
        "torchmetrics",
        "scipy",
        "matplotlib",
        "sklearn",
        "typer",
        "jinja2",
        "ray",
    }
    assert not heavy & loaded_after("import foveate; foveate.layers.SE(32); foveate.insert; foveate.capture")


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"]])
def test_help_does_not_import_torch(arguments):
    code = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *sys.modules))
sys.argv = ["foveate", *{arguments}]
from foveate.cli import main
main()"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[-1].startswith("LOADED ")
    assert "foveate.cli.app" in said.split()
    assert not {"torch", "numpy", "lightning"} & set(said.split())
