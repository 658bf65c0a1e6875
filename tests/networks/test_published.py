"""Outputs and gradients of whole networks, against the numbers of the code that published them."""

import re

import pytest
from tests.golden import published

from foveate.layers import ECA
from foveate.networks import catalogue

# What the publishers call the parts of a mechanism; a pattern of theirs -> ours.
MOSKOMULE = [(r"\.se\.fc\.0", ".mechanism.fc1"), (r"\.se\.fc\.2", ".mechanism.fc2")]
CADENE = [(r"^layer0\.", ""), ("se_module", "mechanism"), ("last_linear", "fc")]
ECANET = [(r"\.eca\.", ".mechanism.")]
JONGCHAN = [
    (r"cbam\.ChannelGate\.mlp\.1", "mechanism.fc1"),
    (r"cbam\.ChannelGate\.mlp\.3", "mechanism.fc2"),
    (r"cbam\.SpatialGate\.spatial\.conv", "mechanism.spatial.conv"),
    (r"cbam\.SpatialGate\.spatial\.bn", "mechanism.spatial.norm"),
    (r"channel_att\.gate_c\.gate_c_fc_0", "channel.reduce"),
    (r"channel_att\.gate_c\.gate_c_bn_1", "channel.norm"),
    (r"channel_att\.gate_c\.gate_c_fc_final", "channel.expand"),
    (r"spatial_att\.gate_s\.gate_s_conv_reduce0", "spatial.reduce"),
    (r"spatial_att\.gate_s\.gate_s_bn_reduce0", "spatial.norm"),
    (r"spatial_att\.gate_s\.gate_s_conv_di_0", "spatial.conv1"),
    (r"spatial_att\.gate_s\.gate_s_bn_di_0", "spatial.norm1"),
    (r"spatial_att\.gate_s\.gate_s_conv_di_1", "spatial.conv2"),
    (r"spatial_att\.gate_s\.gate_s_bn_di_1", "spatial.norm2"),
    (r"spatial_att\.gate_s\.gate_s_conv_final", "spatial.project"),
]
# BAM k stands behind the last block of stage k.
BAM18 = [(rf"^bam{stage}\.", f"layer{stage}.1.mechanism.") for stage in (1, 2, 3)]
BAM50 = [(rf"^bam{stage}\.", f"layer{stage}.{last}.mechanism.") for stage, last in ((1, 2), (2, 3), (3, 5))]

SE = {"mechanism": "se", "options": {"bias": False}}
BAM = {"mechanism": "bam", "options": {"combine": "product"}}
CAFFE = {"mechanism": "se", "stem_pool": "ceil"}
ECA18 = {"mechanism": "eca", "options": {"kernel_size": 3}}
ECA50 = {"mechanism": lambda channels: ECA(channels, {256: 3, 512: 3, 1024: 5, 2048: 7}[channels])}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("golden", "network", "options", "names"),
    [
        slow("resnet18_se", "resnet18", SE, MOSKOMULE),
        slow("resnet18_eca", "resnet18", ECA18, ECANET),
        ("resnet18_cbam_cifar", "resnet18", {"mechanism": "cbam", "stem": "cifar", "num_classes": 100}, JONGCHAN),
        slow("resnet18_cbam", "resnet18", {"mechanism": "cbam"}, JONGCHAN),
        slow("resnet18_bam", "resnet18", BAM, JONGCHAN + BAM18),
        slow("resnet50_se", "resnet50", SE, MOSKOMULE),
        slow("resnet50_eca", "resnet50", ECA50, ECANET),
        slow("resnet50_cbam", "resnet50", {"mechanism": "cbam"}, JONGCHAN),
        slow("resnet50_bam", "resnet50", BAM, JONGCHAN + BAM50),
        slow("se_resnet50_caffe", "resnet50", CAFFE | {"stride_in": "1x1"}, CADENE),
        slow("se_resnext50_32x4d_caffe", "resnext50_32x4d", CAFFE, CADENE),
    ],
)
def test_it_computes_what_its_publisher_computes(golden, network, options, names):
    def our_key(key: str) -> str:
        for theirs, ours in names:
            key = re.sub(theirs, ours, key)
        return key

    published.check(golden, catalogue.build(network, **options), our_key)
