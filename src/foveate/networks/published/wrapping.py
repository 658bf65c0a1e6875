"""State dicts as trainers wrap them: under other names, behind prefixes, and with counters among the weights."""

import warnings
from collections.abc import Iterator, Mapping

from torch import Tensor

from foveate.errors import CheckpointError

__all__ = ["Ignored", "candidates", "tensors_of"]

PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module")
AVERAGED = ("ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema_model_state_dict", "params_ema")
AVERAGED += ("ema_weights", "model_ema_state_dict", "averaged_model", "swa_model", "swa_state_dict")
DEEPEST = 10  # wrappings around a state dict; deeper ones are refused

DISTRIBUTED = ("module.", "_orig_mod.")  # of DataParallel, AveragedModel and torch.compile; no network has them itself
ATTRIBUTES = ("model.", "net.", "network.", "_model.", "_forward_module.", "ema.", "ema_model.", "model_ema.")
COUNTERS = ("n_averaged", "total_ops", "total_params")  # of torch's AveragedModel, and of thop.profile
SHARE = 0.5  # of the keys, which a prefix must have at least for the others to be left out


class Ignored:
    """A value beside the tensors whose content is not read: a NumPy number, array or dtype, or a path."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def tensors_of(held: object, source: str) -> dict[str, Tensor]:
    """Return the tensors by name in what a checkpoint holds, without wrappings, counters and distributed prefixes.

    Numbers and texts among the tensors are left out. Weights that are not averaged are preferred, with a warning.

    Raises:
        CheckpointError: If there are no tensors, or something else is among them.
    """
    held = _innermost(held, source)
    if not isinstance(held, Mapping) or not held:
        raise CheckpointError(f"{source} must hold tensors by name; got {type(held).__name__}, empty or none")
    some = any(isinstance(value, Tensor) for value in held.values())
    state: dict[str, Tensor] = {}
    for name, value in held.items():
        if some and isinstance(name, str) and (value is None or isinstance(value, int | float | str | Ignored)):
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_nested:
            kind = "a value of NumPy or a path" if isinstance(value, Ignored) else type(value).__name__
            raise CheckpointError(f"{source} must hold tensors by name; {name!r} is {kind}")
        if not name.isprintable():
            raise CheckpointError(f"{source} must hold tensors by names that can be printed; got {name!r}")
        state[name] = value
    state = {name: value for name, value in state.items() if not _is_counter(name, value)} or state
    while prefix := _shared(state, DISTRIBUTED):
        state = _without(state, prefix)
    return state


def candidates(state: Mapping[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """Yield the state dicts that a file may mean, the likeliest first, each with the keys that it leaves out.

    The first is the state as it is. In the next ones, prefixes such as "model." and "net." are removed one by one, in
    any order and to any depth. Keys beside such a prefix are left out only if they are the smaller part of the file, or
    belong to an average of the same weights.
    """
    current, beside = dict(state), []
    yield current, beside
    for _ in range(DEEPEST):
        prefix = _shared(current, DISTRIBUTED + ATTRIBUTES) or _common(current)
        if prefix is None:
            return
        left = [name for name in current if not name.startswith(prefix)]
        beside = beside + left
        current = _without({name: value for name, value in current.items() if name not in set(left)}, prefix)
        yield current, beside


def _innermost(held: object, source: str) -> object:
    """Return the state dict inside the usual names, and inside a single name that is not usual."""
    for _ in range(DEEPEST):
        if not isinstance(held, Mapping):
            break
        inside = [name for name in PLAIN + AVERAGED if isinstance(held.get(name), Mapping)]
        if not inside and not _is_state(held):
            inside = [name for name, value in held.items() if _is_state(value)]
            if len(inside) > 1:
                raise CheckpointError(
                    f"{source} must hold one network; it has tensors under {', '.join(map(str, inside))}"
                )
        if not inside:
            break
        averaged = [name for name in inside if name in AVERAGED]
        if averaged and inside[0] not in AVERAGED:
            text = f"{source} holds averaged weights under {averaged[0]!r} too; those under {inside[0]!r} are read"
            warnings.warn(text, stacklevel=2)
        held = held[inside[0]]
    return held


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and isinstance(inner, Tensor) for name, inner in value.items()
    )


def _is_counter(name: str, value: Tensor) -> bool:
    return name.rpartition(".")[2] in COUNTERS and value.numel() == 1


def _shared(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> str | None:
    """Return the prefix that all keys have; None if there is none."""
    return next((prefix for prefix in prefixes if all(name.startswith(prefix) for name in state)), None)


def _common(state: Mapping[str, Tensor]) -> str | None:
    """Return the usual prefix of more than half of the keys, apart from those of an average; None if there is none."""
    averages = tuple(prefix for prefix in ATTRIBUTES if "ema" in prefix)
    plain = [name for name in state if not name.startswith(averages)]
    for prefix in DISTRIBUTED + ATTRIBUTES:
        names = plain if prefix not in averages else list(state)
        if sum(name.startswith(prefix) for name in names) > SHARE * len(names):
            return prefix
    return None


def _without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items()}
