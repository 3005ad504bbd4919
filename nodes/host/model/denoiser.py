"""The host's MODEL as a Denoiser of core: everything a sampler does happens, LoRA, ControlNet, guidance and patches
included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from ....core.denoiser import Bottleneck, Noising, check_finite
from ....core.discover.quantised import is_quantised, unrounded
from ..patches.bystanders import bystanders, check_steady
from ..patches.caches import Witness
from .bottleneck import CutCall
from .cut_memory import CutMemory
from .own_attention import Attention, fused_attention
from .pixel_model import unet_of
from .sampler_call import SamplerCall
from .traits import check_network, noising_of
from .unet import layers_of


class HostDenoiser:
    """``model(x, sigma)`` inside a sampler's run, every edit switched off (``edits_of`` and ``edited`` tell what nodes
    asked for).

    States are the host's own: latents after ``process_latent_in``, or pixels in -1..1.
    A network without a bottleneck has no ``layers`` and cannot be split.

    Args:
        call: the model as a sampler gets it.
        fingerprint: of the MODEL.
        gradients: it will be differentiated.
        witness: keeps some of the answers.
    """

    def __init__(self, call: SamplerCall, fingerprint: str, gradients: bool = False, witness: Witness | None = None):
        self._call = call
        self._gradients = gradients
        self._witness = witness
        self.fingerprint = fingerprint
        self.patcher = call.patcher
        self.net = unet_of(self.patcher)
        self.layers = layers_of(self.patcher.model.diffusion_model) or ()
        self.noising: Noising = noising_of(self.patcher)
        self._cuts = CutMemory(call, fingerprint)
        self._unsure: tuple[int, ...] | None = None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised image, `[b c h w]`."""
        answer = self._run(x, sigma, self._own_attention())
        return self._noted(lambda model, x: model(x, sigma), x, answer)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`. With guidance, h is that of the positive prompt, and what moves it moves
        all.

        Raises:
            RuntimeError: another pack's patch makes the two halves differ from the whole.
            ValueError: the network has no bottleneck, or the prompts hold for a part of the picture or of the steps.
        """
        if not self.layers:
            check_network(self.patcher)
        # What is differentiated rounds nothing that comes into quantised layers, so that nothing else may.
        rounded = not self._gradients and is_quantised(self.net)
        with unrounded(self.net) if self._gradients else nullcontext():
            cut = CutCall.of(self._call, layer, x, sigma, smooth)
            part = cut.bottleneck()
            ways = {"the host's": part.decode}
            if part.fused is not None and self._gradients:
                ways["fused"] = part.fused
            unchecked = [kernels for kernels in ways if not self._cuts.knows(layer, kernels, rounded, x.shape[1:])]
            if unchecked:
                whole = self._ask_unrounded(x, sigma) if self._gradients else self(x, sigma)
                for kernels in unchecked:
                    cut.check(whole, ways[kernels])
                    self._cuts.keep(layer, kernels, rounded, x.shape[1:])
        return part

    def _ask_unrounded(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised image of a network whose quantised layers take what comes in as it is."""
        with unrounded(self.net):
            answer = self._run(x, sigma, self._own_attention())
        return self._noted(lambda model, x: model._ask_unrounded(x, sigma), x, answer)

    def alone(self, x: Tensor, sigma: Tensor, kind: str, embedding: Tensor | None = None) -> Tensor:
        """Denoised image for one side of the guidance, `[b c h w]`.

        Args:
            x: state, `[b c h w]`.
            sigma: `[b]`.
            kind: ``positive`` or ``negative``.
            embedding: `[b n d]` in place of its prompt's; what else belongs to the prompt (pooled text, ControlNet)
                stays.
        """
        self._check_steady()
        answer = self._call.ask_side(x, sigma, kind, embedding, self._own_attention())
        check_finite(x, sigma, answer)
        return self._noted(lambda model, x: model.alone(x, sigma, kind, embedding), x, answer)

    def check_first(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Have the first answer refused if answers change from call to call, where nodes upstream could make it so.

        Not at once: what follows from the inputs alone is refused before the network is asked.
        """
        self._unsure = tuple(shape) if bystanders(self.patcher) else None

    def _own_attention(self) -> Attention | None:
        """The attention of a call that autograd will run back through; None where the host's serves."""
        return fused_attention if self._gradients and torch.is_grad_enabled() else None

    def _noted(self, ask: Callable[[HostDenoiser, Tensor], Tensor], x: Tensor, answer: Tensor) -> Tensor:
        return answer if self._witness is None else self._witness.note(ask, x, answer)

    def _run(self, x: Tensor, sigma: Tensor, attention: Attention | None = None) -> Tensor:
        self._check_steady()
        return check_finite(x, sigma, self._call.ask(x, sigma, attention=attention))

    @torch.no_grad()
    def _check_steady(self) -> None:
        if self._unsure is None:
            return
        x = torch.randn(self._unsure, generator=torch.Generator().manual_seed(0)).to(self.patcher.load_device)
        self._unsure = None
        level = x.new_ones(len(x))
        first = self._run(x, level)
        # Another state between: a memory that is scaled to one length (APG) tells by its direction alone.
        self._run(x.flip(-1), level)
        again = self._run(x, level)
        # Last at the lowest level, so that a node that forgets where noise rises (APG) forgets this in its next run.
        lowest = float(self.patcher.get_model_object("model_sampling").sigma_min)
        self._run(x, x.new_full((len(x),), lowest))
        check_steady(self.patcher, first, again)
