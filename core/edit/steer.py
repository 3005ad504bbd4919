"""Directions added to h while sampling: symmetric (RBE, AAAI 2025, arXiv 2412.12912) or asymmetric (Asyrp, ICLR 2023, arXiv 2210.10960)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..denoiser import Bottleneck, Callback, Denoiser
from ..trajectory import Trajectory
from .exact import check_plain
from .protect import blend_weight
from .sample import check_eta, edited_step, fresh_noise
from .shift import Edit, Shift, asymmetric_factor, h_shift, in_window, layer_at

__all__ = ["Edit", "Shift", "Steered", "asymmetric_factor", "edited_step", "h_shift", "in_window", "layer_at", "steer_trajectory"]


class Steered:
    """A denoiser with symmetric edits inside. Where no edit acts it is exactly ``model(x, sigma)``.

    It keeps the fingerprint of ``model``: directions and trajectories of the one serve the other.

    Args:
        model: any denoiser.
        edits: any number; those that act at one noise level must share a layer.

    Raises:
        ValueError: directions of another model or of a layer that it lacks.
    """

    def __init__(self, model: Denoiser, edits: Sequence[Shift]):
        for edit in edits:
            edit.check_model(model.fingerprint, model.layers)
        self.model, self.edits = model, tuple(edits)
        self.layers, self.fingerprint = model.layers, model.fingerprint

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Edited denoised image, `[b c h w]`."""
        layer = layer_at(self.edits, sigma.tolist())
        if layer is None:
            return self.model(x, sigma)
        bottleneck = self.split(x, sigma, layer)
        return bottleneck.decode(bottleneck.h)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`; ``h`` carries the edit.

        Raises:
            ValueError: an edit acts at another layer.
        """
        levels = sigma.tolist()
        edited = layer_at(self.edits, levels)
        plain = self.model.split(x, sigma, layer, smooth)
        if edited is None:
            return plain
        if edited != layer:
            raise ValueError(f"the edit acts at layer {edited!r}, so the edited model can be split there only, not at {layer!r}")
        shifts = [h_shift(self.edits, s, plain.h[i : i + 1]) for i, s in enumerate(levels)]
        shift = torch.cat([torch.zeros_like(plain.h[:1]) if s is None else s for s in shifts])
        return Bottleneck(plain.h + shift, plain.decode, layer, plain.smooth)


@torch.no_grad()
def steer_trajectory(
    model: Denoiser,
    trajectory: Trajectory,
    edits: Sequence[Shift],
    *,
    asymmetric: bool = False,
    eta: float = 0.0,
    seed: int = 0,
    lagged: bool = False,
    protect: float = 0.0,
    mask: Tensor | None = None,
    dilate: int = 2,
    boost: float = 0.0,
    anchor: Tensor | None = None,
    start: str = "top",
    callback: Callback | None = None,
) -> Tensor:
    """Sample an inverted image back with edits of h.

    If no edit acts (strength 0), the result is that of :func:`core.edit.sample.reconstruct`, bit for bit (with ``start="top"`` and
    without ``anchor``): neither eta, nor boost, nor protection, nor the lag then apply.

    Args:
        model: the denoiser that was inverted.
        trajectory: where to start, and the grid.
        edits: any number.
        asymmetric: edit the prediction, not the direction to it; strength times :func:`asymmetric_factor`. Two decoder runs a step.
        eta: share of fresh noise in the edited steps, 0..1 (RBE's code: 0.5).
        seed: of that noise.
        lagged: replace h by the previous step's unedited h plus the shift, as RBE's released code does (first step: the h of
            the state below, which its inversion saw last). This changes the picture by itself.
        protect: 0..1; how firmly everything outside ``mask`` is held at the stored trajectory, from the first edited step on.
            At 1 it ends in the inverted image itself.
        mask: `[h w]` in 0..1, the region that may change; any resolution.
        dilate: by how many pixels of the state the mask is widened for the protection.
        boost: from this noise level down every step draws its noise anew (eta 1): Asyrp's quality boosting. 0 is off.
        anchor: what :func:`core.edit.anchor.drift` returned for this trajectory, or None; takes the inversion's own error out.
        start: ``top``, the noisiest state, or ``window``, the stored state at the first edited level: fewer calls, and the same
            picture in so far as the trajectory is consistent.
        callback: called after every step.

    Returns:
        Edited image `[b c h w]`.

    Raises:
        ValueError: model, trajectory and edits do not belong together, an option out of range, or no step within any window.
    """
    trajectory.check_model(model.fingerprint)
    check_plain(trajectory)
    edits = [edit.on(trajectory.sigmas, asymmetric) for edit in edits]
    steered = Steered(model, edits)
    sigmas = trajectory.sigmas.tolist()
    acting = [in_window(edits, s) for s in sigmas[:-1]]
    check_eta(eta)
    _check_protection(protect, mask)
    first = _first_step(sigmas, edits, start)
    layer = layer_at(edits, sigmas[:-1]) if lagged else None
    keep = blend_weight(mask, trajectory.noisiest, protect, dilate) if mask is not None and protect and any(acting) else None
    generator = torch.Generator().manual_seed(seed)
    x, n = trajectory.states[first], len(acting) - first
    boosted = any(acting)
    lag = _h_below(model, trajectory, first, layer) if layer else None
    for i in range(first, len(acting)):
        sigma, nxt = sigmas[i], sigmas[i + 1]
        rows = x.new_full((x.shape[0],), sigma)
        if acting[i] or layer:
            bottleneck = model.split(x, rows, layer or layer_at(edits, [sigma]) or "middle")
            base = bottleneck.h if lag is None else lag
            shift = h_shift(steered.edits, sigma, bottleneck.h)
            denoised = bottleneck.decode(bottleneck.h if shift is None else base + shift)
            plain = bottleneck.decode(bottleneck.h) if asymmetric and acting[i] else denoised
            lag = bottleneck.h if layer else None
        else:
            denoised = plain = model(x, rows)
        share = 1.0 if boosted and sigma <= boost else eta if acting[i] else 0.0
        noise = fresh_noise(x, generator) if share and nxt else None
        x = edited_step(x, sigma, nxt, denoised, plain, eta=share, noise=noise)
        if anchor is not None:
            x = x + anchor[i].to(x)
        if keep is not None and any(acting[: i + 1]):
            x = torch.lerp(x, trajectory.states[i + 1], keep)
        if callback is not None:
            callback({"i": i - first, "n": n, "x": x, "sigma": sigma, "denoised": denoised})
    return x


def _check_protection(protect: float, mask: Tensor | None) -> None:
    if not 0 <= protect <= 1:
        raise ValueError(f"protect must lie in 0..1 (0 off, 1 holds everything outside the mask), got {protect}")
    if protect and mask is None:
        raise ValueError("'protect' holds everything outside a mask, but there is no mask; give one, or set protect to 0")


def _first_step(sigmas: list[float], edits: Sequence[Shift], start: str) -> int:
    """Index of the first step of a run; refuses an edit that no step would carry out."""
    if start not in ("top", "window"):
        raise ValueError(f"start must be 'top' (the noisiest state) or 'window' (the first edited level), got {start!r}")
    for edit in edits:
        w = edit.schedule
        if w.strength and not any(w.covers(s) for s in sigmas[:-1]):
            raise ValueError(
                f"the edit acts between sigma {w.sigma_end:g} and {w.sigma_start:g}, but the trajectory's steps lie between "
                f"{sigmas[-2]:.3g} and {sigmas[0]:.3g} and none of them in that window; widen the window or invert with more steps"
            )
    covered = [i for i, s in enumerate(sigmas[:-1]) if any(e.schedule.covers(s) for e in edits)]
    return covered[0] if start == "window" and covered else 0


def _h_below(model: Denoiser, trajectory: Trajectory, i: int, layer: str) -> Tensor | None:
    """Activations of the stored state one step below ``i``; None if that is the clean image."""
    sigma = float(trajectory.sigmas[i + 1])
    if not sigma:
        return None
    x = trajectory.states[i + 1]
    return model.split(x, x.new_full((x.shape[0],), sigma), layer).h
