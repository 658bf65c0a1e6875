"""Published networks: one file each."""

from foveate.networks.decoding import Decoded, beam_search, greedy
from foveate.networks.detr import DETR, detr_resnet50, detr_resnet101, detr_tiny
from foveate.networks.inflation import inflate
from foveate.networks.mask_rcnn import MaskRCNN
from foveate.networks.mask_rcnn_builders import (
    mask_rcnn_resnet50,
    mask_rcnn_resnet101,
    mask_rcnn_tiny,
    va_mask_rcnn_resnet50,
    va_mask_rcnn_resnet101,
    va_mask_rcnn_tiny,
)
from foveate.networks.mask_rcnn_inputs import bag_slices, stack_slices
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
from foveate.networks.video_resnet import (
    VideoResNet,
    c2d_resnet50,
    c2d_resnet101,
    c2d_tiny,
    i3d_resnet50,
    i3d_resnet101,
    i3d_tiny,
)

__all__ = [
    "DETR",
    "AGSononet",
    "Decoded",
    "EncoderDecoder",
    "MaskRCNN",
    "MobileNetV2",
    "ResNet",
    "Sononet",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "UNet",
    "VideoResNet",
    "ag_sononet8",
    "ag_sononet16",
    "ag_sononet32",
    "attention_unet",
    "bag_slices",
    "beam_search",
    "c2d_resnet50",
    "c2d_resnet101",
    "c2d_tiny",
    "detr_resnet50",
    "detr_resnet101",
    "detr_tiny",
    "greedy",
    "i3d_resnet50",
    "i3d_resnet101",
    "i3d_tiny",
    "inflate",
    "mask_rcnn_resnet50",
    "mask_rcnn_resnet101",
    "mask_rcnn_tiny",
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
    "stack_slices",
    "transformer_base",
    "transformer_big",
    "unet",
    "va_mask_rcnn_resnet50",
    "va_mask_rcnn_resnet101",
    "va_mask_rcnn_tiny",
]
