"""A LoRA of one picture (DiffMorpher, Zhang et al. 2024, arXiv 2312.07409, section on LoRA): attention layers only, the noise's MSE."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Callback, Denoiser, to_eps
from ..edit.low_rank import LowRankLayers, beside
from ..invert.ddim import levels
from .fit import Fit

_ATTENTION = re.compile(r"(^|\.)attn[12]\.to_(q|k|v|out\.0)$")


def attention_layers(net: nn.Module) -> dict[str, nn.Linear]:
    """Query, key, value and output layers of self- and cross-attention, by name.

    Raises:
        ValueError: there are none.
    """
    found = {name: layer for name, layer in net.named_modules() if _ATTENTION.search(name) and isinstance(layer, nn.Linear)}
    if not found:
        raise ValueError(
            "this model has no transformer blocks with attn1 and attn2, which an image LoRA is fitted to; connect a Stable Diffusion 1.x, "
            "2.x or SDXL checkpoint, or Load Face Text Model"
        )
    return found


def fit_image_lora(
    model: Denoiser, net: nn.Module, lora: LowRankLayers, draw: Callable[[torch.Generator], Tensor], shape: Sequence[int],
    sigmas: Tensor, *, steps: int = 200, lr: float = 2e-4, velocity: bool = False, seed: int = 0, callback: Callback | None = None,
    begin: Callable[[Fit], None] | None = None,
) -> LowRankLayers:  # fmt: skip
    """Fit low-rank layers so that the model denoises one picture at every level.

    Two pictures of one shape see the same noise and levels under one seed, so their LoRAs stay near enough to be interpolated.

    Args:
        model: frozen, without ``lora``.
        net: the network inside of it that has the layers of ``lora``.
        lora: what is trained.
        draw: the clean state `[b c h w]` of a step; of a VAE a sample of its posterior.
        shape: of that state.
        sigmas: `[T]`, levels to draw from uniformly: those of the model's training.
        steps: of AdamW (betas 0.9 and 0.999, weight decay 0.01), at a constant rate.
        lr: learning rate.
        velocity: the model predicts v, whose error is then the loss.
        seed: of levels and noise.
        callback, begin: as in :func:`core.train.asyrp.train_asyrp`.

    Returns:
        ``lora``, frozen.

    Raises:
        RuntimeError: the loss is not finite.
    """
    lora.requires_grad_(True)
    fit = Fit(lora, lr, steps, "adamw", clip=0.0, callback=callback)
    if begin is not None:
        begin(fit)
    table = sigmas.tolist()
    with beside(net, lora.branches()):
        while fit.i < steps:
            g = torch.Generator().manual_seed(seed * 1_000_003 + fit.i)
            sigma = table[int(torch.randint(0, len(table), (1,), generator=g))]
            noise = torch.randn(tuple(shape), generator=g)
            x0 = draw(g)
            noise = noise.to(x0)
            x = x0 + sigma * noise
            with torch.enable_grad():
                denoised = model(x, levels(x, sigma))
                loss = F.mse_loss(to_eps(x, sigma, denoised), noise)
                # At one state, the errors of v and of eps differ by this factor.
                fit.step(loss * (1 + sigma * sigma) if velocity else loss, denoised=denoised.detach())
    lora.load_state_dict(fit.best)
    return lora.requires_grad_(False)
