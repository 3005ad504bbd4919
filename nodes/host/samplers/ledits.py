"""LEDITS++'s guidance by several concepts as a GUIDER of the host (arXiv 2311.16711); the maths is in
core/edit/noise/ledits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.samplers
import node_helpers
import torch
from torch import Tensor

from ....core.denoiser import check_finite
from ....core.edit.attention.local_blend import attention_map
from ....core.edit.noise.ledits import Concept, attention_mask, guided, share_done
from ....core.masks import fit_mask
from ..model.unet_blocks import Place
from ..patches.attention import STORE, Call, Patches, add_attention, check_map
from ..patches.bystanders import among
from ..prompt_checks import check_prompt
from .whole_run import levels_of, with_whole_run

_LOOK = "hspace_concepts"
_ASKING = "sampler_calc_cond_batch_function"
_ASPECT = 0.02  # as for all masks: rounding to whole pixels is allowed


@dataclass(frozen=True)
class _Words:
    """Tokens of a concept, and the length of the prompt that they stand in."""

    tokens: tuple[int, ...]
    length: int


@dataclass
class _Look:
    """What one prediction looks for, by number of the prompt in the call, and the maps that it gets."""

    words: dict[int, _Words]
    maps: dict[int, list[Tensor]] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)

    def place(self, prompt: int, x: Tensor, threshold: float) -> Tensor | None:
        """M1 of a prompt, `[b 1 h w]`, or None if nothing was looked for."""
        maps = self.maps.get(prompt)
        if not maps:
            return None
        mean = torch.stack(maps).mean(0).unflatten(1, self.shape)
        return attention_mask(mean, (x.shape[-2], x.shape[-1]), threshold)


class _Maps:
    """Looks at the attention to the concepts' tokens, on the maps that Prompt-to-Prompt's local blend looks at."""

    node = "Edit Concept"

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.patches.attention.AttentionEdit`: only looks."""
        look: _Look | None = call.options.get(_LOOK)
        if look is None or STORE in call.options:
            return None
        parts = [(slice(first, first + call.rows), prompt) for prompt in look.words for first in call.chunks(prompt)]
        level = call.map_level()
        look.shape = call.size(level)

        def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
            if place.level != level:
                return out
            check_map(q, look.shape, "Edit Concept")
            for rows, prompt in parts:
                words = look.words[prompt]
                maps = attention_map(q[rows], k[rows], extra["n_heads"])
                # Hosts repeat a prompt to fill a batch: the maps of its copies are summed.
                maps = maps.unflatten(-1, (-1, words.length)).sum(-2)
                look.maps.setdefault(prompt, []).append(maps[..., list(words.tokens)].sum(-1))
            return out

        return Patches(cross=cross) if parts else None


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
        check_prompt(model, negative, "negative")
        for k, (conditioning, _) in enumerate(concepts):
            check_prompt(model, conditioning, f"concepts ({k + 1})")
        _check_asking(model)
        listens = any(dials.tokens for _, dials in concepts)
        patched: Any = add_attention(model, _Maps()) if listens else with_whole_run(model)
        super().__init__(patched)
        self.words = {
            k: _Words(dials.tokens, conditioning[0][0].shape[1])
            for k, (conditioning, dials) in enumerate(concepts)
            if dials.tokens
        }
        self.dials = [dials for _, dials in concepts]
        self.mask = None if mask is None else mask.reshape(-1, *mask.shape[-2:])
        prompts = {
            _name(k): node_helpers.conditioning_set_values(c, {"prompt_type": "positive"})
            for k, (c, _) in enumerate(concepts)
        }
        self.inner_set_conds({"negative": negative, **prompts})

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict = {}, seed=None) -> Tensor:  # noqa: B006 (the host's own form)
        """Guided prediction, `[b c h w]`."""
        negative = self.conds["negative"]
        acting = self._acting(float(timestep.max()), model_options.get("transformer_options", {}))
        dials = [self.dials[k] for k in acting]
        # Patches of other packs know 1 as the unconditional prompt, so the concepts are numbered around it.
        numbers = [0, *range(2, len(acting) + 1)][: len(acting)]
        look = _Look({number: self.words[k] for number, k in zip(numbers, acting, strict=True) if k in self.words})
        region = self._region(x)

        predictions = self._ask_network(acting, x, timestep, model_options, look)
        edited = base = predictions.pop(1)
        if acting:
            places = [look.place(n, x, one.threshold) for n, one in zip(numbers, dials, strict=True)]
            edited = guided(base, predictions, dials, region, places)
        positive = _SeveralPrompts(among(self.model_patcher)) if any(one.scale for one in self.dials) else negative
        if acting:
            edited, base = self._before_guidance([edited, base], [positive, negative], x, timestep, model_options)
        return comfy.samplers.cfg_function(
            self.inner_model,
            edited,
            base,
            self.cfg,
            x,
            timestep,
            model_options=model_options,
            cond=positive,
            uncond=negative,
        )

    def _acting(self, sigma: float, options: dict) -> list[int]:
        """Numbers of the concepts that act at a noise level."""
        levels = levels_of(options)
        done = share_done(sigma, [sigma, 0.0] if levels is None else levels.tolist())
        return [k for k, dials in enumerate(self.dials) if dials.acts(done)]

    def _ask_network(
        self, acting: list[int], x: Tensor, sigma: Tensor, model_options: dict, look: _Look
    ) -> list[Tensor]:
        """Predictions of the concepts `[b c h w]`; that of ``negative`` is the second, whether one acts or not."""
        prompts: list[Any] = [self.conds[_name(k)] for k in acting]
        first, *others = prompts or [None]
        options = {
            **model_options,
            "transformer_options": {**model_options.get("transformer_options", {}), _LOOK: look},
        }
        conds = [first, self.conds["negative"], *others]
        answers = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, sigma, options)
        return [check_finite(x, sigma, answer) for answer in answers]

    def _before_guidance(
        self, pair: list[Tensor], conds: list, x: Tensor, sigma: Tensor, model_options: dict
    ) -> list[Tensor]:
        """What nodes that act on both predictions before the guidance make of the edited one and the base; as
        ``sampling_function`` does.
        """
        args = {
            "conds": conds,
            "cond_scale": self.cfg,
            "timestep": sigma,
            "input": x,
            "sigma": sigma,
            "model": self.inner_model,
        }
        for function in model_options.get("sampler_pre_cfg_function", ()):
            pair = function({**args, "conds_out": pair, "model_options": model_options})
        return pair

    def _region(self, x: Tensor) -> Tensor | None:
        if self.mask is None:
            return None
        if len(self.mask) not in (1, len(x)):
            raise ValueError(f"mask must be one, or one a picture of the batch of {len(x)}; got {len(self.mask)}")
        (high, wide), (height, width) = self.mask.shape[-2:], x.shape[-2:]
        if abs(high * width - wide * height) > max(high * height, wide * width) * _ASPECT:
            raise ValueError(
                f"mask must have the aspect of the picture, whose state is {width}x{height}; got {wide}x{high}"
            )
        return torch.stack([fit_mask(m.to(x.device), *x.shape[-2:]) for m in self.mask])[:, None].to(x)


class _SeveralPrompts(list):
    """In the place of a guider's positive prompt: a node that asks the network again with it would compare the sum of
    all concepts with one.
    """

    def __init__(self, names: str):
        super().__init__([{}])
        self._names = names

    def __iter__(self):
        """Raises.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"a node on this MODEL asks the network once more with the positive prompt{self._names}, but Concept Edit"
            " Guider has a prompt for each concept and none of them alone; take that node off this MODEL"
            " (PerturbedAttentionGuidance, SkipLayerGuidanceDiT and the like)"
        )


def _check_asking(model) -> None:
    """Refuse a node that asks the network for one positive and one negative prompt by itself.

    Raises:
        ValueError: there is one.
    """
    if _ASKING in model.model_options:
        raise ValueError(
            "a node on this MODEL takes over how the network is asked for a positive and a negative"
            f" prompt{among(model)}, but Concept Edit Guider asks for each concept too; take that node off this MODEL"
            " (SkipLayerGuidanceDiTSimple and the like)"
        )


def _name(k: int) -> str:
    return f"concept {k}"
