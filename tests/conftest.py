"""What holds for every test: its process computes on one thread, and imports are not searched for garbage."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
gc.set_threshold(100_000, 50, 1000)


def pytest_collection_finish() -> None:
    gc.freeze()
