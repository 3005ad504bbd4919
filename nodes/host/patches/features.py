"""Features of a stored source picture in every step of an edit: Plug-and-Play (arXiv 2211.12572), MasaCtrl (arXiv
2304.08465).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import comfy.model_base
import comfy.sampler_helpers
import comfy.samplers
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, VideoResBlock
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core.denoiser import check_finite
from ....core.edit.attention.feature_blocks import Block, Recipe
from ....core.trajectory import Trajectory
from ..model.unet_blocks import Place, blocks
from ..samplers.whole_run import STARTS
from ..types import Model
from .attention import STORE, Call, Hidden, Patches, Swap, add_attention, edits_in, residual, step_at
from .caches import resting
from .steering import PLAIN, check_unchanged

_BANKS = "hspace_banks"
_MORE = 1 + 1e-3  # by so much schedules may differ
_K = TypeVar("_K")
_V = TypeVar("_V")


def feature_blocks(net) -> tuple[list[Block], list[Block], list[Block]]:
    """Blocks of a U-Net: with a residual block that keeps its size, with self-attention, and those of the latter at a
    quarter or below.
    """
    hidden = []
    attention = []
    coarse = []
    for name, level, block in blocks(net):
        if any(isinstance(m, ResBlock) and not isinstance(m, VideoResBlock) and not m.updown for m in block):
            hidden.append(name)
        if any(hasattr(m, "transformer_blocks") for m in block):
            attention.append(name)
            if level >= 2:
                coarse.append(name)
    return hidden, attention, coarse


def is_sdxl(model: Model) -> bool:
    """Whether a MODEL is of the SDXL family, whose blocks are laid out otherwise."""
    return isinstance(model.model, comfy.model_base.SDXL)


@dataclass(frozen=True)
class SelfInputs:
    """What a self-attention of the source picture computes query, key and value from, `[b n c]` each."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True, eq=False)
class Bank:
    """What the pass over the source picture leaves for the call of an edit after it.

    Attributes:
        edit: whose source it is.
        attention: by place.
        residuals: `[b c h w]` by block and residual block in it.
    """

    edit: Features
    attention: dict[Place, SelfInputs] = field(default_factory=dict)
    residuals: dict[tuple[Block, int], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the picture of ``trajectory``, seen with the prompt ``source`` (CONDITIONING), in the MODEL's own picture.

    A pass over the stored state comes first in every step, the edit's own call after it; what is kept of the one lives
    until the other is done.
    """

    node = "Inject Features"

    trajectory: Trajectory
    source: list
    recipe: Recipe

    @property
    def name(self) -> str:
        """Under which the sampler prepares the source's prompt."""
        return f"hspace_source_{id(self)}"

    def state(self, sigma: float, x: Tensor) -> Tensor:
        """The stored state at a noise level, `[p c h w]`, for an edit whose own is ``x`` `[b c h w]`; see
        :meth:`core.trajectory.Trajectory.at`.

        Raises:
            ValueError: the level lies above the stored ones, or the picture has another size.
        """
        states = self.trajectory.states
        if states.shape[2:] != x.shape[1:] or x.shape[0] % states.shape[1]:
            raise ValueError(
                f"the trajectory holds {states.shape[1]} picture(s) of {list(states.shape[2:])}, the latent connected"
                f" is {list(x.shape)}; connect a latent of the same size, as many pictures or a multiple"
            )
        top = float(self.trajectory.sigmas[0])
        if sigma > top * _MORE:
            raise ValueError(
                f"the sampler starts at sigma {sigma:.4g}, noisier than the trajectory ({top:.4g}); use the SIGMAS that"
                " the picture was inverted with, or Resume Trajectory"
            )
        return self.trajectory.at(sigma).to(x)

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.patches.attention.AttentionEdit`."""
        now = self.recipe.at(call.step, call.steps)
        if now is None:
            return None
        looking: Bank | None = call.options.get(STORE)
        if looking is not None:
            return self._store(call, now, looking) if looking.edit is self else None
        bank = next((bank for bank in call.options.get(_BANKS, ()) if bank.edit is self), None)
        chunks = call.chunks(0 if now.positive_only else None)
        if bank is None or not chunks:
            return None
        call.check_whole(self.trajectory.states.shape[3:], "Inject Features")
        return _replace_features(now, bank, _Rows(call.rows, chunks))

    def _store(self, call: Call, now: Recipe, bank: Bank) -> Patches:
        call.check_whole(self.trajectory.states.shape[3:], "Inject Features")
        asked_before = bank.attention or bank.residuals
        if asked_before or len(call.chunks()) > 1:
            raise ValueError(
                "the source picture is seen with one prompt, but several are combined in 'source' (or were when the"
                " picture was inverted); connect one CLIP Text Encode to 'source'"
            )
        return _store_features(now, bank)


def _store_features(now: Recipe, bank: Bank) -> Patches:
    """Patches that change nothing and put into the bank what the recipe names."""

    def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
        if place.block in now.queries or place.block in now.keys:
            bank.attention[place] = SelfInputs(n, context, value)
        return n, context, value

    def hidden(layer: ResBlock, x: Tensor, emb: Tensor, block: Block) -> Tensor | None:
        if block not in now.hidden or layer.updown:
            return None
        h = residual(layer, x, emb)
        bank.residuals[block, id(layer)] = h
        return layer.skip_connection(x) + h

    return _patches(now, swap, hidden)


@dataclass(frozen=True)
class _Rows:
    """The rows of a call that take features: ``count`` from each of the ``chunks`` on, one chunk a prompt."""

    count: int
    chunks: list[int]

    def are_all(self, h: Tensor) -> bool:
        """Whether no row of ``h`` is left alone."""
        return len(self.chunks) * self.count == len(h)

    def put(self, h: Tensor, source: Tensor) -> Tensor:
        """``h`` with the source's features in these rows; each picture of the source serves as many rows."""
        source = source.repeat_interleave(self.count // len(source), 0).to(h.dtype)
        if self.are_all(h):
            return source.repeat(len(self.chunks), *[1] * (source.dim() - 1))
        out = h.clone()
        for first in self.chunks:
            out[first : first + self.count] = source
        return out


def _replace_features(now: Recipe, bank: Bank, rows: _Rows) -> Patches:
    """Patches that put what is in the bank where the recipe names it."""

    def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
        if place.block not in now.queries | now.keys:
            return n, context, value
        source = _look_up(bank.attention, place, place.block)
        if place.block in now.queries:
            n = rows.put(n, source.query)
            context = rows.put(context, source.key)
        if place.block in now.keys:
            context = rows.put(context, source.key)
            value = rows.put(value, source.value)
        return n, context, value

    def hidden(layer: ResBlock, x: Tensor, emb: Tensor, block: Block) -> Tensor | None:
        if block not in now.hidden or layer.updown:
            return None
        source = _look_up(bank.residuals, (block, id(layer)), block)
        # Where every row is replaced, the block's own branch need not run: what it would give only lends its type.
        h = x if rows.are_all(x) else residual(layer, x, emb)
        return layer.skip_connection(x) + rows.put(h, source)

    return _patches(now, swap, hidden)


def _patches(now: Recipe, swap: Swap, hidden: Hidden) -> Patches:
    return Patches(swap if now.queries or now.keys else None, hidden=hidden if now.hidden else None)


def _look_up(features: dict[_K, _V], key: _K, block: Block) -> _V:
    if key not in features:
        raise ValueError(
            f"Inject Features: the pass over the source picture gave nothing at {block[0]} {block[1]} in this step;"
            " another node answered it in place of the network, as step caches do (TeaCache, First Block Cache, ...)."
            " Take that node off this MODEL"
        )
    return features[key]


def add_features(model: Model, edit: Features):
    """A clone of MODEL that also takes ``edit``'s features."""
    clone = add_attention(model, edit, {WrappersMP.OUTER_SAMPLE: _prepare, WrappersMP.PREDICT_NOISE: _predict})
    options = clone.model_options["transformer_options"]
    options[STARTS] = [*options.get(STARTS, ()), float(edit.trajectory.sigmas[0])]
    return clone


def _features(options: dict) -> list[Features]:
    return [e for e in edits_in(options) if isinstance(e, Features)]


def _prepare(executor, *args, **kwargs):
    """The source's prompt goes through everything that the sampler does to its own."""
    guider = executor.class_obj
    for edit in _features(guider.model_options.get("transformer_options", {})):
        check_unchanged(edit.trajectory.check_model, "Inject Features", guider.model_patcher)
        guider.conds[edit.name] = comfy.sampler_helpers.convert_cond(edit.source)
    return executor(*args, **kwargs)


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict, seed=None) -> Tensor:
    """In place of a sampler's prediction: the network sees the source of every edit that acts, then the edit itself."""
    options = model_options.get("transformer_options", {})
    if STORE in options:
        return executor(x, sigma, model_options, seed)
    banks = [
        _look_at_source(executor.class_obj, edit, x, sigma, model_options)
        for edit in _features(options)
        if edit.recipe.at(*step_at(options, sigma)) is not None
    ]
    if banks:
        model_options = {**model_options, "transformer_options": {**options, _BANKS: banks}}
    return executor(x, sigma, model_options, seed)


def _look_at_source(guider, edit: Features, x: Tensor, sigma: Tensor, model_options: dict) -> Bank:
    """The features of an edit's source at a noise level, from a call of the network on the stored state."""
    bank = Bank(edit)
    state = edit.state(float(sigma.max()), x)
    options = {**resting(model_options.get("transformer_options", {})), STORE: bank, PLAIN: True}
    denoised = comfy.samplers.calc_cond_batch(
        guider.inner_model,
        [guider.conds[edit.name]],
        state,
        sigma[:1].expand(len(state)),
        {**model_options, "transformer_options": options},
    )[0]
    check_finite(state, sigma[:1], denoised)
    return bank
