"""How tensors lie in memory in training and in use: channels last, in which convolutions are fastest."""

import torch
from torch import nn

__all__ = ["channels_last"]


def channels_last(network: nn.Module) -> nn.Module:
    """The network itself, with the weights of its convolutions laid out so."""
    clips = any(parameter.ndim == 5 for parameter in network.parameters())
    layout = torch.channels_last_3d if clips else torch.channels_last
    return network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
