import pytest
import timm
import torch
import torchvision
from torch import nn

from foveate.surgery import default_sites
from foveate.surgery.sites import find_modules

HOSTS = {
    "timm resnet50": (lambda: timm.create_model("resnet50"), 16, "layer1.0"),
    "timm convnext_tiny": (lambda: timm.create_model("convnext_tiny"), 18, "stages.0.blocks.0"),
    "timm efficientnet_b0": (lambda: timm.create_model("efficientnet_b0"), 16, "blocks.0.0"),
    "timm vit_tiny": (lambda: timm.create_model("vit_tiny_patch16_224"), 12, "blocks.0"),
    "timm swin_tiny": (lambda: timm.create_model("swin_tiny_patch4_window7_224"), 12, "layers.0.blocks.0"),
    "timm mobilenetv3": (lambda: timm.create_model("mobilenetv3_small_100"), 11, "blocks.0.0"),
    "timm res2net": (lambda: timm.create_model("res2net50_26w_4s"), 16, "layer1.0"),
    "torchvision resnet18": (torchvision.models.resnet18, 8, "layer1.0"),
    "torchvision mobilenet_v3": (torchvision.models.mobilenet_v3_small, 11, "features.1"),
    "torchvision efficientnet": (torchvision.models.efficientnet_b0, 16, "features.1.0"),
    "torchvision convnext": (torchvision.models.convnext_tiny, 18, "features.1.0"),
    "torchvision swin": (torchvision.models.swin_t, 12, "features.1.0"),
    "torchvision vit": (torchvision.models.vit_b_16, 12, "encoder.layers.encoder_layer_0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_the_usual_place_is_behind_every_block(name):
    build, number, first = HOSTS[name]
    with torch.device("meta"):
        host = build()
    found = find_modules(host, default_sites(host))
    assert len(found) == number
    assert next(iter(found)) == first


def test_of_blocks_inside_blocks_the_outer_ones_count():
    class Block(nn.Module):
        pass

    class DenseBlock(nn.ModuleDict):
        pass

    host = nn.Module()
    host.outer = Block()
    host.outer.inner = Block()
    host.outermost = Block()
    host.dense = DenseBlock()
    where = default_sites(host)
    assert [name for name, module in host.named_modules() if where(name, module)] == ["outer", "outermost"]


def test_where_nothing_is_known_the_caller_is_asked():
    with torch.device("meta"), pytest.raises(LookupError, match=r"no usual place is known in VGG; say where.*features"):
        default_sites(torchvision.models.vgg11())
