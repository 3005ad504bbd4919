"""Features of a stored source picture in every step of an edit: Plug-and-Play (arXiv 2211.12572), MasaCtrl (arXiv 2304.08465)."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_base
import comfy.sampler_helpers
import comfy.samplers
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, VideoResBlock
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core.edit.feature_blocks import Block, Recipe
from ...core.trajectory import Trajectory
from .attention import STORE, Call, Patches, Place, add_attention, blocks, edits_in, residual, step_at
from .steering import PLAIN

_BANKS = "hspace_banks"
_MORE = 1 + 1e-3  # by so much schedules may differ


def feature_blocks(net) -> tuple[list[Block], list[Block], list[Block]]:
    """Blocks of a U-Net: with a residual block that keeps its size, with self-attention, and those of the latter at a quarter or below."""
    hidden, attention, coarse = [], [], []
    for name, level, block in blocks(net):
        if any(isinstance(m, ResBlock) and not isinstance(m, VideoResBlock) and not m.updown for m in block):
            hidden.append(name)
        if any(hasattr(m, "transformer_blocks") for m in block):
            attention.append(name)
            coarse += [name] if level >= 2 else []
    return hidden, attention, coarse


def is_sdxl(model) -> bool:
    """Whether a MODEL is of the SDXL family, whose blocks are laid out otherwise."""
    return isinstance(model.model, comfy.model_base.SDXL)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the picture of ``path``, seen with the prompt ``source`` (CONDITIONING), in the MODEL's own picture.

    A pass over the stored state comes first in every step, the edit's own call after it; what is kept of the one lives until the
    other is done.
    """

    path: Trajectory
    source: list
    recipe: Recipe

    @property
    def name(self) -> str:
        """Under which the sampler prepares the source's prompt."""
        return f"hspace_source_{id(self)}"

    def state(self, sigma: float, like: Tensor) -> Tensor:
        """The stored state at a noise level, `[p c h w]`, see :meth:`core.trajectory.Trajectory.at`.

        Raises:
            ValueError: the level lies above the stored ones, or the picture has another size.
        """
        states = self.path.states
        if states.shape[2:] != like.shape[1:] or like.shape[0] % states.shape[1]:
            raise ValueError(
                f"the trajectory holds {states.shape[1]} picture(s) of {list(states.shape[2:])}, the latent connected is "
                f"{list(like.shape)}; connect a latent of the same size, as many pictures or a multiple"
            )
        top = float(self.path.sigmas[0])
        if sigma > top * _MORE:
            raise ValueError(
                f"the sampler starts at sigma {sigma:.4g}, noisier than the trajectory ({top:.4g}); use the SIGMAS that the "
                "picture was inverted with, or Resume Trajectory"
            )
        return self.path.at(sigma).to(like)

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.attention.AttentionEdit`."""
        now = self.recipe.at(call.step, call.steps)
        store = call.options.get(STORE)
        if now is None:
            return None
        if store is not None:
            if store[0] is not self:
                return None
            call.check_whole(self.path.states.shape[3:], "Inject Features")
            if store[1] or len(call.chunks()) > 1:
                raise ValueError(
                    "the source picture is seen with one prompt, but several are combined in 'source' (or were when the picture was inverted); "
                    "connect one CLIP Text Encode to 'source'"
                )
            return _keeping(now, store[1])
        bank = next((bank for edit, bank in call.options.get(_BANKS, ()) if edit is self), None)
        chunks = call.chunks(0 if now.positive_only else None)
        if bank is None or not chunks:
            return None
        call.check_whole(self.path.states.shape[3:], "Inject Features")
        return _giving(now, bank, chunks, call.rows)


def _keeping(now: Recipe, bank: dict) -> Patches:
    def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
        if place.block in now.queries or place.block in now.keys:
            bank[place] = n, context, value
        return n, context, value

    def hidden(layer: ResBlock, x: Tensor, emb: Tensor, block: Block) -> Tensor | None:
        if block not in now.hidden or layer.updown:
            return None
        bank[block, id(layer)] = h = residual(layer, x, emb)
        return layer.skip_connection(x) + h

    return Patches(swap if now.queries or now.keys else None, hidden=hidden if now.hidden else None)


def _giving(now: Recipe, bank: dict, chunks: list[int], rows: int) -> Patches:
    def put(own: Tensor, kept: Tensor) -> Tensor:
        kept = kept.repeat_interleave(rows // len(kept), 0).to(own.dtype)
        if len(chunks) * rows == len(own):
            return kept.repeat(len(chunks), *[1] * (kept.dim() - 1))
        out = own.clone()
        for first in chunks:
            out[first : first + rows] = kept
        return out

    def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
        kept = bank.get(place)
        if kept is None:
            return n, context, value
        own = n
        if place.block in now.queries:
            n, context = put(own, kept[0]), put(context, kept[1])
        if place.block in now.keys:
            context, value = put(context, kept[1]), put(value, kept[2])
        return n, context, value

    def hidden(layer: ResBlock, x: Tensor, emb: Tensor, block: Block) -> Tensor | None:
        kept = bank.get((block, id(layer)))
        if kept is None:
            return None
        if len(chunks) * rows == len(x):
            return layer.skip_connection(x) + put(x, kept)
        return layer.skip_connection(x) + put(residual(layer, x, emb), kept)

    return Patches(swap if now.queries or now.keys else None, hidden=hidden if now.hidden else None)


def add_features(model, edit: Features):
    """A clone of MODEL that also takes ``edit``'s features."""
    return add_attention(model, edit, {WrappersMP.OUTER_SAMPLE: _prepare, WrappersMP.PREDICT_NOISE: _predict})


def _features(options: dict) -> list[Features]:
    return [e for e in edits_in(options) if isinstance(e, Features)]


def _prepare(executor, *args, **kwargs):
    """The source's prompt goes through everything that the sampler does to its own."""
    guider = executor.class_obj
    for edit in _features(guider.model_options.get("transformer_options", {})):
        guider.conds[edit.name] = comfy.sampler_helpers.convert_cond(edit.source)
    return executor(*args, **kwargs)


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict, seed=None) -> Tensor:
    options, guider = model_options.get("transformer_options", {}), executor.class_obj
    banks: list[tuple[Features, dict]] = []
    for edit in _features(options) if STORE not in options else ():
        if edit.recipe.at(*step_at(options, sigma)) is None:
            continue
        bank: dict = {}
        z = edit.state(float(sigma.max()), x)
        seen = {**model_options, "transformer_options": {**options, STORE: (edit, bank), PLAIN: True}}
        conds = [guider.conds[edit.name]]
        comfy.samplers.calc_cond_batch(guider.inner_model, conds, z, sigma[:1].expand(len(z)), seen)
        banks.append((edit, bank))
    if banks:
        model_options = {**model_options, "transformer_options": {**options, _BANKS: banks}}
    return executor(x, sigma, model_options, seed)
