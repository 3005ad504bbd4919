"""Latents as a VAE gives them and as a MODEL samples them, by the latent format that this MODEL has.

A node may replace the format (ModelSamplingContinuousEDM for Playground v2.5). The network shows it only while that
MODEL is loaded, and shows another MODEL's that was loaded last: outside of a sampler's run the network is not to be
asked.
"""

from __future__ import annotations

from torch import Tensor

from ..types import Model
from .frames import with_frame, without_frame


def latents_in(model: Model, latent: Tensor) -> Tensor:
    """What the VAE of a MODEL gave `[b c ...]`, as its sampler sees it: `[b c h w]`, without an axis of frames.

    Raises:
        ValueError: it holds more frames than one.
    """
    return without_frame(model.get_model_object("latent_format").process_in(with_frame(model, latent)))


def latents_out(model: Model, state: Tensor) -> Tensor:
    """The inverse of :func:`latents_in`, with the axis of frames where the VAE has one."""
    return model.get_model_object("latent_format").process_out(with_frame(model, state))
