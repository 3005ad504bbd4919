"""A model at first contact: how well it denoises, comes back from noise, and can be cut and differentiated."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, predict
from ..invert.fixed_point import FixedPointOptions, invert_fixed_point
from ..sample import reconstruct
from .cost import free_bytes
from .jacobian import DecoderJacobian

PRODUCTS = (60, 210)
"""Jacobian products that five directions of a region have taken on the face model, least and most."""
_FLAT = 0.1  # deviation below which a picture is a plain colour
_BLOCK = 8  # vectors of a pass that is timed


@dataclass(frozen=True)
class Returned:
    """A picture that was inverted and sampled back.

    Attributes:
        steps: of the way up and of the way back.
        iterations: of the fixed point.
        psnr: of what came back, in dB of the range of the picture.
        calls: of the network.
        seconds: all of it took.
    """

    steps: int
    iterations: int
    psnr: float
    calls: int
    seconds: float


@dataclass(frozen=True)
class Cut:
    """A network stopped at a layer.

    Attributes:
        layer: its name.
        shape: of h, `(c, h, w)`.
        error: largest difference of both halves from the whole, over the range of the picture.
    """

    layer: str
    shape: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class Derivatives:
    """How products with the Jacobian of a decoder are made.

    Attributes:
        how: in words.
        gap: relative, between forward and reverse products.
        chunk: vectors that will go through at a time.
        one: bytes that a reverse product of one vector takes beside the weights.
        several: bytes that ``chunk`` of them take.
        free: bytes that are free, or None.
        seconds: of one product.
        exact: forward mode, not differences.
    """

    how: str
    gap: float
    chunk: int
    one: int
    several: int
    free: int | None
    seconds: float
    exact: bool

    @property
    def span(self) -> tuple[float, float]:
        """Estimate the seconds that five directions of a region take, least and most."""
        return self.seconds * PRODUCTS[0], self.seconds * PRODUCTS[1]


@torch.no_grad()
def seconds_of_call(model: Denoiser, x: Tensor, sigma: float, calls: int = 2) -> float:
    """Measure a call of the network on `[b c h w]`, the shortest of a few."""
    level = x.new_full((len(x),), sigma)
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        float(predict(model, x, level).sum())  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times)


@torch.no_grad()
def clean_error(model: Denoiser, x0: Tensor, sigma: float) -> float:
    """Measure how far a picture `[1 c h w]` with almost no noise is from its prediction, over its deviation.

    A trained model gives it back; one whose kind of prediction was taken for another does not.
    """
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).to(x0)
    kept = 1 - sigma if model.noising == "flow" else 1.0
    denoised = predict(model, kept * x0 + sigma * noise, x0.new_full((len(x0),), sigma))
    return float((denoised - x0).square().mean().sqrt() / x0.std().clamp_min(_FLAT))


def come_back(
    model: Denoiser, x0: Tensor, sigmas: Tensor, iterations: int, callback: Callback | None = None
) -> Returned:
    """Invert a picture `[1 c h w]` along ``sigmas`` `[n+1]` and sample it back."""
    started = time.perf_counter()
    path = invert_fixed_point(model, x0, sigmas, iterations, options=FixedPointOptions(), callback=callback, limit=None)
    rebuilt = reconstruct(model, path, callback=callback).rebuilt
    steps = len(sigmas) - 1
    error = float((rebuilt - x0).float().square().mean().sqrt())
    span = float(x0.max() - x0.min())
    psnr = 120.0 if error == 0 else min(120.0, 20 * math.log10(max(span, 1e-9) / error))
    calls = steps * (1 + iterations) + 1 + steps
    return Returned(steps, iterations, psnr, calls, time.perf_counter() - started)


@torch.no_grad()
def cut_at(model: Denoiser, x: Tensor, sigma: float, layers: Sequence[str]) -> list[Cut]:
    """Stop the network at layers, on one state `[1 c h w]`, and compare both halves with the whole."""
    level = x.new_full((1,), sigma)
    whole = predict(model, x, level)
    size = float(torch.maximum(whole.abs().max(), (x - whole).abs().max()).clamp_min(1e-6))
    cuts = []
    for layer in layers:
        part = model.split(x, level, layer)
        error = float((part.decode(part.h) - whole).abs().max()) / size
        cuts.append(Cut(layer, tuple(part.h.shape[1:]), error))
    return cuts


def differentiate(
    model: Denoiser, x: Tensor, sigma: float, layer: str = "middle", callback: Callback | None = None
) -> Derivatives:
    """Make a few products at one state `[1 c h w]`, and see how, in what memory, and in what time."""
    with torch.no_grad():
        part = model.split(x, x.new_full((1,), sigma), layer)
    J = DecoderJacobian(part, callback=callback)
    gap = J.check()
    rows = torch.randn(3 + _BLOCK, J.shape[0], generator=torch.Generator().manual_seed(0)).to(J.h0)
    J.vjp(rows[:3])  # passes of one and of two vectors, whose memory is measured
    block = rows[: min(J.chunk, _BLOCK)]
    started = time.perf_counter()
    back = J.vjp(block)
    J.jvp(back)
    seconds = (time.perf_counter() - started) / (2 * len(block))
    need = J.staged.needs["pull"]
    free = free_bytes(J.h0.device)
    return Derivatives(J.summary(), gap, J.chunk, need.of(1), need.of(J.chunk), free, seconds, J.step is None)
