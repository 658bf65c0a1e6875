"""The mechanisms, each as its paper has it, for one to three spatial axes."""

from foveate.layers.attention_gate import AttentionGate
from foveate.layers.bam import BAM
from foveate.layers.cbam import CBAM, SpatialGate
from foveate.layers.chain import Chain
from foveate.layers.eca import ECA
from foveate.layers.multi_head import KeyValueCache, MultiHeadAttention
from foveate.layers.non_local import NonLocal
from foveate.layers.placebo import Placebo
from foveate.layers.positions import (
    LearnedPositions,
    LearnedPositions2d,
    SinusoidalPositions,
    SinusoidalPositions2d,
)
from foveate.layers.scse import ScSE
from foveate.layers.se import SE
from foveate.layers.volumetric import VolumetricAttention

__all__ = [
    "BAM",
    "CBAM",
    "ECA",
    "SE",
    "AttentionGate",
    "Chain",
    "KeyValueCache",
    "LearnedPositions",
    "LearnedPositions2d",
    "MultiHeadAttention",
    "NonLocal",
    "Placebo",
    "ScSE",
    "SinusoidalPositions",
    "SinusoidalPositions2d",
    "SpatialGate",
    "VolumetricAttention",
]
