"""Directions added to h while sampling: symmetric (RBE, arXiv 2412.12912) or asymmetric (Asyrp, arXiv 2210.10960)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...denoiser import Bottleneck, Callback, Denoiser, Noising, report_step
from ...noise import fresh_noise
from ...sample import check_eta, edited_step
from ...solver import SecondOrder
from ...trajectory import Trajectory
from ..noise.exact import check_plain
from ..protect import blend_weight
from .shift import Edit, Shift, asymmetric_factor, h_shift, in_window, layer_at

__all__ = [
    "Edit",
    "Shift",
    "SteerOptions",
    "Steered",
    "asymmetric_factor",
    "edited_step",
    "edited_steps",
    "h_shift",
    "in_window",
    "layer_at",
    "noise_shares",
    "steer_trajectory",
]

_STARTS = ("top", "window", "auto")
_SAME = 1e-3  # relative; a level that came through a widget is still that level of the grid


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
        self.model = model
        self.edits = tuple(edits)
        self.layers = model.layers
        self.fingerprint = model.fingerprint
        self.noising: Noising = model.noising

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Predict the edited denoised image, `[b c h w]`."""
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
            raise ValueError(
                f"the edit acts at layer {edited!r}, so the edited model can be split there only, not at {layer!r}"
            )
        shifts = [h_shift(self.edits, s, plain.h[i : i + 1]) for i, s in enumerate(levels)]
        shift = torch.cat([torch.zeros_like(plain.h[:1]) if s is None else s for s in shifts])
        return replace(plain, h=plain.h + shift)


@dataclass(frozen=True)
class SteerOptions:
    """How an edit is sampled back.

    Attributes:
        asymmetric: edit the prediction, not the direction to it; strength times :func:`asymmetric_factor`. Two decoder
            runs a step. For edits of h alone.
        eta: share of fresh noise in the edited steps, 0..1 (RBE's code: 0.5).
        seed: of that noise.
        lagged: replace h by the previous step's unedited h plus the shift, as RBE's released code does (first step: the
            h of the state below, which its inversion saw last). This changes the picture by itself. For edits of h
            alone.
        protect: 0..1; how firmly everything outside ``mask`` is held at the stored trajectory, from the first edited
            step on. At 1 it ends in the inverted image itself.
        mask: `[h w]` in 0..1, the region that may change; any resolution.
        dilate: by how many pixels of the state the mask is widened for the protection.
        boost: below this noise level every step draws its noise anew (eta 1): Asyrp's quality boosting, whose rule is
            ``t < t_addnoise``, so that a level of the grid is not below itself. 0 is off.
        start: ``top``, the noisiest state, or ``window``, the stored state at the first level of the edits of h: fewer
            calls, and the same picture in so far as the trajectory is consistent. A trajectory that was moved always
            starts at its top. ``auto`` is the stored state at the first edited level of any edit where that is the
            same picture (see :attr:`core.trajectory.Trajectory.is_consistent`; without ``lagged``, ``eta`` and
            ``boost``), else ``top``.
    """

    asymmetric: bool = False
    eta: float = 0.0
    seed: int = 0
    lagged: bool = False
    protect: float = 0.0
    mask: Tensor | None = None
    dilate: int = 2
    boost: float = 0.0
    start: str = "top"


@torch.no_grad()
def steer_trajectory(
    model: Denoiser,
    trajectory: Trajectory,
    edits: Sequence[Shift],
    options: SteerOptions | None = None,
    *,
    anchor: Tensor | None = None,
    edited: Callable[[float], bool] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample an edited image back.

    By edits of h, by a model that is edited itself, or from a trajectory that was moved.

    If no edit acts (strength 0), the result is that of :func:`core.sample.reconstruct`, bit for bit (unless
    ``start="window"``, and without ``anchor``): neither eta, nor boost, nor protection, nor the lag then apply.

    Args:
        model: the denoiser that was inverted, or one that edits it (mixed, rectified).
        trajectory: where to start, and the grid. One out of :func:`core.edit.directions.state.edit_state` is an edit in
            every step.
        edits: any number.
        options: how it is sampled.
        anchor: what :func:`core.edit.anchor.drift` returned for this trajectory, or None; takes the inversion's own
            error out.
        edited: whether ``model`` carries an edit of its own that acts at a noise level; None if it carries none.
        callback: called after every step.

    Returns:
        Edited image `[b c h w]`.

    Raises:
        ValueError: model, trajectory and edits do not belong together, an option out of range, or no step within any
            window.
    """
    options = options or SteerOptions()
    trajectory.check_model(model.fingerprint)
    check_plain(trajectory)
    _check_solver(trajectory, options, anchor)
    edits = [edit.on(trajectory.sigmas, options.asymmetric) for edit in edits]
    steps = _Steps(model, edits, options.asymmetric)
    sigmas = trajectory.sigmas.tolist()
    changed = edited_steps(trajectory, edits, edited)
    shares = noise_shares(sigmas, changed, options.eta, options.boost)
    protection = _protection(trajectory, changed, options)
    first = _first_step(trajectory, edits, changed, options)
    if options.lagged:
        steps.lag_behind(trajectory, first)
    generator = torch.Generator().manual_seed(options.seed)
    x = trajectory.states[first]
    n = len(sigmas) - 1
    run = SecondOrder(trajectory.solver, lambda z, s: steps.predict(z, s)[0], model.noising)
    for i in range(first, n):
        sigma = sigmas[i]
        nxt = sigmas[i + 1]
        if trajectory.solver == "euler":
            denoised, plain = steps.predict(x, sigma)
            noise = fresh_noise(x, generator) if shares[i] and nxt else None
            x = edited_step(x, sigma, nxt, denoised, plain, eta=shares[i], noise=noise)
        else:
            x, denoised = run.step(x, sigma, nxt)
        if anchor is not None:
            x = x + anchor[i].to(x)
        if protection is not None and i >= protection.first:
            x = torch.lerp(x, trajectory.states[i + 1], protection.weight)
        report_step(callback, i - first, n - first, x=x, sigma=sigma, denoised=denoised)
    return x


def _check_solver(trajectory: Trajectory, options: SteerOptions, anchor: Tensor | None) -> None:
    """Refuse what is defined on Euler's steps alone.

    Raises:
        ValueError: the trajectory is of second order, and an option asks for one of them.
    """
    given = {
        "asymmetric": options.asymmetric,
        "eta": options.eta,
        "lagged": options.lagged,
        "boost": options.boost,
        "an anchor": anchor is not None,
    }
    for name, asked in given.items():
        if asked:
            trajectory.check_euler(name)


class _Steps:
    """What a model with edits of h predicts, step by step."""

    def __init__(self, model: Denoiser, edits: Sequence[Shift], asymmetric: bool):
        self.edits = Steered(model, edits).edits  # which refuses directions of another model
        self.model = model
        self.asymmetric = asymmetric
        self.lag_layer: str | None = None
        self.h_before: Tensor | None = None

    def lag_behind(self, trajectory: Trajectory, first: int) -> None:
        """Let every step start from the unedited h of the step before, the ``first`` from that of the state below."""
        self.lag_layer = layer_at(self.edits, trajectory.sigmas[:-1].tolist())
        if self.lag_layer:
            self.h_before = _h_below(self.model, trajectory, first, self.lag_layer)

    def predict(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Predict the image of a step, and that from which its direction is taken: the same one where symmetric."""
        rows = x.new_full((x.shape[0],), sigma)
        acts = in_window(self.edits, sigma)
        if not acts and not self.lag_layer:
            denoised = self.model(x, rows)
            return denoised, denoised
        layer = self.lag_layer or layer_at(self.edits, [sigma]) or "middle"
        bottleneck = self.model.split(x, rows, layer)
        shift = h_shift(self.edits, sigma, bottleneck.h)
        base = bottleneck.h if self.h_before is None else self.h_before
        denoised = bottleneck.decode(bottleneck.h if shift is None else base + shift)
        plain = bottleneck.decode(bottleneck.h) if self.asymmetric and acts else denoised
        self.h_before = bottleneck.h if self.lag_layer else None
        return denoised, plain


class _Protection(NamedTuple):
    """How much of the stored state is taken back, `[b 1 h w]`, and from which step on."""

    weight: Tensor
    first: int


def _protection(trajectory: Trajectory, changed: Sequence[bool], options: SteerOptions) -> _Protection | None:
    _check_protection(options.protect, options.mask)
    if options.mask is None or not options.protect or not any(changed):
        return None
    trajectory.check_pictures("protection outside a mask")
    weight = blend_weight(options.mask, trajectory.noisiest, options.protect, options.dilate)
    return _Protection(weight, 0 if trajectory.moved else list(changed).index(True))


def edited_steps(
    trajectory: Trajectory, edits: Sequence[Shift], edited: Callable[[float], bool] | None = None
) -> list[bool]:
    """Say for each step of a trajectory whether it is edited; all of them if nothing but the trajectory itself is.

    Args:
        trajectory: see :func:`steer_trajectory`.
        edits: edits of h, fitted to its grid.
        edited: see :func:`steer_trajectory`.
    """
    levels = trajectory.sigmas[:-1].tolist()
    changed = [in_window(edits, s) or (edited is not None and edited(s)) for s in levels]
    return changed if any(changed) else [trajectory.moved] * len(levels)


def noise_shares(sigmas: Sequence[float], changed: Sequence[bool], eta: float, boost: float = 0.0) -> list[float]:
    """Choose the share of fresh noise of each step, 0..1.

    ``eta`` in the edited ones, all of it below ``boost``, none if none is edited.

    Args:
        sigmas: `n+1` levels of a run.
        changed: which of its n steps are edited.
        eta, boost: see :class:`SteerOptions`.

    Raises:
        ValueError: eta outside 0..1, or a boost that is no level.
    """
    check_eta(eta)
    if not (boost >= 0 and math.isfinite(boost)):
        raise ValueError(f"boost must be a noise level, 0 (off) or more, got {boost}")
    below = boost * (1 - _SAME) if any(changed) else 0.0
    return [1.0 if s < below else eta if c else 0.0 for s, c in zip(sigmas, changed, strict=False)]


def _check_protection(protect: float, mask: Tensor | None) -> None:
    if not 0 <= protect <= 1:
        raise ValueError(f"protect must lie in 0..1 (0 off, 1 holds everything outside the mask), got {protect}")
    if protect and mask is None:
        raise ValueError(
            "'protect' holds everything outside a mask, but there is no mask; give one, or set protect to 0"
        )


def _first_step(trajectory: Trajectory, edits: Sequence[Shift], changed: Sequence[bool], options: SteerOptions) -> int:
    """Find the first step of a run; refuse an edit that no step would carry out."""
    if options.start not in _STARTS:
        raise ValueError(
            f"start must be 'top' (the noisiest state), 'window' (the first level of the edits of h) or 'auto' (the"
            f" first edited level, where that is the same picture), got {options.start!r}"
        )
    sigmas = trajectory.sigmas.tolist()
    for edit in edits:
        edit.schedule.check_levels(sigmas)
    if trajectory.moved or options.start == "top":
        return 0
    if options.start == "auto":
        from_top = options.lagged or options.eta or options.boost
        acting = changed if trajectory.is_consistent and not from_top else []
    else:
        acting = [any(e.schedule.covers(s) for e in edits) for s in sigmas[:-1]]
    return list(acting).index(True) if any(acting) else 0


def _h_below(model: Denoiser, trajectory: Trajectory, i: int, layer: str) -> Tensor | None:
    """Read the activations of the stored state one step below ``i``; None if that is the clean image."""
    sigma = float(trajectory.sigmas[i + 1])
    if not sigma:
        return None
    x = trajectory.states[i + 1]
    return model.split(x, x.new_full((x.shape[0],), sigma), layer).h
