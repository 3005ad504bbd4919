"""By how many places a picture is shifted against another: phase correlation (Kuglin and Hines, ICCS 1975)."""

from __future__ import annotations

import torch
from torch import Tensor

_AHEAD = 2.0  # times the correlation in place, above which a picture counts as shifted
_CLEAR = 8.0  # standard deviations of the correlation, which chance does not reach


def find_shift(picture: Tensor, reference: Tensor) -> tuple[int, int]:
    """Find the whole shift, rows down and columns right, at which ``picture`` fits ``reference`` best.

    A change of a part leaves the rest in place, and of two pictures that have nothing in common none fits the other: a
    shift is told only where it fits clearly better than none.

    Args:
        picture: `[c h w]`, or with further axes in front of the last two.
        reference: the same shape.
    """
    height, width = picture.shape[-2:]
    window = _hann(height, picture)[:, None] * _hann(width, picture)
    one, other = (_spectrum(value.reshape(-1, height, width).float(), window) for value in (picture, reference))
    cross = one * other.conj()
    fits = torch.fft.ifft2(cross / cross.abs().clamp_min(1e-12)).real.mean(0)
    best = int(fits.argmax())
    least = max(_AHEAD * float(fits[0, 0]), _CLEAR * float(fits.std()))
    if not float(fits.flatten()[best]) > least:
        return 0, 0
    down, right = divmod(best, width)
    return _signed(down, height), _signed(right, width)


def _hann(count: int, like: Tensor) -> Tensor:
    return torch.hann_window(count + 2, periodic=False, device=like.device)[1:-1]


def _spectrum(channels: Tensor, window: Tensor) -> Tensor:
    return torch.fft.fft2((channels - channels.mean((1, 2), keepdim=True)) * window)


def _signed(shift: int, count: int) -> int:
    return shift - count if shift > count // 2 else shift
