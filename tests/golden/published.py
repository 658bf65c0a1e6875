"""Hold a module of ours to the numbers of a published implementation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.golden import recipe
from torch import Tensor, nn

TOLERANCE = 1e-9


def check(
    name: str,
    module: nn.Module,
    our_key: Callable[[str], str],
    call: Callable[..., Tensor | dict[str, Tensor]] | None = None,
    *,
    loaded: bool = False,
) -> None:
    """Load the publisher's weights into `module` and compare outputs and gradients with tests/golden/<name>.npz.

    `our_key` turns the publisher's key into ours; a tensor may differ in axes of size one. `call` runs the module
    on the inputs, if its forward does not take them in their order. A module that is `loaded` has the weights already.
    """
    meta, _ = read(name)
    if not loaded:
        load(module, meta["state"], our_key)
    for key, error in differences(name, module, our_key, call).items():
        assert error < TOLERANCE, f"{name}: {key} is {error:.1e} away"
    assert sum(parameter.numel() for parameter in module.parameters()) == meta["parameters"]


def differences(
    name: str,
    module: nn.Module,
    our_key: Callable[[str], str],
    call: Callable[..., Tensor | dict[str, Tensor]] | None = None,
) -> dict[str, float]:
    """How far `module`, which has the publisher's weights, is from tests/golden/<name>.npz, in float64.

    Of each array the largest difference over its largest value; of the norm of each parameter's gradient the difference
    over the largest norm of all.
    """
    meta, expected = read(name)
    module.double().train(meta["mode"] == "train")
    inputs = {
        key: torch.from_numpy(recipe.normal(f"{name}/{key}", tuple(shape))).requires_grad_()
        for key, shape in meta["inputs"].items()
    }
    output = (call or module)(*inputs.values())
    if isinstance(output, list):
        output = {f"output{place}": each for place, each in enumerate(output)}
    outputs = output if isinstance(output, dict) else {"output": output}
    scalar = torch.zeros((), dtype=torch.float64)
    for key, value in outputs.items():
        scalar = scalar + (value * torch.from_numpy(recipe.normal(f"{name}/cotangent/{key}", tuple(value.shape)))).sum()
    scalar.backward()
    computed = {f"output/{key}": value.detach() for key, value in outputs.items()}
    computed |= {f"input_grad/{key}": value.grad for key, value in inputs.items() if value.grad is not None}
    assert set(computed) >= set(expected)
    found = {key: float((computed[key] - value).abs().max() / value.abs().max()) for key, value in expected.items()}
    norms = meta["parameter_grad_norm"]
    for key, norm in norms.items():
        gradient = module.get_parameter(our_key(key)).grad
        assert gradient is not None, f"{name}: {key} has no gradient"
        found[f"parameter_grad/{key}"] = abs(gradient.norm().item() - norm) / max(norms.values())
    return found


def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What tests/golden/<name>.npz says of the publisher, and its arrays."""
    with np.load(Path(__file__).parent / f"{name}.npz") as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        return meta, {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "meta"}


def state_dict(name: str) -> dict[str, Tensor]:
    """The checkpoint behind tests/golden/<name>.npz: the publisher's keys with the recipe's tensors."""
    state = read(name)[0]["state"]
    return {key: torch.from_numpy(np.asarray(recipe.parameter(key, tuple(shape)))) for key, shape in state.items()}


def load(module: nn.Module, state: dict[str, list[int]], our_key: Callable[[str], str]) -> nn.Module:
    """Fill `module` with the recipe's tensors, none missing and none left over."""
    ours = module.state_dict()
    filled = {}
    for key, shape in state.items():
        value = torch.from_numpy(np.asarray(recipe.parameter(key, tuple(shape))))
        target = ours[our_key(key)]
        fits = value.squeeze().shape == target.squeeze().shape
        assert fits, f"{key} is {tuple(value.shape)}, {our_key(key)} is {tuple(target.shape)}"
        filled[our_key(key)] = value.reshape(target.shape).to(target.dtype)
    module.load_state_dict(filled, strict=True)
    return module
