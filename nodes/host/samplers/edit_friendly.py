"""A trajectory with its noises as a SAMPLER of the host: any guider, any batch, masks of the latent included."""

from __future__ import annotations

import comfy.samplers
from torch import Tensor

from ....core.edit.noise.edit_friendly import (
    EditFriendlyOptions,
    check_skip,
    holding,
    noises_of,
    sample_edit_friendly,
)
from ....core.trajectory import Trajectory
from ..model.fingerprint import model_fingerprint
from ..model.frames import on_pictures
from ..model.prompts import Prompts
from ..patches.caches import resting
from ..patches.local_blend import blend_state
from ..patches.pairs import pair_rows
from .noise_mask import check_options, region
from .whole_run import check_windows, whole

_PARTIAL = {
    "control",
    "gligen",
    "hooks",
    "start_percent",
    "end_percent",
    "clip_start_percent",
    "timestep_start",
    "timestep_end",
}


def at_once(model, prompts: Prompts, wanted: int) -> int:
    """How many noise levels may share a call: one where something in the graph looks at the level of the first row
    alone.
    """
    options = model.model_options
    inside = options.get("transformer_options", {})
    patched = any(inside.get(kind) for kind in ("patches", "patches_replace", "wrappers"))
    custom = any(name.startswith("sampler_") or name == "model_function_wrapper" for name in options)
    partial = any(_PARTIAL & set(facts) for _, facts in (*prompts.positive, *prompts.negative))
    return 1 if patched or custom or partial else wanted


def edit_friendly_sampler(
    trajectory: Trajectory,
    skip: int,
    strength: float = 1.0,
    shift: tuple[int, int] = (0, 0),
    clip: float = 0.0,
    source_row: bool = False,
):
    """SAMPLER and SIGMAS `[n-skip+1]` for SamplerCustomAdvanced; arguments as
    :func:`core.edit.noise.edit_friendly.sample_edit_friendly`.

    A noise mask on the latent is the region that may change; the rest is held at the stored states and ends as it was.
    Stock DifferentialDiffusion, which reads the mask as strengths, works on it. Step caches of the host let every call
    through.

    Raises:
        ValueError: the trajectory has no noises, or an option is out of range.
    """
    noises_of(trajectory)
    check_skip(skip, len(trajectory.sigmas) - 1)
    grid = trajectory.sigmas[skip:]

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options) -> Tensor:
        check_options(options, "Sample Edit-Friendly")
        check_windows((extra_args or {}).get("model_options", {}), x.shape, "Sample Edit-Friendly")
        trajectory.check_run(sigmas, x, "Sample Edit-Friendly", skip)
        trajectory.check_base(model_fingerprint(model.inner_model.model_patcher))
        moved = trajectory.to(x.device)
        extra = dict(extra_args or {})
        area = region(model, sigmas, extra.pop("denoise_mask", None), extra.get("model_options", {}))
        rows = moved.noisiest.shape[0] if len(x) == 1 else len(x)
        stored = holding(moved, area, (pair_rows(model.inner_model) or rows) if source_row else 0)
        options = extra.get("model_options", {})
        # The noises are those of the network's own predictions: a step cache's would not bring the picture back.
        inside = resting(options.get("transformer_options", {}))
        extra["model_options"] = {**options, "transformer_options": inside}
        return sample_edit_friendly(
            lambda y, sigma: model(y, sigma, denoise_mask=None, **extra),
            moved,
            EditFriendlyOptions(skip, strength, shift, clip),
            rows=rows,
            hold=stored and (lambda i, y: blend_state(stored(i, y), inside)),
            callback=callback,
        )

    return whole(comfy.samplers.KSAMPLER(on_pictures(sample))), grid.float()
