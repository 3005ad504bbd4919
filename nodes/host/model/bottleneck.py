"""A sampler's call of the model, cut in two at a layer, prompts and guidance included."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ....core.chain import Chain, Stage
from ....core.denoiser import Bottleneck, NotFinite, check_finite
from ....core.discover.precision import Widened
from ..memory import Room
from ..patches.bystanders import among
from .block_cut import cut_blocks
from .blocks import block_layers, block_number
from .half import Half
from .own_attention import Attention, fused_attention, plain_attention
from .sampler_call import SamplerCall
from .unet import STATE, cut

_TOLERANCE = 1e-3
_HALF_TOLERANCE = 3e-2  # of half-precision networks, whose kernels depend on the size of the batch
_PARTIAL_PROMPTS = (
    "the trajectory was inverted with prompts that hold for a part of the picture or of the steps, and those cannot be"
    " split; invert with plain prompts, without Conditioning (Set Mask), (Set Area) and ConditioningSetTimestepRange"
)


@dataclass(frozen=True, eq=False)
class CutCall:
    """One call of the model, cut at ``layer``.

    Attributes:
        call: of a sampler.
        layer: where it is cut.
        x: state, `[b c h w]`.
        sigma: `[b]`.
        halves: one for each prompt.
        positive: that of the positive prompt, whose h is the one that moves.
        h: activations at the layer, `[b c h w]`.
    """

    call: SamplerCall
    layer: str
    x: Tensor
    sigma: Tensor
    halves: list[Half]
    positive: Half
    h: Tensor

    @staticmethod
    def of(call: SamplerCall, layer: str, x: Tensor, sigma: Tensor, smooth: bool = False) -> CutCall:
        """Cut one call.

        Raises:
            ValueError: the prompts hold for a part of the picture or of the steps.
        """
        prompts = [prompt for side in call.conds.values() for prompt in side]
        if any("mask" in prompt or "area" in prompt for prompt in prompts):
            raise ValueError(_PARTIAL_PROMPTS)
        halves: list[Half] = []
        make = cut_blocks if block_layers(call.patcher.model.diffusion_model) else cut
        # What comes out of a cut network says nothing: it may be 0/0.
        call.ask(x, sigma, make(layer, halves), plain_attention if smooth else None)
        positive = next((half for half in halves if half.kind == 0), None)
        if positive is None:
            raise ValueError(_PARTIAL_PROMPTS)
        if any(half.h.shape != positive.h.shape or half.shape != x.shape[2:] for half in halves):
            raise ValueError(_PARTIAL_PROMPTS)
        h = x if layer == STATE else positive.h
        check_finite(x, sigma, h)
        return CutCall(call, layer, x, sigma, halves, positive, h)

    def bottleneck(self) -> Bottleneck:
        """The half below, with each kind of kernels."""
        smooth, fused = self.decoder(plain_attention), self.decoder(fused_attention)
        return Bottleneck(self.h, self.decoder(), self.layer, smooth, fused, Room(*self.call.models))

    def decoder(self, attention: Attention | None = None) -> Chain:
        """Guided denoised image for another h of the positive prompt; what moves it moves all.

        Between the stages goes what each prompt has come to.
        """
        if self.layer == STATE:
            return self._whole(attention)
        stages = [partial(self._run_stage, n, attention) for n in range(len(self.positive.ways(attention)))]
        return Chain([self._moved, *stages, self._guided])

    def _moved(self, h: Tensor) -> tuple[Tensor, ...]:
        """H of every prompt. In a transformer that of the negative prompt stays, as it does under Steer."""
        still = block_number(self.layer) is not None
        return tuple(
            h
            if half is self.positive
            else half.h.expand_as(h)
            if still and half.kind
            else half.h + (h - self.positive.h)
            for half in self.halves
        )

    def _run_stage(self, n: int, attention: Attention | None, hs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(half.ways(attention)[n](h, attention) for half, h in zip(self.halves, hs, strict=True))

    def _guided(self, outputs: tuple[Tensor, ...]) -> Tensor:
        return check_finite(self.x, self.sigma, self._combined(self.x, outputs))

    def _whole(self, attention: Attention | None) -> Chain:
        """The same from the state on, which goes through beside what the network makes of it."""

        def in_float32(stage: Stage) -> Stage:
            # Weights of half precision are widened for one stage, and let go with it.
            def run(state: Any) -> Any:
                with Widened() if attention else nullcontext():
                    return stage(state)

            return run

        stages = [partial(self._run_stage, n, attention) for n in range(len(self.positive.ways(attention)))]
        inner = Chain([self._scaled, *stages]).inside(in_float32)
        return inner.beside_input().then(self._guided_at)

    def _scaled(self, x: Tensor) -> tuple[Tensor, ...]:
        """What goes into the network for every prompt."""
        scaled = self.call.patcher.get_model_object("model_sampling").calculate_input(self.sigma, x)
        # Inpainting models see further channels beside the state.
        beside = [half.h[:, x.shape[1] :].expand(len(x), -1, -1, -1) for half in self.halves]
        return tuple(torch.cat([scaled.to(more.dtype), more], 1) for more in beside)

    def _guided_at(self, state: tuple[Tensor, tuple[Tensor, ...]]) -> Tensor:
        x, outputs = state
        return check_finite(x, self.sigma, self._combined(x, outputs))

    def _combined(self, x: Tensor, outputs: tuple[Tensor, ...]) -> Tensor:
        return self.call.combine(x, self.sigma, list(zip(self.halves, outputs, strict=True)))

    def check(self, whole: Tensor, decode: Callable[[Tensor], Tensor]) -> None:
        """Refuse halves that do not give the whole.

        Args:
            whole: denoised image of the uncut call, `[b c h w]`.
            decode: one of the two.

        Raises:
            RuntimeError: they do not; another pack's patch acts where the cut does not see it.
        """
        try:
            together = decode(self.h)
        except NotFinite:  # the whole is finite: it is the cut that fails
            together = torch.full_like(whole, torch.inf)
        patcher = self.call.patcher
        exact = patcher.model.get_dtype_inference().itemsize >= 4
        # Rounding of the network's output comes into the picture times sigma, and so does the noise that is taken out.
        size = torch.maximum(whole.abs().max(), (self.x - whole).abs().max()).clamp_min(1e-6)
        error = float((together - whole).abs().max() / size)
        if not error <= (_TOLERANCE if exact else _HALF_TOLERANCE):
            raise RuntimeError(
                f"the network cut at {self.layer!r} differs from the whole by {error:.1e} of its range; a model patch of"
                f" another node acts outside the network's own patch points{among(patcher)}. Bypass model patches"
                " upstream until this passes"
            )
