"""A trajectory with its noises as a SAMPLER of the host: any guider, any batch, masks of the latent included."""

from __future__ import annotations

import comfy.samplers
from torch import Tensor

from ...core.edit.edit_friendly import check_skip, holding, noises_of, sample_edit_friendly
from ...core.trajectory import Trajectory
from .denoiser import Prompts
from .fingerprint import model_fingerprint
from .p2p import held
from .pairs import pair_rows

_PARTIAL = {"control", "gligen", "hooks", "start_percent", "end_percent", "clip_start_percent", "timestep_start", "timestep_end"}


def at_once(model, prompts: Prompts, wanted: int) -> int:
    """How many noise levels may share a call: one where something in the graph looks at the level of the first row alone."""
    entries = [extra for _, extra in (*prompts.positive, *prompts.negative)]
    options = model.model_options
    patched = any(options.get("transformer_options", {}).get(k) for k in ("patches", "patches_replace", "wrappers"))
    custom = any(k.startswith("sampler_") or k == "model_function_wrapper" for k in options)
    return 1 if patched or custom or any(_PARTIAL & set(extra) for extra in entries) else wanted


def edit_friendly_sampler(
    trajectory: Trajectory, skip: int, strength: float = 1.0, shift: tuple[int, int] = (0, 0), clip: float = 0.0, source_row: bool = False
):
    """SAMPLER and SIGMAS `[n-skip+1]` for SamplerCustomAdvanced; arguments as :func:`core.edit.edit_friendly.sample_edit_friendly`.

    A noise mask on the latent is the region that may change; the rest is held at the stored states and ends as it was. Stock
    DifferentialDiffusion, which reads the mask as strengths, works on it.

    Raises:
        ValueError: the trajectory has no noises, or an option is out of range.
    """
    noises_of(trajectory)
    check_skip(skip, len(trajectory.sigmas) - 1)
    grid = trajectory.sigmas[skip:]

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None) -> Tensor:
        trajectory.check_run(sigmas, x, "Sample Edit-Friendly", skip)
        trajectory.check_base(model_fingerprint(model.inner_model.model_patcher))
        path, extra = trajectory.to(x.device), {**(extra_args or {})}
        area = _region(model, sigmas, extra.pop("denoise_mask", None), extra.get("model_options", {}))
        rows = path.noisiest.shape[0] if len(x) == 1 else len(x)
        stored = holding(path, area, (pair_rows(model.inner_model) or rows) if source_row else 0)
        options = extra.get("model_options", {}).get("transformer_options", {})
        return sample_edit_friendly(
            lambda y, sigma: model(y, sigma, denoise_mask=None, **extra), path, skip=skip, strength=strength, shift=shift, clip=clip, rows=rows,
            hold=stored and (lambda i, y: held(stored(i, y), options)), callback=callback,
        )  # fmt: skip

    return comfy.samplers.KSAMPLER(sample), grid.float()


def _region(model, sigmas: Tensor, mask: Tensor | None, options: dict):
    """What may change at a level, as the host works it out for its own samplers."""
    if mask is None:
        return None
    function = options.get("denoise_mask_function")

    def area(sigma: float) -> Tensor:
        if function is None:
            return mask
        made = function(sigmas.new_full((1,), sigma), mask, extra_options={"model": model.inner_model, "sigmas": sigmas})
        return made * (mask > 0)  # stock DifferentialDiffusion lets go of everything at the smallest sigma

    return area
