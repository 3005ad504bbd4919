"""Fine-tuning of a whole network towards a prompt (DiffusionCLIP, Kim, Kwon and Ye 2022, arXiv 2110.02711, eq. 7 and appendix)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Callback
from ..edit.sample import edited_step
from ..edit.weights import WeightDelta, difference
from ..embedder import Embedder
from ..networks.vp import VPDenoiser
from ..trajectory import Trajectory
from .directional import guided, text_direction
from .fit import Fit


def finetune(
    model: VPDenoiser, path: Trajectory, embedder: Embedder, source: str, target: str, *, steps: int = 6, efficient: bool = True,
    epochs: int = 5, batch: int = 1, lr: float = 8e-6, growth: float = 1.3, clip_weight: float = 3.0, l1_weight: float = 1.0,
    blur: float = 0.0, seed: int = 0, callback: Callback | None = None, begin: Callable[[Fit], None] | None = None,
) -> WeightDelta:  # fmt: skip
    """Fit all weights of a copy of the network so that pictures, sampled back from their noisiest state, move to the target prompt.

    Args:
        model: whose weights the difference is taken to; it stays as it is.
        path: of the training pictures (50 to 100 in the paper), inverted up to the level t0 (sigma of t = 300 to 600).
        embedder: of pictures and prompts.
        source, target: what the pictures show, and what they are to show.
        steps: of the sampling chain in training.
        efficient: the paper's GPU-efficient way: a loss and an optimiser's step at every step of the chain, on its prediction. Otherwise
            one loss at the end of the chain, through all of it.
        epochs: times that every picture is seen; more than 5 ruins pictures with the efficient way, as its users report.
        batch: pictures at a time.
        lr, growth: of Adam; the rate is multiplied by ``growth`` after every epoch.
        clip_weight, l1_weight: of the directional loss in its log form, and of the mean absolute change of the picture.
        blur: of the pictures before they are embedded, a share of their side; against fine patterns that only please the embedder.
        seed: of the order of the pictures.
        callback, begin: as in :func:`core.train.asyrp.train_asyrp`.

    Returns:
        What was added to the weights.

    Raises:
        ValueError: prompts that say nothing, or options out of range.
        RuntimeError: the loss is not finite.
    """
    path.check_model(model.fingerprint)
    direction, _ = text_direction(embedder, source, target)
    direction = direction.to(path.states.device)
    noisy = len(path.sigmas) - 1
    if not 1 <= steps <= noisy or batch < 1 or epochs < 1:
        raise ValueError(
            f"steps must lie in 1..{noisy} for this trajectory, epochs and batch be at least 1; got {steps}, {epochs} and {batch}"
        )
    picked = torch.linspace(0, noisy - 1, steps).round().long().tolist()
    grid = [float(path.sigmas[i]) for i in picked] + [0.0]
    net = copy.deepcopy(model.net).requires_grad_(True)
    tuned = VPDenoiser(net, model.schedule, model.prediction, model.fingerprint)
    count = path.states.shape[1]
    parts = -(-count // batch)
    one_pass = parts * (steps if efficient else 1)
    fit = Fit(net, lr, epochs * one_pass, callback=callback, warm=one_pass)
    if begin is not None:
        begin(fit)

    def loss_of(picture: Tensor, rows: Tensor) -> Tensor:
        moved = guided(embedder, picture, path.x0[rows], direction, blur)
        return clip_weight * moved + l1_weight * F.l1_loss(picture, path.x0[rows])

    done = 0
    for epoch in range(epochs):
        for group in fit.optimiser.param_groups:
            group["lr"] = lr * growth**epoch
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1009 + epoch)).to(path.states.device)
        for rows in order.split(batch):
            done += steps if efficient else 1
            if fit.i >= done:
                continue  # a resumed run has seen them
            here = max(0, fit.i - done + steps) if efficient else 0
            x = fit.carry["x"].to(path.states) if here else path.noisiest[rows]
            with torch.enable_grad():
                for n in range(here, steps):
                    denoised = tuned(x, x.new_full((len(rows),), grid[n]))
                    shown = denoised.detach() if efficient else denoised
                    x = edited_step(x, grid[n], grid[n + 1], shown, shown)
                    if efficient:
                        fit.step(loss_of(denoised, rows), {} if n == steps - 1 else {"x": x}, denoised=shown, sigma=grid[n])
                if not efficient:
                    fit.step(loss_of(x, rows), denoised=x.detach(), sigma=0.0)
    facts = {"source": source, "target": target, "pictures": count, "epochs": epochs, "efficient": efficient, "sigma": grid[0]}
    return difference(fit.best, model.net.state_dict(), model.fingerprint.partition("+")[0], f"{source} > {target}", facts)
