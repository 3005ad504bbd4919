"""P2P Local Blend: rows of one batch stay at their source outside of where words look (Hertz et al. 2022, arXiv
2208.01626, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn import functional as F

from ....core.edit.attention.local_blend import attention_map, blend, blend_mask
from ....core.schedule import in_steps
from ..model.unet_blocks import Place
from ..samplers.whole_run import levels_of
from ..types import Model
from .attention import STORE, Call, Patches, add_attention, check_map, edits_in, step_at
from .prompt_to_prompt import PromptToPrompt, check_length, prompt_groups, row_groups

_RUN = "hspace_blend"
_ABOVE = 1 + 1e-4  # of a level, above which another one lies
_SAME_LATENT = 1e-5  # what scaling a latent and back rounds
_DEPTHS = 4  # of the transformers of a block, every so many are looked at (SDXL has ten that see nearly the same)


@dataclass(frozen=True)
class _Result:
    """What a run gave, `[b c h w]`, and the mask that it ended with, `[b h w]`."""

    latent: Tensor
    mask: Tensor


@dataclass
class LocalBlend:
    """Holds target rows at the source outside of a mask, by the words' attention, a painted mask, or both (where both
    are).

    Attributes:
        size: rows of a group.
        words, without: `[size T]`, 1 for the tokens of each row's words, and of words to leave alone; None: no such
            words.
        mask: `[h w]` in 0..1 or None.
        threshold: share of a map's highest value.
        start: share of the steps from which on it acts; maps are summed from the first step on.
        last: result of the last run.
        part: the last run that stopped above 0, for the one that goes on from it.
    """

    node = "P2P Local Blend"

    size: int
    words: Tensor | None
    without: Tensor | None
    mask: Tensor | None
    threshold: float
    start: float
    last: _Result | None = None
    part: _Run | None = None

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.patches.attention.AttentionEdit`: only looks."""
        run: _Run | None = call.options.get(_RUN)
        if run is None or self.words is None or STORE in call.options:
            return None
        groups = prompt_groups(call, self.size)
        if not groups:
            return None
        call.check_whole(run.size, "P2P Local Blend")
        without = self.words * 0 if self.without is None else self.without
        words = torch.stack([self.words, without], -1).to(call.x.device, torch.float32)
        level = call.map_level()
        control = next((edit for edit in edits_in(call.options) if isinstance(edit, PromptToPrompt)), None)
        mixes = [] if control is None else control.mixes(call)
        run.shape = call.size(level)
        maps_of_step = run.maps.setdefault(call.step, [])

        def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
            if place.level != level or place.index % _DEPTHS:
                return out
            check_length(k, words.shape[1])
            check_map(q, run.shape, "P2P Local Blend")
            parts = []
            for first in groups:
                group = slice(first, first + self.size)
                maps = attention_map(q[group], k[group], extra["n_heads"])
                # Hosts repeat a prompt to fill a batch: the maps of its copies are summed.
                maps = maps.unflatten(-1, (-1, words.shape[1])).sum(-2)
                for mix in mixes:
                    maps[mix.row] = maps[0] @ mix.shares.to(maps) + maps[mix.row] * mix.weight.to(maps)
                parts.append(maps @ words)
            maps_of_step.append(torch.cat(parts))
            return out

        return Patches(cross=cross)

    def is_sharp(self, x: Tensor) -> bool:
        """Whether nothing in a state `[b c h w]` is blended half and half."""
        painted = self._painted(x)
        return painted is None or bool(((painted == 0) | (painted == 1)).all())

    def _painted(self, x: Tensor) -> Tensor | None:
        """The painted mask at the size of a state `[b c h w]`, `[1 h w]`; None without one."""
        if self.mask is None:
            return None
        return F.interpolate(self.mask[None, None].to(x), x.shape[-2:], mode="area")[0].clamp(0, 1)

    def mask_of(self, latent: Tensor) -> Tensor:
        """The mask that a sampler's result `[b c h w]` ended with, `[b h w]`.

        Raises:
            ValueError: the last run gave another one.
        """
        last = self.last
        if last is None or last.latent.shape != latent.shape or not torch.equal(last.latent.to(latent), latent):
            raise ValueError(
                "the last run with this MODEL did not give this latent; connect the MODEL that went into the sampler,"
                " with P2P Local Blend, and the sampler's 'output' as it is. If the MODEL serves several samplers, give"
                " each a P2P Local Blend of its own"
            )
        return last.mask

    def resume(self, latent: Tensor) -> _Run:
        """The run that ended with ``latent`` `[b c h w]`, to be gone on with.

        Raises:
            ValueError: the last one that stopped above 0 gave another latent.
        """
        part = self.part
        if part is None or not _same_latent(part.ended, latent):
            raise ValueError(
                "P2P Local Blend sums where words look over all steps, but this run goes on with a latent of another"
                " one, whose steps it has not seen; connect the same MODEL to both samplers and the output of the first"
                " to the second as it is, or sample in one run"
            )
        return _Run(dict(part.maps), part.size, part.shape)

    def region(self, run: _Run, step: int, x: Tensor) -> Tensor | None:
        """The mask after the maps up to a step, `[b h w]`, or None if there are none yet."""
        painted = self._painted(x)
        if painted is not None:
            painted = painted.expand(len(x), -1, -1)
        if self.words is None:
            return painted
        maps = run.sum_maps(step, x)
        if maps is None:
            return None
        by_words = torch.cat([self._mask_words(maps[i : i + self.size], x) for i in row_groups(len(x), self.size)])
        return by_words if painted is None else by_words * painted

    def _mask_words(self, maps: Tensor, x: Tensor) -> Tensor:
        """Where a group's maps `[size h' w' 2]` see the words, without those to leave alone, `[size h w]`."""
        size = (x.shape[-2], x.shape[-1])
        mask = blend_mask(maps[..., 0], size, self.threshold)
        if self.without is None:
            return mask
        return mask * (1 - blend_mask(maps[..., 1], size, self.threshold, pool=False))


def _same_latent(ended: Tensor | None, latent: Tensor) -> bool:
    """Whether a run's end `[b c h w]` is the latent that another begins with; it came there through the host's scale."""
    return (
        ended is not None
        and ended.shape == latent.shape
        and torch.allclose(ended.to(latent), latent, atol=_SAME_LATENT)
    )


@dataclass
class _Run:
    """Maps of one run of a sampler: by step, one `[b pixels 2]` for each attention looked at."""

    maps: dict[int, list[Tensor]] = field(default_factory=dict)
    size: tuple[int, ...] = ()  # of the state
    shape: tuple[int, int] = (0, 0)  # of the maps
    mask: Tensor | None = None  # of the step that was evaluated last, once the blend acts
    ended: Tensor | None = None  # what the run gave

    def sum_maps(self, step: int, x: Tensor) -> Tensor | None:
        """Maps summed over the steps up to ``step``, `[b h' w' 2]` for a state of b rows, or None if there are none."""
        steps = [maps for at, maps in self.maps.items() if at <= step and maps]
        if not steps:
            return None
        means = [torch.stack([m.to(x.device) for m in maps]).mean(0) for maps in steps]
        # Rows of one prompt: regional prompts give several groups of them, which look at the same pictures.
        return torch.stack(means).sum(0).unflatten(0, (-1, len(x))).mean(0).unflatten(1, self.shape)


def add_local_blend(model: Model, edit: LocalBlend):
    """A clone of MODEL that blends."""
    return add_attention(model, edit, {WrappersMP.OUTER_SAMPLE: _open, WrappersMP.PREDICT_NOISE: _predict})


def blend_of(options: dict) -> LocalBlend | None:
    """The blend among transformer options."""
    return next((e for e in edits_in(options) if isinstance(e, LocalBlend)), None)


def _open(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """A run begins, or goes on; its options are the host's own copy."""
    options = executor.class_obj.model_options.setdefault("transformer_options", {})
    edit = blend_of(options)
    whole = levels_of(options)
    goes_on = whole is not None and _lies_above(whole[0], sigmas[0])
    run = edit.resume(latent_image) if edit is not None and edit.words is not None and goes_on else _Run()
    options[_RUN] = run
    out = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    if edit is None:
        return out
    if whole is not None and _lies_above(sigmas[-1], whole[-1]):
        run.ended = out.cpu()
        run.maps = {step: [m.cpu() for m in maps] for step, maps in run.maps.items()}
        edit.part = run
    if run.mask is not None:
        edit.last = _Result(out.cpu(), run.mask.cpu())
    return out


def _lies_above(sigma: Tensor, other: Tensor) -> bool:
    return float(sigma) > float(other) * _ABOVE


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict, seed=None) -> Tensor:
    """As the host treats a painted mask: the state is blended before the network sees it, the prediction after."""
    options = model_options.get("transformer_options", {})
    edit = blend_of(options)
    run = options.get(_RUN)
    if edit is None or run is None or STORE in options:
        return executor(x, sigma, model_options, seed)
    row_groups(len(x), edit.size)
    run.size = x.shape[2:]
    step, steps = step_at(options, sigma)
    window = (edit.start, 1.0)
    acts = in_steps(window, step, steps)
    # The state is the result of the step before, which is left alone unless that step was in the window (or this is the
    # first of all).
    acted = in_steps(window, step - 1, steps) if step else acts
    before = edit.region(run, step - 1, x) if acted else None
    run.maps[step] = []  # a step that is evaluated again counts once
    out = executor(_blend_groups(x, before, edit.size), sigma, model_options, seed)
    run.mask = edit.region(run, step, x) if acts else None
    return _blend_groups(out, run.mask, edit.size)


def blend_state(x: Tensor, options: dict) -> Tensor:
    """A state with the blend of the step that led to it, as the paper has it: for samplers that move the source row
    themselves.
    """
    edit = blend_of(options)
    run = options.get(_RUN)
    return x if edit is None or run is None else _blend_groups(x, run.mask, edit.size)


def _blend_groups(x: Tensor, mask: Tensor | None, size: int) -> Tensor:
    """Every group of ``size`` rows blended by its rows of the mask; as it is without one."""
    if mask is None:
        return x
    return torch.cat([blend(x[i : i + size], mask[i : i + size]) for i in range(0, len(x), size)])
