"""Where the layers of other libraries keep their gates and attention maps.

To add a layer, add a row. Classes are known by the names of their module and their own, so that nothing is imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from foveate.capture.patterns import matches

__all__ = ["FOREIGN", "Foreign", "recognise"]


@dataclass(frozen=True)
class Foreign:
    """A kind of layer, and where its map appears.

    Args:
        layer: Pattern over the full name of the class; a subclass counts too, unless it has a row of its own.
        map: What the map is called behind the name of the layer: "gate" or "weights".
        axes: The names of the map's axes.
        at: The child of the layer whose output is the map, or "softmax()" or "sigmoid()": the function by which the
            layer's forward makes it. Fused attention counts as softmax().
        within: Pattern over the full name of the class of a module around the layer and the layer's name in it. The
            row counts only there: some networks fold their patches into the batch of a common layer.
    """

    layer: str
    map: str
    axes: str
    at: str
    within: str = ""


FOLDED = "window head query key"

# The first row that fits is taken. "window" is the batch with the windows of each sample, one after the other; the
# interleaved patches of MobileViT and the patches of TNT, each with pixels of its own, count as windows.
FOREIGN = (
    # torch
    Foreign("torch.nn.**.MultiheadAttention", "weights", "batch head query key", "softmax()"),
    # torchvision
    Foreign("torchvision.ops.misc.SqueezeExcitation", "gate", "batch channel", "scale_activation"),
    Foreign("torchvision.models.**.ShiftedWindowAttention*", "weights", "window head query key", "softmax()"),
    Foreign(
        "torchvision.models.maxvit.RelativePositionalMultiHeadAttention",
        "weights",
        "batch window head query key",
        "softmax()",
    ),
    Foreign("torchvision.models.video.mvit.MultiscaleAttention", "weights", "batch head query key", "softmax()"),
    # timm: gates
    Foreign("timm.models.senet.SEModule", "gate", "batch channel", "sigmoid"),
    Foreign("timm.**.SEModule", "gate", "batch channel", "gate"),
    Foreign("timm.**.EffectiveSEModule", "gate", "batch channel", "gate"),
    Foreign("timm.**.SqueezeExcite", "gate", "batch channel", "gate"),
    Foreign("timm.**.SqueezeExciteCl", "gate", "batch channel", "gate"),
    Foreign("timm.**.EcaModule", "gate", "batch channel", "gate"),
    Foreign("timm.**.CecaModule", "gate", "batch channel", "gate"),
    Foreign("timm.**.GatherExcite", "gate", "batch channel *space", "gate"),
    Foreign("timm.**.cbam.ChannelAttn", "gate", "batch channel", "gate"),
    Foreign("timm.**.cbam.LightChannelAttn", "gate", "batch channel", "sigmoid()"),
    Foreign("timm.**.cbam.*SpatialAttn", "gate", "batch *space", "gate"),
    # timm: attention of patches that a network folds into the batch
    Foreign(
        "timm.**.Attention", "weights", FOLDED, "softmax()", within="timm.**.mobilevit.MobileVitBlock.transformer.**"
    ),
    Foreign("timm.**.tnt.Attention", "weights", FOLDED, "softmax()", within="timm.**.tnt.Block.attn_in"),
    # timm: attention
    Foreign("timm.**.non_local_attn.NonLocalAttn", "weights", "batch query key", "softmax()"),
    Foreign("timm.**.swin_transformer*.Window*Attention", "weights", "window head query key", "softmax()"),
    Foreign("timm.**.gcvit.WindowAttentionGlobal", "weights", "window head query key", "softmax()"),
    Foreign("timm.**.davit.WindowAttention", "weights", "window head query key", "softmax()"),
    Foreign("timm.**.tiny_vit.Attention", "weights", "window head query key", "softmax()"),
    Foreign("timm.**.maxxvit.Attention*", "weights", "window head query key", "softmax()"),
    Foreign("timm.**.vision_transformer_sam.Attention", "weights", "window_head query key", "softmax()"),
    Foreign("timm.**.nest.Attention", "weights", "batch head window query key", "softmax()"),
    Foreign("timm.**.twins.LocallyGroupedAttn", "weights", "batch window head query key", "softmax()"),
    Foreign("timm.**.twins.GlobalSubSampleAttn", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.levit.AttentionDownsample", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.volo.ClassAttention", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.nextvit.EfficientAttention", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.attention2d.MultiQueryAttention2d", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.cait.ClassAttn", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.eva.EvaAttention", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.mvitv2.MultiScaleAttention*", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.vision_transformer_relpos.RelPosAttention", "weights", "batch head query key", "softmax()"),
    Foreign("timm.layers.**.AttentionPool*", "weights", "batch head query key", "softmax()"),
    Foreign("timm.layers.**.AttentionRope", "weights", "batch head query key", "softmax()"),
    Foreign("timm.**.Attention", "weights", "batch head query key", "softmax()"),
    # MONAI
    Foreign("monai.networks.blocks.**.ChannelSELayer", "gate", "batch channel", "fc"),
    Foreign("monai.networks.nets.attentionunet.AttentionBlock", "gate", "batch *space", "psi"),
    Foreign("monai.networks.blocks.**.SABlock", "weights", "batch head query key", "softmax()"),
    Foreign("monai.networks.blocks.**.CrossAttentionBlock", "weights", "batch head query key", "softmax()"),
    Foreign("monai.networks.nets.swin_unetr.WindowAttention", "weights", "window head query key", "softmax()"),
)


def recognise(layer: nn.Module, places: Sequence[str] = ()) -> Foreign | None:
    """Return the row of FOREIGN that describes a layer, if there is one.

    Args:
        layer: The layer.
        places: For each module around the layer, the full name of the module's class and the layer's name in it.
    """
    for kind in type(layer).__mro__:
        for row in _rows(f"{kind.__module__}.{kind.__qualname__}"):
            if not row.within or any(matches(row.within, place) for place in places):
                return row
    return None


@lru_cache(maxsize=4096)
def _rows(name: str) -> tuple[Foreign, ...]:
    return tuple(row for row in FOREIGN if matches(row.layer, name))
