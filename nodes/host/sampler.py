"""A stored trajectory as a SAMPLER of the host: it starts from the stored state, whatever noise and latent come in."""

from __future__ import annotations

import comfy.samplers
import torch
from torch import Tensor

from ...core.edit.sample import fresh_noise
from ...core.edit.steer import edited_step, in_window
from ...core.trajectory import Trajectory
from .fingerprint import model_fingerprint
from .p2p import held
from .pairs import pair_rows
from .steering import EDITS, PLAIN


def resume_sampler(trajectory: Trajectory, asymmetric: bool, eta: float, direct: bool = False):
    """SAMPLER for SamplerCustomAdvanced. A latent with several rows a picture (Pair Latent) starts all of them from that picture's state.

    Args:
        trajectory: where to start and the grid of sigmas.
        asymmetric: call the model twice in the window and edit only the predicted image.
        eta: fresh noise per step, 0..1.
        direct: put the source row of every pair on the stored state after every step (PnP Inversion / DirectInversion, Ju et al. 2024,
            arXiv 2310.01506, algorithm 1). Rows that are no pairs are left alone, and all are with fresh noise.
    """

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None) -> Tensor:
        extra = dict(extra_args or {})
        grid = trajectory.sigmas
        trajectory.check_run(sigmas, x, "Resume Trajectory")
        trajectory.check_model(model_fingerprint(model.inner_model.model_patcher))
        start = trajectory.noisiest.to(x)
        copies = max(x.shape[0] // len(start), 1) if x.shape[0] % len(start) == 0 else 1
        x = start.repeat_interleave(copies, 0)
        size = pair_rows(model.inner_model) if direct and not eta else 0
        pairs = copies // size if size and copies % size == 0 else 0  # of each picture
        options = extra.get("model_options", {})
        edits = [edit.on(grid, asymmetric) for edit in options.get("transformer_options", {}).get(EDITS, ())]
        generator = torch.Generator("cpu").manual_seed(int(extra.get("seed") or 0))
        rows = x.new_ones(x.shape[0])

        def run(x: Tensor, sigma: float, **flags) -> Tensor:
            seen = {**options, "transformer_options": {**options.get("transformer_options", {}), EDITS: edits, **flags}}
            return model(x, sigma * rows, **{**extra, "model_options": seen})

        for i, (sigma, nxt) in enumerate(zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True)):
            edited = in_window(edits, sigma)
            denoised = run(x, sigma)
            plain = run(x, sigma, **{PLAIN: True}) if asymmetric and edited else denoised
            noise = fresh_noise(x, generator) if eta and edited and nxt else None
            x = edited_step(x, sigma, nxt, denoised, plain, eta=eta if edited else 0.0, noise=noise)
            if pairs:
                x[::size] = trajectory.states[i + 1].to(x).repeat_interleave(pairs, 0)
                x = held(x, options.get("transformer_options", {}))
            if callback is not None:
                callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        return x

    return comfy.samplers.KSAMPLER(sample)
