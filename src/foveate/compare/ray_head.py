"""Join a Ray cluster, or start a head that only this machine reaches."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["join_or_start"]

ONLY_HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's name for listening on all interfaces; "0" is loopback alone
OPTIONS = {"log_to_driver": False, "include_dashboard": False, "configure_logging": False}
STARTED = "a Ray head was started for this comparison, which listens on {}; it ends with it"


def join_or_start(ray: Any, address: str | None) -> str | None:
    """Join a cluster; without one, start a head of this machine alone.

    Args:
        ray: The module.
        address: As ray.init takes it; None for the cluster that RAY_ADDRESS names or that runs on this machine.

    Returns:
        Where the head that was started listens, in a sentence; None if a cluster was joined.

    Raises:
        ConnectionError: If there is no cluster at the address.
    """
    if address not in (None, "local") or (address is None and os.environ.get("RAY_ADDRESS")):
        ray.init(address, **OPTIONS)
        return None
    if address is None:
        try:
            ray.init("auto", **OPTIONS)
            return None
        except ConnectionError:  # none runs here
            pass
    with _loopback():
        ray.init("local", **OPTIONS)
    listens = ray.nodes()[0]["NodeManagerAddress"]
    alone = listens in ("127.0.0.1", "::1")
    return STARTED.format(f"{listens} alone" if alone else f"all interfaces, {listens} among them")


@contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray listen on the loopback interface inside the block, as it does on systems without clusters."""
    from ray._private import ray_constants as constants

    held, environment = constants.ENABLE_RAY_CLUSTER, os.environ.get(ONLY_HERE)
    constants.ENABLE_RAY_CLUSTER, os.environ[ONLY_HERE] = False, "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = held
        if environment is None:
            del os.environ[ONLY_HERE]
        else:
            os.environ[ONLY_HERE] = environment
