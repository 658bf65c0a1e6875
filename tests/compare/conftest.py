"""Lets worker processes find jobs.py and standin.py: they are imported by name, here and there."""

import os
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)  # spawned workers are given this


@pytest.fixture(autouse=True)
def _subprocesses_find_the_stand_in(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
