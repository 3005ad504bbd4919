"""Training of a latent SVD mix: a small network that predicts the singular values of an edit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Callback
from ..edit.noise.latent_svd import Svd, check_pair, rescaled
from ..float64 import widen
from .run import Optimiser, Run, Session

_WIDTH = 256

_START = 4.0  # how far below 1, before softplus, the target's values start


@dataclass(frozen=True)
class Weights:
    """Weights of the four losses.

    The target's values in the result, the source itself, and holding on to the target's and source's values.
    """

    target: float = 1.0
    source: float = 1.0
    hold_target: float = 1.0
    hold_source: float = 1.0


class Values(nn.Module):
    """Predicts the singular values of an edit from those of both states.

    It starts at the source's own, and nearly nothing of the target's.

    Args:
        rank: of a channel.
        k_x, k_z: leading values of source and target.
        seed: of the start.
    """

    def __init__(self, rank: int, k_x: int, k_z: int, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = (
                nn.Linear(2 * rank, _WIDTH),
                nn.SiLU(),
                nn.Linear(_WIDTH, _WIDTH),
                nn.SiLU(),
                nn.Linear(_WIDTH, k_x + k_z),
            )
        self.net = nn.Sequential(*layers)
        self.k_x = k_x
        self.k_z = k_z
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)

    def forward(self, s_x: Tensor, s_z: Tensor) -> tuple[Tensor, Tensor]:
        """Predict ``(s_1 [.. k_x], s_2 [.. k_z])``, not negative, from `[.. r]` each.

        They are factors on the values that came in.
        """
        unit = s_x[..., :1].clamp_min(1e-12)
        relative = torch.cat([s_x / unit, s_z / unit], -1)
        factors = self.net(relative.to(next(self.net.parameters()))).to(s_x)
        one, two = factors.split([self.k_x, self.k_z], -1)
        neutral = math.log(math.e - 1)  # whose softplus is 1
        s_1 = s_x[..., : self.k_x] * F.softplus(one + neutral)
        s_2 = s_z[..., : self.k_z] * F.softplus(two + neutral - _START)
        return s_1, s_2


@dataclass(frozen=True)
class MixSettings:
    """How a mix of two latents is fitted.

    Attributes:
        k_x: leading vectors of the source; 0: all but ``k_z``.
        k_z: of the target.
        weights: of the losses.
        steps: of Adam.
        lr: its rate.
        seed: of the network.
    """

    k_x: int = 0
    k_z: int = 8
    weights: Weights = field(default_factory=Weights)
    steps: int = 500
    lr: float = 1e-3
    seed: int = 0


def fit_values(
    x: Tensor,
    z: Tensor,
    settings: MixSettings | None = None,
    *,
    callback: Callback | None = None,
) -> Tensor:
    """Fit the mix: a small network predicts the values with which leading vectors of both states are added up.

    ``y = u_x diag(s_1) v_x + u_z diag(s_2) v_z`` minimises, over the sum of squares of the source's values,
    ``|diag(u_z' y v_z) - s_z|^2`` (target), ``|y - x|^2`` (source), ``|s_2 - s_z|^2`` and ``|s_1 - s_x|^2``.

    Args:
        x: the source, `[b c h w]`, VP.
        z: the target, the same shape, VP. All pairs of a batch share the network.
        settings: how.
        callback: called after every step.

    Returns:
        y, the shape of ``x``, every channel with the deviation of ``x``.

    Raises:
        ValueError: shapes or ranks out of range.
    """
    settings = settings or MixSettings()
    rank = min(x.shape[-2:])
    k_z = settings.k_z
    k_x = settings.k_x or max(rank - k_z, 1)
    check_pair(x, z, k_x, k_z)
    one = Svd.of(x)
    two = Svd.of(z)
    net = Values(rank, k_x, k_z, settings.seed).to(x.device)
    run = Run(net, Optimiser(settings.lr, clip=0.0), settings.steps, Session(on_step=callback))

    def loss(_: torch.Generator) -> Tensor:
        s_1, s_2 = net(one.s, two.s)
        return mix_loss(widen(x), one, two, s_1, s_2, settings.weights).mean()

    run.train(loss)
    net.load_state_dict(run.best)
    with torch.no_grad():
        s_1, s_2 = net(one.s, two.s)
        return rescaled(one.joined(s_1) + two.joined(s_2), x)


@dataclass(frozen=True)
class FittedMix:
    """A trained mix.

    Attributes:
        source: `[b c h w]`, VP.
        result: the same shape.
        losses: of every step.
    """

    source: Tensor
    result: Tensor
    losses: list[float]

    def at(self, strength: float) -> Tensor:
        """Go a part of the straight way from the source (0) to the result (1)."""
        return torch.lerp(self.source, self.result, strength)

    @property
    def text(self) -> str:
        """Tell people how it went."""
        away = float((self.result - self.source).norm() / self.source.norm())
        losses = f"loss {self.losses[0]:.4f} > {self.losses[-1]:.4f} in {len(self.losses)} steps"
        return f"{losses}; result {away:.0%} of its length from the source"


def fit_mix(x: Tensor, z: Tensor, callback: Callback, settings: MixSettings) -> FittedMix:
    """Fit a mix of a source and a target, both `[b c h w]`, and record its losses; see :func:`fit_values`."""
    losses: list[float] = []

    def record(state: dict) -> None:
        losses.append(state["loss"])
        callback(state)

    return FittedMix(x, fit_values(x.clone(), z.clone(), settings, callback=record), losses)


def mix_loss(x: Tensor, one: Svd, two: Svd, s_1: Tensor, s_2: Tensor, weights: Weights) -> Tensor:
    """See :func:`fit_values`; of every channel, `[b c]`. Quadratic and convex in the values."""
    source_values = one.s[..., : s_1.shape[-1]]
    target_values = two.s[..., : s_2.shape[-1]]
    u = two.u[..., : s_2.shape[-1]]
    v = two.v[..., : s_2.shape[-1], :]
    y = one.joined(s_1) + two.joined(s_2)
    # diag(u' y v') of the leading vectors only.
    values = ((u.transpose(-1, -2) @ y) * v).sum(-1)
    loss = weights.target * (values - target_values).square().sum(-1)
    loss = loss + weights.source * (y - x).square().sum((-1, -2))
    loss = loss + weights.hold_target * (s_2 - target_values).square().sum(-1)
    loss = loss + weights.hold_source * (s_1 - source_values).square().sum(-1)
    return loss / one.s.square().sum(-1).clamp_min(1e-12)
