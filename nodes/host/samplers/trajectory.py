"""A stored trajectory as a SAMPLER of the host: it starts from the stored state, whatever noise and latent come in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import comfy.samplers
import torch
from torch import Tensor

from ....core.denoiser import check_finite
from ....core.edit.directions.steer import edited_step, edited_steps, in_window, noise_shares
from ....core.noise import fresh_noise
from ....core.solver import SecondOrder
from ....core.trajectory import Trajectory
from ..model.fingerprint import model_fingerprint
from ..model.frames import on_pictures
from ..patches.caches import check_second_calls, resting, second_holder, with_holder
from ..patches.local_blend import blend_state
from ..patches.model_edits import edited_at, model_edits_of, schedules_of
from ..patches.pairs import pair_rows
from ..patches.sampler_only import sampler_only
from ..patches.steering import EDITS, PLAIN
from .fewer_rows import leave_sources_out
from .noise_mask import check_options, region_of_edit
from .whole_run import check_windows, whole

_NODE = "Resume Trajectory"


def resume_sampler(trajectory: Trajectory, asymmetric: bool, eta: float, direct: bool = False):
    """SAMPLER for SamplerCustomAdvanced. A latent with several rows a picture (Pair Latent) starts all of them from
    that picture's state.

    A noise mask on the latent is the region that an edit may change: the rest is held at the stored states and ends as
    it was. Without an edit a mask changes nothing.

    Args:
        trajectory: where to start and the grid of sigmas.
        asymmetric: call the model twice in the window and edit only the predicted image.
        eta: fresh noise, 0..1: in the window of the edits on the MODEL if there is one, in every step if there is none
            or the MODEL carries no edit of this kind (the prompt may be the edit); none if all edits are at strength 0.
        direct: put the source row of every pair on the stored state after every step (PnP Inversion / DirectInversion,
            Ju et al. 2024, arXiv 2310.01506, algorithm 1). Rows that are no pairs are left alone, and all are with
            fresh noise.
    """

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options) -> Tensor:
        extra = dict(extra_args or {})
        check_options(options, _NODE)
        check_windows(extra.get("model_options", {}), x.shape, _NODE)
        trajectory.check_run(sigmas, x, _NODE)
        trajectory.check_model(model_fingerprint(model.inner_model.model_patcher))
        rows = _Rows.of(trajectory, x, pair_rows(model.inner_model) if direct and not eta else 0)
        x = rows.spread(trajectory.noisiest, x)
        area = region_of_edit(model, trajectory, sigmas, extra, len(x))
        options = extra.get("model_options", {})
        inside = options.get("transformer_options", {})
        edits = [edit.on(trajectory.sigmas, asymmetric) for edit in inside.get(EDITS, ())]
        shares = _shares(trajectory, edits, options, eta)
        if asymmetric:
            _check_asymmetric(model, edits)
        euler = trajectory.solver == "euler"
        if not euler:
            extra = _between_levels(model, trajectory, extra)
        predict = _Prediction(model, leave_sources_out(model, extra, x, rows.pair if rows.pairs else 0), edits)
        run = SecondOrder(trajectory.solver, predict, trajectory.noising)
        generator = torch.Generator("cpu").manual_seed(int(extra.get("seed") or 0))

        for i, (sigma, nxt) in enumerate(pairwise(trajectory.sigmas.tolist())):
            if euler:
                denoised = predict(x, sigma)
                plain = predict.plain(x, sigma) if asymmetric and in_window(edits, sigma) else denoised
                noise = fresh_noise(x, generator) if shares[i] and nxt else None
                x = edited_step(x, sigma, nxt, denoised, plain, eta=shares[i], noise=noise)
            else:
                x, denoised = run.step(x, sigma, nxt)
            if rows.pairs:
                x = blend_state(rows.put_sources(x, trajectory.states[i + 1]), inside)
            if area is not None:
                stored = rows.spread(trajectory.states[i + 1], x)
                x = torch.lerp(stored.expand_as(x), x, area(nxt or sigma).to(x).expand_as(x))
            if callback is not None:
                callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        return x

    return whole(comfy.samplers.KSAMPLER(on_pictures(sample)))


@dataclass(frozen=True)
class _Rows:
    """How the rows of a run belong to the pictures of its trajectory.

    Attributes:
        copies: rows of each picture.
        pairs: pairs of each picture whose source row is put on the stored state; 0 leaves all rows alone.
        pair: rows of a pair, the source first.
    """

    copies: int
    pairs: int
    pair: int

    @classmethod
    def of(cls, trajectory: Trajectory, x: Tensor, pair: int) -> _Rows:
        """The rows of a latent `[b c h w]`; ``pair`` is the number of rows of a pair, 0 if there are none."""
        pictures = len(trajectory.noisiest)
        copies = max(x.shape[0] // pictures, 1) if x.shape[0] % pictures == 0 else 1
        return cls(copies, copies // pair if pair and copies % pair == 0 else 0, pair)

    def spread(self, states: Tensor, x: Tensor) -> Tensor:
        """Stored states `[p c h w]` for all rows, as ``x`` is."""
        return states.to(x).repeat_interleave(self.copies, 0)

    def put_sources(self, x: Tensor, states: Tensor) -> Tensor:
        """``x``, whose source rows are overwritten with the stored states `[p c h w]`."""
        x[:: self.pair] = states.to(x).repeat_interleave(self.pairs, 0)
        return x


class _Prediction:
    """The model of a sampler with the edits of h on it, or without them in the same step."""

    def __init__(self, model, extra: dict, edits: list):
        self._model = model
        self._extra = extra
        self._edits = edits
        self._options = extra.get("model_options", {})
        self._inside = self._options.get("transformer_options", {})
        # The plain calls get a step cache's holder of their own: it must not answer them from the edited ones.
        self._plain_inside = with_holder(self._inside, second_holder(self._inside))

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoised image, edited."""
        return self._ask(x, sigma, self._inside, plain=False)

    def plain(self, x: Tensor, sigma: float) -> Tensor:
        """Denoised image without the edits."""
        return self._ask(x, sigma, self._plain_inside, plain=True)

    def _ask(self, x: Tensor, sigma: float, inside: dict, plain: bool) -> Tensor:
        # Without edits nothing is added: a compiled network would look for it in later runs.
        flags = {EDITS: self._edits, PLAIN: plain} if self._edits else {}
        options = {**self._options, "transformer_options": {**inside, **flags}}
        extra = {**self._extra, "model_options": options}
        return check_finite(x, sigma, self._model(x, sigma * x.new_ones(x.shape[0]), **extra))


def _between_levels(model, trajectory: Trajectory, extra: dict) -> dict:
    """Arguments of calls for a solver that asks between the levels of the run, without step caches.

    Raises:
        ValueError: the MODEL carries what goes by the levels alone.
    """
    patcher = model.inner_model.model_patcher
    check_second_calls(patcher, f"a trajectory of {trajectory.solver}")
    if names := [name for name in sampler_only(patcher) if name != "Edit Dial"]:
        trajectory.check_euler(", ".join(names))
    options = extra.get("model_options", {})
    inside = resting(options.get("transformer_options", {}))
    return {**extra, "model_options": {**options, "transformer_options": inside}}


def _check_asymmetric(model, edits: list) -> None:
    if not edits:
        raise ValueError(
            "asymmetric edits the prediction and not the direction to it, which is for edits of h, but no Steer"
            " node is on this MODEL; switch asymmetric off in Resume Trajectory"
        )
    check_second_calls(model.inner_model.model_patcher, "an asymmetric Resume Trajectory")


def _shares(trajectory: Trajectory, edits: list, options: dict, eta: float) -> list[float]:
    """Fresh noise of each step; edits that none of them carries out are refused."""
    levels = trajectory.sigmas.tolist()
    for schedule in (*(edit.schedule for edit in edits), *schedules_of(options)):
        schedule.check_levels(levels)
    changed = edited_steps(trajectory, edits, edited_at(options))
    ours = edits or model_edits_of(options)
    return noise_shares(levels, changed if any(changed) or ours else [True] * len(changed), eta)
