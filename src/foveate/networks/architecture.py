"""What builds a network again: its kind and its options, such that they fit into the header of a file."""

import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveate import layers
from foveate.errors import MissingExtra
from foveate.layers import catalogue

__all__ = ["KINDS", "Architecture", "defaults_of"]

KINDS = {
    "resnet": "foveate.networks.resnet:ResNet",
    "video_resnet": "foveate.networks.video_resnet:VideoResNet",
    "mobilenet_v2": "foveate.networks.mobilenet:MobileNetV2",
    "detr": "foveate.networks.detr:DETR",
    "mask_rcnn": "foveate.networks.mask_rcnn:MaskRCNN",
    "transformer": "foveate.networks.transformer:Transformer",
    "encoder_decoder": "foveate.networks.transformer:EncoderDecoder",
    "unet": "foveate.networks.unet:UNet",
    "sononet": "foveate.networks.sononet:Sononet",
    "ag_sononet": "foveate.networks.sononet:AGSononet",
    "monai_attention_unet": "monai.networks.nets:AttentionUnet",
    "se": "foveate.layers:SE",
    "eca": "foveate.layers:ECA",
    "cbam": "foveate.layers:CBAM",
    "bam": "foveate.layers:BAM",
    "nonlocal": "foveate.layers:NonLocal",
    "attention_gate": "foveate.layers:AttentionGate",
}
"""The classes that a file may name."""


@dataclass(frozen=True)
class Architecture:
    """A class of KINDS, and the arguments that make it.

    Args:
        kind: A name of KINDS.
        options: Arguments by name: numbers, texts, None, and lists and mappings of them.
    """

    kind: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, arguments: Mapping[str, Any]) -> "Architecture | None":
        """That of a class of KINDS, from all its arguments; None if one cannot be written down, such as a function.

        Arguments that have their defaults are left out.
        """
        defaults = defaults_of(_class(kind))
        given = {name: value for name, value in arguments.items() if name in defaults and value != defaults[name]}
        try:
            return cls(kind, json.loads(json.dumps(given)))
        except TypeError:
            return None

    @classmethod
    def read(cls, text: str) -> "Architecture":
        """That of a file's header.

        Raises:
            ValueError: If the text is not what `write` gives, or names no class of KINDS.
        """
        try:
            content = json.loads(text)
        except RecursionError:
            raise ValueError("an architecture is not nested that deeply") from None
        if (
            not isinstance(content, dict)
            or set(content) != {"kind", "options"}
            or not isinstance(content["options"], dict)
        ):
            raise ValueError(f'an architecture is {{"kind": ..., "options": {{...}}}}; got {text[:200]}')
        if not isinstance(content["kind"], str) or content["kind"] not in KINDS:
            raise ValueError(f"an architecture's kind is one of {', '.join(KINDS)}; got {content['kind']!r}")
        return cls(content["kind"], content["options"])

    @property
    def type(self) -> Any:
        """The class."""
        return _class(self.kind)

    def setting(self, name: str) -> Any:
        """The value of an option of the network or of its mechanism, the default where none was given; None if neither
        has it.
        """
        for kind, options in ((self.type, self.options), self._mechanism()):
            defaults = {} if kind is None else defaults_of(kind)
            if name in defaults:
                value = options.get(name, defaults[name])
                return tuple(value) if isinstance(value, list) else value
        return None

    def _mechanism(self) -> tuple[Any, Mapping[str, Any]]:
        """The class of the mechanism, None for none or a chain, and its options, those of the first stage."""
        name, given = self.options.get("mechanism"), self.options.get("options") or {}
        entry = catalogue.find(name) if name else None
        if entry is None or entry.parts:
            return None, {}
        return getattr(layers, entry.layer), given[0] if isinstance(given, list) else given

    def write(self) -> str:
        """JSON that `read` takes."""
        return json.dumps({"kind": self.kind, "options": self.options})

    def build(self) -> nn.Module:
        """The network, with initial weights; it carries its `architecture`, a layer too."""
        network = self.type(**self.options)
        if not hasattr(network, "architecture"):
            network.architecture = self
        return network


def _class(kind: str) -> Any:
    module, name = KINDS[kind].split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        raise MissingExtra("monai", "medical") from None


def defaults_of(kind: Any) -> dict[str, Any]:
    """The arguments of a class with their defaults; those that it hands on to its parent by `**` are among them."""
    parameters = inspect.signature(kind).parameters.values()
    handed_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    defaults = defaults_of(kind.__base__) if handed_on else {}
    own = {p.name: p.default for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return defaults | own
