"""Parameters and multiply-accumulates of the published networks at 224x224, to the digit.

What ours has stands beside counts made with the same rule (a convolution, a linear layer and a matrix product count;
the rest does not) on the publishers' code where it runs, and on independent modules after the papers where none was
released: the placements of SE and the networks with non-local blocks.
"""

import pytest
import torch

from foveate.compare.cost import count_macs, count_parameters
from foveate.layers import ECA
from foveate.networks import catalogue


def eca(*kernel_sizes, channels):
    """ECA with a kernel size for each stage, known by its channels."""
    return lambda count: ECA(count, kernel_size=dict(zip(channels, kernel_sizes, strict=True))[count])


BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
BIASLESS = {"mechanism": "se", "options": {"bias": False}}
POOLED = {"mechanism": "nonlocal", "options": {"pool": "before"}}
FIRST = {"stride_in": "1x1"}
D = {"stem": "deep", "shortcut": "pool"}
ROUNDED = [{"hidden_channels": width} for width in (8, 8, 16, 32)]

# These stand for all in the fast tests: every mechanism, both geometries, the positions that differ in width.
FAST = [
    ("resnet18", {}, 11_689_512, 1_814_073_344),
    ("resnet18", {"mechanism": "se"}, 11_778_592, 1_814_160_384),
    ("resnet18", {"mechanism": "cbam"}, 11_779_392, 1_815_063_764),
    ("resnet18", {"mechanism": "bam"}, 11_712_503, 1_819_224_000),
    ("resnet18", {"mechanism": eca(3, 5, 7, 7, channels=BASIC)}, 11_689_556, 1_814_085_760),
]
# The other depths, geometries, placements and reductions; the ablations are those of Hu et al. and of Wang et al.
SLOW = [
    ("resnet50", {}, 25_557_032, 4_089_184_256),
    ("resnet50", {"mechanism": "se"} | FIRST, 28_088_024, 3_860_488_192),
    ("resnext50_32x4d", {"mechanism": "se"}, 27_559_896, 4_232_994_816),
    ("resnet50", {"mechanism": "se", "position": "pre"} | FIRST, 27_562_140, 3_859_964_416),
    ("resnet50", {"mechanism": "se", "position": "after_3x3"} | FIRST, 25_718_228, 3_858_130_432),
    ("resnet50", POOLED, 32_915_496, 5_560_545_280),
    ("resnet50", FIRST, 25_557_032, 3_857_973_248),
    ("resnet50", {"mechanism": "se"}, 28_088_024, 4_091_699_200),
    ("resnet50", BIASLESS, 28_071_976, 4_091_699_200),
    ("resnet50", {"mechanism": "cbam"}, 28_089_624, 4_095_573_110),
    ("resnet50", {"mechanism": "bam"}, 25_915_099, 4_171_331_328),
    ("resnet50", {"mechanism": eca(3, 5, 5, 7, channels=BOTTLENECK)}, 25_557_112, 4_089_270_528),
    ("resnet50", {"mechanism": "nonlocal"}, 32_915_496, 6_891_814_912),
    ("resnet34", {}, 21_797_672, 3_663_761_408),
    ("resnet101", {}, 44_549_160, 7_801_405_440),
    ("resnet101", FIRST, 44_549_160, 7_570_194_432),
    ("resnet101", {"mechanism": "se"}, 49_326_872, 7_806_148_608),
    ("resnet101", {"mechanism": "se"} | FIRST, 49_326_872, 7_574_937_600),
    ("resnet101", BIASLESS, 49_292_328, 7_806_148_608),
    ("resnet34", {"mechanism": "cbam"}, 21_960_468, 3_665_434_742),
    ("resnet50", {"mechanism": "cbam"} | FIRST, 28_089_624, 3_864_362_102),
    ("resnet101", {"mechanism": "cbam"}, 49_330_172, 7_812_577_278),
    ("resnet101", {"mechanism": "cbam"} | FIRST, 49_330_172, 7_581_366_270),
    ("resnet34", {"mechanism": "bam"}, 21_820_663, 3_668_912_064),
    ("resnet50", {"mechanism": "bam"} | FIRST, 25_915_099, 3_940_120_320),
    ("resnet101", {"mechanism": "bam"}, 44_907_227, 7_883_552_512),
    ("resnet101", {"mechanism": "bam"} | FIRST, 44_907_227, 7_652_341_504),
    ("resnet34", {"mechanism": eca(3, 3, 5, 7, channels=BASIC)}, 21_797_744, 3_663_781_952),
    ("resnet50", {"mechanism": "eca", "options": {"kernel_size": 3}}, 25_557_080, 4_089_229_568),
    ("resnet50", {"mechanism": "eca"}, 25_557_118, 4_089_272_064),
    ("resnet101", {"mechanism": eca(3, 3, 5, 7, channels=BOTTLENECK)}, 44_549_317, 7_801_574_656),
    ("resnet152", {"mechanism": eca(3, 3, 5, 7, channels=BOTTLENECK)}, 60_193_042, 11_513_868_544),
    ("resnet50", {"mechanism": "se", "options": {"bias": False, "reduction": 2}}, 45_676_584, None),
    ("resnet50", {"mechanism": "se", "options": {"bias": False, "reduction": 4}}, 35_616_808, None),
    ("resnet50", {"mechanism": "se", "options": {"bias": False, "reduction": 8}}, 30_586_920, None),
    ("resnet50", {"mechanism": "se", "options": {"bias": False, "reduction": 32}}, 26_814_504, None),
    ("resnet50", {"mechanism": "se", "position": "post"} | FIRST, 28_088_024, 3_860_488_192),
    ("resnet50", {"mechanism": "se", "position": "identity"} | FIRST, 28_088_024, 3_860_488_192),
    ("resnet50", {"mechanism": "se", "options": {"squeeze": "none"}} | FIRST, 28_088_024, 4_269_015_040),
    ("resnet50", {"mechanism": "se", "stages": (1,)} | FIRST, 25_582_424, None),
    ("resnet50", {"mechanism": "se", "stages": (2,)} | FIRST, 25_690_280, None),
    ("resnet50", {"mechanism": "se", "stages": (3,)} | FIRST, 26_349_992, None),
    ("resnet50", {"mechanism": "se", "stages": (1, 2, 3)} | FIRST, 26_508_632, None),
    ("resnet50", {"mechanism": "nonlocal", "blocks": 1}, 27_658_792, 4_539_564_032),
    ("resnet50", {"mechanism": "nonlocal", "blocks": 10}, 40_273_960, 9_694_445_568),
    ("resnet50", POOLED | {"blocks": 1}, 27_658_792, 4_355_919_872),
    ("resnet50", POOLED | {"blocks": 10}, 40_273_960, 7_031_906_304),
    ("resnet50", POOLED | {"blocks": [(1, 1)]}, 25_689_256, 4_975_493_120),
    ("resnet50", POOLED | {"blocks": [(2, 2)]}, 26_083_624, 4_424_761_344),
    ("resnet50", POOLED | {"blocks": [(4, 1)]}, 33_954_856, 4_333_357_056),
    ("se_resnet18", {}, 11_778_592, 1_814_160_384),
    ("se_resnet50", {}, 28_088_024, 3_860_488_192),
    ("se_resnet101", {}, 49_326_872, 7_574_937_600),
    ("se_resnext50_32x4d", {}, 27_559_896, 4_232_994_816),
    ("se_resnext101_32x4d", {}, 48_955_416, None),
    ("senet154", {}, 115_088_984, 20_688_363_520),
    ("cbam_resnet34", {}, 21_960_468, 3_665_434_742),
    ("bam_resnet34", {}, 21_820_663, 3_668_912_064),
    ("eca_resnet18", {}, 11_689_556, 1_814_085_760),
    ("eca_resnet34", {}, 21_797_744, 3_663_781_952),
    ("eca_resnet50", {}, 25_557_112, 4_089_270_528),
    ("eca_resnet101", {}, 44_549_317, 7_801_574_656),
    ("eca_resnet152", {}, 60_193_042, 11_513_868_544),
    ("eca_mobilenet_v2", {}, 3_504_903, 300_777_952),
    ("nonlocal_resnet50", {}, 32_915_496, 6_891_814_912),
    # timm's seresnet18, whose bottlenecks are rounded to multiples of 8; its ecaresnet50d, 101d and 50t.
    ("resnet18", {"mechanism": "se", "options": ROUNDED}, 11_779_624, 1_814_161_408),
    ("resnet50", {"mechanism": "eca"} | D, 25_576_350, 4_328_912_640),
    ("resnet101", {"mechanism": "eca"} | D, 44_568_563, 8_041_220_864),
    ("resnet50", {"mechanism": "eca", "stem_channels": (24, 32, 64)} | D, 25_573_814, 4_297_301_760),
]


def meta(name, **options):
    """The network on the meta device: shapes are enough for counting, and cost nothing."""
    with torch.device("meta"):
        return catalogue.build(name, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "parameters", "macs"),
    [*FAST, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW)],
)
def test_a_network_has_its_parameters_and_macs_to_the_digit(name, options, parameters, macs):
    network = meta(name, **options)
    assert count_parameters(network) == parameters
    if macs is not None:
        assert count_macs(network, (1, 3, 224, 224)) == macs


@pytest.mark.slow
def test_a_gaussian_map_is_cheaper_to_multiply_than_its_fused_kernel_which_pads_the_values():
    options = {"pairwise": "gaussian", "pool": "before"}
    network = meta("resnet50", mechanism="nonlocal", options=options, blocks=1)
    assert count_parameters(network) == 26_609_192
    small, large = (count_macs(network, (1, 3, side, side)) for side in (224, 1024))
    network.get_submodule("layer3.4.mechanism.weights").register_forward_hook(lambda *_: None)
    assert small == count_macs(network, (1, 3, 224, 224)) == 4_232_386_560  # of few positions the map is formed
    # 64x64 queries, 32x32 pooled keys: values of 512 channels padded to the 1,024 of queries and keys.
    assert large == count_macs(network, (1, 3, 1024, 1024)) + 64**2 * 32**2 * (1024 - 512)
