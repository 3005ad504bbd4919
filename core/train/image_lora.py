"""Training of a LoRA of one picture, on attention layers only (DiffMorpher, Zhang et al. 2024, arXiv 2312.07409)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Denoiser, to_eps
from ..invert.ddim import levels
from ..networks.low_rank import LowRankLayers, beside
from ..schedule import v_weight
from .run import Loss, Optimiser, Run, Session

_ATTENTION = re.compile(r"(^|\.)attn[12]\.to_(q|k|v|out\.0)$")


def attention_layers(net: nn.Module) -> dict[str, nn.Linear]:
    """List query, key, value and output layers of self- and cross-attention, by name.

    Raises:
        ValueError: there are none.
    """
    layers = {
        name: layer for name, layer in net.named_modules() if _ATTENTION.search(name) and isinstance(layer, nn.Linear)
    }
    if not layers:
        raise ValueError(
            "this model has no transformer blocks with attn1 and attn2, which an image LoRA is fitted to; connect a"
            " Stable Diffusion 1.x, 2.x or SDXL checkpoint, or Load Face Text Model"
        )
    return layers


@dataclass(frozen=True)
class ImageLoraSettings:
    """How a LoRA of one picture is fitted.

    Attributes:
        steps: of AdamW (betas 0.9 and 0.999, weight decay 0.01), at a constant rate.
        lr: learning rate.
        velocity: the model predicts v, whose error is then the loss.
        seed: of levels and noise.
    """

    steps: int = 200
    lr: float = 2e-4
    velocity: bool = False
    seed: int = 0


def predict_middle(model: Denoiser, x0: Tensor, sigmas: Tensor) -> Tensor:
    """Predict a state `[b c h w]` as if it were at the middle one of the levels `[T]`, to see what a step takes."""
    return model(x0, levels(x0, float(sigmas[len(sigmas) // 2])))


def train_image_lora(
    model: Denoiser,
    net: nn.Module,
    lora: LowRankLayers,
    draw: Callable[[torch.Generator], Tensor],
    shape: Sequence[int],
    sigmas: Tensor,
    settings: ImageLoraSettings | None = None,
    *,
    session: Session | None = None,
) -> LowRankLayers:
    """Fit low-rank layers so that the model denoises one picture at every level.

    Two pictures of one shape see the same noise and levels under one seed, so their LoRAs stay near enough to be
    interpolated.

    Args:
        model: frozen, without ``lora``.
        net: the network inside of it that has the layers of ``lora``.
        lora: what is trained.
        draw: the clean state `[b c h w]` of a step; of a VAE a sample of its posterior.
        shape: of that state.
        sigmas: `[T]`, levels to draw from uniformly: those of the model's training.
        settings: how.
        session: what the caller does beside the run; it is shown ``denoised``.

    Returns:
        ``lora``, frozen.

    Raises:
        RuntimeError: the loss is not finite.
    """
    settings = settings or ImageLoraSettings()
    lora.requires_grad_(True)
    run = Run(lora, Optimiser(settings.lr, "adamw", clip=0.0), settings.steps, session)
    table = sigmas.tolist()

    def loss_of(generator: torch.Generator) -> Loss:
        sigma = table[int(torch.randint(0, len(table), (1,), generator=generator))]
        noise = torch.randn(tuple(shape), generator=generator)
        with torch.no_grad():
            x0 = draw(generator)
        noise = noise.to(x0)
        x = x0 + sigma * noise
        denoised = model(x, levels(x, sigma))
        loss = F.mse_loss(to_eps(x, sigma, denoised), noise)
        if settings.velocity:
            # At one state, the errors of v and of eps differ by this factor.
            loss = loss * v_weight(sigma)
        return Loss(loss, shown={"denoised": denoised.detach()})

    with beside(net, lora.branches()):
        run.train(loss_of, settings.seed)
    lora.load_state_dict(run.best)
    return lora.requires_grad_(False)
