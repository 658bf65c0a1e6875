"""What the room offers, and that a worker process starts light."""

import subprocess
import sys

import pytest

import foveate.compare


@pytest.mark.parametrize("name", foveate.compare.__all__)
def test_every_name_that_is_promised_is_there(name):
    assert getattr(foveate.compare, name).__name__ == name


def test_a_name_that_there_is_not_is_said():
    with pytest.raises(AttributeError, match=r"foveate\.compare has no name 'Studdy'; it has ArmResult, LocalEngine"):
        foveate.compare.Studdy  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import foveate.compare.engine", {"torch", "numpy", "scipy", "ray", "joblib"}),
        ("from foveate.compare import Study, compare, summarise", {"torch", "lightning", "ray", "joblib"}),
    ],
)
def test_imports_are_light(code, unwanted):
    listing = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    assert not unwanted & set(loaded)
