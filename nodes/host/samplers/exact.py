"""The way back of an exact inversion as a SAMPLER of the host: both stored states, any GUIDER, prompt and edit."""

from __future__ import annotations

from dataclasses import replace

import comfy.samplers
from torch import Tensor

from ....core.denoiser import Bottleneck, Noising
from ....core.edit.noise.edit_friendly import holding
from ....core.edit.noise.exact import sample_exact
from ....core.trajectory import Trajectory
from ..model.fingerprint import model_fingerprint
from ..model.frames import on_pictures
from ..model.traits import noising_of
from ..patches.caches import check_second_calls, resting
from ..patches.steering import EDITS
from .noise_mask import check_options, region_of_edit
from .whole_run import check_windows, whole


def exact_sampler(trajectory: Trajectory):
    """SAMPLER for SamplerCustomAdvanced.

    A noise mask on the latent is the region that an edit may change: the rest is held at the stored states and ends as
    it was. Without an edit a mask changes nothing. Step caches of the host let every call through.

    Args:
        trajectory: of Invert Image by EDICT or BDIA; its states are put in place of the noise and the latent that come
            in.
    """

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options) -> Tensor:
        check_options(options, "Sample Exact Inversion")
        check_windows((extra_args or {}).get("model_options", {}), x.shape, "Sample Exact Inversion")
        grid = trajectory.sigmas
        extra = dict(extra_args or {})
        trajectory.check_run(sigmas, x, "Sample Exact Inversion")
        area = region_of_edit(model, trajectory, sigmas, extra, len(x))
        call = _Call(model, extra, grid)
        trajectory.check_model(call.fingerprint)
        current = trajectory.to(x.device)
        rows = trajectory.states.shape[1]
        if rows not in (1, len(x)):
            raise ValueError(
                f"the trajectory holds {rows} pictures, the latent connected {len(x)}; connect as many, or invert one"
                " alone"
            )
        if rows == 1:
            current = current.repeat(len(x))
        current = replace(current, states=current.states.to(x.dtype))

        def report(state: dict) -> None:
            if callback is not None:
                callback({**{k: state[k] for k in ("x", "i", "sigma", "denoised")}, "sigma_hat": state["sigma"]})

        return sample_exact(call, current, hold=holding(current, area), callback=report)

    return whole(comfy.samplers.KSAMPLER(on_pictures(sample)))


class _Call:
    """A sampler's model as a denoiser, edits on."""

    layers: tuple[str, ...] = ()

    def __init__(self, model, extra: dict, grid: Tensor):
        patcher = model.inner_model.model_patcher
        options = extra.get("model_options", {})
        # Two states a step, which a step cache would answer from each other.
        inside = resting(options.get("transformer_options", {}))
        check_second_calls(patcher, "Sample Exact Inversion")
        edits = [edit.on(grid, False) for edit in inside.get(EDITS, ())]
        inside = {**inside, EDITS: edits} if edits else inside
        self._model = model
        self._extra = {**extra, "model_options": {**options, "transformer_options": inside}}
        self.fingerprint = model_fingerprint(patcher)
        self.noising: Noising = noising_of(patcher)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided prediction."""
        return self._model(x, sigma, **self._extra)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Not here: a sampler's call has no halves."""
        raise RuntimeError("a sampler's prediction cannot be split; use Render Trajectory")
