"""Rows of a pair that nobody reads are left out of a run whose source rows are put on stored states.

The source's prediction is overwritten after every step. What its row is there for is the attention of its prompt, which
Prompt-to-Prompt reads while it acts and P2P Local Blend in every step; its unconditional row is read by nobody. What is
left is handed to the network as prompts of one row each, which other packs' code can count as it counts any others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..patches.attention import STORE, edits_in, step_at
from ..patches.bystanders import bystanders
from ..patches.local_blend import LocalBlend, blend_of
from ..patches.prompt_to_prompt import ONE_ROW, PromptToPrompt
from ..patches.steering import MODELS

_KEY = "hspace_fewer_rows"
_ON_PROMPTS = ("control", "gligen", "hooks", "area", "mask")


def leave_sources_out(model, extra: dict, x: Tensor, pair: int) -> dict:
    """The arguments of a sampler's calls, with rows left out where it makes no difference to the targets.

    Args:
        model: as a sampler gets it.
        extra: further arguments of its calls.
        x: state `[b c h w]`, the source the first of every ``pair`` rows.
        pair: rows of a pair; 0 leaves all as it is.
    """
    options = extra.get("model_options", {})
    inside = options.get("transformer_options", {})
    if not pair or not _is_plain(model.inner_model, options, inside, x):
        return extra
    control = next((edit for edit in edits_in(inside) if isinstance(edit, PromptToPrompt)), None)
    leaving = _Leaving(pair, control, blend_of(inside) is not None)
    wrappers = {**inside.get("wrappers", {})}
    # The last key is the innermost: other packs' wrappers see all rows.
    wrappers[WrappersMP.APPLY_MODEL] = {**wrappers.get(WrappersMP.APPLY_MODEL, {}), _KEY: [leaving]}
    return {**extra, "model_options": {**options, "transformer_options": {**inside, "wrappers": wrappers}}}


def _is_plain(guider: Any, options: dict[str, Any], inside: dict[str, Any], x: Tensor) -> bool:
    """Whether nothing in the graph looks at the rows that would go, or at how many there are."""
    edits = edits_in(inside)
    if inside.get(MODELS) or any(not isinstance(edit, (PromptToPrompt, LocalBlend)) for edit in edits):
        return False
    guided = any(name.startswith("sampler_") or name == "model_function_wrapper" for name in options)
    prompts = [prompt for side in guider.conds.values() for prompt in side]
    if guided or any(prompt.get(name) is not None for prompt in prompts for name in _ON_PROMPTS):
        return False
    blend = blend_of(inside)
    # Where a mask is soft, the source's prediction comes into the targets.
    return not bystanders(guider.model_patcher) and (blend is None or blend.is_sharp(x))


@dataclass(frozen=True)
class _Leaving:
    """A wrapper for ``WrappersMP.APPLY_MODEL`` that runs the network on the rows that are read."""

    pair: int
    control: PromptToPrompt | None
    blends: bool

    def __call__(self, executor, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Denoised image of all rows `[b c h w]`; of those left out some other prediction."""
        names = ("c_concat", "c_crossattn", "control", "transformer_options")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        options = given["transformer_options"]
        kinds = options["cond_or_uncond"]
        rows = len(x) // len(kinds)
        if STORE in options or sorted(kinds) not in ([0], [0, 1]) or rows % self.pair:
            return executor(x, t, *args, **kwargs)
        step = step_at(options, options["sigmas"])
        source = self.blends or (self.control is not None and self.control.acts(*step))
        kept = [i for i in range(len(x)) if i % rows % self.pair or (source and kinds[i // rows] == 0)]
        if len(kept) == len(x):
            return executor(x, t, *args, **kwargs)

        def pick(value: Any) -> Any:
            return value[kept] if isinstance(value, Tensor) and value.dim() and len(value) == len(x) else value

        fewer = {name: pick(value) for name, value in given.items()}
        uuids = options.get("uuids", [None] * len(kinds))
        fewer["transformer_options"] = {
            **options,
            "cond_or_uncond": [kinds[i // rows] for i in kept],
            "uuids": [uuids[i // rows] for i in kept],
            ONE_ROW: True,
        }
        out = executor(x[kept], t[kept], **fewer)
        return self._spread(out, kept, kinds, x)

    def _spread(self, out: Tensor, kept: list[int], kinds: list[int], x: Tensor) -> Tensor:
        """All rows: one that was left out gets the positive prediction of its source, or of its first target."""
        rows = len(x) // len(kinds)
        first = kinds.index(0) * rows
        place = {row: at for at, row in enumerate(kept)}

        def found(i: int) -> int:
            positive = first + i % rows
            return next(place[row] for row in (i, positive, positive + 1) if row in place)

        return out[torch.tensor([found(i) for i in range(len(x))], device=out.device)]
