"""The networks by name: what each is, what it takes, and how to build it."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

from torch import nn

__all__ = ["NETWORKS", "Network", "build", "describe"]


@dataclass(frozen=True)
class Network:
    """One entry of the catalogue.

    Args:
        name: The name in code, on the command line and in reports.
        builder: Where the function is that builds it, as "module:function".
        task: What it is for: "classify", "segment", "detect", "lesions" or "translate".
        input: The shape of one input at which costs are published, such as "3x224x224", "3x32x224x224" of a clip, or
            "9x3x512x512" of a bag of slices; of a network that translates, the tokens of source and target.
        paper: Authors, venue and address.
        family: Networks that differ only in size share it.
        options: What the builder gets. A network with a mechanism among them has it built in, and takes no other.
    """

    name: str
    builder: str
    task: str
    input: str
    paper: str
    family: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clips(self) -> bool:
        """Whether it classifies clips, not pictures."""
        return self.task == "classify" and self.input.count("x") == 3

    @property
    def built_in(self) -> str | None:
        """The mechanism that the network has by itself."""
        return self.options.get("mechanism")


SAID = {"lesions": "detect in volumes", "detect": "detect in pictures"}  # where it is not the name of the task

HE = "He et al., CVPR 2016, https://arxiv.org/abs/1512.03385"
HE_MASKS = "He et al., ICCV 2017, https://arxiv.org/abs/1703.06870"
XIE = "Xie et al., CVPR 2017, https://arxiv.org/abs/1611.05431"
SANDLER = "Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381"
HU = "Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507"
WOO = "Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521"
PARK = "Park et al., BMVC 2018, https://arxiv.org/abs/1807.06514"
WANG_ECA = "Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151"
WANG_NONLOCAL = "Wang et al., CVPR 2018, https://arxiv.org/abs/1711.07971"
RONNEBERGER = "Ronneberger et al., MICCAI 2015, https://arxiv.org/abs/1505.04597"
OKTAY = "Oktay et al., MIDL 2018, https://arxiv.org/abs/1804.03999"
BAUMGARTNER = "Baumgartner et al., IEEE TMI 2017, https://arxiv.org/abs/1612.05601"
SCHLEMPER = "Schlemper et al., Medical Image Analysis 2019, https://arxiv.org/abs/1808.08114"
CARION = "Carion et al., ECCV 2020, https://arxiv.org/abs/2005.12872"
VASWANI = "Vaswani et al., NeurIPS 2017, https://arxiv.org/abs/1706.03762"
WANG_VOLUMETRIC = "Wang et al., MICCAI 2019, https://arxiv.org/abs/2004.01997"
CARREIRA = "Carreira and Zisserman, CVPR 2017, https://arxiv.org/abs/1705.07750"
RESNET = "foveate.networks.resnet"
VIDEO = "foveate.networks.video_resnet"
UNET = "foveate.networks.unet"
SONONET = "foveate.networks.sononet"
DETR = "foveate.networks.detr"
MASK_RCNN = "foveate.networks.mask_rcnn_builders"
TRANSFORMER = "foveate.networks.transformer"
DC5 = {"dilation": True}

# The geometry of the Caffe release: the step in the first 1x1 convolution, and a max pool without padding.
CAFFE = {"mechanism": "se", "stem_pool": "ceil", "stride_in": "1x1"}
BAM = {"mechanism": "bam", "options": {"combine": "product"}}  # as released; the paper adds the branches
NONLOCAL = {"mechanism": "nonlocal", "options": {"pool": "before", "scale": True}, "blocks": 5}  # as released
CAFFE_NEXT = {"mechanism": "se", "stem_pool": "ceil"}


def _gated(name: str, host: str, paper: str, **options: Any) -> Network:
    """A published network with its mechanism built in."""
    return Network(name, f"{RESNET}:{host}", "classify", "3x224x224", paper, name.rstrip("0123456789"), options)


def _video(name: str, builder: str, paper: str, **options: Any) -> Network:
    """A published network of clips."""
    return Network(name, f"{VIDEO}:{builder}", "classify", "3x32x224x224", paper, name.rstrip("0123456789"), options)


def _slices(size: str, space: str, bag: int = 1, **options: Any) -> Network:
    """A network that detects in slices, by volumetric attention where these come in bags."""
    builder = f"{MASK_RCNN}:mask_rcnn_{size}"
    if bag == 1:
        return Network(f"mask_rcnn_{size}", builder, "lesions", f"3x{space}", HE_MASKS, "mask_rcnn")
    options = {"mechanism": "volumetric", "bag": bag, **options}
    shape = f"{bag}x3x{space}"
    return Network(f"va_mask_rcnn_{size}", builder, "lesions", shape, WANG_VOLUMETRIC, "va_mask_rcnn", options)


def _kernels(*sizes: int) -> list[dict[str, int]]:
    """The kernel sizes of ECA in each stage, which the released checkpoints set by hand."""
    return [{"kernel_size": size} for size in sizes]


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("resnet18", f"{RESNET}:resnet18", "classify", "3x224x224", HE, "resnet"),
        Network("resnet34", f"{RESNET}:resnet34", "classify", "3x224x224", HE, "resnet"),
        Network("resnet50", f"{RESNET}:resnet50", "classify", "3x224x224", HE, "resnet"),
        Network("resnet101", f"{RESNET}:resnet101", "classify", "3x224x224", HE, "resnet"),
        Network("resnet152", f"{RESNET}:resnet152", "classify", "3x224x224", HE, "resnet"),
        Network("resnet_tiny", f"{RESNET}:resnet_tiny", "classify", "3x40x40", HE, "resnet"),
        Network("resnext50_32x4d", f"{RESNET}:resnext50_32x4d", "classify", "3x224x224", XIE, "resnext"),
        Network("resnext101_32x4d", f"{RESNET}:resnext101_32x4d", "classify", "3x224x224", XIE, "resnext"),
        Network("resnext101_32x8d", f"{RESNET}:resnext101_32x8d", "classify", "3x224x224", XIE, "resnext"),
        Network(
            "mobilenet_v2", "foveate.networks.mobilenet:mobilenet_v2", "classify", "3x224x224", SANDLER, "mobilenet_v2"
        ),
        _gated("se_resnet18", "resnet18", HU, mechanism="se"),
        _gated("se_resnet34", "resnet34", HU, mechanism="se"),
        _gated("se_resnet50", "resnet50", HU, **CAFFE),
        _gated("se_resnet101", "resnet101", HU, **CAFFE),
        _gated("se_resnet152", "resnet152", HU, **CAFFE),
        _gated("se_resnext50_32x4d", "resnext50_32x4d", HU, **CAFFE_NEXT),
        _gated("se_resnext101_32x4d", "resnext101_32x4d", HU, **CAFFE_NEXT),
        _gated("senet154", "senet154", HU, mechanism="se"),
        _gated("cbam_resnet18", "resnet18", WOO, mechanism="cbam"),
        _gated("cbam_resnet34", "resnet34", WOO, mechanism="cbam"),
        _gated("cbam_resnet50", "resnet50", WOO, mechanism="cbam"),
        _gated("cbam_resnet101", "resnet101", WOO, mechanism="cbam"),
        _gated("bam_resnet18", "resnet18", PARK, **BAM),
        _gated("bam_resnet34", "resnet34", PARK, **BAM),
        _gated("bam_resnet50", "resnet50", PARK, **BAM),
        _gated("bam_resnet101", "resnet101", PARK, **BAM),
        _gated("eca_resnet18", "resnet18", WANG_ECA, mechanism="eca", options=_kernels(3, 5, 7, 7)),
        _gated("eca_resnet34", "resnet34", WANG_ECA, mechanism="eca", options=_kernels(3, 3, 5, 7)),
        _gated("eca_resnet50", "resnet50", WANG_ECA, mechanism="eca", options=_kernels(3, 5, 5, 7)),
        _gated("eca_resnet101", "resnet101", WANG_ECA, mechanism="eca", options=_kernels(3, 3, 5, 7)),
        _gated("eca_resnet152", "resnet152", WANG_ECA, mechanism="eca", options=_kernels(3, 3, 5, 7)),
        Network(
            "eca_mobilenet_v2",
            "foveate.networks.mobilenet:mobilenet_v2",
            "classify",
            "3x224x224",
            WANG_ECA,
            "eca_mobilenet_v2",
            {"mechanism": "eca", "options": _kernels(1, 1, 1, 1, 3, 3, 3)},
        ),
        _gated("nonlocal_resnet50", "resnet50", WANG_NONLOCAL, mechanism="nonlocal", blocks=5),
        _gated("nonlocal_resnet101", "resnet101", WANG_NONLOCAL, mechanism="nonlocal", blocks=5),
        _video("c2d_resnet50", "c2d_resnet50", WANG_NONLOCAL),
        _video("c2d_resnet101", "c2d_resnet101", WANG_NONLOCAL),
        _video("i3d_resnet50", "i3d_resnet50", CARREIRA),
        _video("i3d_resnet101", "i3d_resnet101", CARREIRA),
        _video("nonlocal_c2d_resnet50", "c2d_resnet50", WANG_NONLOCAL, **NONLOCAL),
        _video("nonlocal_c2d_resnet101", "c2d_resnet101", WANG_NONLOCAL, **NONLOCAL),
        _video("nonlocal_i3d_resnet50", "i3d_resnet50", WANG_NONLOCAL, **NONLOCAL),
        _video("nonlocal_i3d_resnet101", "i3d_resnet101", WANG_NONLOCAL, **NONLOCAL),
        Network("c2d_tiny", f"{VIDEO}:c2d_tiny", "classify", "3x8x48x48", WANG_NONLOCAL, "c2d_resnet"),
        Network("i3d_tiny", f"{VIDEO}:i3d_tiny", "classify", "3x8x48x48", CARREIRA, "i3d_resnet"),
        Network("unet", f"{UNET}:unet", "segment", "1x160x160", RONNEBERGER, "unet"),
        Network("attention_unet", f"{UNET}:attention_unet", "segment", "1x160x160", OKTAY, "attention_unet"),
        Network("sononet8", f"{SONONET}:sononet8", "classify", "1x208x272", BAUMGARTNER, "sononet"),
        Network("sononet16", f"{SONONET}:sononet16", "classify", "1x208x272", BAUMGARTNER, "sononet"),
        Network("sononet32", f"{SONONET}:sononet32", "classify", "1x208x272", BAUMGARTNER, "sononet"),
        Network("ag_sononet8", f"{SONONET}:ag_sononet8", "classify", "1x208x272", SCHLEMPER, "ag_sononet"),
        Network("ag_sononet16", f"{SONONET}:ag_sononet16", "classify", "1x208x272", SCHLEMPER, "ag_sononet"),
        Network("ag_sononet32", f"{SONONET}:ag_sononet32", "classify", "1x208x272", SCHLEMPER, "ag_sononet"),
        Network("detr_resnet50", f"{DETR}:detr_resnet50", "detect", "3x800x1066", CARION, "detr"),
        Network("detr_resnet101", f"{DETR}:detr_resnet101", "detect", "3x800x1066", CARION, "detr"),
        Network("detr_resnet50_dc5", f"{DETR}:detr_resnet50", "detect", "3x800x1066", CARION, "detr", DC5),
        Network("detr_resnet101_dc5", f"{DETR}:detr_resnet101", "detect", "3x800x1066", CARION, "detr", DC5),
        Network("detr_tiny", f"{DETR}:detr_tiny", "detect", "3x72x72", CARION, "detr"),
        _slices("resnet50", "512x512"),
        _slices("resnet101", "512x512"),
        _slices("tiny", "128x128"),
        _slices("resnet50", "512x512", bag=9),
        _slices("resnet101", "512x512", bag=9),
        _slices("tiny", "128x128", bag=5, options={"reduction": 4}),
        Network("transformer_base", f"{TRANSFORMER}:transformer_base", "translate", "40x40", VASWANI, "transformer"),
        Network("transformer_big", f"{TRANSFORMER}:transformer_big", "translate", "40x40", VASWANI, "transformer"),
    )
}


def describe(name: str, task: str | None = None) -> Network:
    """The entry of a network; a hyphen in the name is an underscore.

    Raises:
        LookupError: If there is no such network, or it is not for that task.
    """
    entry = NETWORKS.get(name.replace("-", "_"))
    if entry is None:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(NETWORKS)}"
        raise LookupError(f'no network "{name}"; {hint}')
    if task not in (None, entry.task):
        meant, wanted = (SAID.get(each, each) for each in (entry.task, task))
        raise LookupError(f"{entry.name} is there to {meant}, not to {wanted}: `foveate list networks` has others")
    return entry


def build(name: str, **options: Any) -> nn.Module:
    """The network of that name, such as build("resnet50", num_classes=10, mechanism="cbam").

    Raises:
        LookupError: If there is no such network.
        TypeError: If its builder has no such option.
    """
    entry = describe(name)
    module, function = entry.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    taken = _options(builder)
    for option in options:
        if option not in taken:
            raise TypeError(f'{name} has no option "{option}"; it takes {", ".join(taken)}')
    if entry.built_in and {"mechanism", "options"} & set(options):
        raise TypeError(f"{name} has {entry.built_in} built in; a host for another mechanism is {function}")
    return builder(**{**entry.options, **options})


def _options(builder: Callable[..., nn.Module]) -> list[str]:
    """The keywords a builder takes, with those of a TypedDict behind `**settings: Unpack[...]`."""
    taken = []
    for parameter in inspect.signature(builder).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (settings,) = get_args(get_type_hints(builder)[parameter.name])
            taken += get_type_hints(settings)
        else:
            taken.append(parameter.name)
    return taken
