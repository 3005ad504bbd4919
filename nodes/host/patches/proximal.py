"""Proximal guidance as a patch of a MODEL after its guidance, so that it stacks with other packs' nodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...core.edit.proximal import proximal, towards
from ...core.trajectory import Trajectory
from .fingerprint import model_fingerprint
from .steering import RAW

_GUIDED_T = 0.4


def add_proximal(model, quantile: float, mode: str, path: Trajectory | None, sigma_guide: float, rate: float, dilate: int):
    """A clone of MODEL with proximal guidance.

    Args:
        model: MODEL.
        quantile: see :func:`core.edit.proximal.proximal`; 0 without a path changes nothing.
        mode: l0 or l1.
        path: of the source, for inversion guidance, or None.
        sigma_guide: that guidance acts at or below this level; 0: t = 400 of 1000, as in the paper.
        rate: its strength, 0..1.
        dilate: pixels by which the region that may change is widened.

    Raises:
        ValueError: another model's path, or an option out of range.
    """
    if path is not None:
        path.check_model(model_fingerprint(model))
    sigma_guide = sigma_guide or float(model.get_model_object("model_sampling").percent_to_sigma(1 - _GUIDED_T))
    clone = model.clone()

    def patch(args: dict[str, Any]) -> Tensor:
        denoised, plain = args["denoised"], args["uncond_denoised"]
        options = args["model_options"].get("transformer_options", {})
        # At cfg 1 the host has no negative prediction to compare with; inversions see the model as it is.
        if args["uncond"] is None or options.get(RAW):
            return denoised
        delta = args["cond_denoised"] - plain
        kept, large = proximal(delta, quantile, mode)
        if quantile:
            denoised = denoised - args["cond_scale"] * (delta - kept)
        sigma = float(args["sigma"].max())
        if path is None or not rate or sigma > sigma_guide:
            return denoised
        levels = options["sample_sigmas"]
        nxt = float(levels[levels < sigma * (1 - 1e-4)].max()) if bool((levels < sigma * (1 - 1e-4)).any()) else 0.0
        return towards(denoised, args["input"], sigma, nxt, path, large, rate, dilate)

    clone.set_model_sampler_post_cfg_function(patch)
    return clone
