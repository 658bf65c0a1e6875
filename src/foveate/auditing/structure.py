"""What the shapes of a module's weights show: biases, normalisations, kernels, and parts that the layer has not."""

from collections.abc import Sequence

from torch import nn

from foveate.auditing.matching import Match, Role
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage

__all__ = ["geometry_sentence", "structure_findings"]

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def structure_findings(match: Match) -> list[Finding]:
    """In what the weights differ from the published ones, without any number computed."""
    pairs = [(match.structure.role(name), stage) for name, stage in match.stages.items()]
    findings = [] if match.structure.published else [Finding(match.structure.kind, _counted(match))]
    return [*findings, *_biases(pairs), *_norms(pairs), *_kernels(pairs), *_left(match)]


def geometry_sentence(match: Match) -> str:
    """How kernels move, where they move otherwise than published."""
    alike: dict[tuple[str, str], list[tuple[Role, Stage]]] = {}
    for name in match.built_otherwise:
        published = str(match.published_geometry(name) or "one position at a time")
        pair = (match.structure.role(name), match.stages[name])
        alike.setdefault((published, str(pair[1].geometry)), []).append(pair)
    return "; ".join(
        f"the published {_names(pairs)} {_has(pairs)} {published}; this one's {built}"
        for (published, built), pairs in alike.items()
    )


def _counted(match: Match) -> str:
    return f"{match.structure.sentence}; it has {_count(sum(stage.parameters for stage in match.stages.values()))}"


def _biases(pairs: Sequence[tuple[Role, Stage]]) -> list[Finding]:
    findings = []
    open_to_both = [stage.bias is not None for role, stage in pairs if role.bias is None and stage.norm is None]
    mixed = len(set(open_to_both)) > 1
    for normed in (False, True):
        missing = [
            (role, stage)
            for role, stage in pairs
            if stage.bias is None and bool(stage.norm) is normed and (role.bias or (role.bias is None and mixed))
        ]
        extra = [
            (role, stage)
            for role, stage in pairs
            if stage.bias is not None and bool(stage.norm) is normed and role.bias is False
        ]
        effect = "; the normalisation behind it takes a bias out again" if normed else ""
        if missing:
            count = _count(sum(stage.width for _, stage in missing))
            said = f"the published {_names(missing)} {_has(missing)} a bias ({count}); this one none{effect}"
            findings.append(Finding("bias", said, deviates=not normed))
        if extra:
            count = _count(sum(stage.width for _, stage in extra))
            said = f"the published {_names(extra)} {_has(extra)} no bias; this one has one ({count}){effect}"
            findings.append(Finding("bias", said, deviates=not normed))
    return findings


def _norms(pairs: Sequence[tuple[Role, Stage]]) -> list[Finding]:
    missing = [(role, stage) for role, stage in pairs if role.norm and stage.norm is None]
    extra = [(role, stage) for role, stage in pairs if role.norm is False and stage.norm is not None]
    other = [
        (role, s) for role, s in pairs if role.norm is not False and s.norm and not isinstance(s.norm, BATCH_NORMS)
    ]
    findings = []
    if missing:
        count = _count(2 * sum(stage.width for _, stage in missing))
        said = f"a batch normalisation follows the published {_names(missing)} ({count}); none follows this one's"
        findings.append(Finding("norm", said))
    if extra:
        kind = type(extra[0][1].norm).__name__
        said = f"no normalisation follows the published {_names(extra)}; {kind} follows this one's"
        findings.append(Finding("norm", said))
    if other:
        kind = type(other[0][1].norm).__name__
        said = f"a batch normalisation follows the published {_names(other)}; {kind} follows this one's"
        findings.append(Finding("norm-kind", said))
    return findings


def _kernels(pairs: Sequence[tuple[Role, Stage]]) -> list[Finding]:
    findings = []
    for role, stage in pairs:
        if role.kernel == "space" and role.sizes and set(stage.kernel) != {role.sizes[-1]}:
            here, usual = "x".join(map(str, stage.kernel)), role.sizes[-1]
            published = "x".join([str(usual)] * len(stage.kernel))
            weights = stage.weight.numel() // max(1, len(stage.weight.flatten(2)[0, 0])) * usual ** len(stage.kernel)
            said = f"the published {role.says} is {published} ({weights:,} weights); this one {here}"
            tried = len(set(stage.kernel)) == 1 and stage.kernel[0] in role.sizes
            also = ", which the paper tries too" if tried else ""
            findings.append(Finding("kernel-size", f"{said} ({stage.weight.numel():,}){also}", deviates=not tried))
    return findings


def _left(match: Match) -> list[Finding]:
    names = [*match.left, *match.loose]
    if not names:
        return []
    return [Finding("extra-parameters", f"the published layer has nothing like {', '.join(names)}; this one has")]


def _names(pairs: Sequence[tuple[Role, Stage]]) -> str:
    names = [role.says for role, _ in pairs]
    endings = {name.partition(" ")[2] for name in names}
    if len(endings) == 1 and len(names) > 1:  # "first" and "second layer of the perceptron"
        names = [*(name.partition(" ")[0] for name in names[:-1]), names[-1]]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _has(pairs: Sequence[tuple[Role, Stage]]) -> str:
    return "has" if len(pairs) == 1 else "have"


def _count(count: int) -> str:
    return f"{count:,} parameter{'' if count == 1 else 's'}"
