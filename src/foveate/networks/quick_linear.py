"""Linear layers of few rows, as decoding has them, in the form that a processor is quickest at.

torch gives float32 products on the CPU to MKL, for which few rows on the left are the slow case, and which on AMD's
processors takes twice as long as oneDNN for any. The numbers are the same up to rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["FEW_ROWS", "QuickLinear", "linear"]

FEW_ROWS = 8
"""Up to so many rows the transposed product is quicker than oneDNN, to which tensors have to be handed over."""


class QuickLinear(TorchFunctionMode):
    """Where a block runs, every linear layer is computed by `linear`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (linear if func is F.linear else func)(*args, **(kwargs or {}))


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002 (the name is torch's)
    """x W^T + b, of (*rows, channel); torch's own wherever gradients, half precision or another device are wanted."""
    plain = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if torch.is_grad_enabled() or not plain:
        return F.linear(input, weight, bias)
    rows = input.reshape(-1, input.shape[-1])
    if len(rows) > FEW_ROWS:
        if not torch.backends.mkldnn.is_available():
            return F.linear(input, weight, bias)
        product = F.linear(rows.to_mkldnn(), weight, bias).to_dense()
    elif bias is None:
        product = (weight @ rows.t()).t().contiguous()
    else:
        product = torch.addmm(bias[:, None], weight, rows.t()).t().contiguous()
    return product.view(*input.shape[:-1], -1)
