"""Work with the MODEL as a Denoiser, inside a run of the host's sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core.denoiser import Denoiser
from ..memory import hold_in_place, product_passes
from ..patches.bystanders import naming_bystanders
from ..patches.caches import Witness, without_caches
from ..patches.compiled import without_compile
from ..patches.steering import MODELS
from ..prompt_checks import check_prompt
from ..samplers.whole_run import check_windows
from ..threads import working_threads
from .decoded import DecodedDenoiser, Decoder
from .denoiser import HostDenoiser
from .fingerprint import model_fingerprint
from .frames import counts_frames
from .prompts import Prompts
from .sampler_call import SamplerCall
from .traits import check_ends, check_network, check_weights, is_latent

_KEY = "hspace"
T = TypeVar("T")


def with_denoiser(
    model,
    shape: torch.Size | tuple[int, ...],
    prompts: Prompts,
    work: Callable[[Denoiser], T],
    gradients: bool = False,
    vae=None,
    *,
    again: bool = True,
) -> T:
    """Load the model as a sampler does, prepare the prompts for latents of ``shape``, and call ``work`` with the
    denoiser.

    Args:
        model: MODEL.
        shape: `(b, c, h, w)` of the largest batch.
        prompts: see :class:`Prompts`.
        work: everything that needs the model.
        gradients: work differentiates; weights that the host pages in and out are then held in place.
        vae: of a latent model, if what it denoises is to come as pictures. Pixel models ignore it.
        again: the same state may be asked for again after ``work``, which does not change the network meanwhile (see
            :mod:`.caches`).

    Raises:
        ValueError: derivatives are asked of a network without a bottleneck, its weights are quantised and
            cannot be dequantised, the VAE is
            another model's, or the network cannot take the prompts.
    """
    # Nodes check the prompts connected to them by name.
    check_prompt(model, prompts.positive, "positive (of the trajectory)")
    check_prompt(model, prompts.negative, "negative (of the trajectory)")
    if len(shape) != 4:
        raise ValueError(f"the methods of this pack take pictures [b c h w], got states {list(shape)}; invert pictures")
    if gradients:
        check_network(model)
        check_weights(model)
    check_windows(model.model_options, _host_shape(model, shape), "this node")
    check_ends(model)

    fingerprint = model_fingerprint(model)
    model = without_compile(without_caches(model))
    witness = Witness(model) if again and not _runs_other_weights(model) else None
    loaded = _with_room_for_derivatives(model) if gradients else model
    run = _SamplerRun(loaded, prompts, shape, fingerprint)

    def inside(denoiser: HostDenoiser) -> T:
        denoiser.check_first(shape)
        if vae is None or not is_latent(model):
            return work(denoiser)
        return work(DecodedDenoiser(denoiser, Decoder(loaded, vae, shape)))

    result = run.call(inside, gradients, witness)
    if witness is not None:
        witness.check(run.call, model.model.get_dtype_inference().itemsize < 4)
    return result


@dataclass(frozen=True, eq=False)
class _SamplerRun:
    """A run of the host's sampler whose steps are ours."""

    model: Any
    prompts: Prompts
    shape: torch.Size | tuple[int, ...]
    fingerprint: str

    def call(self, work: Callable[[HostDenoiser], T], gradients: bool = False, witness: Witness | None = None) -> T:
        """Result of ``work`` with a denoiser of a run of its own."""
        results: list[T] = []

        def sampler(call, x: Tensor, sigmas, extra_args: dict | None = None, callback=None, disable=None) -> Tensor:
            inside = SamplerCall(call, self.model, self.prompts.cfg, extra_args or {}, pace)
            results.append(work(HostDenoiser(inside, self.fingerprint, gradients, witness)))
            return x

        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(self.prompts.positive, self.prompts.negative or self.prompts.positive)
        guider.set_cfg(self.prompts.cfg)
        empty = torch.zeros(_host_shape(self.model, self.shape))
        sigmas = torch.tensor([1.0, 0.0])
        with naming_bystanders(self.model, self.shape[0]), working_threads(self.model) as pace:
            guider.sample(empty, empty, comfy.samplers.KSAMPLER(sampler), sigmas, disable_pbar=True, seed=0)
        return results[0]


def _host_shape(model, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
    """The shape `(b, c, h, w)` of states as the host has it."""
    return (*shape[:2], 1, *shape[2:]) if counts_frames(model) else tuple(shape)


def _runs_other_weights(model) -> bool:
    """Whether an edit runs the network with other weights in some of its calls."""
    return bool(model.model_options.get("transformer_options", {}).get(MODELS))


def _with_room_for_derivatives(model):
    """A clone for derivatives: more memory asked for, and weights held in place."""
    clone = hold_in_place(model)

    def ask_for_more(executor, patcher, shape, *args, **kwargs):
        return executor(patcher, [shape[0] * product_passes(patcher, shape), *shape[1:]], *args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, _KEY, ask_for_more)
    return clone
