"""DETR: a picture becomes a set of boxes, each from one learned query, without anchors and without suppression.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872. Sizes and
initial weights are those of the authors' release.

    picture - backbone - 1x1 convolution - encoder - decoder - classes
                  |              |            |         |  \\
                  |          positions     (memory)  queries boxes
                  +---- finer features ---- panoptic head ---- masks
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers import LearnedPositions2d, SinusoidalPositions2d, functional
from foveate.networks.architecture import Architecture
from foveate.networks.detr_backbone import Backbone
from foveate.networks.detr_masks import MaskAttention, MaskHead
from foveate.networks.detr_transformer import Decoder, Encoder
from foveate.networks.places import Options
from foveate.networks.residual import Position
from foveate.networks.resnet import ResNet

__all__ = ["DETR", "detr_resnet50", "detr_resnet101", "detr_tiny"]

POSITIONS = {"sine": SinusoidalPositions2d, "learned": LearnedPositions2d}


class DETR(nn.Module):
    """Backbone, encoder, decoder and heads; with panoptic=True a mask for every query.

    The maps are the weights of `encoder.layers.*.self_attn`, of `decoder.layers.*.self_attn` and, where in the picture
    each query looks, of `decoder.layers.*.cross_attn`; tokens are the positions of a grid of ceil(size / stride) rows
    and columns, row by row. `architecture` says what builds the network again; it is None where the mechanism was given
    as a callable.

    Args:
        backbone: What makes the ResNet: block, depths and the like.
        num_classes: Classes; the last logit, one more, is "no object". COCO's numbers go up to 90: 91.
        num_queries: Objects at most.
        embed_dim: Channels of the transformer, a multiple of num_heads, and of 4 with positions="sine".
        num_heads: Heads of each attention.
        hidden_channels: Width of the feed-forward parts.
        encoder_layers: Layers of the encoder; 0 for none.
        decoder_layers: Layers of the decoder.
        dropout: Share of the attention's weights and of the transformer's features that training drops.
        pre_norm: Whether the parts of a layer get normalised tokens, instead of normalising behind them.
        positions: "sine", or "learned", for a grid of at most 50 by 50.
        dilation: Whether the last stage of the backbone keeps the grid of the one before (DC5).
        panoptic: Whether there is a head for masks.
        frozen: Whether the backbone's batch normalisations are constants and its stem and stage 1 keep their weights,
            as published; from random weights it should learn.
        mechanism: What stands in the backbone, with options, position, stages and blocks: see ResNet. It is trained in
            frozen stages too.

    Shape:
        images (batch, channel, height, width) and, where there is any, padding, bool (batch, height, width), True where
        there is no picture; or a list of (channel, height, width), which is padded to the right and below -> a dict:
        pred_logits (batch, query, class + 1), pred_boxes (batch, query, 4), centre x and y, width and height in 0..1 of
        the unpadded picture, and with auxiliary=True, which is the default in training, aux_outputs, a list with these
        two of each earlier layer. With panoptic=True also pred_masks, logits (batch, query, *grid of stage 1).

    Raises:
        ValueError: Sizes that do not fit; inputs of another shape; with learned positions a grid that is too large.
    """

    anew: ClassVar[Mapping[str, str]] = {"num_classes": "class_embed", "num_queries": "query_embed"}
    """What a checkpoint cannot fill if one of these options is another one there."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        *,
        num_classes: int = 91,
        num_queries: int = 100,
        embed_dim: int = 256,
        num_heads: int = 8,
        hidden_channels: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        dropout: float = 0.1,
        pre_norm: bool = False,
        positions: str = "sine",
        dilation: bool = False,
        panoptic: bool = False,
        frozen: bool = True,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Options | None = None,
        position: Position | None = None,
        stages: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | int | None = None,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        self.architecture = Architecture.of("detr", arguments)
        functional.check_choice("positions", positions, tuple(POSITIONS))
        for name, count in {"num_classes": num_classes, "num_queries": num_queries, "layers": decoder_layers}.items():
            if count < 1:
                raise ValueError(f"DETR takes {name} of at least 1; got {count}")
        self.num_heads, self.dilation = num_heads, dilation
        network = ResNet(**backbone)
        self.backbone = Backbone(network, dilation=dilation, frozen=frozen)
        self.positions = POSITIONS[positions](embed_dim)
        self.input_proj = nn.Conv2d(self.backbone.channels[-1], embed_dim, 1)
        layer = embed_dim, num_heads, hidden_channels, dropout, pre_norm
        self.encoder = Encoder(encoder_layers, *layer)
        self.decoder = Decoder(decoder_layers, *layer)
        self.query_embed = nn.Embedding(num_queries, embed_dim)
        self.class_embed = nn.Linear(embed_dim, num_classes + 1)
        self.bbox_embed = BoxHead(embed_dim)
        self.mask_attention = MaskAttention(embed_dim, num_heads) if panoptic else None
        self.mask_head = MaskHead(embed_dim, num_heads, self.backbone.channels[-2::-1]) if panoptic else None
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        # Last, so that one seed gives one host whatever the mechanism, which nothing freezes.
        sites = network.place(mechanism, options, position, stages, blocks)
        self.sites = {f"backbone.{name}": channels for name, channels in sites.items()}

    @property
    def stride(self) -> int:
        """How many pixels, along each axis, one token of the picture stands for."""
        return self.backbone.stride

    @property
    def head_names(self) -> list[str]:
        """The module that gives classes."""
        return ["class_embed"]

    def forward(
        self, images: Tensor | Sequence[Tensor], padding: Tensor | None = None, *, auxiliary: bool | None = None
    ) -> dict[str, Any]:
        if not isinstance(images, Tensor):
            images, padding = _padded(images, padding)
        if padding is not None and padding.shape != (images.shape[0], *images.shape[2:]):
            wanted, found = (images.shape[0], *images.shape[2:]), tuple(padding.shape)
            raise ValueError(f"padding is bool (batch, height, width), here {wanted}; got {found}")
        features = self.backbone(images)
        x = self.input_proj(features[-1])
        valid, mask = x.new_ones(x.shape[0], *x.shape[2:], dtype=torch.bool), None
        if padding is not None:
            valid = F.interpolate(padding[:, None].float(), size=x.shape[2:])[:, 0] == 0
            mask = valid.flatten(1)
        position = self.positions(valid).to(x.dtype).flatten(2).mT
        memory = self.encoder(x.flatten(2).mT, position, mask)
        queries = self.query_embed.weight.repeat(x.shape[0], 1, 1)
        given = self.decoder(queries, memory, position, mask)
        outputs: dict[str, Any] = self._predict(given[-1])
        if self.mask_attention is not None and self.mask_head is not None:
            placed = memory.mT.unflatten(2, x.shape[2:])
            weights = self.mask_attention(given[-1], placed, None if padding is None else valid)
            outputs["pred_masks"] = self.mask_head(x, weights, features[-2::-1])
        if self.training if auxiliary is None else auxiliary:
            outputs["aux_outputs"] = [self._predict(each) for each in given[:-1]]
        return outputs

    def _predict(self, x: Tensor) -> dict[str, Tensor]:
        return {"pred_logits": self.class_embed(x), "pred_boxes": self.bbox_embed(x).sigmoid()}


class BoxHead(nn.Module):
    """Three linear layers with ReLU between them: (batch, query, channel) -> (batch, query, 4), before the sigmoid."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        widths = (embed_dim, embed_dim, embed_dim, 4)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(second(first(x).relu()).relu())


def _padded(images: Sequence[Tensor], padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Pictures with zeros to the right and below, and where these are, if anywhere."""
    shapes = [tuple(image.shape) for image in images]
    if padding is not None or not shapes or {len(shape) for shape in shapes} != {3} or len({s[0] for s in shapes}) > 1:
        raise ValueError(f"DETR takes a batch with its padding, or a list of (channel, height, width); got {shapes}")
    if len(set(shapes)) == 1:
        return torch.stack(list(images)), None
    height, width = (max(shape[axis] for shape in shapes) for axis in (1, 2))
    batch = images[0].new_zeros(len(shapes), shapes[0][0], height, width)
    padding = torch.ones(len(shapes), height, width, dtype=torch.bool, device=batch.device)
    for index, image in enumerate(images):
        batch[index, :, : image.shape[1], : image.shape[2]] = image
        padding[index, : image.shape[1], : image.shape[2]] = False
    return batch, padding


class Settings(TypedDict, total=False):
    """What every builder takes; DETR says what each means, and ResNet what width does to the backbone."""

    num_classes: int
    num_queries: int
    embed_dim: int
    num_heads: int
    hidden_channels: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    pre_norm: bool
    positions: str
    dilation: bool
    panoptic: bool
    frozen: bool
    mechanism: str | Callable[[int], nn.Module] | None
    options: Options | None
    position: Position | None
    stages: Sequence[int] | None
    blocks: Sequence[tuple[int, int]] | int | None
    width: float


def detr_resnet50(**settings: Unpack[Settings]) -> DETR:
    """DETR on ResNet-50: 41.5 million parameters, 42.0 AP on COCO as released; 43.3 with dilation=True."""
    return _on({"block": "bottleneck", "depths": (3, 4, 6, 3)}, settings)


def detr_resnet101(**settings: Unpack[Settings]) -> DETR:
    """DETR on ResNet-101: 60.5 million parameters, 43.5 AP on COCO as released; 44.9 with dilation=True."""
    return _on({"block": "bottleneck", "depths": (3, 4, 23, 3)}, settings)


def detr_tiny(**settings: Unpack[Settings]) -> DETR:
    """DETR of 1.5 million parameters, for small pictures on processor cores and random weights: a step of 8 pixels."""
    defaults: Settings = {
        "num_queries": 20,
        "embed_dim": 128,
        "num_heads": 4,
        "hidden_channels": 512,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "dropout": 0.0,
        "frozen": False,
    }
    return _on({"block": "basic", "depths": (1, 1, 1), "base_width": 32, "stem": "tiny"}, defaults | settings)


def _on(backbone: dict[str, Any], settings: Settings) -> DETR:
    options: dict[str, Any] = dict(settings)
    width = options.pop("width", 1.0)
    return DETR(backbone if width == 1.0 else backbone | {"width": width}, **options)
