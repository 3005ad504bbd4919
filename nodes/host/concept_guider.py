"""LEDITS++'s guidance by several concepts as a GUIDER of the host (arXiv 2311.16711); the maths is in core/edit/concepts.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import comfy.samplers
import node_helpers
import torch
from torch import Tensor

from ...core.edit.concepts import Concept, attention_mask, guided, share_done
from ...core.edit.local_blend import attention_map
from ...core.edit.protect import fit_mask
from .attention import STORE, Call, Patches, Place, add_attention

_LOOK = "hspace_concepts"


@dataclass
class _Look:
    """What one prediction looks for, and finds: by number of the prompt in the call, tokens of the concept, length of its prompt, maps."""

    wanted: dict[int, tuple[tuple[int, ...], int]]
    maps: dict[int, list[Tensor]] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)

    def place(self, prompt: int, x: Tensor, threshold: float) -> Tensor | None:
        """M1 of a prompt, `[b 1 h w]`, or None if nothing was looked for."""
        found = self.maps.get(prompt)
        return attention_mask(torch.stack(found).mean(0).unflatten(1, self.shape), (x.shape[-2], x.shape[-1]), threshold) if found else None


class _Maps:
    """Looks at the attention to the concepts' tokens, on the maps that Prompt-to-Prompt's local blend looks at."""

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.attention.AttentionEdit`: only looks."""
        look: _Look | None = call.options.get(_LOOK)
        if look is None or STORE in call.options:
            return None
        rows = [(first, prompt) for prompt in look.wanted for first in call.chunks(prompt)]
        level = call.map_level()
        look.shape = call.size(level)

        def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
            for first, prompt in rows if place.level == level else ():
                part, (tokens, length) = slice(first, first + call.rows), look.wanted[prompt]
                maps = attention_map(q[part], k[part], extra["n_heads"]).unflatten(-1, (-1, length)).sum(-2)
                look.maps.setdefault(prompt, []).append(maps[..., list(tokens)].sum(-1))
            return out

        return Patches(cross=cross) if rows else None


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
        super().__init__(add_attention(model, _Maps()) if any(dials.tokens for _, dials in concepts) else model)
        self.lengths = {k: c[0][0].shape[1] for k, (c, dials) in enumerate(concepts) if dials.tokens}
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
        numbers = dict(zip(acting, (0, *range(2, len(acting) + 1)), strict=False))
        look = _Look({numbers[k]: (self.dials[k].tokens, self.lengths[k]) for k in acting if k in self.lengths})
        watched = {**model_options, "transformer_options": {**model_options.get("transformer_options", {}), _LOOK: look}}
        one, base, *more = comfy.samplers.calc_cond_batch(model, [first, negative, *others], x, timestep, watched)
        dials = [self.dials[k] for k in acting]
        places = [look.place(numbers[k], x, self.dials[k].threshold) for k in acting]
        edited = guided(base, [one, *more], dials, self._region(x), places) if acting else base
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
