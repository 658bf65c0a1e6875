"""Put CBAM into a ResNet-18, see that nothing changes yet, look at its gates, and take it out again.

python examples/insert_and_see.py
"""

import torch
from torchvision import models

import foveate as fv

torch.manual_seed(0)
host = models.resnet18(weights=None).eval()  # weights="DEFAULT" where the published weights can be downloaded
images = torch.randn(2, 3, 64, 64)
before = host(images)

sites = fv.insert(host, "layer3.*", "cbam", reduction=8)
print("inserted after", ", ".join(f"{site.name} ({site.channels} channels)" for site in sites))
print("the host computes what it did:", torch.equal(host(images), before))

with fv.capture(host) as maps:
    host(images)
for name, gate in maps.items():
    print(f"{name}: {maps.axes[name]} {tuple(gate.shape)}, mean {gate.mean():.3f}")

with fv.edit(host, {"**.spatial_gate": 1.0}):  # ablate the spatial gates
    host(images)

cost = fv.profile(host, (1, 3, 64, 64))
print(f"{cost.parameters:,} parameters, {cost.macs:,} MACs, {cost.latency_ms:.1f} ms")

fv.remove(host, "layer3.*")
print("the host is as it was:", torch.equal(host(images), before))
