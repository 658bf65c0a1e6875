"""The first axis of a captured map: the batch, or the windows and patches of each sample that are folded into it."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.nest import Nest
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.tnt import TNT
from torch import nn

import foveate as fv
from foveate.capture import Maps

Build = Callable[[], nn.Module]
SMALL_TNT = {"patch_size": 16, "embed_dim": 24, "inner_dim": 8, "depth": 1, "num_heads_inner": 2, "num_heads_outer": 2}
SMALL_SWIN = {"patch_size": 2, "embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4, "num_classes": 3}
SMALL_NEST = {"embed_dims": (8, 8, 8), "num_heads": (2, 2, 2), "depths": (1, 1, 1), "num_classes": 3}
FOLDED: dict[str, tuple[Build, int, str]] = {  # builder, side of the pictures, a tap whose windows are folded
    "mobilevit": (
        lambda: timm.create_model("mobilevit_xxs", num_classes=3),
        64,
        "stages.2.1.transformer.0.attn.weights",
    ),
    "tnt": (lambda: TNT(img_size=32, num_classes=3, **SMALL_TNT), 32, "blocks.0.attn_in.weights"),
    "tnt, four times as many patches": (lambda: TNT(img_size=64, **SMALL_TNT), 64, "blocks.0.attn_in.weights"),
    "swin": (lambda: SwinTransformer(img_size=16, **SMALL_SWIN), 16, "layers.0.blocks.0.attn.weights"),
    "swin v2": (lambda: SwinTransformerV2(img_size=16, **SMALL_SWIN), 16, "layers.0.blocks.1.attn.weights"),
}
PLAIN: dict[str, tuple[Build, int, str]] = {  # likewise, a tap whose first axis is the batch
    "the outer attention of tnt": (lambda: TNT(img_size=32, **SMALL_TNT), 32, "blocks.0.attn_out.weights"),
    "nest": (lambda: Nest(img_size=64, **SMALL_NEST), 64, "levels.0.transformer_encoder.0.attn.weights"),
    "a vision transformer": (
        lambda: timm.create_model("test_vit", num_classes=3, img_size=32),
        32,
        "blocks.0.attn.weights",
    ),
}


def captured(build: Build, side: int) -> tuple[Maps, Maps]:
    """The maps of two pictures, and those of the second one alone."""
    torch.manual_seed(0)
    model, pictures = build().eval(), torch.randn(2, 3, side, side)
    with fv.capture(model) as both, torch.no_grad():
        model(pictures)
    with fv.capture(model) as alone, torch.no_grad():
        model(pictures[1:])
    return both, alone


@pytest.mark.parametrize(("build", "side", "tap"), FOLDED.values(), ids=FOLDED)
def test_folded_patches_are_named_windows(build: Build, side: int, tap: str):
    both, alone = captured(build, side)
    assert both.axes[tap] == "window head query key"
    assert len(both[tap]) == 2 * len(alone[tap]) > 2
    torch.testing.assert_close(both[tap][len(alone[tap]) :], alone[tap], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("build", "side", "tap"), PLAIN.values(), ids=PLAIN)
def test_a_row_is_a_sample_where_nothing_is_folded(build: Build, side: int, tap: str):
    both, alone = captured(build, side)
    assert both.axes[tap].startswith("batch ")
    assert both[tap].shape == (2, *alone[tap].shape[1:])
    torch.testing.assert_close(both[tap][1], alone[tap][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilevit", "tnt", "swin"])
def test_wrapping_the_model_changes_no_axis(name: str):
    build, _, tap = FOLDED[name]
    model = build()
    assert fv.taps(nn.DataParallel(model)) == fv.taps(model)
    assert fv.taps(nn.Sequential(model))[f"0.{tap}"] == "window head query key"
