"""LEDITS++'s guidance by several concepts as a GUIDER of the host (arXiv 2311.16711); the maths is in core/edit/concepts.py."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.samplers
import node_helpers
import torch
from torch import Tensor

from ...core.edit.concepts import Concept, guided, share_done
from ...core.edit.protect import fit_mask


class ConceptGuider(comfy.samplers.CFGGuider):
    """Prediction of ``negative``, plus what each concept adds to it where it changes most.

    Where no concept acts this is the prediction of ``negative`` alone, bit for bit.

    Args:
        model: MODEL.
        negative: CONDITIONING of the base, mostly an empty prompt.
        concepts: CONDITIONING and dials of each.
        mask: MASK `[h w]` or `[k h w]`, one or one a row of the batch, where concepts may act; None: anywhere.
    """

    def __init__(self, model, negative: list, concepts: Sequence[tuple[list, Concept]], mask: Tensor | None = None):
        super().__init__(model)
        self.dials = [dials for _, dials in concepts]
        self.mask = None if mask is None else mask.reshape(-1, *mask.shape[-2:])
        prompts = {_name(k): node_helpers.conditioning_set_values(c, {"prompt_type": "positive"}) for k, (c, _) in enumerate(concepts)}
        self.inner_set_conds({"negative": negative, **prompts})

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict = {}, seed=None) -> Tensor:  # noqa: B006 (the host's own form)
        """Guided prediction, `[b c h w]`."""
        model, negative = self.inner_model, self.conds["negative"]
        levels = model_options.get("transformer_options", {}).get("sample_sigmas")
        sigma = float(timestep.max())
        done = share_done(sigma, [sigma, 0.0] if levels is None else levels.tolist())
        acting = [k for k, dials in enumerate(self.dials) if dials.acts(done)]
        first, *others = [self.conds[_name(k)] for k in acting] or [None]
        # Patches of other packs know 1 as the unconditional prompt.
        one, base, *more = comfy.samplers.calc_cond_batch(model, [first, negative, *others], x, timestep, model_options)
        edited = guided(base, [one, *more], [self.dials[k] for k in acting], self._region(x)) if acting else base
        return comfy.samplers.cfg_function(
            model, edited, base, 1.0, x, timestep, model_options=model_options, cond=first or negative, uncond=negative
        )  # fmt: skip

    def _region(self, x: Tensor) -> Tensor | None:
        if self.mask is None:
            return None
        if len(self.mask) not in (1, len(x)):
            raise ValueError(f"mask must be one, or one a picture of the batch of {len(x)}; got {len(self.mask)}")
        return torch.stack([fit_mask(m.to(x.device), *x.shape[-2:]) for m in self.mask])[:, None].to(x)


def _name(k: int) -> str:
    return f"concept {k}"
