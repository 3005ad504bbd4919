"""Edit a latent by exchanging its singular vectors, channel by channel.

"Attribute vector integration" on the SVD of x_t.

Reconstructed from what the paper's captions tell: the vectors carry attributes, the values set their strength, and an
edit mixes the leading vectors of a noisier state (source) with those of a less noisy one (target). All states are VP
states, ``x / sqrt(1 + sigma^2)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...float64 import widen
from ...measure.plots import lines_plot

_LABELS = 8  # numbers that fit below a plot
_CHANNELS = 4


@dataclass(frozen=True)
class Svd:
    """``x = u diag(s) v`` of every channel.

    u `[b c h r]`, s `[b c r]` descending, v `[b c r w]`, r the smaller side.
    """

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
                f"the latent must be [b c h w] and not empty, got {list(x.shape)}; latents of videos or audio have no"
                " such SVD"
            )
        if not torch.isfinite(x).all():
            raise ValueError("the latent holds NaN or infinite values; check the sampler that it comes from")
        return Svd(*torch.linalg.svd(widen(x), full_matrices=False))

    def joined(self, values: Tensor) -> Tensor:
        """Join other values `[b c k]` on the k leading vectors into a latent."""
        k = values.shape[-1]
        return (self.u[..., :k] * values[..., None, :]) @ self.v[..., :k, :]


def scaled(x: Tensor, first: int, count: int, factor: float, others: float = 1.0) -> Tensor:
    """Scale some of the singular values of a latent.

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
    """Mix without training: the ``leading`` vectors of ``x`` fade by ``1 - gain``, those of ``z`` come in by ``gain``.

    The rest is ``x``'s.

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
    check_pair(x, z, leading, leading)
    if not 0 <= gain <= 1:
        raise ValueError(f"gain must lie in 0..1, got {gain}; 0 is the source, 0.5 a good start")
    if gain == 0:
        return x
    one = Svd.of(x)
    two = Svd.of(z)
    fade = torch.ones_like(one.s)
    fade[..., :leading] = 1 - gain
    return rescaled(one.joined(one.s * fade) + two.joined(gain * two.s[..., :leading]), x)


def plot_spectra(states: Mapping[str, Tensor]) -> Tensor:
    """Draw the singular values of states, a panel for each of the first channels, `[1 H W 3]` in 0..1.

    Args:
        states: name -> `[b c h w]`, of which the first picture is shown.
    """
    spectra = {name: Svd.of(x[:1]).s[0] for name, x in states.items()}
    channels, rank = next(iter(spectra.values())).shape
    every = -(-rank // _LABELS)
    names = [str(i + 1) if i % every == 0 else "" for i in range(rank)]
    panels = {
        f"singular values, channel {c + 1}": {name: s[c].tolist() for name, s in spectra.items()}
        for c in range(min(channels, _CHANNELS))
    }
    return lines_plot(names, panels, "number")


def rescaled(y: Tensor, x: Tensor) -> Tensor:
    """Give ``y`` the standard deviation of ``x`` in every channel."""
    deviation = widen(x).std((2, 3), keepdim=True) / y.std((2, 3), keepdim=True).clamp_min(1e-12)
    return (y * deviation).to(x)


def check_pair(x: Tensor, z: Tensor, k_x: int, k_z: int) -> None:
    """Refuse two latents `[b c h w]` of different shapes, or with fewer singular values than ``k_x`` and ``k_z``.

    Raises:
        ValueError: they do not fit; the message says what would.
    """
    if x.shape != z.shape:
        raise ValueError(
            f"source and target must have one shape, got {list(x.shape)} and {list(z.shape)}; sample both at one size"
        )
    rank = min(x.shape[-2:])
    if not (1 <= k_x <= rank and 1 <= k_z <= rank):
        raise ValueError(f"the numbers of leading vectors must lie in 1..{rank} for this latent, got {k_x} and {k_z}")
