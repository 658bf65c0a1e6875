"""What copies of a non-local block do, option by option of its equation."""

from collections.abc import Sequence

from foveate.auditing.equation import Switch, choice, rarely
from foveate.auditing.matching import Match

__all__ = ["switches"]


def switches(match: Match) -> Sequence[Switch]:
    """Everything that is tried for a match."""
    inner = match.stages["theta"].width if "theta" in match.stages else match.sizes["channels"]
    return [
        *(_divisor_switches() if "concat" in match.stages else _softmax_switches()),
        *_scale_switches(inner, match.sizes["channels"]),
        *rarely(_pool_switches()),
        *_residual_switches(),
        *rarely(_group_switches()),
        *_factor_switches(match),
    ]


def _divisor_switches() -> list[Switch]:
    published = "the published sum is divided by the number of keys, after pooling"
    return [
        *choice("softmax", "missing-divisor", published, none="is not divided"),
        *rarely(choice("softmax", "divisor", published, by_queries="by the number of positions before pooling")),
    ]


def _softmax_switches() -> list[Switch]:
    published = "the published weights are a softmax over the keys, so that they sum to 1 for every query"
    others = {"all": "takes it over all pairs at once", "batch": "takes it over the samples of the batch"}
    return [
        *choice("softmax", "softmax-axis", published, queries="takes it over the queries"),
        *rarely(choice("softmax", "softmax-axis", published, **others)),
        *choice("softmax", "missing-softmax", published, none="takes none and does not divide by the number of keys"),
        *rarely(choice("softmax", "softmax-replaced", published, sigmoid="takes a sigmoid")),
        *(switch for switch in _divisor_switches() if switch.kind == "divisor"),
    ]


def _scale_switches(inner: int, channels: int) -> list[Switch]:
    published = f"the scores are published as they are or divided by the root of the inner width, {inner}"
    others = {
        "upside_down": f"multiplies them by the root of {inner}",
        "channels_upside_down": f"multiplies them by the root of {channels}",
        "keys": "divides them by the root of the number of keys",
        "inner_whole": f"divides them by {inner}",
    }
    by_channels = f"divides them by the root of the input's {channels} channels"
    return [
        *choice("scale", "scale", published, channels=by_channels),
        *rarely(choice("scale", "scale", published, **others)),
    ]


def _pool_switches() -> list[Switch]:
    return [
        *choice("pooling", "pooling", "the published pooling of keys takes the maximum", mean="takes the mean"),
        *choice("extent", "pooling-in-time", "the published pooling keeps every frame", all="pools time by 2 as well"),
        *choice(
            "queries",
            "pooled-queries",
            "the published queries are never pooled",
            nearest="pools them too and repeats the answers",
            bilinear="pools them too and interpolates the answers",
        ),
    ]


def _group_switches() -> list[Switch]:
    return choice(
        "group",
        "group",
        "the published block lets every position see all others in space and time",
        space="lets it see those of its frame (an ablation of the paper)",
        time="lets it see the same place in all frames (an ablation of the paper)",
        pairs="lets it see those of its run of two frames (for long clips, runs of four were released)",
    )


def _residual_switches() -> list[Switch]:
    published = "the published output is x + z"
    return [
        *choice("residual", "missing-residual", published, none="is z alone"),
        *choice("residual", "extra-residual", published, twice="adds x twice"),
    ]


def _factor_switches(match: Match) -> list[Switch]:
    published = "the published z is added to x as it is"
    singles = {name: value.item() for name, value in match.loose.items() if value.numel() == 1}
    return [
        Switch("factor", value, "learned-factor", f"{published}; this one's is multiplied by a learned number, {name}")
        for name, value in singles.items()
    ]
