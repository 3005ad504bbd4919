"""Training of the latent network (DiffAE, arXiv 2111.15640, section 4 and appendix A.1).

The loss is the L1 error of its noise on normalised codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..networks.latent_mlp import SCHEDULE, LatentConfig, LatentMLP
from .run import Loss, Optimiser, Run, Session, ema_decay


@dataclass(frozen=True)
class LatentSettings:
    """How the latent network is trained.

    Attributes:
        steps: of AdamW (released: 4e5).
        batch: codes at a time.
        lr: learning rate.
        average: decay of the moving average that is returned.
        seed: of weights, order and noise.
    """

    steps: int = 20_000
    batch: int = 256
    lr: float = 1e-4
    average: float = 0.9999
    seed: int = 0


def train_latent(
    codes: Tensor,
    space: CodeSpace,
    config: LatentConfig,
    settings: LatentSettings | None = None,
    *,
    session: Session | None = None,
) -> LatentMLP:
    """Fit a latent network to the codes of many pictures.

    Args:
        codes: `[n z]` or `[n l z]` of unflipped pictures; it trains on their device.
        space: of the codes, with statistics.
        config: of the network; ``size`` must be the size of a code.
        settings: how.
        session: what the caller does beside the run.

    Returns:
        The averaged network, frozen, in evaluation mode.

    Raises:
        ValueError: a configuration for codes of another size, fewer than two codes, or missing statistics.
        RuntimeError: the loss is not finite.
    """
    settings = settings or LatentSettings()
    normal = space.normalise(codes)
    if config.size != space.size or len(normal) < 2:
        raise ValueError(f"need two or more codes of {config.size} numbers, got {len(normal)} of {space.size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = LatentMLP(config)
    net.to(normal.device).train()
    run = Run(net, Optimiser(settings.lr, "adamw"), settings.steps, session)
    mean = {name: run.carry.get(name, value).detach().to(value, copy=True) for name, value in net.named_parameters()}

    def loss(generator: torch.Generator) -> Loss:
        noisy, noise, t = _noisy_codes(normal, settings.batch, generator)
        _average(mean, net, ema_decay(settings.average, run.i))
        return Loss(F.l1_loss(net(noisy, t), noise), carry=mean)

    run.train(loss, settings.seed)
    _average(mean, net, ema_decay(settings.average, run.i))
    net.load_state_dict(mean)
    return net.requires_grad_(False).eval()


def _noisy_codes(normal: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noise codes `[b d]`; return them, their noise and their steps `[b]`."""
    rows = torch.randint(0, len(normal), (batch,), generator=generator)
    x = normal[rows.to(normal.device)]
    t = torch.randint(0, SCHEDULE.steps, (batch,), generator=generator)
    t = t.to(normal.device)
    noise = torch.randn(x.shape, generator=generator).to(x)
    power = SCHEDULE.abar.to(normal)[t][:, None]
    return power.sqrt() * x + (1 - power).sqrt() * noise, noise, t


@torch.no_grad()
def _average(mean: dict[str, Tensor], net: LatentMLP, decay: float) -> None:
    """Take the weights as they are into the average.

    It is done before a step, so that what the run keeps of it is what it goes on with.
    """
    for name, value in net.named_parameters():
        mean[name].lerp_(value, 1 - decay)
