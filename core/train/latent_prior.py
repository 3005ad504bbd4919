"""Training of the latent network (DiffAE, arXiv 2111.15640, section 4 and appendix A.1): the L1 loss of its noise on normalised codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..denoiser import Callback
from ..networks.latent_mlp import SCHEDULE, LatentConfig, LatentMLP
from .fit import Fit


def train_latent(
    codes: Tensor, space: CodeSpace, config: LatentConfig, *, steps: int = 20_000, batch: int = 256, lr: float = 1e-4,
    average: float = 0.9999, seed: int = 0, callback: Callback | None = None, begin: Callable[[Fit], None] | None = None,
) -> LatentMLP:  # fmt: skip
    """Fit a latent network to the codes of many pictures.

    Every step is a function of the seed and its number alone, so that a resumed run goes on exactly.

    Args:
        codes: `[n z]` or `[n l z]` of unflipped pictures; it trains on their device.
        space: of the codes, with statistics.
        config: of the network; ``size`` must be the size of a code.
        steps, batch, lr: as usual (released: 4e5 steps of 256 at 1e-4).
        average: decay of the moving average that is returned; less in the first steps, so that it forgets the start.
        seed: of weights, order and noise.
        callback: called after every step; may raise to cancel.
        begin: called with the run before its first step: to resume an earlier one, and to read it if it is cancelled.

    Returns:
        The averaged network, frozen, in evaluation mode.

    Raises:
        ValueError: a configuration for codes of another size, fewer than two codes, or missing statistics.
        RuntimeError: the loss is not finite.
    """
    normal = space.normalise(codes)
    if config.size != space.size or len(normal) < 2:
        raise ValueError(f"need two or more codes of {config.size} numbers, got {len(normal)} of {space.size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LatentMLP(config)
    net.to(normal.device).train()
    fit = Fit(net, lr, steps, "adamw", callback=callback)
    if begin is not None:
        begin(fit)
    mean = {k: fit.carry.get(k, v).detach().to(v, copy=True) for k, v in net.named_parameters()}
    abar = SCHEDULE.abar.to(normal)
    while fit.i < steps:
        g = torch.Generator().manual_seed(seed * 1_000_003 + fit.i)
        x = normal[torch.randint(0, len(normal), (batch,), generator=g).to(normal.device)]
        t = torch.randint(0, SCHEDULE.steps, (batch,), generator=g).to(normal.device)
        noise = torch.randn(x.shape, generator=g).to(x)
        power = abar[t][:, None]
        _averaged(mean, net, min(average, (1 + fit.i) / (10 + fit.i)))
        with torch.enable_grad():
            loss = F.l1_loss(net(power.sqrt() * x + (1 - power).sqrt() * noise, t), noise)
        fit.step(loss, carry=mean)
    _averaged(mean, net, min(average, (1 + fit.i) / (10 + fit.i)))
    net.load_state_dict(mean)
    return net.requires_grad_(False).eval()


@torch.no_grad()
def _averaged(mean: dict[str, Tensor], net: LatentMLP, decay: float) -> None:
    """The average takes in the weights as they are: before a step, so that what the run keeps of it is what it goes on with."""
    for name, value in net.named_parameters():
        mean[name].lerp_(value, 1 - decay)
