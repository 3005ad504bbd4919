"""The model as the host hands it to a sampler: prompts, guidance and patches of other packs included, this pack's edits
switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import comfy.conds
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core.discover.precision import Widened
from ....core.discover.quantised import dequantised
from ..patches.steering import PLAIN, RAW
from ..threads import Pace
from .block_kernels import differentiable_kernels
from .blocks import block_layers
from .frames import with_frame, without_frame
from .half import Half
from .own_attention import Attention
from .unet_decoder import with_attention

_KEY = "hspace"
_CONTEXT = "c_crossattn"


class SamplerCall:
    """``model(x, sigma)`` of one run of a sampler.

    Args:
        call: the model as a sampler gets it.
        patcher: MODEL.
        cfg: the guidance scale.
        extra: further arguments of ``call``.
        pace: watches how long calls take.
    """

    def __init__(self, call: Callable[..., Tensor], patcher, cfg: float, extra: dict, pace: Pace | None = None):
        self.patcher = patcher
        self.cfg = cfg
        self._call: Any = call
        self._extra = extra
        self._pace = pace

    @property
    def conds(self) -> dict[str, list[dict]]:
        """The prompts as the host has prepared them, ``positive`` and ``negative``."""
        return self._call.inner_model.conds

    @property
    def models(self) -> list[Any]:
        """ModelPatchers that the run uses: the network's own first, then ControlNets and the like."""
        conds = {side: list(prompts) for side, prompts in self.conds.items()}
        beside, _ = comfy.sampler_helpers.get_additional_models(conds, self.patcher.model_dtype())
        return [self.patcher, *beside]

    def ask(
        self, x: Tensor, sigma: Tensor, wrapper: Callable | None = None, attention: Attention | None = None
    ) -> Tensor:
        """Guided denoised image `[b c h w]`.

        Args:
            x: state, `[b c h w]`.
            sigma: `[b]`.
            wrapper: what stands directly around the network (of a transformer, around its scaling too).
            attention: one of ours, through which derivatives pass; None for the host's.
        """
        options = {**self._extra, "model_options": self._options(wrapper, attention)}
        state = with_frame(self.patcher, x)
        with self._kernels(attention):
            if self._pace is None or wrapper is not None:
                return without_frame(self._call(state, sigma, **options))
            return without_frame(self._pace.run((x.shape, attention), lambda: self._call(state, sigma, **options)))

    def ask_side(
        self, x: Tensor, sigma: Tensor, kind: str, embedding: Tensor | None, attention: Attention | None
    ) -> Tensor:
        """Denoised image `[b c h w]` for one side of the guidance, see :meth:`.denoiser.HostDenoiser.alone`."""
        guider = self._call.inner_model
        conds = [{**cond, "model_conds": dict(cond["model_conds"])} for cond in guider.conds[kind]]
        if embedding is not None:
            for cond in conds:
                cond["model_conds"][_CONTEXT] = comfy.conds.CONDCrossAttn(embedding)
        # Patches of other packs know the place in the list: 0 is the prompt, 1 the negative one.
        places = [None, conds] if kind == "negative" else [conds]
        options = self._options(attention=attention)
        with self._kernels(attention):
            state = with_frame(self.patcher, x)
            answers = comfy.samplers.calc_cond_batch(guider.inner_model, places, state, sigma, options)
        return without_frame(answers[-1])

    def _kernels(self, attention: Attention | None) -> AbstractContextManager:
        if attention is None:
            return nullcontext()
        both = ExitStack()
        both.enter_context(Widened())
        net = self.patcher.model.diffusion_model
        both.enter_context(dequantised(net))
        if block_layers(net):
            both.enter_context(differentiable_kernels(net, attention))
        return both

    def combine(self, x: Tensor, sigma: Tensor, outputs: list[tuple[Half, Tensor]]) -> Tensor:
        """What the host makes of the network's outputs: denoised pictures, averaged over prompts, guided."""
        x = with_frame(self.patcher, x)  # patches of other packs get what a sampler gives them
        positive, negative = (self._mean_denoised(x, sigma, outputs, kind) for kind in (0, 1))
        guided = negative is not None
        sides = [torch.zeros_like(x) if side is None else side for side in (positive, negative)]
        model = self.patcher.model
        options = self._extra.get("model_options", {})
        for patch in options.get("sampler_pre_cfg_function", ()):
            sides = patch(
                {
                    "conds": self._conds_given(guided),
                    "conds_out": sides,
                    "cond_scale": self.cfg,
                    "timestep": sigma,
                    "input": x,
                    "sigma": sigma,
                    "model": model,
                    "model_options": options,
                }
            )
        if not guided and not options.get("sampler_cfg_function") and not options.get("sampler_post_cfg_function"):
            return without_frame(sides[0])
        guided_picture = comfy.samplers.cfg_function(
            model, sides[0], sides[1], self.cfg, x, sigma, model_options=options
        )
        return without_frame(guided_picture)

    def _mean_denoised(self, x: Tensor, sigma: Tensor, outputs: list[tuple[Half, Tensor]], kind: int) -> Tensor | None:
        """Mean of the denoised pictures of one side's prompts; None if it has none."""
        sampling = self.patcher.get_model_object("model_sampling")
        wide = [out if out.dtype == torch.float64 else out.float() for half, out in outputs if half.kind == kind]
        pictures = [sampling.calculate_denoised(sigma, with_frame(self.patcher, out), x) for out in wide]
        if len(pictures) > 1:
            return torch.stack(pictures).mean(0)
        return pictures[0] if pictures else None

    def _conds_given(self, guided: bool) -> list:
        """The prompts as a sampler has them: patches of the guidance look whether there is a negative one."""
        return [self.conds["positive"], self.conds["negative"] if guided else None]

    def _options(self, wrapper: Callable | None = None, attention: Attention | None = None) -> dict:
        options = self._extra.get("model_options", {})
        inside = {**options.get("transformer_options", {}), PLAIN: True, RAW: True}
        if wrapper is not None:
            wrappers = {**inside.get("wrappers", {})}
            # Not every transformer of the host asks for wrappers of its network, but all are asked for theirs.
            net = self.patcher.model.diffusion_model
            kind = WrappersMP.APPLY_MODEL if block_layers(net) else WrappersMP.DIFFUSION_MODEL
            # The last key is the innermost: other packs' wrappers run around it.
            wrappers[kind] = {**wrappers.get(kind, {}), _KEY: [wrapper]}
            inside["wrappers"] = wrappers
        return {**options, "transformer_options": with_attention(inside, attention)}
