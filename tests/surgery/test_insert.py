import copy
import inspect
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from foveate.layers import BAM, CBAM, ECA, SE, NonLocal, ScSE
from foveate.surgery import Blend, Inserted, insert, inserted, load_host, rehearse, remove


def se(channels):
    return SE(channels, reduction=1)


MECHANISMS = {
    "se": se,
    "eca": ECA,
    "scse": lambda channels: ScSE(channels, reduction=1),
    "cbam": lambda channels: CBAM(channels, reduction=1),
    "bam": lambda channels: BAM(channels, reduction=1),
    "nonlocal": NonLocal,
}


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("training", [False, True])
def test_an_inserted_mechanism_starts_as_the_identity_bit_for_bit(host, x, name, training):
    plain = copy.deepcopy(host).train(training)
    insert(host.train(training), "stage.*", MECHANISMS[name])
    assert all(child.training == training for child in inserted(host).values())
    assert torch.equal(host(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_host_in_another_precision_stays_in_it(host, x, dtype):
    host.to(dtype)
    x = x.to(dtype)
    expected = host(x)
    insert(host, "stage.*", se)
    assert {parameter.dtype for parameter in host.parameters()} == {dtype}
    assert torch.equal(host(x), expected)


def test_under_autocast_the_host_gets_back_the_precision_it_gave(host, x):
    with torch.autocast("cpu", torch.bfloat16):
        expected = host(x)
        insert(host, "stage.*", se)
        output = host(x)
    assert output.dtype == expected.dtype
    assert torch.equal(output, expected)


def test_with_the_published_start_the_mechanism_applies_plainly(host, x):
    plain = copy.deepcopy(host)
    insert(host, "stage", se, start="published")
    (child,) = inserted(host).values()
    assert child.alpha is None
    assert not any("alpha" in key for key in host.state_dict())
    expected = plain.head(child.mechanism(plain.stage(plain.stem(x))).mean((2, 3)))
    assert torch.equal(host(x), expected)


def test_class_keys_and_statistics_of_the_host_stay_as_they_are(host):
    before = copy.deepcopy(host.state_dict())
    kinds = [type(module) for module in host.modules()]
    insert(host, "stage.*", se)
    after = host.state_dict()
    assert [key for key in after if ".inserted." not in key] == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    own = [module for name, module in host.named_modules() if "inserted" not in name]
    assert [type(module) for module in own] == kinds
    assert {key for key in after if key not in before} == {
        f"stage.{index}.inserted.{key}"
        for index in (0, 1)
        for key in (*Blend().state_dict(), *(f"mechanism.{key}" for key in se(5).state_dict()))
    }


def test_a_failed_insertion_changes_nothing(host):
    def only_once(channels, built=[]):  # noqa: B006
        built.append(channels)
        return se(channels if len(built) == 1 else channels + 1)

    with pytest.raises(ValueError, match=r"the mechanism does not work at 'stage.1' \(1, 5, 62, 62\): SE takes"):
        insert(host, "stage.*", only_once)
    assert not inserted(host)
    assert not any(module._forward_hooks for module in host.modules())


def test_the_first_step_moves_alpha_and_the_second_the_mechanism(host, x):
    insert(host.train(), "stage.*", se)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    children = inserted(host).values()

    host(x).square().sum().backward()
    assert all(child.alpha.grad != 0 for child in children)
    assert all(torch.all(parameter.grad == 0) for child in children for parameter in child.mechanism.parameters())
    optimizer.step()
    optimizer.zero_grad()

    host(x).square().sum().backward()
    for child in children:
        assert all(parameter.grad.abs().max() > 0 for parameter in child.mechanism.parameters())


def test_removal_leaves_no_trace(host, x):
    plain = copy.deepcopy(host)
    insert(host, "stage.*", se, start="published")
    assert not torch.equal(host(x), plain(x))
    assert remove(host, "stage.0") == ["stage.0"]
    assert list(inserted(host)) == ["stage.1"]
    assert remove(host) == ["stage.1"]
    assert torch.equal(host(x), plain(x))
    assert list(host.state_dict()) == list(plain.state_dict())
    assert [set(vars(module)) for module in host.modules()] == [set(vars(module)) for module in plain.modules()]
    assert not any(module._forward_hooks for module in host.modules())


def test_removal_finds_the_site_of_a_sequential(host):
    insert(host, "stage", se)
    assert remove(host, "stage") == ["stage.1"]


def test_a_module_under_two_names_is_emptied_under_either(host):
    host.again = host.stem
    insert(host, "stem", se)
    assert remove(host, "again") == ["stem"]


def test_hooks_of_others_survive_removal(host, x):
    seen = []
    insert(host, "stage.0", se)
    host.stage[0].register_forward_hook(lambda module, args, output: seen.append(output))
    remove(host)
    host(x)
    assert len(seen) == 1


def test_a_checkpoint_of_the_plain_host_loads_strictly(host, x):
    old = copy.deepcopy(host)
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.add_(1)
    insert(host, "stage.*", se)
    load_host(host, old.state_dict())
    assert torch.equal(host(x), old(x))

    # Without strictness torch does the same, and names what was inserted and nothing else.
    missing, unexpected = host.load_state_dict(old.state_dict(), strict=False)
    assert set(missing) == {key for key in host.state_dict() if ".inserted." in key}
    assert not unexpected


def test_load_host_is_strict_about_the_host(host):
    insert(host, "stage.*", se)
    state = {key: value for key, value in host.state_dict().items() if ".inserted." not in key}
    del state["stem.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "stem.weight"'):
        load_host(host, state)


def test_a_copy_has_a_mechanism_of_its_own(host, x):
    insert(host, "stage.*", se, start="published")
    twin = copy.deepcopy(host)
    expected = host(x)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for child in inserted(twin).values():
            for parameter in child.parameters():
                parameter.add_(3)
    assert torch.equal(host(x), expected)
    assert not torch.equal(twin(x), expected)
    remove(twin)
    assert torch.equal(host(x), expected)


def test_a_pickled_host_keeps_its_mechanism_when_others_set_hooks(host, x, monkeypatch):
    insert(host, "stage.*", se, start="published")
    expected = host(x)
    stream = pickle.dumps(host)
    # In another process torch counts its hooks from zero again, and a new hook must not take the place of ours.
    monkeypatch.setattr(RemovableHandle, "next_id", 0)
    loaded = pickle.loads(stream)
    for module in loaded.stage:
        for _ in range(3):
            module.register_forward_hook(lambda module, args, output: None)
    assert torch.equal(loaded(x), expected)
    remove(loaded)
    assert not torch.equal(loaded(x), expected)


def test_torch_save_takes_the_whole_host(host, x):
    insert(host, "stage.*", se, start="published")
    stream = io.BytesIO()
    torch.save(host, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(x), host(x))


@pytest.mark.slow
def test_torch_compile_sees_the_mechanism(host, x):
    insert(host, "stage.*", se)
    _wake(host)
    compiled = torch.compile(host, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), host(x))
    assert [site.name for site in rehearse(compiled)] == ["stage.0", "stage.1"]
    assert list(inserted(compiled)) == ["stage.0", "stage.1"]


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_torch_export_keeps_the_mechanism(host, x, strict):
    insert(host, "stage.*", se)
    _wake(host)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(host, (x,), dynamic_shapes=({0: batch},), strict=strict)
    more = torch.cat([x, x + 1])
    torch.testing.assert_close(program.module()(more), host(more))
    assert "stage.0.inserted.alpha" in program.state_dict


def test_data_parallel_training_reduces_the_gradients_of_the_mechanism(host, x, tmp_path):
    insert(host, "stage.*", se)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(host, static_graph=True)
        for _ in range(2):
            wrapped(x).sum().backward()
        assert all(parameter.grad is not None for parameter in host.parameters())
        assert [site.name for site in rehearse(wrapped)] == ["stage.0", "stage.1"]
        with pytest.raises(ValueError, match="insert before DistributedDataParallel"):
            insert(wrapped, "**.stem", se)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_compiled_hosts_are_refused(host):
    with pytest.raises(ValueError, match=r"insert before torch\.compile: compiled code does not see later hooks"):
        insert(torch.compile(host, backend="eager"), "**.stem", se)
    insert(host, "stem", se)
    host.stage.compile(backend="eager")
    with pytest.raises(ValueError, match=r"remove before torch\.compile"):
        remove(host)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_scripts_are_refused(host):
    with pytest.raises(ValueError, match=r"insert before torch\.jit"):
        insert(torch.jit.trace(host, torch.ones(1, 3, 7, 7)), "stem", se)


def test_a_site_holds_one_mechanism(host):
    insert(host, "stage.1", se)
    with pytest.raises(ValueError, match=r"'stage\.1' already has a mechanism inserted; remove it first"):
        insert(host, "stage", se)


def test_a_host_that_uses_the_name_itself_is_refused(host):
    host.stem.inserted = 7
    with pytest.raises(ValueError, match="'stem' has an attribute 'inserted' of its own"):
        insert(host, "stem", se)


def test_a_later_insertion_does_not_touch_what_was_inserted_before(host):
    insert(host, "stage.*", NonLocal)
    sites = insert(host, nn.Conv2d, se)
    assert [site.name for site in sites] == ["stem", "stage.0.conv", "stage.1.conv"]


@pytest.mark.parametrize(
    ("mechanism", "error", "sentence"),
    [
        (SE(5), TypeError, "mechanism takes a function from channels to a module, as lambda channels: ...; got SE"),
        ("se", TypeError, "got str"),
        (lambda channels: channels, TypeError, "it gave int"),
        (lambda channels: nn.Conv2d(channels, 7, 1), ValueError, r"\(1, 5, 64, 64\) at 'stem'; got \(1, 7, 64, 64\)"),
        (lambda channels: nn.AdaptiveAvgPool2d(1), ValueError, r"a mechanism gives the shape it takes"),
        (lambda channels: nn.ReLU(inplace=True), ValueError, "leaves its input as it is; at 'stem' ReLU writes on it"),
        (lambda channels: nn.MaxPool2d(1, return_indices=True), ValueError, "got tuple"),
    ],
)
def test_what_is_no_mechanism_is_refused(host, mechanism, error, sentence):
    with pytest.raises(error, match=sentence):
        insert(host, "stem", mechanism, example=torch.zeros(1, 3, 66, 66))


def test_a_mechanism_that_asks_is_told_the_number_of_spatial_axes():
    def cbam(channels, spatial_dims):
        return CBAM(channels, reduction=1, spatial_dims=spatial_dims)

    volumes = nn.Sequential(nn.Conv3d(1, 5, 1), nn.Flatten(2))
    insert(volumes, "*", cbam)
    assert [child.mechanism.spatial_dims for child in inserted(volumes).values()] == [3, 1]
    # What the caller fixed stays.
    with pytest.raises(ValueError, match=r"takes .* with spatial_dims=2"):
        insert(nn.Sequential(nn.Conv3d(1, 5, 1)), "0", partial(CBAM, reduction=1, spatial_dims=2))


def test_an_unknown_start_is_refused(host):
    with pytest.raises(ValueError, match='start takes "identity" or "published"; got \'zero\''):
        insert(host, "stem", se, start="zero")


def test_an_in_place_activation_behind_the_site_is_served(host, x):
    insert(host, "stage.*.bn", se)
    _wake(host)
    host.train()
    host(x).sum().backward()
    assert all(child.alpha.grad != 0 for child in inserted(host).values())


def test_batch_norm_in_the_mechanism_learns_its_statistics_only_in_training(host, x):
    insert(host, "stage.0", lambda channels: nn.BatchNorm2d(channels))
    norm = inserted(host)["stage.0"].mechanism
    assert norm.num_batches_tracked == 0
    host(x)
    rehearse(host)
    assert norm.num_batches_tracked == 0
    host.train()(x)
    assert norm.num_batches_tracked == 1


def test_rehearse_tells_the_sites_again(host):
    sites = insert(host, "stage.*", se)
    assert rehearse(host) == sites
    assert rehearse(host, torch.zeros(1, 3, 9, 9))[0].shape == (1, 5, 7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("region", ["host", "stage", "wrapped stage"])
def test_rehearse_sees_through_code_compiled_before(host, x, region):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    insert(host, "stage.*", se)
    if region == "wrapped stage":
        host.stage = torch.compile(host.stage, backend=backend)
    else:
        (host if region == "host" else host.stage).compile(backend=backend)
    with torch.no_grad():
        host(x)
    assert len(graphs) == 1
    assert len(rehearse(host, x)) == 2
    assert len(graphs) == 1  # nothing was compiled with the hooks of the rehearsal in it


def test_rehearse_names_a_mechanism_that_never_runs(host):
    insert(host, "stage.*", se)
    host.stage = nn.Sequential(host.stage[0], nn.Identity())
    host.stage.spare = host.stage[0]
    rehearse(host)

    class Detour(nn.Module):
        def __init__(self, unit):
            super().__init__()
            self.unit = unit

        def forward(self, x):
            return self.unit.forward(x)  # past the hooks

    host.stage = Detour(host.stage[0])
    with pytest.raises(LookupError, match=r"Host never calls the mechanisms inserted at \['stage.unit'\]"):
        rehearse(host)


def test_rehearse_names_a_module_that_runs_its_children_in_turn(host):
    class Turns(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(5, 5, 1)

        def forward(self, x):
            for child in self.children():
                x = child(x)
            return x

    host.stage = Turns()
    insert(host, "stage", se)
    with pytest.raises(ValueError, match="'stage' runs its children in turn, and so its mechanism twice"):
        rehearse(host)


def test_rehearse_and_remove_say_when_nothing_is_inserted(host):
    with pytest.raises(LookupError, match="nothing is inserted in Host"):
        rehearse(host)
    insert(host, "stage.*", se)
    with pytest.raises(
        LookupError, match=r"nothing is inserted at 'stem'; the host has .* at \['stage.0', 'stage.1'\]"
    ):
        remove(host, "stem")


def test_the_signature_is_the_contract():
    assert list(inspect.signature(insert).parameters) == ["host", "where", "mechanism", "start", "layout", "example"]
    assert list(inspect.signature(remove).parameters) == ["host", "where"]
    assert list(inspect.signature(rehearse).parameters) == ["host", "example"]


def _wake(host):
    for child in inserted(host).values():
        assert isinstance(child, Inserted)
        if child.alpha is not None:
            nn.init.constant_(child.alpha, 0.3)
