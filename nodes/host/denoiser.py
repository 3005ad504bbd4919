"""The host's MODEL as a Denoiser of core: everything a sampler does happens, LoRA, ControlNet, guidance and patches included."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import comfy.conds
import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core.denoiser import Bottleneck, Denoiser
from ...core.discover.precision import Widened
from .coded_model import CodedUNet
from .fingerprint import model_fingerprint
from .memory import held_in_place
from .model import PixelSpace, PixelUNet, no_conditioning, unet_of
from .pictures import Decoder, Pictures
from .steering import EDITS, PLAIN, RAW
from .unet import OVERRIDE, STATE, Half, chained, cut, layers_of

_SPLIT_TOLERANCE = 1e-3
_HALF_TOLERANCE = 3e-2  # of half-precision networks, whose kernels depend on the size of the batch
_KEY, _CONTEXT = "hspace", "c_crossattn"
_GRAPH = 8  # forward passes whose memory a graph with room for a chunk of vectors takes, roughly
T = TypeVar("T")


@dataclass(frozen=True)
class Prompts:
    """What a model is conditioned on: CONDITIONING lists of the host and the guidance scale."""

    positive: list = field(default_factory=no_conditioning)
    negative: list = field(default_factory=list)
    cfg: float = 1.0

    @staticmethod
    def of(trajectory: Any) -> Prompts:
        """Those that a trajectory was inverted with."""
        return Prompts(**trajectory.extra.get("prompts", {}))

    @staticmethod
    def given(model, positive: list | None, negative: list | None = None, cfg: float = 1.0) -> Prompts:
        """Those connected to a node, where models without prompts need none.

        Raises:
            ValueError: one that the model or the guidance needs is missing.
        """
        net = model.model.diffusion_model
        if positive is None and isinstance(net, CodedUNet):
            raise ValueError("this model draws from a semantic code; connect Encode Semantic Code to 'positive'")
        if positive is None and not isinstance(net, PixelUNet):
            raise ValueError("this model takes prompts; connect CLIP Text Encode to 'positive' (an empty text will do)")
        if negative is None and cfg != 1:
            raise ValueError(f"cfg {cfg:g} guides away from a negative prompt, but none is connected; connect 'negative' or set cfg to 1")
        return Prompts(positive or no_conditioning(), negative or [], cfg)

    def stored(self) -> dict:
        """For ``Trajectory.extra``."""
        return {"prompts": {"positive": self.positive, "negative": self.negative, "cfg": self.cfg}}


def with_denoiser(
    model, shape: torch.Size | tuple[int, ...], prompts: Prompts, work: Callable[[Denoiser], T], gradients: bool = False, vae=None
) -> T:
    """Load the model as a sampler does, prepare the prompts for latents of ``shape``, and call ``work`` with the denoiser.

    Args:
        model: MODEL.
        shape: `(b, c, h, w)` of the largest batch.
        prompts: see :class:`Prompts`.
        work: everything that needs the model.
        gradients: work differentiates; weights that the host pages in and out are then held in place.
        vae: of a latent model, if what it denoises is to come as pictures. Pixel models ignore it.

    Raises:
        ValueError: derivatives are asked of a network without a bottleneck, its weights are quantised, or the VAE is another model's.
    """
    if gradients:
        check_network(model)
        check_weights(model)
    done: list[T] = []
    fingerprint, loaded = model_fingerprint(model), _held(model) if gradients else model

    def sampler(call, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, callback=None, disable=None) -> Tensor:
        denoiser = HostDenoiser(call, loaded, prompts, extra_args or {}, fingerprint, gradients)
        done.append(work(Pictures(denoiser, Decoder(loaded, vae, shape)) if vae is not None and is_latent(model) else denoiser))
        return x

    guider = comfy.samplers.CFGGuider(loaded)
    guider.set_conds(prompts.positive, prompts.negative or prompts.positive)
    guider.set_cfg(prompts.cfg)
    empty = torch.zeros(tuple(shape))
    guider.sample(empty, empty, comfy.samplers.KSAMPLER(sampler), torch.tensor([1.0, 0.0]), disable_pbar=True, seed=0)
    return done[0]


def _held(model):
    """A clone for derivatives: more memory asked for, and weights held in place."""
    held = held_in_place(model)

    def more(executor, patcher, shape, *args, **kwargs):
        return executor(patcher, [shape[0] * _GRAPH, *shape[1:]], *args, **kwargs)

    held.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, _KEY, more)
    return held


def check_network(model) -> tuple[str, ...]:
    """Layers of a MODEL that has a bottleneck.

    Raises:
        ValueError: it has none.
    """
    net = model.model.diffusion_model
    layers = layers_of(net)
    if layers is None:
        raise ValueError(
            f"this node reads the bottleneck of a U-Net, but the MODEL connected is a {type(net).__name__}, which has none; "
            "connect a Stable Diffusion 1.x, 2.x or SDXL checkpoint, or the MODEL of Load Face Model or Load Pixel Diffusion Model"
        )
    return layers


def check_weights(model) -> None:
    """Refuse quantised weights: no derivative runs through them.

    Raises:
        ValueError: they are.
    """
    if any(type(p).__name__ == "QuantizedTensor" for p in model.model.diffusion_model.parameters()):
        raise ValueError("the weights of this model are quantised, and quantised layers have no derivatives; load the fp16 or fp8 release")


def is_flow(model) -> bool:
    """Whether the states of a MODEL are ``(1 - sigma) x0 + sigma n`` (Stable Diffusion 3, Flux)."""
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)


class HostDenoiser:
    """``model(x, sigma)`` inside a sampler's run, every edit switched off (``edits_of`` and ``edited`` tell what nodes asked for).

    States are the host's own: latents after ``process_latent_in``, or pixels in -1..1. ``flow`` tells of a flow model. A network without a
    bottleneck has no ``layers`` and cannot be split.

    Args:
        call: the model as a sampler gets it.
        model: MODEL.
        prompts: what ``call`` is conditioned on.
        extra: further arguments of ``call``.
        fingerprint: of the MODEL.
        gradients: it will be differentiated.
    """

    def __init__(self, call, model, prompts: Prompts, extra: dict, fingerprint: str, gradients: bool):
        self._call, self.patcher, self.prompts, self._extra = call, model, prompts, extra
        self.fingerprint, self._gradients = fingerprint, gradients
        self.net = unet_of(model)
        self.layers, self.flow = layers_of(model.model.diffusion_model) or (), is_flow(model)
        self._checked: set[tuple[str, int]] = set()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised image, `[b c h w]`."""
        return self._run(x, sigma, smooth=self._gradients and torch.is_grad_enabled())

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`. With guidance, h is that of the positive prompt, and what moves it moves all.

        Raises:
            RuntimeError: another pack's patch makes the two halves differ from the whole.
            ValueError: the network has no bottleneck.
        """
        if not self.layers:
            check_network(self.patcher)
        halves: list[Half] = []
        self._run(x, sigma, cut(layer, halves), smooth)
        first = next((half for half in halves if half.kind == 0), None)
        if first is None or any(half.h.shape != first.h.shape or half.shape != x.shape[2:] for half in halves):
            raise RuntimeError("prompts that hold for a part of the picture or of the steps cannot be split; connect plain prompts here")

        if layer == STATE:
            first = Half(x, first.run, 0, first.shape)

        def decode(h: Tensor, smooth: bool = False) -> Tensor:
            if layer == STATE:
                scaled = self.patcher.get_model_object("model_sampling").calculate_input(sigma, h)
                # Inpainting models see further channels beside the state.
                rest = [half.h[:, h.shape[1] :].expand(len(h), -1, -1, -1) for half in halves]
                with Widened() if smooth else nullcontext():
                    outputs = [half(torch.cat([scaled.to(r.dtype), r], 1), smooth) for half, r in zip(halves, rest, strict=True)]
                return self._combined(h, sigma, list(zip(halves, outputs, strict=True)))
            return self._combined(x, sigma, [(half, half(h if half is first else half.h + (h - first.h), smooth)) for half in halves])

        def smooth_decode(h: Tensor) -> Tensor:
            return decode(h, smooth=True)

        ways = [decode, smooth_decode] if self._gradients and len(x) == 1 else [decode]
        if (layer, len(ways)) not in self._checked:
            self._checked.add((layer, len(ways)))
            whole = self(x, sigma)
            for way in ways:
                self._check(layer, x, way(first.h), whole)
        return Bottleneck(first.h, decode, layer, smooth_decode)

    def alone(self, x: Tensor, sigma: Tensor, kind: str, embedding: Tensor | None = None) -> Tensor:
        """Denoised image for one side of the guidance, `[b c h w]`.

        Args:
            x: state, `[b c h w]`.
            sigma: `[b]`.
            kind: ``positive`` or ``negative``.
            embedding: `[b n d]` in place of its prompt's; what else belongs to the prompt (pooled text, ControlNet) stays.
        """
        guider = self._call.inner_model
        conds = [{**cond, "model_conds": dict(cond["model_conds"])} for cond in guider.conds[kind]]
        if embedding is not None:
            for cond in conds:
                cond["model_conds"][_CONTEXT] = comfy.conds.CONDCrossAttn(embedding)
        smooth = self._gradients and torch.is_grad_enabled()
        with Widened() if smooth else nullcontext():
            # Patches of other packs know the place in the list: 0 is the prompt, 1 the negative one.
            places = [None, conds] if kind == "negative" else [conds]
            return comfy.samplers.calc_cond_batch(guider.inner_model, places, x, sigma, self._options(smooth=smooth))[-1]

    def _run(self, x: Tensor, sigma: Tensor, wrapper: Callable | None = None, smooth: bool = False) -> Tensor:
        with Widened() if smooth else nullcontext():
            return self._call(x, sigma, **{**self._extra, "model_options": self._options(wrapper, smooth)})

    def _options(self, wrapper: Callable | None = None, smooth: bool = False) -> dict:
        options = self._extra.get("model_options", {})
        inside = {**options.get("transformer_options", {}), PLAIN: True, RAW: True}
        if wrapper is not None:
            wrappers = {**inside.get("wrappers", {})}
            # The last key is the innermost: other packs' wrappers run around it.
            wrappers[WrappersMP.DIFFUSION_MODEL] = {**wrappers.get(WrappersMP.DIFFUSION_MODEL, {}), _KEY: [wrapper]}
            inside["wrappers"] = wrappers
        if smooth:
            inside[OVERRIDE] = chained(inside.get(OVERRIDE))
        return {**options, "transformer_options": inside}

    def _combined(self, x: Tensor, sigma: Tensor, outputs: list[tuple[Half, Tensor]]) -> Tensor:
        """What the host makes of the network's outputs: denoised pictures, averaged over prompts, guided."""
        sampling = self.patcher.get_model_object("model_sampling")
        options = self._extra.get("model_options", {})
        parts: list[list[Tensor]] = [[], []]
        for half, out in outputs:
            parts[half.kind].append(sampling.calculate_denoised(sigma, out.float() if out.dtype != torch.float64 else out, x))
        cond, uncond = (torch.stack(p).mean(0) if len(p) > 1 else p[0] if p else torch.zeros_like(x) for p in parts)
        both, model = [cond, uncond], self.patcher.model
        for fn in options.get("sampler_pre_cfg_function", ()):
            args = {"conds": [None, None], "conds_out": both, "cond_scale": self.prompts.cfg, "timestep": sigma, "input": x, "sigma": sigma}
            both = fn({**args, "model": model, "model_options": options})
        if not parts[1] and not options.get("sampler_cfg_function") and not options.get("sampler_post_cfg_function"):
            return both[0]
        return comfy.samplers.cfg_function(model, both[0], both[1], self.prompts.cfg, x, sigma, model_options=options)

    def _check(self, layer: str, x: Tensor, halves: Tensor, whole: Tensor) -> None:
        exact = self.patcher.model.get_dtype_inference().itemsize >= 4
        # Rounding of the network's output comes into the picture times sigma, and so does the noise that is taken out.
        size = torch.maximum(whole.abs().max(), (x - whole).abs().max()).clamp_min(1e-6)
        error = float((halves - whole).abs().max() / size)
        if not error <= (_SPLIT_TOLERANCE if exact else _HALF_TOLERANCE):
            raise RuntimeError(
                f"the network cut at {layer!r} differs from the whole by {error:.1e} of its range; a model patch of another "
                "node acts outside the U-Net's own patch points. Bypass model patches upstream until this passes"
            )


def edits_of(model) -> list:
    """What Steer nodes asked of a MODEL."""
    return list(model.model_options.get("transformer_options", {}).get(EDITS, ()))


def is_latent(model) -> bool:
    """Whether the model works in an autoencoder's latents rather than in pixels."""
    return not isinstance(model.model.latent_format, PixelSpace)
