"""SDEdit's repeats around any SAMPLER of the host (arXiv 2108.01073, K in the released code): the result is noised anew
and denoised again.
"""

from __future__ import annotations

import comfy.samplers
import torch
from torch import Tensor

from ....core.denoiser import NotFinite
from ....core.noise import fresh_noise

_APART = 1_000_003  # between the seeds of two repeats: samplers of the host draw from neighbouring seeds


def repeat_sampler(inner, repeats: int, fresh: bool):
    """A SAMPLER that runs ``inner`` ``repeats`` times from ``sigmas[0]``; with 1 it is ``inner``, bit for bit.

    A noise mask keeps its meaning: the host holds the rest at the source, hard or soft, in every repeat.

    Args:
        inner: SAMPLER.
        repeats: >= 1.
        fresh: every repeat draws its own noise, the same for every picture of the batch; otherwise all use that of the
            first.

    Raises:
        ValueError: a SAMPLER of a kind whose loop cannot be called, or whose repeats would change nothing.
    """
    run = getattr(inner, "sampler_function", None)
    if run is None:
        raise ValueError(
            f"a {type(inner).__name__} cannot be repeated; connect the SAMPLER of KSamplerSelect or of another sampler"
            " node"
        )
    if repeats > 1 and (name := getattr(inner, "hspace_once", "")):
        raise ValueError(
            f"{name} edits the latent that it was given, so every repeat would be the first one again; set repeats to"
            " 1, or sample the result once more"
        )

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options) -> Tensor:
        if repeats > 1 and len(sigmas) > 1 and float(sigmas[-1]):
            raise ValueError(
                f"a repeat goes on from a clean picture, but the sigmas end at {float(sigmas[-1]):g}; let them end in 0"
            )
        extra = extra_args or {}
        n = max(len(sigmas) - 1, 1)
        noise = model.noise
        sampling = model.inner_model.inner_model.model_sampling
        for k in range(repeats):
            seed = (int(extra.get("seed") or 0) + _APART * k * fresh) % 2**63
            if k:
                if fresh:
                    noise = fresh_noise(model.noise, torch.Generator().manual_seed(seed)).clone()
                top = inner.max_denoise(model.inner_model, sigmas)
                x = sampling.noise_scaling(sigmas[0], noise.clone(), sampling.inverse_noise_scaling(sigmas[-1], x), top)
                model.noise = noise  # of the region that is held
            # One bar for all repeats.
            report = None if callback is None else lambda s, k=k: callback({**s, "i": (k * n + s["i"]) // repeats})
            # Some loops of the host (uni_pc) write into the levels that they are given.
            x = run(
                model,
                x,
                sigmas.clone(),
                extra_args={**extra, "seed": seed} if k else extra,
                callback=report,
                disable=disable,
                **options,
            )
            if not bool(torch.isfinite(x).all()):
                raise NotFinite(
                    f"repeat {k + 1} of {repeats} ended in NaN or infinite values: the network overflows in half"
                    " precision (try fp32 or bf16), or the sampler cannot take these sigmas (try euler)"
                )
        return x

    return comfy.samplers.KSAMPLER(sample, inner.extra_options, inner.inpaint_options)
