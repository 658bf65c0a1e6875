"""What holds for every test: its process computes on one thread, and imports are not searched for garbage."""

import gc
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
gc.set_threshold(100_000, 50, 1000)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark long tests as slow too, so that -m "not slow" leaves them out."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    gc.freeze()
