"""Noise masks of the host in our samplers: what may change at a level, and whether a run edits anything at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ....core.trajectory import Trajectory
from ..model.prompts import Prompts
from ..patches.attention import ATTENTION_KEY
from ..patches.caches import NEUTRAL
from ..patches.steering import EDITS, MODELS, add_steering

STEERING = add_steering.__module__
# What a loop's caller may say of its noise or its solver: our samplers have none of them, so a value that would act is
# refused.
_KNOBS = {
    "eta": 0,
    "s_noise": 1,
    "s_churn": 0,
    "noise_sampler": None,
    "order": None,
    "solver_type": None,
    "r": None,
    "sampler_mode": None,
}
_CHANGES = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function", "model_function_wrapper")
_FORWARD = (None, "standard")
_ADDED = {"cross_attn", "model_conds", "uuid", "prompt_type"}  # to every prompt by the host


def region(model, sigmas: Tensor, mask: Tensor | None, options: dict) -> Callable[[float], Tensor] | None:
    """What may change at a level, `[b c h w]` in 0..1, as the host works it out for its own samplers; None without a
    mask.
    """
    if mask is None:
        return None
    function = options.get("denoise_mask_function")

    def area(sigma: float) -> Tensor:
        if function is None:
            return mask
        level = sigmas.new_full((1,), sigma)
        area_here = function(level, mask, extra_options={"model": model.inner_model, "sigmas": sigmas})
        return area_here * (mask > 0)  # stock DifferentialDiffusion lets go of everything at the smallest sigma

    return area


def region_of_edit(
    model, trajectory: Trajectory, sigmas: Tensor, extra: dict, rows: int
) -> Callable[[float], Tensor] | None:
    """:func:`region` of a sampler's ``extra_args``, from which the mask is taken out; None in a run that edits nothing.

    The host would put the noise-free latent into every state of a sampler without noise. And a run that edits nothing
    is the reconstruction, bit for bit, mask or not.

    Raises:
        ValueError: there are other numbers of masks and of rows in the run.
    """
    options = extra.get("model_options", {})
    mask = extra.get("denoise_mask")
    extra["denoise_mask"] = None
    if mask is not None and len(mask) not in (1, rows):
        raise ValueError(
            f"the latent's noise mask is for {len(mask)} pictures, but the trajectory makes {rows}; connect a latent"
            " with as many pictures"
        )
    if mask is None or is_plain(model.inner_model, trajectory, options):
        return None
    return region(model, sigmas, mask, options)


def is_plain(guider, trajectory: Trajectory, options: dict) -> bool:
    """Whether a run has the prompts and the guidance of the inversion, and its MODEL neither edits of ours nor patches
    of others.

    Args:
        guider: of the run.
        trajectory: what it goes back along.
        options: ``model_options`` of the run.
    """
    inside = options.get("transformer_options", {})
    carried = (
        inside.get(ATTENTION_KEY),
        inside.get(MODELS),
        inside.get("patches_replace"),
        *(options.get(name) for name in _CHANGES),
    )
    steered = any(getattr(edit.schedule, "strength", 1.0) for edit in inside.get(EDITS, ()))
    patches = [
        patch
        for those in inside.get("patches", {}).values()
        for patch in those
        if getattr(patch, "__module__", "") != STEERING
    ]
    wrappers = [key for kind in inside.get("wrappers", {}).values() for key in kind if not str(key).startswith(NEUTRAL)]
    if any(carried) or steered or patches or wrappers:
        return False
    prompts = Prompts.of(trajectory)
    if set(guider.conds) - {"positive", "negative"} or float(getattr(guider, "cfg", 1.0)) != prompts.cfg:
        return False
    stored = {"positive": prompts.positive}
    if prompts.cfg != 1:
        stored["negative"] = prompts.negative
    return all(_same_prompts(guider.conds.get(name, []), prompt) for name, prompt in stored.items())


def _same_prompts(conds: list[dict[str, Any]], stored: list) -> bool:
    if len(conds) != len(stored):
        return False
    return all(
        _same(cond.get("cross_attn"), tensor)
        and all(_same(cond.get(key), value) for key, value in more.items())
        and not set(cond) - set(more) - _ADDED
        for cond, (tensor, more) in zip(conds, stored, strict=True)
    )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a.to(b), b)
    return a is b or (type(a) is type(b) and isinstance(a, (str, int, float, tuple)) and a == b)


def check_options(options: Mapping[str, Any], node: str) -> None:
    """Take what sampler nodes of other packs hand to every loop, but refuse what asks for another loop.

    Raises:
        ValueError: an option of stochastic or higher-order solvers with a value that would act.
    """
    bad = [
        name for name, neutral in _KNOBS.items() if name in options and options[name] not in (neutral, None, *_FORWARD)
    ]
    if bad:
        raise ValueError(
            f"{node} follows the stored states step by step and has no {', '.join(bad)} (got {options[bad[0]]!r:.40}); "
            "run it in SamplerCustomAdvanced, or set these to their neutral values"
        )
