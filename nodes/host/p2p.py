"""Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626) on rows of one batch: the first of every group is the source."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn import functional as F

from ...core.edit.local_blend import attention_map, blend, blend_mask
from ...core.edit.prompt_to_prompt import WordControl, mix_values
from ...core.schedule import in_steps
from .attention import STORE, Call, Patches, Place, add_attention, attend, edits_in, step_at

_RUN = "hspace_blend"
_DEPTHS = 4  # of the transformers of a block, every so many are looked at (SDXL has ten that see nearly the same)


def _groups(rows: int, size: int) -> list[int]:
    """First rows of the groups of source and targets.

    Raises:
        ValueError: the batch does not consist of such groups.
    """
    if rows % size:
        raise ValueError(
            f"the prompts are a source and {size - 1} target(s), so the batch must be a multiple of {size}, got {rows}; "
            "put Pair Latent, with as many targets, before the sampler"
        )
    return list(range(0, rows, size))


def _cond_groups(call: Call, size: int) -> list[int]:
    return [chunk + group for chunk in call.chunks(0) for group in _groups(call.rows, size)]


def _check_length(keys: Tensor, length: int) -> None:
    if keys.shape[1] % length:
        raise ValueError(
            f"the prompts of Pair Conditioning have {length} tokens, but the positive conditioning of the sampler has {keys.shape[1]}; "
            "connect Pair Conditioning itself to 'positive' (conditionings that were concatenated to it have no place in the token map)"
        )


@dataclass(frozen=True)
class PromptToPrompt:
    """Attention control; acts on the positive prompt alone, as in the paper.

    Attributes:
        controls: one for each target row.
        window: of the self-attention, shares of the steps.
        level: halvings of the picture from which on self-attention is the source's.
    """

    controls: tuple[WordControl, ...]
    window: tuple[float, float]
    level: int

    def mixed(self, call: Call) -> list[tuple[Tensor, Tensor] | None]:
        """Of every target row what :meth:`WordControl.at` says."""
        return [control.at(call.step, call.steps) for control in self.controls]

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.attention.AttentionEdit`."""
        groups = [] if STORE in call.options else _cond_groups(call, len(self.controls) + 1)
        found = [(1 + i, *one) for i, one in enumerate(self.mixed(call)) if one is not None]
        held = in_steps(self.window, call.step, call.steps)
        if not groups or not (found or held):
            return None
        device = call.x.device
        sources = torch.tensor([g for g in groups for _ in self.controls], device=device)
        targets = torch.tensor([g + 1 + i for g in groups for i in range(len(self.controls))], device=device)

        def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
            if place.level < self.level:
                return n, context, value
            moved = n.index_copy(0, targets, n[sources])
            return moved, moved if context is n else context.index_copy(0, targets, context[sources]), value

        if not found:
            return Patches(swap=swap)
        takes = torch.tensor([g for g in groups for _ in found], device=device)
        gives = torch.tensor([g + row for g in groups for row, _, _ in found], device=device)
        mixed = torch.stack([m for _ in groups for _, m, _ in found]).to(device, torch.float32)
        change = torch.stack([own - 1 for _ in groups for _, _, own in found]).to(device, torch.float32)

        def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
            _check_length(k, change.shape[1])
            # The edited attention less the plain one, so that what other packs add to it stays.
            values = torch.cat(mix_values(v[gives], mixed, change))
            rows = torch.cat([takes, gives])
            taken, own = attend(q[rows], k[rows], values, extra).chunk(2)
            return out.index_add(0, gives, (taken + own).to(out.dtype))

        return Patches(swap=swap if held else None, cross=cross)


@dataclass
class LocalBlend:
    """Holds target rows at the source outside of a mask, by the words' attention, a painted mask, or both (where both are).

    Attributes:
        size: rows of a group.
        words, without: `[size T]`, 1 for the tokens of each row's words, and of words to leave alone; None: no such words.
        mask: `[h w]` in 0..1 or None.
        threshold: share of a map's highest value.
        start: share of the steps from which on it acts; maps are summed from the first step on.
        last: what the last run gave, `[b c h w]`, and the mask that it ended with, `[b h w]`.
    """

    size: int
    words: Tensor | None
    without: Tensor | None
    mask: Tensor | None
    threshold: float
    start: float
    last: tuple[Tensor, Tensor] | None = None

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.attention.AttentionEdit`: only looks."""
        run: _Run | None = call.options.get(_RUN)
        if run is None or self.words is None or STORE in call.options:
            return None
        groups = _cond_groups(call, self.size)
        if not groups:
            return None
        call.check_whole(run.size, "P2P Local Blend")
        words = torch.stack([self.words, self.words * 0 if self.without is None else self.without], -1).to(call.x.device, torch.float32)
        level = call.map_level()
        edited = next((e.mixed(call) for e in edits_in(call.options) if isinstance(e, PromptToPrompt)), [None] * (self.size - 1))
        seen = run.maps.setdefault(call.step, [])
        run.shape = call.size(level)

        def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
            if place.level != level or place.index % _DEPTHS:
                return out
            _check_length(k, words.shape[1])
            found = []
            for first in groups:
                maps = attention_map(q[first : first + self.size], k[first : first + self.size], extra["n_heads"])
                maps = maps.unflatten(-1, (-1, words.shape[1])).sum(-2)
                for i, mixed in enumerate(edited, 1):
                    if mixed is not None:
                        maps[i] = maps[0] @ mixed[0].to(maps) + maps[i] * mixed[1].to(maps)
                found.append(maps @ words)
            seen.append(torch.cat(found))
            return out

        return Patches(cross=cross)

    def mask_of(self, latent: Tensor) -> Tensor:
        """The mask that a sampler's result `[b c h w]` ended with, `[b h w]`.

        Raises:
            ValueError: the last run gave another one.
        """
        if self.last is None or self.last[0].shape != latent.shape or not torch.equal(self.last[0].to(latent), latent):
            raise ValueError(
                "the last run with this MODEL did not give this latent; connect the MODEL that went into the sampler, with P2P Local Blend, and "
                "the sampler's 'output' as it is. If the MODEL serves several samplers, give each a P2P Local Blend of its own"
            )
        return self.last[1]

    def region(self, run: _Run, step: int, x: Tensor) -> Tensor | None:
        """The mask after the maps up to a step, `[b h w]`, or None if there are none yet."""
        painted = None
        if self.mask is not None:
            painted = F.interpolate(self.mask[None, None].to(x), x.shape[-2:], mode="area")[0].clamp(0, 1).expand(len(x), -1, -1)
        seen = [torch.stack(maps).mean(0) for at, maps in run.maps.items() if at <= step and maps]
        if self.words is None or not seen:
            return painted if self.words is None else None
        # Rows of one prompt: regional prompts give several groups of them, which look at the same pictures.
        maps = torch.stack(seen).sum(0).unflatten(0, (-1, len(x))).mean(0).unflatten(1, run.shape)
        parts, size = [], (x.shape[-2], x.shape[-1])
        for first in _groups(len(x), self.size):
            own = maps[first : first + self.size]
            part = blend_mask(own[..., 0], size, self.threshold)
            if self.without is not None:
                part = part * (1 - blend_mask(own[..., 1], size, self.threshold, pool=False))
            parts.append(part)
        found = torch.cat(parts)
        return found if painted is None else found * painted


@dataclass
class _Run:
    """Maps of one run of a sampler: by step, one `[b pixels 2]` for each attention looked at."""

    maps: dict[int, list[Tensor]] = field(default_factory=dict)
    size: tuple[int, ...] = ()  # of the state
    shape: tuple[int, int] = (0, 0)  # of the maps
    mask: Tensor | None = None  # of the step that was evaluated last, once the blend acts


def add_local_blend(model, edit: LocalBlend):
    """A clone of MODEL that blends."""
    return add_attention(model, edit, {WrappersMP.OUTER_SAMPLE: _open, WrappersMP.PREDICT_NOISE: _predict})


def blend_of(options: dict) -> LocalBlend | None:
    """The blend among transformer options."""
    return next((e for e in edits_in(options) if isinstance(e, LocalBlend)), None)


def _open(executor, *args, **kwargs):
    """A run begins; its options are the host's own copy, so nothing stays behind."""
    options = executor.class_obj.model_options.setdefault("transformer_options", {})
    options[_RUN] = run = _Run()
    edit = blend_of(options)
    out = executor(*args, **kwargs)
    if edit is not None and run.mask is not None:
        edit.last = out.cpu(), run.mask.cpu()
    return out


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict, seed=None) -> Tensor:
    """As the host treats a painted mask: the state is blended before the network sees it, the prediction after."""
    options = model_options.get("transformer_options", {})
    edit, run = blend_of(options), options.get(_RUN)
    if edit is None or run is None or STORE in options:
        return executor(x, sigma, model_options, seed)
    _groups(len(x), edit.size)
    run.size = x.shape[2:]
    step, steps = step_at(options, sigma)
    acts = in_steps((edit.start, 1.0), step, steps)
    before = edit.region(run, step - 1, x) if acts else None
    run.maps[step] = []  # a step that is evaluated again counts once
    out = executor(x if before is None else _blended(x, before, edit.size), sigma, model_options, seed)
    run.mask = edit.region(run, step, x) if acts else None
    return out if run.mask is None else _blended(out, run.mask, edit.size)


def held(x: Tensor, options: dict) -> Tensor:
    """A state with the blend of the step that led to it, as the paper has it: for samplers that move the source row themselves."""
    edit, run = blend_of(options), options.get(_RUN)
    return x if edit is None or run is None or run.mask is None else _blended(x, run.mask, edit.size)


def _blended(x: Tensor, mask: Tensor, size: int) -> Tensor:
    return torch.cat([blend(x[i : i + size], mask[i : i + size]) for i in range(0, len(x), size)])
