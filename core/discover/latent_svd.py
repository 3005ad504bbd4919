"""Singular vectors of a latent, channel by channel, and edits by exchanging them ("attribute vector integration" on the SVD of x_t).

Reconstructed from what the paper's captions tell: the vectors carry attributes, the values set their strength, and an edit mixes the
leading vectors of a noisier state (source) with those of a less noisy one (target). All states are VP states, ``x / sqrt(1 + sigma^2)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Callback
from ..train.fit import Fit

_WIDTH = 256
_START = 4.0  # how far below 1, before softplus, the target's values start


@dataclass(frozen=True)
class Svd:
    """``x = u diag(s) v`` of every channel: u `[b c h r]`, s `[b c r]` descending, v `[b c r w]`, r the smaller side."""

    u: Tensor
    s: Tensor
    v: Tensor

    @staticmethod
    def of(x: Tensor) -> Svd:
        """Decompose `[b c h w]`, in float64.

        Raises:
            ValueError: another shape, or NaN.
        """
        if x.dim() != 4 or 0 in x.shape:
            raise ValueError(
                f"the latent must be [b c h w] and not empty, got {list(x.shape)}; latents of videos or audio have no such SVD"
            )
        if not torch.isfinite(x).all():
            raise ValueError("the latent holds NaN or infinite values; check the sampler that it comes from")
        return Svd(*torch.linalg.svd(x.double(), full_matrices=False))

    def joined(self, values: Tensor) -> Tensor:
        """The latent of other values `[b c k]`, on the k leading vectors."""
        k = values.shape[-1]
        return (self.u[..., :k] * values[..., None, :]) @ self.v[..., :k, :]


def scaled(x: Tensor, first: int, count: int, factor: float, others: float = 1.0) -> Tensor:
    """A latent with some of its singular values scaled.

    Args:
        x: `[b c h w]`.
        first: number of the first one, counted from 1, largest first.
        count: how many.
        factor: by which they are multiplied.
        others: by which all others are; 0 leaves only the chosen ones.

    Returns:
        The shape of ``x``; ``x`` itself if both are 1.

    Raises:
        ValueError: there are not so many.
    """
    rank = min(x.shape[-2:])
    if first < 1 or count < 1 or first + count - 1 > rank:
        raise ValueError(f"this latent has {rank} singular values a channel, got {first} to {first + count - 1}")
    if factor == 1 and others == 1:
        return x
    svd = Svd.of(x)
    weights = torch.full_like(svd.s, others)
    weights[..., first - 1 : first - 1 + count] = factor
    return svd.joined(svd.s * weights).to(x)


def mixed(x: Tensor, z: Tensor, leading: int = 8, gain: float = 0.5) -> Tensor:
    """Training-free mix: the ``leading`` vectors of ``x`` fade by ``1 - gain``, those of ``z`` come in by ``gain``; the rest is ``x``'s.

    Args:
        x: the source, `[b c h w]`, VP.
        z: the target, the same shape, VP, a little less noisy.
        leading: shared ranks.
        gain: 0..1; 0 is ``x`` bit for bit.

    Returns:
        The shape of ``x``, every channel with the deviation of ``x``.

    Raises:
        ValueError: shapes, ranks or gain out of range.
    """
    _check(x, z, leading, leading)
    if not 0 <= gain <= 1:
        raise ValueError(f"gain must lie in 0..1, got {gain}; 0 is the source, 0.5 a good start")
    if gain == 0:
        return x
    one, two = Svd.of(x), Svd.of(z)
    fade = torch.ones_like(one.s)
    fade[..., :leading] = 1 - gain
    return rescaled(one.joined(one.s * fade) + two.joined(gain * two.s[..., :leading]), x)


def rescaled(y: Tensor, x: Tensor) -> Tensor:
    """``y`` with the standard deviation of ``x`` in every channel."""
    deviation = x.double().std((2, 3), keepdim=True) / y.std((2, 3), keepdim=True).clamp_min(1e-12)
    return (y * deviation).to(x)


@dataclass(frozen=True)
class Weights:
    """Of the four losses: the target's values in the result, the source itself, and holding on to the target's and source's values."""

    target: float = 1.0
    source: float = 1.0
    hold_target: float = 1.0
    hold_source: float = 1.0


class Values(nn.Module):
    """Predicts the singular values of an edit from those of both states: starts at the source's own, and nearly nothing of the target's.

    Args:
        rank: of a channel.
        k_x, k_z: leading values of source and target.
        seed: of the start.
    """

    def __init__(self, rank: int, k_x: int, k_z: int, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = (nn.Linear(2 * rank, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, k_x + k_z))
        self.net, self.k_x, self.k_z = nn.Sequential(*layers), k_x, k_z
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)

    def forward(self, s_x: Tensor, s_z: Tensor) -> tuple[Tensor, Tensor]:
        """``(s_1 [.. k_x], s_2 [.. k_z])``, not negative, from `[.. r]` each. They are factors on the values that came in."""
        unit = s_x[..., :1].clamp_min(1e-12)
        factors = self.net(torch.cat([s_x / unit, s_z / unit], -1).to(next(self.net.parameters()))).to(s_x)
        one, two = factors.split([self.k_x, self.k_z], -1)
        neutral = math.log(math.e - 1)  # whose softplus is 1
        return s_x[..., : self.k_x] * F.softplus(one + neutral), s_z[..., : self.k_z] * F.softplus(two + neutral - _START)


def fit_values(
    x: Tensor, z: Tensor, *, k_x: int = 0, k_z: int = 8, weights: Weights | None = None, steps: int = 500, lr: float = 1e-3, seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:  # fmt: skip
    """The trained mix: a small network predicts the values with which leading vectors of both states are added up.

    ``y = u_x diag(s_1) v_x + u_z diag(s_2) v_z`` minimises, over the sum of squares of the source's values,
    ``|diag(u_z' y v_z) - s_z|^2`` (target), ``|y - x|^2`` (source), ``|s_2 - s_z|^2`` and ``|s_1 - s_x|^2``.

    Args:
        x: the source, `[b c h w]`, VP.
        z: the target, the same shape, VP. All pairs of a batch share the network.
        k_x: leading vectors of the source; 0: all but ``k_z``.
        k_z: of the target.
        weights: of the losses.
        steps: of Adam.
        lr: its rate.
        seed: of the network.
        callback: called after every step.

    Returns:
        y, the shape of ``x``, every channel with the deviation of ``x``.

    Raises:
        ValueError: shapes or ranks out of range.
    """
    rank = min(x.shape[-2:])
    k_x = k_x or max(rank - k_z, 1)
    _check(x, z, k_x, k_z)
    one, two = Svd.of(x), Svd.of(z)
    net = Values(rank, k_x, k_z, seed).to(x.device)
    fit = Fit(net, lr, steps, clip=0.0, callback=callback)
    while fit.i < steps:
        with torch.enable_grad():
            s_1, s_2 = net(one.s, two.s)
            fit.step(mix_loss(x.double(), one, two, s_1, s_2, weights or Weights()).mean())
    net.load_state_dict(fit.best)
    with torch.no_grad():
        s_1, s_2 = net(one.s, two.s)
        return rescaled(one.joined(s_1) + two.joined(s_2), x)


def mix_loss(x: Tensor, one: Svd, two: Svd, s_1: Tensor, s_2: Tensor, weights: Weights) -> Tensor:
    """See :func:`fit_values`; of every channel, `[b c]`. Quadratic and convex in the values."""
    k_x, k_z = s_1.shape[-1], s_2.shape[-1]
    y = one.joined(s_1) + two.joined(s_2)
    # diag(u' y v') of the leading vectors only.
    seen = ((two.u[..., :k_z].transpose(-1, -2) @ y) * two.v[..., :k_z, :]).sum(-1)
    parts = (
        weights.target * (seen - two.s[..., :k_z]).square().sum(-1),
        weights.source * (y - x).square().sum((-1, -2)),
        weights.hold_target * (s_2 - two.s[..., :k_z]).square().sum(-1),
        weights.hold_source * (s_1 - one.s[..., :k_x]).square().sum(-1),
    )
    return (parts[0] + parts[1] + parts[2] + parts[3]) / one.s.square().sum(-1).clamp_min(1e-12)


def _check(x: Tensor, z: Tensor, k_x: int, k_z: int) -> None:
    if x.shape != z.shape:
        raise ValueError(f"source and target must have one shape, got {list(x.shape)} and {list(z.shape)}; sample both at one size")
    rank = min(x.shape[-2:])
    if not (1 <= k_x <= rank and 1 <= k_z <= rank):
        raise ValueError(f"the numbers of leading vectors must lie in 1..{rank} for this latent, got {k_x} and {k_z}")
