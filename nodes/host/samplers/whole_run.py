"""The whole schedule that a sampler's run belongs to: windows given as shares of the steps are shares of all steps, in
however many runs.

KSampler Advanced and Split Sigmas hand a run a slice of the schedule, whose memory still holds the rest of it. A run
that ends in 0 and begins with noise is whole, also with denoise below 1: its shares are those of its own steps, as they
are shown to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..patches.bystanders import naming_bystanders
from ..patches.compiled import check_uncompiled
from ..types import Model

SCHEDULE = "hspace_schedule"
STARTS = "hspace_starts"  # top levels of the inverted pictures that edits of a MODEL follow
KEY = "hspace_run"
_SAME = 1e-4
_TOP = 0.05  # share of a model's chain below whose top a run without noise must have begun as another one


def with_whole_run(model: Model):
    """A clone of MODEL whose runs know the schedule that they are part of; the MODEL itself if they do already."""
    if _open in model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        return model
    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _open)
    return clone


def whole(sampler):
    """Mark a SAMPLER whose runs are always whole: it walks stored states, with or without noise."""
    sampler.hspace_whole = True
    return sampler


def once(sampler, node: str):
    """Mark a SAMPLER of a node whose run would be the same one again, whatever it starts from."""
    sampler.hspace_once = node
    return sampler


def levels_of(options: dict[str, Any]) -> Tensor | None:
    """Levels of the whole schedule, `[n+1]` descending to 0, from transformer options; None outside of a sampler."""
    return options.get(SCHEDULE, options.get("sample_sigmas"))


def whole_schedule(sigmas: Tensor, noise: Tensor, table: Tensor, starts: Sequence[float] = ()) -> Tensor:
    """The schedule that a run's levels are a part of.

    Args:
        sigmas: of the run, `[m+1]`.
        noise: of the run; without any, it may go on where another one ended.
        table: noise levels of the model, rising.
        starts: top levels of inverted pictures; a run to 0 that begins at one of them goes on from nothing but the
            picture's own noise.

    Raises:
        ValueError: the run is a part of a schedule that cannot be known.
    """
    # uni_pc ends a little above 0
    begins = float(sigmas[0])
    ends = float(sigmas[-1])
    lowest = float(table[0]) / 2
    fresh = bool(noise.any())
    top = float(table[int((len(table) - 1) * (1 - _TOP))])
    if begins < ends or (ends < lowest and (fresh or begins >= top)):  # a schedule turned round adds noise
        return sigmas
    levels = _memory(sigmas, lowest)
    if levels is None and ends < lowest and any(abs(begins - start) <= _SAME * start for start in starts):
        return sigmas
    if levels is None:
        raise ValueError(
            f"this run is a part of a schedule, from sigma {begins:.4g} to {ends:.4g}, and the whole of it cannot be"
            " known; the windows of the edits on this MODEL are shares of all steps. Connect the SIGMAS of Split"
            " Sigmas as they are, use KSampler (Advanced), or sample in one run"
        )
    return levels[sigmas.storage_offset() :] if fresh else levels


def _memory(sigmas: Tensor, lowest: float) -> Tensor | None:
    """All levels in the memory that a slice lies in, if they are one schedule and more than the slice."""
    if sigmas.dim() != 1 or sigmas.stride() != (1,):
        return None
    count = sigmas.untyped_storage().nbytes() // sigmas.element_size()
    if count <= len(sigmas):
        return None
    levels = torch.as_strided(sigmas, (count,), (1,), 0)
    descends = bool((levels[1:] < levels[:-1]).all()) and float(levels[-1]) < lowest
    return levels.clone() if descends else None


def _open(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """A run begins; its options are the host's own copy, so nothing stays behind."""
    guider = executor.class_obj
    check_windows(guider.model_options, noise.shape, "an edit on it")
    check_uncompiled(guider.model_patcher, "an edit of attention or of concepts")
    options = guider.model_options.setdefault("transformer_options", {})
    if not getattr(sampler, "hspace_whole", False) and len(sigmas) > 1:
        table = guider.model_patcher.get_model_object("model_sampling").sigmas
        options[SCHEDULE] = whole_schedule(sigmas, noise, table, options.get(STARTS, ()))
    with naming_bystanders(guider.model_patcher, len(noise)):
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)


def check_windows(options: dict[str, Any], shape: Sequence[int], what: str) -> None:
    """Refuse context windows that cut the picture: the network then sees a part of it at a time.

    Args:
        options: ``model_options``.
        shape: of the state.
        what: that needs all of it.

    Raises:
        ValueError: they do.
    """
    handler = options.get("context_handler")
    if handler is not None and handler.dim < len(shape) and shape[handler.dim] > handler.context_length:
        raise ValueError(
            f"a Context Windows node on this MODEL cuts the picture into windows, but {what} looks at the whole"
            f" picture; take the Context Windows node off, or set its context length to {shape[handler.dim]} or more"
        )
