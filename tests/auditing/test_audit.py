"""Faults of public copies, rebuilt, are named; honest copies are not."""

import copy

import pytest
import torch
from tests.auditing import copies
from torch import nn

from foveate import layers
from foveate.auditing import audit

EXACT = 1e-9


def fault(copy_of, name, kinds, *, fast=False, notes=(), **options):
    """A copy, the mechanism that it claims to be, and the kinds of its deviations: all of them and no other."""
    marks = () if fast else pytest.mark.slow
    return pytest.param(copy_of, name, set(kinds), set(notes), options, marks=marks, id=type(copy_of).__name__)


FAULTS = [
    fault(copies.SEWithOneBias(64, 4), "SE", {"bias"}, fast=True),
    fault(copies.PlainSE(64, 8), "SE", {}, notes={"width"}),
    fault(copies.PlainSE(96, 8), "SE", {}, notes={"width"}),
    fault(copies.SEOfMaxima(64, 4), "SE", {"squeeze"}),
    fault(copies.SEAddingX(64, 4), "SE", {"extra-residual", "gate-range"}),
    fault(copies.SEOverAllSamples(64, 4), "SE", {"squeeze", "batch-dependence", "input-independent"}),
    fault(copies.SEWithoutSigmoid(64, 4), "SE", {"missing-sigmoid", "gate-range"}),
    fault(copies.PlainECA(3, bias=True), "ECA", {"bias"}),
    fault(copies.PlainECA(3), "ECA", {}, channels=256, notes={"kernel-size"}),
    fault(copies.ECAOfEvenKernel(4), "ECA", {"kernel-size"}),
    fault(copies.ECAInACircle(5), "ECA", {"padding"}, fast=True),
    fault(copies.ECAAcrossSamples(3), "ECA", {"wrong-axis", "batch-dependence"}),
    fault(copies.ECASqueezed(3), "ECA", {"batch-of-one"}),
    fault(copies.CBAMOfManyParameters(64, 4), "CBAM", {"kernel-size", "norm", "bias", "extra-residual", "gate-range"}),
    fault(copies.CBAMOfOneLayer(64), "CBAM", {"no-bottleneck", "missing-pool", "norm", "pool-order"}),
    fault(copies.CBAMWithMeanFirst(64, 4), "CBAM", {"pool-order"}, fast=True),
    fault(copies.CBAMOfTwoMeans(64, 4), "CBAM", {"pooled-twice"}),
    fault(copies.CBAMOfTwoSigmoids(64, 4), "CBAM", {"sigmoid-before-sum", "gate-range"}),
    fault(copies.CBAMOfTwoPerceptrons(64, 4), "CBAM", {"unshared-perceptron"}),
    fault(copies.CBAMEndingInReLU(64, 4), "CBAM", {"relu-after-second-layer"}),
    fault(copies.CBAMWithoutSpatialSigmoid(64, 4), "CBAM", {"missing-sigmoid", "gate-range"}),
    fault(copies.CBAMWithSpatialReLU(64, 4), "CBAM", {"relu-before-sigmoid"}),
    fault(copies.CBAMSpatialFirst(64, 4), "CBAM", {"gate-order"}),
    fault(copies.CBAMInParallel(64, 4), "CBAM", {"gate-order"}),
    fault(copies.CBAMAnsweringItsMap(64, 4), "CBAM", {}, notes={"start", "outputs"}),
    fault(copies.BAMOfOneMapValue(64, 4), "BAM", {"number-of-kernels", "geometry", "constant-map", "sizes"}),
    fault(copies.ReleasedBAM(64, 4), "BAM", {"square-only"}, fast=True, notes={"form"}),
    fault(copies.BAMAddingX(64, 4), "BAM", {"extra-residual", "gate-range"}),
    fault(copies.BAMOfTwoSigmoids(64, 4), "BAM", {"sigmoid-before-sum", "gate-range"}),
    fault(copies.BAMNormalisedAtTheEnds(64, 4), "BAM", {"norm"}),
    fault(copies.NonLocalOverQueries(16, 8), "NonLocal", {"softmax-axis"}),
    fault(copies.NonLocalScaledUp(16, 8), "NonLocal", {"scale"}),
    fault(copies.NonLocalWithDeadSoftmax(16, 8), "NonLocal", {"missing-softmax"}, notes={"dead-part"}),
    fault(copies.NonLocalPoolingTime(16, 8), "NonLocal", {"pooling-in-time"}),
    fault(copies.NonLocalPoolingQueries(16, 8), "NonLocal", {"pooled-queries"}),
    fault(copies.NonLocalWithoutX(16, 8), "NonLocal", {"missing-residual"}),
    fault(copies.NonLocalAwayFromIdentity(16, 8), "NonLocal", {}, notes={"start"}),
    fault(copies.NonLocalOfOneLearnedNumber(16, 8), "NonLocal", {"no-output-projection", "learned-factor"}),
    fault(copies.GateResizingScores(16, 32, 8), "AttentionGate", {"resized-scores"}, fast=True),
    fault(copies.GateAtTheSkip(32, 16, 8), "AttentionGate", {"norm", "grid"}, notes={"argument-order"}),
    fault(copies.GateAtTheSkip(16, 16, 8, swapped=True), "AttentionGate", {"norm", "grid", "swapped-inputs"}),
]


@pytest.mark.parametrize(("module", "name", "kinds", "notes", "options"), FAULTS)
def test_each_fault_is_named_and_nothing_else(module, name, kinds, notes, options):
    found = audit(module, name, **options)
    assert {finding.kind for finding in found.findings if finding.deviates} == kinds, str(found)
    assert {finding.kind for finding in found.findings if not finding.deviates} >= notes, str(found)
    assert found.verdict == ("deviates" if kinds else "agrees")
    assert found.remaining_difference < EXACT, str(found)


HONEST = [
    (copies.PlainSE(64, 4), "SE"),
    (copies.PlainSE(64, 4, bias=False), "SE"),
    (copies.PlainSE(64, 4, convolutions=True), "SE"),
    (copies.PlainECA(5), "ECA"),
    (copies.PlainCBAM(64, 4), "CBAM"),
    (copies.CBAMAnsweringItsMap(64, 4), "CBAM"),
    (copies.PlainBAM(64, 4), "BAM"),
    (copies.PlainNonLocal(16, 8), "NonLocal"),
    (copies.PlainNonLocal(16, 8, sub_sample=True), "NonLocal"),
    (copies.PlainNonLocal(16, 8, dims=3, sub_sample=True), "NonLocal"),
    (copies.ReleasedNonLocal(16, 8), "NonLocal"),
    (copies.DotProductNonLocal(16, 8), "NonLocal"),
    (copies.PlainGate(16, 32, 8), "AttentionGate"),
    (copies.GateAlignedAtCorners(16, 32, 8), "AttentionGate"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), HONEST, ids=lambda value: type(value).__name__)
def test_a_plain_rewriting_of_the_release_comes_out_clean(module, name):
    agrees(audit(module, name))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 48])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_our_own_layers_come_out_clean(channels, dims):
    own = {
        "se": layers.SE(channels),
        "scse": layers.ScSE(channels),
        "eca": layers.ECA(channels),
        "cbam": layers.CBAM(channels, spatial_dims=dims),
        "spatial": layers.SpatialGate(channels, spatial_dims=dims),
        "bam": layers.BAM(channels, spatial_dims=dims),
        "nonlocal": layers.NonLocal(channels),
        "attention-gate": layers.AttentionGate(channels, 2 * channels, spatial_dims=dims),
    }
    for name, layer in own.items():
        agrees(audit(layer, name, spatial_dims=dims))


@pytest.mark.slow
def test_the_forms_of_the_non_local_block_are_told_apart():
    for pairwise in ("embedded_gaussian", "gaussian", "dot_product", "concatenation"):
        for pool in ("none", "before", "after"):
            found = audit(layers.NonLocal(12, pairwise, pool=pool), "nonlocal")
            agrees(found)
            note = next(finding.sentence for finding in found.findings if finding.kind == "form")
            assert pairwise.replace("_", " ") in note
            assert {"none": "no keys", "before": "before", "after": "after"}[pool] in note


@pytest.mark.slow
def test_the_layers_of_timm_and_torchvision():
    from timm.layers import EcaModule, SEModule
    from timm.layers.cbam import CbamModule
    from timm.layers.non_local_attn import NonLocalAttn
    from torchvision.ops import SqueezeExcitation

    agrees(audit(SEModule(256), "SE"))
    agrees(audit(SEModule(64), "SE"))
    agrees(audit(EcaModule(256), "ECA", channels=256))
    agrees(audit(EcaModule(), "ECA"))
    agrees(audit(SqueezeExcitation(64, 4), "SE"))
    found = audit(CbamModule(256), "CBAM")
    assert (found.parameters, found.our_parameters) == (8_292, 8_564)
    assert [finding.kind for finding in found.findings if finding.deviates] == ["bias", "pool-order"]
    assert deviations(audit(NonLocalAttn(64), "NonLocal")) == {"scale"}


@pytest.mark.slow
def test_the_gate_of_monai_is_a_variant():
    nets = pytest.importorskip("monai.networks.nets.attentionunet")
    found = audit(nets.AttentionBlock(2, f_int=8, f_g=16, f_l=16), "AttentionGate")
    assert deviations(found) == {"norm", "grid"}
    assert "argument-order" in {finding.kind for finding in found.findings}


@pytest.mark.slow
def test_parameters_are_those_that_the_release_would_have():
    many = audit(copies.CBAMOfManyParameters(64, 4), "CBAM")
    assert (many.parameters, many.our_parameters) == (5_315, 680)
    one_layer = audit(copies.CBAMOfOneLayer(256), "CBAM")
    assert (one_layer.parameters, one_layer.our_parameters) == (65_890, 8_564)


def test_a_bottleneck_without_channels():
    with pytest.warns(UserWarning, match="zero-element"):
        found = audit(copies.PlainSE(8, 0), "SE")
    assert deviations(found) == {"empty-bottleneck", "input-independent"}
    assert (found.parameters, found.our_parameters) == (8, 25)


@pytest.mark.slow
def test_what_is_no_such_mechanism_is_not_explained():
    found = audit(copies.GlobalContextWithDeadSoftmax(16, 4), "nonlocal")
    assert found.verdict == "deviates"
    assert {"extra-parameters", "unexplained", "dead-part"} <= deviations(found)
    assert any("softmax (Softmax)" in finding.sentence for finding in found.findings)
    assert found.remaining_difference is None


def test_what_has_no_weights_to_compare():
    class Parameterless(nn.Module):
        def forward(self, x):
            return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()

    found = audit(Parameterless(), "SE")
    assert found.verdict == "cannot be compared"
    assert found.largest_difference is None
    assert found.findings[0].sentence == "its weights fit no form that we know: it has none"


def test_what_takes_no_input_cannot_be_compared():
    class Refuses(nn.Module):
        def forward(self, x):
            raise KeyError("no")

    found = audit(Refuses(), "SE")
    assert (found.verdict, found.channels, found.our_parameters) == ("cannot be compared", None, None)
    assert found.findings[0].sentence == "it takes none of the inputs that were tried: KeyError: 'no'"
    assert "call it once first" in audit(nn.LazyConv2d(3, 1), "SE").findings[0].sentence


def test_the_caller_s_module_and_the_state_of_torch_stay_as_they_are():
    module = copies.PlainCBAM(16, 4).train()
    before, state, threads = copy.deepcopy(module.state_dict()), torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        audit(module, "CBAM")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert module.training
    assert all(p.dtype == torch.float32 and p.grad is None for p in module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_audit_of_the_same_module_finds_the_same():
    assert audit(copies.CBAMWithMeanFirst(16, 4), "CBAM") == audit(copies.CBAMWithMeanFirst(16, 4), "CBAM")


def test_a_module_that_makes_float32_of_its_own_is_compared_in_float32():
    class Single(copies.PlainSE):
        def forward(self, x):
            pooled = x.mean(dim=(2, 3)).float() + torch.zeros(x.shape[1])
            return x * self.excitation(pooled)[:, :, None, None]

    found = audit(Single(64, 4), "SE")
    assert found.verdict == "agrees"
    assert 1e-12 < found.largest_difference < 1e-5


def test_half_precision_weights_are_taken_as_they_are():
    agrees(audit(layers.CBAM(16).half(), "CBAM"))


@pytest.mark.slow
def test_a_compiled_module_is_unwrapped():
    agrees(audit(torch.compile(copies.PlainCBAM(16, 4)), "CBAM"))


def test_shapes_can_be_given():
    assert audit(layers.SE(8), "SE", spatial_dims=3).verdict == "agrees"
    assert audit(copies.PlainECA(3), "ECA", channels=9).channels == 9
    assert audit(layers.SE(8), "SE", example=torch.zeros(1, 8, 5, 5)).verdict == "agrees"
    refused = audit(layers.SE(8), "SE", channels=9)
    assert refused.verdict == "cannot be compared"
    assert "SE takes (batch, 8, *space)" in refused.findings[0].sentence


def test_an_example_of_two_inputs():
    x, g = torch.zeros(1, 8, 12, 12), torch.zeros(1, 16, 3, 3)
    agrees(audit(layers.AttentionGate(8, 16), "AttentionGate", example=(x, g)))
    with pytest.raises(ValueError, match=r"example takes two inputs of \(batch, channel, \*space\); got \(1, 8, 12"):
        audit(layers.AttentionGate(8, 16), "AttentionGate", example=x)
    with pytest.raises(ValueError, match=r"example takes one input of \(batch, channel, \*space\); got \(1, 8\)"):
        audit(layers.SE(8), "SE", example=torch.zeros(1, 8))


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match=r"audit takes a torch\.nn\.Module; got int"):
        audit(3, "SE")
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        audit(nn.Identity(), "SE", channels=0)
    with pytest.raises(ValueError, match="spatial_dims must be 1, 2 or 3; got 4"):
        audit(nn.Identity(), "SE", spatial_dims=4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_torchscript_is_refused():
    with pytest.raises(TypeError, match="audit takes a module that is no TorchScript; got Linear as TorchScript"):
        audit(torch.jit.script(nn.Linear(2, 2)), "SE")


def agrees(found):
    assert found.verdict == "agrees", str(found)
    assert found.largest_difference < EXACT
    assert found.remaining_difference < EXACT
    assert found.parameters == found.our_parameters
    assert not deviations(found)


def deviations(found):
    return {finding.kind for finding in found.findings if finding.deviates}
