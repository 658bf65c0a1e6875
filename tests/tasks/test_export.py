"""Exported files compute what the network computes, say what they are, and are not written otherwise."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.capture import Tap, capture
from foveate.errors import ExportError, FoveateError, MissingExtra, RunError
from foveate.layers import ECA, catalogue
from foveate.networks import DETR, resnet_tiny
from foveate.networks.published import packed
from foveate.surgery import insert
from foveate.tasks import programs
from foveate.tasks.classify_run import load_run
from foveate.tasks.config import RunConfig, TrainingConfig
from foveate.tasks.export import Exported, export, export_run
from foveate.tasks.hosts import build_network
from foveate.tasks.preprocess import KEY, Preprocess
from foveate.tasks.programs import FORMATS, LOGITS, Format, WithMaps, quiet, trace
from foveate.tasks.summary import Summary

PAIRWISE = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
VARIANTS = {f"nonlocal-{pairwise}": ("nonlocal", {"pairwise": pairwise}) for pairwise in PAIRWISE}
# The others are made of the same operators, and each takes half a minute; docs/export.md has the differences of all.
MECHANISMS = ["cbam", "nonlocal-concatenation"]
PREPROCESS = Preprocess(["bar", "cross", "dot"], 3, (40, 40), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def awake(network: nn.Module) -> nn.Module:
    """In evaluation, its weights and statistics off their start, so that nothing hides behind a zero."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim > 1:
            tensor.data.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.data.uniform_(0.2, 0.9, generator=generator)
    return network.eval()


def tiny(name: str) -> nn.Module:
    mechanism, options = VARIANTS.get(name, (name, None))
    return awake(resnet_tiny(num_classes=5, mechanism=mechanism, options=options, blocks=[(2, 0)]))


def pictures(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def opened(exported: Exported):
    return FORMATS[exported.format].open(Path(exported.path).read_bytes())


def check(network: nn.Module, exported: Exported, images: Tensor) -> None:
    """The file gives the network's outputs and maps, by name, at an input that the export did not see."""
    with torch.no_grad():
        answer = network(images)
        wanted = dict(answer) if isinstance(answer, dict) else {LOGITS: answer}
        assert list(exported.outputs) == list(wanted)
        if exported.maps:
            with capture(network) as maps:
                network(images)
            assert list(exported.maps) == list(maps)
            wanted |= maps
    found = opened(exported)(images)
    names = [*exported.outputs, *exported.maps]
    assert list(found) == names
    for name in names:
        size = wanted[name].abs().max().item()
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=2e-5 * size)


def finished(folder: Path, config: TrainingConfig, network: nn.Module, **texts: str) -> Path:
    """The folder of a finished run, without the training."""
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    (folder / "model.safetensors").write_bytes(packed(network.state_dict(), texts))
    summary: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Summary) if field.name != "version"}
    (folder / "summary.json").write_text(Summary(**summary).to_json())
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of cbam."""
    config = RunConfig(network="resnet_tiny", mechanism="cbam")
    network = awake(build_network(config, 3, (3, 40, 40))[0])
    return finished(tmp_path / "run", config, network, **{KEY: PREPROCESS.to_json()})


@pytest.mark.slow
def test_an_archive_gives_output_and_maps_at_other_sizes_and_knows_no_path(tmp_path: Path):
    layer = awake(ECA(7)).train()
    exported = export(layer, tmp_path / "eca.pt2", (7, 11), format="pt2", maps=True, metadata={"classes": ["a"]})
    assert exported.input == ("batch", 7, "length")
    assert exported.maps == {"gate": "batch channel"}
    assert exported.fixed is None
    assert exported.checked == ((1, 7, 11), (3, 7, 15))
    assert exported.largest_difference < 1e-6
    assert layer.training
    check(layer.eval(), exported, pictures(5, 7, 23))
    extra = {"foveate.json": ""}
    torch.export.load(tmp_path / "eca.pt2", extra_files=extra)
    said = {"classes": ["a"], "maps": {"gate": "batch channel"}, "foveate.version": foveate.__version__}
    assert json.loads(extra["foveate.json"]) == said == exported.metadata
    assert str(Path(foveate.__file__).parent).encode() not in (tmp_path / "eca.pt2").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["eca.pt2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_exports_with_its_maps_in_both_formats(tmp_path: Path, monkeypatch, name):
    monkeypatch.setattr(programs, "trace", once(trace))
    network = tiny(name)
    for kind in ("pt2", "onnx"):
        exported = export(network, tmp_path / f"tiny.{kind}", (3, 40, 40), format=kind, maps=True)
        assert exported.input == ("batch", 3, "height", "width")
        assert len(exported.maps) > 0
        check(network, exported, pictures(2, 3, 65, 44))
        check(network, exported, pictures(4, 3, 24, 24))


def once(function):
    """The answer to the first call, at every call: a trace takes seconds, and both formats start from the same."""
    held = []
    return lambda *arguments: held[0] if held else held.append(function(*arguments)) or held[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("pt2", "none"),
        ("pt2", "nonlocal-concatenation"),
        ("onnx", "none"),
        *(("onnx", name) for name in VARIANTS if name != "nonlocal-gaussian"),
    ],
)
def test_without_maps_none_is_formed_or_given(tmp_path: Path, kind, name):
    network = tiny(name) if name != "none" else awake(resnet_tiny(num_classes=5))
    exported = export(network, tmp_path / f"tiny.{kind}", (3, 40, 40), format=kind)
    assert exported.maps == {}
    check(network, exported, pictures(3, 3, 72, 33))


@pytest.mark.slow
def test_a_timm_host_with_an_inserted_mechanism_exports(tmp_path: Path, monkeypatch):
    import timm

    monkeypatch.setattr(programs, "trace", once(trace))
    host = timm.create_model("resnet14t", num_classes=5)
    insert(host, "layer3.0", lambda channels: catalogue.build("cbam", channels), example=pictures(2, 3, 64, 64))
    awake(host)
    for kind in FORMATS:
        exported = export(host, tmp_path / f"host.{kind}", (3, 64, 64), format=kind, maps=True)
        assert exported.input == ("batch", 3, "height", "width")
        assert "layer3.0.inserted.mechanism.spatial_gate" in exported.maps
        check(host, exported, pictures(3, 3, 97, 80))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_host_of_one_size_keeps_it_and_says_so(tmp_path: Path, kind):
    import timm

    host = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=1, img_size=32).eval()
    insert(host, "blocks.0", lambda channels: catalogue.build("eca", channels), example=pictures(2, 3, 32, 32))
    nn.init.constant_(host.get_parameter("blocks.0.inserted.alpha"), 0.7)
    exported = export(host, tmp_path / f"vit.{kind}", (3, 32, 32), format=kind, maps=True)
    assert exported.input == ("batch", 3, 32, 32)
    assert exported.fixed == "the network takes no other size"
    assert exported.checked == ((1, 3, 32, 32), (3, 3, 32, 32))
    assert exported.maps == {
        "blocks.0.inserted.mechanism.gate": "batch channel",
        "blocks.0.attn.weights": "batch head query key",
    }
    with torch.no_grad(), capture(host) as maps:
        logits = host(images := pictures(5, 3, 32, 32))
    found = opened(exported)(images)
    torch.testing.assert_close(found, {LOGITS: logits, **maps}, rtol=0, atol=1e-5)


DETECTORS = {
    "panoptic": {"panoptic": True, "num_heads": 8, "encoder_layers": 1, "decoder_layers": 2},
    "dc5, learned": {"dilation": True, "positions": "learned", "encoder_layers": 0, "decoder_layers": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_exports_with_its_names_and_maps_for_any_height_and_width(tmp_path: Path, monkeypatch, name):
    monkeypatch.setattr(programs, "trace", once(trace))
    host = {"block": "basic", "depths": (1, 1, 1, 1), "base_width": 8}
    sizes = {"num_classes": 5, "num_queries": 7, "embed_dim": 16, "num_heads": 2, "hidden_channels": 24}
    network = awake(DETR(host, **{**sizes, **DETECTORS[name]}))
    for kind in FORMATS:
        exported = export(network, tmp_path / f"detr.{kind}", (3, 64, 96), format=kind, maps=True)
        assert exported.input == ("batch", 3, "height", "width")
        assert exported.outputs == ("pred_logits", "pred_boxes", *["pred_masks"] * (name == "panoptic"))
        assert exported.checked == ((1, 3, 64, 96), (3, 3, 86, 121))
        assert "decoder.layers.0.cross_attn.weights" in exported.maps
        check(network, exported, pictures(2, 3, 70, 59))
        check(network, exported, pictures(1, 3, 33, 128))


@pytest.mark.slow
def test_a_detector_exports_without_forming_its_maps(tmp_path: Path):
    host = {"block": "basic", "depths": (1, 1, 1), "base_width": 8}
    network = awake(DETR(host, num_queries=7, embed_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1))
    exported = export(network, tmp_path / "detr.pt2", (3, 64, 96), format="pt2")
    assert exported.maps == {}
    check(network, exported, pictures(2, 3, 70, 59))
    program = torch.export.load(exported.path)
    assert not any("softmax" in str(node.target) for node in program.graph.nodes)


class Choosy(nn.Module):
    """Computes something else where the width is a multiple of eight."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = ECA(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate(x)
        return x.sum(dim=-1) if x.shape[-1] % 8 == 0 else x.mean(dim=-1)


@pytest.mark.slow
def test_a_trace_that_holds_at_one_size_only_keeps_that_size_and_says_why(tmp_path: Path):
    exported = export(Choosy(), tmp_path / "a.pt2", (3, 16), format="pt2")
    assert exported.input == ("batch", 3, 16)
    assert exported.fixed is not None
    assert exported.fixed.startswith("torch.export cannot leave it open: ")
    asked = export(Choosy(), tmp_path / "a.pt2", (3, 16), format="pt2", fixed_size=True)
    assert (asked.input, asked.fixed) == (("batch", 3, 16), "as asked for")


def wrong(run):
    """A format whose files compute something else."""
    return Format(lambda *_: b"content", lambda content: run, "torch")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (lambda x: {LOGITS: x * 1.5}, r"differs from the network at \(1, 3, 16\): logits by .* where 0.0001 is put up"),
        (lambda x: {LOGITS: x[:, :1]}, "logits by inf of its largest value"),
        (lambda x: {LOGITS: x * torch.nan}, "logits by nan of its largest value"),
    ],
)
def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch, run, sentence):
    monkeypatch.setitem(FORMATS, "pt2", wrong(run))
    with pytest.raises(ExportError, match=sentence):
        export(nn.Identity(), tmp_path / "new" / "a.pt2", (3, 16), format="pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_run_or_cannot_be_made_is_told(tmp_path: Path, monkeypatch):
    def fail(*_: object):
        raise RuntimeError("Summary:\n- no such operator") from ValueError("the cause:\n- first of all")

    monkeypatch.setitem(FORMATS, "pt2", wrong(fail))
    with pytest.raises(ExportError, match=r"the exported Identity does not run at \(1, 3, 16\): first of all"):
        export(nn.Identity(), tmp_path / "a.pt2", (3, 16), format="pt2")
    monkeypatch.setitem(FORMATS, "pt2", Format(fail, wrong(fail).open, "torch"))
    with pytest.raises(ExportError, match="Identity cannot be written as pt2: first of all"):
        export(nn.Identity(), tmp_path / "a.pt2", (3, 16), format="pt2")
    monkeypatch.setattr(programs, "trace", fail)
    with pytest.raises(ExportError, match="Identity cannot be traced: first of all"):
        export(nn.Identity(), tmp_path / "a.pt2", (3, 16), format="pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_cannot_be_exported_is_a_sentence(tmp_path: Path, monkeypatch):
    layer, path = ECA(3), tmp_path / "a.pt2"
    with pytest.raises(ValueError, match="format takes onnx or pt2; got 'tflite'"):
        export(layer, path, (3, 16), format="tflite")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"shape takes channels and one to three sizes of space; got \(3,\)"):
        export(layer, path, (3,), format="pt2")
    with pytest.raises(ValueError, match="tolerance must be greater than 0; got -1"):
        export(layer, path, (3, 16), format="pt2", tolerance=-1)
    with pytest.raises(ValueError, match=r"the onnx file is called NAME\.onnx; got .*a\.pt2"):
        export(layer, path, (3, 16), format="onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match=r"an export is one file; .*folder\.onnx is a folder"):
        export(layer, tmp_path / "folder.onnx", (3, 16))
    with pytest.raises(LookupError, match="Identity has no taps"):
        export(nn.Identity(), path, (3, 16), format="pt2", maps=True)
    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], limit_bytes=3))
    with pytest.raises(ValueError, match=r"onnx takes at most 0.00 GiB of weights; ECA has 0.00 GiB: take pt2"):
        export(layer, tmp_path / "a.onnx", (3, 16))
    with pytest.raises(RunError, match="no run folder"):
        export_run(tmp_path, path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file.* cannot be written: "):
        export(layer, tmp_path / "file" / "a.pt2", (3, 16), format="pt2")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.onnx"]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    told = rf"this needs {package}, which is not installed; pip install 'foveate\[export\]' brings it"
    with pytest.raises(MissingExtra, match=told):
        export(ECA(3), tmp_path / "a.onnx", (3, 16))


def test_what_exporters_say_is_dropped_and_what_they_raise_is_not(capfd):
    import logging
    import warnings

    def talk() -> None:
        print("printed")
        warnings.warn("warned", stacklevel=1)
        logger.error("logged")
        raise FoveateError("told")

    logger = logging.getLogger("torch.onnx")
    logger.addHandler(handler := logging.StreamHandler(sys.stderr))  # as torch does, before anybody redirects
    with pytest.raises(FoveateError, match="told"), quiet():
        talk()
    logger.removeHandler(handler)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


class Rewriting(nn.Module):
    """Writes into its map behind the tap."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Tap("batch channel *space")

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x.sigmoid()).mul_(x)


def test_a_map_that_appears_twice_is_joined_and_one_that_is_written_into_is_given_as_it_was():
    network, x = nn.Sequential(layer := Rewriting(), layer), pictures(2, 3, 5)
    with capture(network) as maps:
        network(x)
    assert torch.equal(WithMaps(network, ["0.gate"])(x)["0.gate"], maps["0.gate"])


class Named(nn.Module):
    """A gate and what it is for, by name; at will something that is no tensor."""

    def __init__(self, *parts: object) -> None:
        super().__init__()
        self.gate = Tap("batch channel *space")
        self.parts = parts

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"passed": x * self.gate(x.sigmoid()), "sum": x.sum(dim=1), **dict.fromkeys("a", *self.parts)}


def test_outputs_have_the_networks_own_names():
    network, x = Named(torch.zeros(1)), pictures(2, 3, 5)
    assert programs.output_names(network, x) == ["passed", "sum", "a"]
    assert programs.output_names(nn.Identity(), x) == [LOGITS]
    found = WithMaps(network, ["gate"])(x)
    assert list(found) == ["passed", "sum", "a", "gate"]
    assert torch.equal(found["gate"], x.sigmoid())
    assert torch.equal(found["sum"], x.sum(dim=1))


@pytest.mark.parametrize(
    ("network", "found"), [(nn.LSTM(16, 5), "LSTM gives tuple"), (Named([]), "Named gives a dict with list")]
)
def test_a_network_that_gives_something_else_is_told(tmp_path: Path, network, found):
    with pytest.raises(TypeError, match=f"^an exported network gives one tensor or a dict of tensors; {found}$"):
        export(network, tmp_path / "a.pt2", (3, 16), format="pt2")


@pytest.mark.slow
def test_a_run_is_one_file_that_can_be_used_alone(run: Path, tmp_path: Path, capfd):
    import onnxruntime

    exported = export_run(run, tmp_path / "new" / "cbam.onnx", maps=True)
    archived = export_run(run, tmp_path / "new" / "cbam.pt2", format="pt2")
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["cbam.onnx", "cbam.pt2"]
    assert exported.runtime == f"onnxruntime {onnxruntime.__version__}"
    content = Path(exported.path).read_bytes()
    assert b"site-packages" not in content
    assert str(Path(foveate.__file__).parent).encode() not in content

    session = onnxruntime.InferenceSession(content)
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("images", ["batch", 3, "height", "width"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == PREPROCESS.classes
    assert json.loads(said["mean"]) == list(PREPROCESS.mean)
    assert json.loads(said["std"]) == list(PREPROCESS.std)
    assert json.loads(said["input_size"]) == [3, 40, 40]
    assert json.loads(said["maps"]) == exported.maps
    assert "RGB pictures in 0..1" in said["input"]
    assert (said["network"], said["mechanism"]) == ("resnet_tiny", "cbam")
    assert said["foveate.version"] == foveate.__version__
    held = {"foveate.json": ""}
    torch.export.load(archived.path, extra_files=held)
    assert {**json.loads(held["foveate.json"]), "maps": exported.maps} == json.loads(json.dumps(exported.metadata))

    # By the metadata alone, from bytes of a picture to what the run's network says of it.
    picture = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(json.loads(said[name])).view(3, 1, 1) for name in ("mean", "std"))
    (logits,) = session.run(["logits"], {"images": ((picture / 255 - mean) / std).numpy()})
    network, _ = load_run(run)
    torch.testing.assert_close(torch.from_numpy(logits), network(PREPROCESS.normalise(picture)), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_segments_is_one_file_for_its_windows(tmp_path: Path):
    from foveate.data.intensity import Intensity
    from foveate.tasks.segment.config import SegmentConfig
    from foveate.tasks.segment.network import build_network, load_run
    from foveate.tasks.segment.preparation import KEY, Preparation

    config = SegmentConfig(data="nowhere", network="attention_unet", network_options={"widths": [4, 8, 16]})
    rule = Intensity("nonzero")
    preparation = Preparation(["background", "ball"], [0, 1], ["MRI"], 3, (1.0, 1.0, 2.0), [rule], (16, 16, 8))
    network = awake(build_network(config, preparation)[0])
    folder = finished(tmp_path / "run", config, network, **{KEY: preparation.to_json()})
    exported = export_run(folder, tmp_path / "unet.onnx", maps=True)
    assert exported.input == ("batch", 1, 16, 16, 8)
    assert exported.metadata["preparation"]["spacing"] == (1.0, 1.0, 2.0)
    assert exported.metadata["classes"] == ["background", "ball"]
    assert list(exported.maps.values()) == ["batch *space"]
    check(load_run(folder)[0], exported, pictures(4, 1, 16, 16, 8))


class Rank(nn.Module):
    """Where each value of the second half would stand among the sorted first half."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.searchsorted(first.sort(dim=1).values, second.contiguous(), right=self.right).float()


@pytest.mark.slow
@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_means_the_same_in_onnx_where_values_are_equal(right):
    kind, network = FORMATS["onnx"], Rank(right)
    x = torch.randint(0, 4, (3, 14), generator=torch.Generator().manual_seed(3)).float()
    content = kind.write(trace(network, x[:2], {0: "batch"}), [LOGITS], {0: "batch"}, {})
    assert torch.equal(kind.open(content)(x)[LOGITS], network(x))
