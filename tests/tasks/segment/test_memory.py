import pytest
import torch
from torch import nn

from foveate.errors import TrainingError
from foveate.tasks.segment import memory


def test_the_memory_of_a_step_is_that_of_its_layers():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(inplace=True), nn.MaxPool3d(2))
    assert memory.step_memory(network, (2, 1, 8, 8, 8)) == 4 * 2 * 4 * (512 + 512 + 64)
    assert memory.step_memory(network, (2, 1, 8, 8, 8), half=True) == 2 * 2 * 4 * (512 + 512 + 64)
    assert next(network.parameters()).device.type == "cpu"


def test_a_patch_that_does_not_fit_is_told_before_it_is_tried(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**30)
    network = nn.Conv3d(1, 64, 3, padding=1)
    where = torch.device("cpu")
    memory.check_memory(network, 1, (64, 64, 64), 8, where, False)
    sentence = r"^16 patches of \(64, 64, 64\) need at least 1.0 GiB of memory, and 1.0 GiB of cpu are free; a smaller"
    memory.check_memory(network, 1, (64, 64, 64), 16, where, False)
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**30 - 1)
    with pytest.raises(TrainingError, match=sentence):
        memory.check_memory(network, 1, (64, 64, 64), 16, where, False)


@pytest.mark.parametrize(
    ("limit", "usage"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)
def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch, limit, usage):
    assert memory._container_memory(tmp_path) == []
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("5000\n")
    (tmp_path / usage).write_text("4500\n")
    (tmp_path / limit).with_name("memory.stat").write_text("anon 4200\ninactive_file 200\nactive_file 100\n")
    assert memory._container_memory(tmp_path) == [800]
    monkeypatch.setattr(memory, "_container_memory", lambda root: [800])
    assert memory.free_memory(torch.device("cpu")) == 800
    monkeypatch.undo()
    (tmp_path / limit).write_text("max\n")
    assert memory._container_memory(tmp_path) == []


def test_this_machine_says_what_is_free():
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or free > 2**20
