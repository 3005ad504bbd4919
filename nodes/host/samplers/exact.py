"""The way back of an exact inversion as a SAMPLER of the host: both stored states, any GUIDER, prompt and edit."""

from __future__ import annotations

from dataclasses import replace

import comfy.samplers
from torch import Tensor

from ...core.denoiser import Bottleneck
from ...core.edit.exact import sample_exact
from ...core.trajectory import Trajectory
from .denoiser import is_flow
from .fingerprint import model_fingerprint
from .steering import EDITS


def exact_sampler(trajectory: Trajectory):
    """SAMPLER for SamplerCustomAdvanced.

    Args:
        trajectory: of Invert Image by EDICT or BDIA; its states are put in place of the noise and the latent that come in.
    """

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None) -> Tensor:
        grid = trajectory.sigmas
        trajectory.check_run(sigmas, x, "Sample Exact Inversion")
        call = _Call(model, dict(extra_args or {}), grid)
        trajectory.check_model(call.fingerprint)
        path, rows = trajectory.to(x.device), trajectory.states.shape[1]
        if rows not in (1, len(x)):
            raise ValueError(f"the trajectory holds {rows} pictures, the latent connected {len(x)}; connect as many, or invert one alone")
        if rows == 1:
            path = path.repeat(len(x))
        path = replace(path, states=path.states.to(x.dtype))

        def report(state: dict) -> None:
            if callback is not None:
                callback({**{k: state[k] for k in ("x", "i", "sigma", "denoised")}, "sigma_hat": state["sigma"]})

        return sample_exact(call, path, callback=report)

    return comfy.samplers.KSAMPLER(sample)


class _Call:
    """A sampler's model as a denoiser, edits on."""

    layers: tuple[str, ...] = ()

    def __init__(self, model, extra: dict, grid: Tensor):
        patcher = model.inner_model.model_patcher
        options = extra.get("model_options", {})
        inside = options.get("transformer_options", {})
        edits = [edit.on(grid, False) for edit in inside.get(EDITS, ())]
        self._model, self._extra = model, {**extra, "model_options": {**options, "transformer_options": {**inside, EDITS: edits}}}
        self.fingerprint, self.flow = model_fingerprint(patcher), is_flow(patcher)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided prediction."""
        return self._model(x, sigma, **self._extra)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Not here: a sampler's call has no halves."""
        raise RuntimeError("a sampler's prediction cannot be split; use Render Trajectory")
