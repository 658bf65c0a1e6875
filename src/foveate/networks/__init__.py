"""Published networks: one file each."""

from foveate.networks.decoding import Decoded, beam_search, greedy
from foveate.networks.detr import DETR, detr_resnet50, detr_resnet101, detr_tiny
from foveate.networks.mobilenet import MobileNetV2, mobilenet_v2
from foveate.networks.places import non_local_blocks
from foveate.networks.resnet import (
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet_tiny,
    resnext50_32x4d,
    resnext101_32x4d,
    resnext101_32x8d,
    senet154,
)
from foveate.networks.sononet import (
    AGSononet,
    Sononet,
    ag_sononet8,
    ag_sononet16,
    ag_sononet32,
    sononet8,
    sononet16,
    sononet32,
)
from foveate.networks.transformer import EncoderDecoder, Transformer, transformer_base, transformer_big
from foveate.networks.transformer_layers import TransformerDecoder, TransformerEncoder
from foveate.networks.unet import UNet, attention_unet, unet

__all__ = [
    "DETR",
    "AGSononet",
    "Decoded",
    "EncoderDecoder",
    "MobileNetV2",
    "ResNet",
    "Sononet",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "UNet",
    "ag_sononet8",
    "ag_sononet16",
    "ag_sononet32",
    "attention_unet",
    "beam_search",
    "detr_resnet50",
    "detr_resnet101",
    "detr_tiny",
    "greedy",
    "mobilenet_v2",
    "non_local_blocks",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_tiny",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "senet154",
    "sononet8",
    "sononet16",
    "sononet32",
    "transformer_base",
    "transformer_big",
    "unet",
]
