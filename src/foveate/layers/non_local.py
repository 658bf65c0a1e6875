"""Non-local blocks: every position is answered by a weighted sum over all positions.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018, https://arxiv.org/abs/1711.07971.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients, pairwise

__all__ = ["NonLocal"]

# How each pairwise function is computed: as a map, and as a sum that need not form the map.
FORMS = {
    "embedded_gaussian": (pairwise.gaussian_weights, pairwise.gaussian),
    "gaussian": (pairwise.gaussian_weights, pairwise.gaussian),
    "dot_product": (pairwise.dot_product_weights, pairwise.dot_product),
    "concatenation": (pairwise.concatenation_weights, pairwise.concatenation),
}
# The axes of the map for each group; those before the query tell the groups apart.
AXES = {
    "spacetime": "batch *query *key",
    "space": "batch time *query *key",
    "time": "batch *space query key",
}
RUNS = "batch run *query *key"
ADVICE = "pool the keys, group by space or time, or give fewer or smaller inputs at once"


class NonLocal(nn.Module):
    """z_i = W_z y_i + x_i with y_i = sum_j f(x_i, x_j) g(x_j) / C(x), over all positions j.

    The map of positions against positions is formed only while its tap is watched, or where that is less work. The
    layer starts as the identity. Softmax has a second derivative only watched or under sdpa_kernel(SDPBackend.MATH).

    Args:
        channels: Channels of the input and of the output.
        pairwise: "embedded_gaussian": softmax over j of theta_i . phi_j. "gaussian": softmax over j of x_i . x_j.
            "dot_product": theta_i . phi_j / N. "concatenation": relu(w_f^T [theta_i, phi_j]) / N. N counts the keys.
        hidden_channels: Width of theta, phi and g. Default: channels // 2.
        scale: Whether softmax sees the products over the root of their width, as released; the paper has no scale.
        pool: Max pooling of keys and values by 2, "before" their projection (as released), "after" it (as the paper
            says) or "none". It takes the last two axes of three, never time, and drops an odd last position.
        group: Who sees whom: "spacetime", all; "space", the positions of a frame; "time", the frames at a position.
        frames: With group="spacetime", long clips are cut into runs of so many frames, which see nothing of each other.
        norm: "batch": batch normalisation whose weight starts at 0. "none": the output projection starts at 0.

    Shape:
        (batch, channel, *space) -> the same, with one, two or three spatial axes; with frames, group="space" or "time"
        (batch, channel, time, height, width).

    Taps:
        weights: (batch, *query, *key), the grid of keys pooled or not; with group="space" (batch, time, *query, *key);
            with group="time" (batch, *space, query, key); with frames (batch, run, *query, *key).

    Raises:
        ValueError: If the map is watched and would take more than functional.MAP_LIMIT_BYTES.
    """

    def __init__(
        self,
        channels: int,
        pairwise: str = "embedded_gaussian",
        *,
        hidden_channels: int | None = None,
        scale: bool = False,
        pool: str = "none",
        group: str = "spacetime",
        frames: int | None = None,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        functional.check_choice("pairwise", pairwise, tuple(FORMS))
        functional.check_choice("pool", pool, ("none", "before", "after"))
        functional.check_choice("group", group, tuple(AXES))
        functional.check_choice("norm", norm, ("batch", "none"))
        if scale and "gaussian" not in pairwise:
            raise ValueError(f"scale takes a softmax, of embedded_gaussian or gaussian; got pairwise={pairwise!r}")
        if pool != "none" and group == "time":
            raise ValueError(f"pool takes positions in space, and group='time' has none; got pool={pool!r}")
        if frames is not None and (frames < 1 or group != "spacetime"):
            raise ValueError(f"frames counts those of a run, with group='spacetime'; got {frames} with group={group!r}")
        hidden_channels = functional.bottleneck(channels, None, hidden_channels, default=2)
        self.channels, self.pairwise, self.pool, self.group = channels, pairwise, pool, group
        self.frames = frames
        self.scale = (channels if pairwise == "gaussian" else hidden_channels) ** -0.5 if scale else 1.0
        if pairwise != "gaussian":
            self.theta = nn.Linear(channels, hidden_channels)
            self.phi = nn.Linear(channels, hidden_channels)
        if pairwise == "concatenation":
            self.concat = nn.Linear(2 * hidden_channels, 1, bias=False)
        self.g = nn.Linear(channels, hidden_channels)
        self.out = nn.Linear(hidden_channels, channels)
        self.norm = nn.BatchNorm1d(channels) if norm == "batch" else nn.Identity()
        self.weights = Tap(AXES[group] if frames is None else RUNS)
        self._start()

    def _start(self) -> None:
        """Start as the original release: projections N(0, 0.01) without bias, and nothing added to the input."""
        embeddings = () if self.pairwise == "gaussian" else (self.theta, self.phi)
        for projection in (*embeddings, self.g, self.out):
            nn.init.normal_(projection.weight, std=0.01)
            nn.init.zeros_(projection.bias)
        last = self.out if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("NonLocal", x, self.channels)
        self._check_time(x)
        functional.check_batch_statistics("NonLocal", self.norm, x)
        placed = x.movedim(1, -1)  # (batch, *space, channel)
        if self.group == "time":
            placed = placed.movedim(1, -2)  # (batch, *space, time, channel)
        if self.frames is not None:
            placed = placed.unflatten(1, (-1, self.frames))  # (batch, run, *space, channel)
        lead = placed.shape[: {"spacetime": 1, "space": 2, "time": 3}[self.group] + (self.frames is not None)]
        query, key, value = self._project(placed.flatten(0, len(lead) - 1))
        y = self._sum(query, key, value, lead)
        z = self._normalise(_projected(y, self.out, first=x.is_contiguous()).reshape(placed.shape))
        if self.group == "time":
            z = z.movedim(-2, 1)
        if self.frames is not None:
            z = z.flatten(1, 2)
        return x + z.movedim(-1, 1)

    def _normalise(self, z: Tensor) -> Tensor:
        """The normalisation of (group, ..., channel), as the channels lie: its gradient is slow in strides."""
        if z.stride(-1) == 1 or torch.compiler.is_compiling():
            return self.norm(z.flatten(0, -2)).reshape(z.shape)
        return self.norm(z.flatten(1, -2).mT).mT.reshape(z.shape)

    def _check_time(self, x: Tensor) -> None:
        """Refuse an input without time where positions are grouped by it."""
        grouped = f"group={self.group!r}" if self.frames is None else f"frames={self.frames}"
        if (self.group != "spacetime" or self.frames is not None) and x.ndim != 5:
            wanted = f"(batch, {self.channels}, time, height, width)"
            raise ValueError(f"NonLocal with {grouped} takes {wanted}; got {tuple(x.shape)}")
        if self.frames is not None and x.shape[2] % self.frames:
            raise ValueError(f"NonLocal with {grouped} takes a multiple of so many frames; got {tuple(x.shape)}")

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, and keys and values on a grid pooled or not, of (group, *grid, channel)."""
        source = _pooled(x) if self.pool == "before" else x
        after = _pooled if self.pool == "after" else nn.Identity()
        if self.pairwise == "gaussian":
            query, key = x, after(source)
        elif self.pairwise == "concatenation":
            query, key = self._score(x, source)
        else:
            query, key = _projected(x, self.theta), after(_projected(source, self.phi))
        return query if self.scale == 1 else self.scale * query, key, after(_projected(source, self.g))

    def _score(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of w_f^T [theta_i, phi_j]: one product with x_i and one with x_j, if no pooling lies between."""
        query_weight, key_weight = self.concat.weight.chunk(2, dim=1)
        query = F.linear(x, query_weight @ self.theta.weight, query_weight @ self.theta.bias)
        if self.pool == "after":
            return query, F.linear(_pooled(self.phi(source)), key_weight)
        return query, F.linear(source, key_weight @ self.phi.weight, key_weight @ self.phi.bias)

    def _sum(self, query: Tensor, key: Tensor, value: Tensor, lead: tuple[int, ...]) -> Tensor:
        """The values weighed for each query, (group, *grid, hidden)."""
        form_map, form_sum = FORMS[self.pairwise]
        geometry = (*lead, *query.shape[1:-1], *key.shape[1:-1])
        shape = (*query.shape[:-1], value.shape[-1])
        same = key is query
        query, key, value = (part.flatten(1, -2) for part in (query, key, value))
        key = query if same else key  # which halves the work of a softmax
        if not self.weights.watched:
            return form_sum(query, key, value).reshape(shape)
        functional.check_map_size(geometry, value, ADVICE)
        weights = form_map(query, key)
        weights = self.weights(weights.reshape(geometry)).reshape(weights.shape)
        return pairwise.weighted_sum(weights, value).reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.pairwise!r}, scale={self.scale:.4g}, pool={self.pool!r}, " + (
            f"group={self.group!r}" if self.frames is None else f"frames={self.frames}"
        )


def _projected(x: Tensor, layer: nn.Linear, *, first: bool | None = None) -> Tensor:
    """The layer over the last axis of (group, *grid, channel).

    Where channels come first in memory, or the answer is wanted so, it is a convolution: that reads and writes them as
    they lie, and oneDNN does it, whose products are the faster ones on processors of AMD.
    """
    if first is None:
        first = x.stride(-1) != 1
    if not first or torch.compiler.is_compiling() or not gradients.is_plain(layer):
        return layer(x)
    channels_first = x.flatten(1, -2).mT
    return F.conv1d(channels_first, layer.weight.unsqueeze(2), layer.bias).mT.unflatten(1, x.shape[1:-1])


def _pooled(x: Tensor) -> Tensor:
    """Max over windows of 2 by 2 positions (of 2 in 1-D) of (group, *grid, channel)."""
    if min(x.shape[-3:-1] if x.ndim > 3 else x.shape[1:2]) < 2:
        raise ValueError(f"pool takes at least 2 positions along each axis of space; got {tuple(x.shape[1:-1])}")
    pooled = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.ndim]
    return pooled(x.movedim(-1, 1), (1, 2, 2) if x.ndim == 5 else 2).movedim(1, -1)
