"""Between two noises: slerp and AdaIN on it, the latent interpolation of DiffMorpher.

Zhang et al. 2024, arXiv 2312.07409.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...float64 import widen

MOST = 4096
"""Alphas that a text may hold."""
_EPS = 1e-5  # added to the variance of a channel
_NEAR = 1 - 1e-7  # largest cosine: noises that are equal or opposite have no arc between them


def slerp(a: Tensor, b: Tensor, alphas: Sequence[float]) -> Tensor:
    """Interpolate on the arc from one noise to another, the angle taken over the whole flattened tensor, in float64.

    Args:
        a: `[c h w]`.
        b: the same shape.
        alphas: n numbers; 0 is ``a`` and 1 is ``b``, both bit for bit.

    Returns:
        `[n c h w]` in the dtype of ``a``.

    Raises:
        ValueError: different shapes, or an alpha that is not a number within 0..1.
    """
    check_alphas(alphas)
    if a.shape != b.shape:
        raise ValueError(
            f"both pictures must have one size to be interpolated, got {list(a.shape)} and {list(b.shape)}; scale one"
            " of them first"
        )
    u = widen(a)
    v = widen(b)
    cosine = float((u * v).sum() / (u.norm() * v.norm()).clamp_min(1e-30))
    angle = math.acos(min(max(cosine, -_NEAR), _NEAR))
    whole = math.sin(angle)
    return torch.stack(
        [(math.sin((1 - t) * angle) / whole) * u + (math.sin(t * angle) / whole) * v for t in alphas]
    ).to(a)


def adain(z: Tensor, a: Tensor, b: Tensor, alphas: Sequence[float]) -> Tensor:
    """Give ``z`` the interpolated mean and deviation of every channel.

    AdaIN, Huang and Belongie 2017, arXiv 1703.06868.

    The variance is biased on both sides, so that the ends come back (the released code mixes both kinds).

    Args:
        z: `[n c h w]`, interpolated noises in VP scale.
        a: `[c h w]`, at alpha 0.
        b: the same shape, at alpha 1.
        alphas: n numbers.

    Returns:
        The shape of ``z``.
    """
    own = widen(z)
    first = widen(a)[None]
    second = widen(b)[None]
    t = own.new_tensor(list(alphas)).reshape(-1, 1, 1, 1)
    mean, deviation = (torch.lerp(p, q, t) for p, q in zip(_moments(first), _moments(second), strict=True))
    centre, spread = _moments(own)
    return ((own - centre) / spread * deviation + mean).to(z)


def check_alphas(alphas: Sequence[float]) -> None:
    """Refuse what does not lie between two pictures.

    Raises:
        ValueError: no number, or one outside 0..1.
    """
    if not alphas or not all(0 <= t <= 1 for t in alphas):
        raise ValueError(f"alphas must be numbers from 0 (first picture) to 1 (second), got {_some(alphas) or 'none'}")


def even_alphas(count: int) -> list[float]:
    """Space ``count`` alphas evenly, ends included.

    Raises:
        ValueError: fewer than two.
    """
    if count < 2:
        raise ValueError(f"a morph needs at least two frames, its ends, got {count}")
    return [i / (count - 1) for i in range(count)]


def parse_alphas(text: str) -> list[float]:
    """Parse alphas out of a text, separated by commas, blanks or lines.

    Raises:
        ValueError: something else in it, a number outside 0..1, or more than :data:`MOST`.
    """
    try:
        alphas = [float(word) for word in text.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        raise ValueError(
            f"alphas must be numbers separated by commas, such as '0, 0.25, 0.5, 1', got {text[:60]!r}"
        ) from None
    check_alphas(alphas)
    if len(alphas) > MOST:
        raise ValueError(
            f"alphas must be at most {MOST} numbers, one a frame, got {len(alphas)}; make the frames in parts"
        )
    return alphas


def alphas_text(alphas: Sequence[float]) -> str:
    """Write alphas as :func:`parse_alphas` reads them, to six digits."""
    return ", ".join(f"{t:.6g}" for t in alphas)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Measure mean and deviation of every channel, `[n c 1 1]`."""
    mean = x.mean((2, 3), keepdim=True)
    return mean, ((x - mean).square().mean((2, 3), keepdim=True) + _EPS).sqrt()


def _some(alphas: Sequence[float]) -> str:
    return ", ".join(f"{t:g}" for t in alphas[:8])
