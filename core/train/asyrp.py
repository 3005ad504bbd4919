"""Training of Asyrp's shift of h (Kwon et al. 2023, arXiv 2210.10960, section 4.1 and appendix): pictures, two prompts, a frozen model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Callback, Denoiser
from ..edit.delta import TrainedDelta
from ..edit.sample import edited_step
from ..embedder import Embedder
from ..networks.delta import Delta, DeltaTable
from ..trajectory import Trajectory
from .directional import guided, text_direction
from .fit import Fit

Decode = Callable[[Tensor], Tensor]
"""Denoised state -> picture `[b 3 h w]` in -1..1; the identity for pixel models."""


def train_asyrp(
    model: Denoiser, path: Trajectory, delta: Delta | DeltaTable, embedder: Embedder, source: str, target: str, *, sigma_edit: float,
    sigma_boost: float = 0.0, epochs: int = 1, batch: int = 1, lr: float = 0.5, optimiser: str = "sgd", clip_weight: float = 0.8,
    l1_weight: float = 3.0, blur: float = 0.0, seed: int = 0, decode: Decode | None = None, callback: Callback | None = None,
    begin: Callable[[Fit], None] | None = None,
) -> TrainedDelta:  # fmt: skip
    """Fit a shift of h so that the pictures of a trajectory move from one prompt to another.

    For every batch of pictures the edited chain walks down from the noisiest state to ``sigma_edit``; at every step the loss is
    ``clip_weight * log form of the directional loss + l1_weight * cos(source, target) * |P~ - P|_1``, with P~ the edited prediction of
    the edited chain and P the prediction of the plain chain, and the optimiser takes a step there and then. No gradient runs from
    one step of the chain into another.

    Args:
        model: frozen denoiser.
        path: of the training pictures, made with the same model.
        delta: what is trained; it stays what it was if the run fails.
        embedder: of pictures and prompts.
        source, target: what the pictures show, and what they are to show.
        sigma_edit: lowest noise level that is edited.
        sigma_boost: kept with the result.
        epochs: times that every picture is seen.
        batch: pictures at a time (the released code: 1).
        lr, optimiser: the released code: SGD at 0.5 without momentum.
        clip_weight, l1_weight: see above.
        blur: of the pictures before they are embedded, a share of their side; against fine patterns that only please the embedder.
        seed: of the order of the pictures.
        decode: for models of latents.
        callback: called after every step with ``denoised`` (the edited prediction) and ``loss``; may raise to cancel.
        begin: called with the run before its first step: to resume an earlier one, and to read it if it is cancelled.

    Returns:
        The edit, strength 1 being what was trained.

    Raises:
        ValueError: prompts that say nothing, no step at or above ``sigma_edit``, or a trajectory of another model.
        RuntimeError: the loss is not finite.
    """
    path.check_model(model.fingerprint)
    direction, cosine = text_direction(embedder, source, target)
    direction = direction.to(path.states.device)
    grid = path.sigmas.tolist()
    steps = [i for i, s in enumerate(grid[:-1]) if s >= sigma_edit * (1 - 1e-5)]
    if not steps:
        raise ValueError(
            f"no step of the trajectory lies at or above sigma_edit {sigma_edit:g}; its noisiest is {grid[0]:.3g}: lower sigma_edit"
        )
    count = path.states.shape[1]
    if batch < 1 or epochs < 1:
        raise ValueError(f"epochs and batch must be at least 1, got {epochs} and {batch}")
    decode = decode or (lambda x: x)
    device, layer = path.states.device, "middle"
    delta.to(device)
    one_pass = -(-count // batch) * len(steps)
    fit = Fit(delta, lr, epochs * one_pass, optimiser, callback=callback, warm=one_pass)
    if begin is not None:
        begin(fit)
    with torch.no_grad():
        pictures = torch.cat([decode(part) for part in path.x0.split(batch)])
    done = 0
    for epoch in range(epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1009 + epoch)).to(device)
        for rows in order.split(batch):
            x = path.noisiest[rows]
            done += len(steps)
            if fit.i >= done:
                continue  # a resumed run has seen them
            here = max(0, fit.i - done + len(steps))
            x = fit.carry["x"].to(x) if here else x
            for i in steps[here:]:
                sigma = x.new_full((len(rows),), grid[i])
                with torch.no_grad():
                    part = model.split(x, sigma, layer)
                    eps = part.decode(part.h)
                    aim = model(path.states[i][rows], sigma)
                with torch.enable_grad():
                    edited = (part.smooth or part.decode)(part.h + delta(part.h.float(), sigma.float()).to(part.h))
                    moved = guided(embedder, decode(edited), pictures[rows], direction, blur)
                    loss = clip_weight * moved + l1_weight * cosine * F.l1_loss(edited, aim)
                x = edited_step(x, grid[i], grid[i + 1], edited.detach(), eps)
                fit.step(loss, {} if i == steps[-1] else {"x": x}, denoised=edited.detach(), sigma=grid[i])
    delta.load_state_dict(fit.best)
    delta.requires_grad_(False)
    facts = {"source": source, "target": target, "loss": fit.losses[-1] if fit.losses else 0.0, "pictures": count, "epochs": epochs}
    facts["sigma_start"] = grid[0]
    fingerprint = model.fingerprint.partition("+")[0]
    return TrainedDelta(delta, fingerprint, sigma_edit, len(steps), sigma_boost, layer, f"{source} > {target}", facts)


@torch.no_grad()
def global_shift(model: Denoiser, path: Trajectory, trained: TrainedDelta, batch: int = 8, one: bool = False) -> TrainedDelta:
    """The mean shift over the pictures of a trajectory: a table of one a step, or ``one`` for all steps (paper, section 4.3).

    Args:
        model: frozen denoiser.
        path: of pictures other than those to be edited.
        trained: a trained block.
        batch: pictures at a time.
        one: average over the steps too.

    Raises:
        ValueError: another model's trajectory, or one without a step at or above the lowest level that is edited.
    """
    path.check_model(model.fingerprint)
    trained.check_model(model.fingerprint, model.layers)
    steps = [i for i, s in enumerate(path.sigmas.tolist()[:-1]) if s >= trained.sigma_edit * (1 - 1e-5)]
    if not steps:
        raise ValueError(
            f"the edit acts down to sigma {trained.sigma_edit:g}, but the noisiest step of the trajectory is {float(path.sigmas[0]):.3g}; "
            "invert up to more noise"
        )
    shifts, levels = [], path.sigmas[steps]
    for i in steps:
        parts = []
        for x in path.states[i].split(batch):
            sigma = x.new_full((len(x),), float(path.sigmas[i]))
            parts.append(trained.delta(model.split(x, sigma, trained.layer).h.float(), sigma.float()))
        shifts.append(torch.cat(parts).mean(0))
    table = torch.stack(shifts)
    if one:
        table, levels = table.mean(0, keepdim=True), levels.log().mean().exp()[None]
    delta = DeltaTable(table, levels).requires_grad_(False)
    return TrainedDelta(
        delta,
        trained.fingerprint,
        trained.sigma_edit,
        trained.steps,
        trained.sigma_boost,
        trained.layer,
        f"{trained.label}, mean",
        trained.extra,
    )
