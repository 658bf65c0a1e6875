"""MapMode: reach the map inside the forward of a layer that makes it by a function, fused or not."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["MapMode"]

_CALLS = {
    "softmax": (F.softmax, torch.softmax, Tensor.softmax),
    "sigmoid": (F.sigmoid, torch.sigmoid, Tensor.sigmoid),
}


class MapMode(TorchFunctionMode):
    """While active, pass every result of a function through another one.

    With "softmax", fused attention is computed in the open meanwhile, so that its weights can be seen and replaced.

    Args:
        call: "softmax" or "sigmoid".
        show: Takes a map and returns the one to go on with.
    """

    def __init__(self, call: str, show: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.show = show

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CALLS[self.call]:
            return self.show(func(*args, **kwargs))
        if self.call == "softmax" and func is F.scaled_dot_product_attention:
            return _scaled_dot_product_attention(self.show, *args, **kwargs)
        if self.call == "softmax" and func is F.multi_head_attention_forward:
            return _multi_head_attention_forward(self.show, *args, **kwargs)
        return func(*args, **kwargs)


def _scaled_dot_product_attention(
    show: Callable[[Tensor], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's function of this name, with the weights shown."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
    logits = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    weights = logits.softmax(dim=-1)
    if attn_mask is not None:  # a query that may look at nothing gets zeros from the fused function
        weights = weights.masked_fill(logits.amax(dim=-1, keepdim=True) == -torch.inf, 0.0)
    weights = show(weights)
    return F.dropout(weights, dropout_p) @ value


def _multi_head_attention_forward(show: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
    """torch's function of this name, with the weights of every head shown, before dropout."""
    call = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    call.apply_defaults()
    options = call.arguments
    need_weights, average = options["need_weights"], options["average_attn_weights"]
    dropout = options["dropout_p"] if options["training"] else 0.0
    options.update(need_weights=True, average_attn_weights=False, dropout_p=0.0)
    output, made = F.multi_head_attention_forward(*call.args, **call.kwargs)
    weights: Tensor = made  # pyright: ignore[reportAssignmentType]  (asked for, so not None)
    if not need_weights and not (options["attn_mask"] is None and options["key_padding_mask"] is None):
        # As above; where weights are asked for, torch itself gives such a query not-a-numbers.
        nothing = weights.isnan().all(dim=-1, keepdim=True)
        weights = weights.masked_fill(nothing, 0.0) if nothing.any() else weights
    weights = show(weights)
    if dropout:
        weights = F.dropout(weights, dropout)
    if weights is not made:
        output = _attend(weights, options)
    if not need_weights:
        return output, None
    return output, weights.mean(dim=-3) if average else weights


def _attend(weights: Tensor, options: dict[str, Any]) -> Tensor:
    """What multi_head_attention_forward does behind the weights, (head, query, key) with or without a batch before."""
    value = options["value"]
    batched = value.ndim == 3
    value = value if batched else value.unsqueeze(1)  # (key, batch, channel)
    weight, bias = options["v_proj_weight"], options["in_proj_bias"]
    if not options["use_separate_proj_weight"]:
        weight = options["in_proj_weight"].chunk(3)[2]
    value = F.linear(value, weight, None if bias is None else bias.chunk(3)[2])
    if options["bias_v"] is not None:
        value = torch.cat([value, options["bias_v"].repeat(1, value.shape[1], 1)])
    value = value.unflatten(2, (options["num_heads"], -1)).permute(1, 2, 0, 3)  # (batch, head, key, channel)
    if options["add_zero_attn"]:
        value = F.pad(value, (0, 0, 0, 1))
    context = (weights @ value).permute(2, 0, 1, 3).flatten(start_dim=2)  # (query, batch, channel)
    output = F.linear(context, options["out_proj_weight"], options["out_proj_bias"])
    return output if batched else output.squeeze(1)
