"""Training of the rectifier (Hou et al. 2023, arXiv 2312.15707, section 3): first to rebuild, then to edit from the original trajectory."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Callback, Denoiser
from ..edit.rectify import WeightOf
from ..edit.sample import edited_step
from ..embedder import Embedder
from ..invert.ddim import invert_ddim
from ..networks.rectifier import Rectifier, own_weight, rectified
from ..trajectory import Trajectory
from .directional import guided, text_direction
from .fit import Fit

Begin = Callable[[Fit], None]
_PROBES, _FLOOR, _PAIR = 8, 1e-7, 2


def train_reconstruction(
    model: Denoiser, net: nn.Module, path: Trajectory, rectifier: Rectifier, *, steps: int = 1000, batch: int = 4, lr: float = 1e-4,
    seed: int = 0, perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, weight_of: WeightOf = own_weight,
    callback: Callback | None = None, begin: Begin | None = None,
) -> Rectifier:  # fmt: skip
    """Stage 1: the rectified prediction is to be the picture, on the states of stored trajectories and on those of its own runs.

    Half of the steps take a stored state at a random level. The other half walk down runs of the rectified model itself, from inversions
    in fewer steps as well: there the states are off the stored trajectory, and a rectifier that has seen only that one lets them drift
    further at every step. The error counts relative to the root of the plain one at that level; as it is, the noisy levels, where it is
    a thousand times as large, would be all that counts.

    Args:
        model: frozen.
        net: the network inside of it.
        path: of the training pictures, on a fine grid (50 steps in the paper).
        rectifier: what is trained.
        steps: of the optimiser (Adam).
        batch: states at a time.
        lr: learning rate at the start; it falls to 0 along a cosine.
        seed: of the order of states.
        perceptual: a further distance `[b]` of two pictures, such as LPIPS, weighted 0.8; None for none.
        weight_of: see :func:`core.networks.rectifier.rectified`.
        callback, begin: as in :func:`core.train.asyrp.train_asyrp`.

    Returns:
        The rectifier, frozen.

    Raises:
        ValueError: another model's trajectory, or a rectifier for another network.
        RuntimeError: the loss is not finite.
    """
    path.check_model(model.fingerprint)
    few = slice(0, _PROBES)
    with torch.no_grad():
        plain = [
            float(F.mse_loss(model(x[few], x.new_full((len(x[few]),), s)), path.x0[few])) + _FLOOR
            for x, s in zip(path.states[:-1], path.sigmas[:-1].tolist(), strict=True)
        ]

    own = _OwnRuns(model, path, batch, seed)

    def loss_of(i: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        x = path.states[i][rows]
        walked = own.turn()
        if walked is not None:
            i, rows, x = walked
        x0 = path.x0[rows]
        shown = predicted(model, net, rectifier, x, x0, float(path.sigmas[i]), weight_of)
        own.step(shown.detach())
        loss = F.mse_loss(shown, x0) / plain[i] ** 0.5
        return (loss if perceptual is None else loss + 0.8 * perceptual(shown, x0).mean()), shown

    return _run(path, rectifier, range(len(path.sigmas) - 1), loss_of, steps, batch, lr, seed, callback, begin)


def train_edit(
    model: Denoiser, net: nn.Module, path: Trajectory, rectifier: Rectifier, embedder: Embedder, source: str, target: str, *,
    sigma_start: float, steps: int = 500, batch: int = 4, lr: float = 1e-4, clip_weight: float = 3.0, l1_weight: float = 1.0, seed: int = 0,
    markov: bool = False, grid: int = 6, decode: Callable[[Tensor], Tensor] | None = None, weight_of: WeightOf = own_weight,
    callback: Callback | None = None, begin: Begin | None = None,
) -> Rectifier:  # fmt: skip
    """Stage 2: a copy of the rectifier of stage 1 learns an edit, every step from the **original** trajectory.

    Args:
        model, net, path, batch, lr, seed, weight_of, callback, begin: as in :func:`train_reconstruction`.
        rectifier: of stage 1; it stays as it is.
        embedder: of pictures and prompts.
        source, target: what the pictures show, and what they are to show.
        sigma_start: noisiest level of the edit (t0 = 500 in the paper).
        steps: of the optimiser.
        clip_weight, l1_weight: of the directional loss in its log form, and of ``|P - x0|_1``.
        markov: for comparison, walk an edited chain of ``grid`` steps instead, as DiffusionCLIP's efficient way does.
        grid: see ``markov``.
        decode: for models of latents.

    Returns:
        The edited rectifier, frozen.

    Raises:
        ValueError: prompts that say nothing, or no step at or below ``sigma_start``.
        RuntimeError: the loss is not finite.
    """
    path.check_model(model.fingerprint)
    direction, _ = text_direction(embedder, source, target)
    direction = direction.to(path.states.device)
    window = [i for i, s in enumerate(path.sigmas.tolist()[:-1]) if s <= sigma_start * (1 + 1e-5)]
    if not window:
        raise ValueError(f"no step of the trajectory lies at or below sigma_start {sigma_start:g}; raise it")
    edited, decode = copy.deepcopy(rectifier), decode or (lambda x: x)
    with torch.no_grad():
        pictures = torch.cat([decode(x) for x in path.x0.split(batch)])
    picked = torch.linspace(window[0], window[-1], min(grid, len(window))).round().long().tolist()
    chain: dict[str, Tensor] = {}
    counter = [0]

    def loss_of(i: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        n = picked.index(i) if markov else 0
        if markov and n == 0:
            chain["rows"], chain["x"] = rows, path.states[i][rows]
        rows = chain["rows"] if markov else rows
        x, x0 = chain["x"] if markov else path.states[i][rows], path.x0[rows]
        shown = predicted(model, net, edited, x, x0, float(path.sigmas[i]), weight_of)
        if markov and n + 1 < len(picked):
            chain["x"] = edited_step(x, float(path.sigmas[i]), float(path.sigmas[picked[n + 1]]), shown.detach(), shown.detach())
        moved = guided(embedder, decode(shown), pictures[rows], direction, seed * 7919 + counter[0])
        counter[0] += 1
        return clip_weight * moved + l1_weight * F.l1_loss(shown, x0), shown

    return _run(path, edited, picked if markov else window, loss_of, steps, batch, lr, seed, callback, begin, in_turn=markov)


class _OwnRuns:
    """Every other step, the next state of a run of the rectified model, in a random number of steps."""

    def __init__(self, model: Denoiser, path: Trajectory, batch: int, seed: int):
        self.model, self.path, self.batch = model, path, batch
        self.generator, self.odd, self.left = torch.Generator().manual_seed(seed + 1), False, []
        self.x = self.rows = path.states

    def turn(self) -> tuple[int, Tensor, Tensor] | None:
        """Level, pictures and state, or None if it is a stored state's turn."""
        self.odd = not self.odd
        if self.odd:
            return None
        if len(self.left) < _PAIR:
            self._begin()
        return self.left[0], self.rows, self.x

    def step(self, shown: Tensor) -> None:
        """Go on from the prediction that was made of :meth:`turn`."""
        if self.odd:
            return
        now, nxt = (float(self.path.sigmas[i]) for i in self.left[:_PAIR])
        self.x = edited_step(self.x, now, nxt, shown, shown)
        self.left = self.left[1:]

    @torch.no_grad()
    def _begin(self) -> None:
        """Invert some pictures in fewer steps, by plain DDIM."""
        last = len(self.path.sigmas) - 1
        steps = min(last, (6, 10, 20, last)[int(torch.randint(4, (1,), generator=self.generator))])
        self.left = [*torch.linspace(0, last - 1, steps).round().long().unique().tolist(), last]
        count = self.path.states.shape[1]
        self.rows = torch.randint(0, count, (min(self.batch, count),), generator=self.generator).to(self.path.states.device)
        if steps == last:
            self.x = self.path.states[0][self.rows]
            return
        levels = self.path.sigmas[self.left]
        self.x = invert_ddim(self.model, self.path.x0[self.rows], levels, limit=None).noisiest


def predicted(
    model: Denoiser, net: nn.Module, rectifier: Rectifier, x: Tensor, x0: Tensor, sigma: float, weight_of: WeightOf = own_weight
) -> Tensor:
    """Rectified prediction, with a graph to the rectifier."""
    rows = x.new_full((len(x),), sigma)
    with torch.no_grad():
        plain = model(x, rows)
    with rectified(net, rectifier(x0, plain, rows), weight_of):
        return model(x, rows)


def _run(
    path: Trajectory, rectifier: Rectifier, window, loss_of: Callable[[int, Tensor], tuple[Tensor, Tensor]], steps: int, batch: int,
    lr: float, seed: int, callback: Callback | None, begin: Begin | None, in_turn: bool = False,
) -> Rectifier:  # fmt: skip
    count, levels = path.states.shape[1], list(window)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    rectifier.to(path.states.device).requires_grad_(True)
    rectifier.step.requires_grad_(False)
    fit = Fit(rectifier, lr, steps, callback=callback)
    if begin is not None:
        begin(fit)
        fit.rewind(len(levels) if in_turn else 1)
    while fit.i < steps:
        for group in fit.optimiser.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * fit.i / steps))
        g = torch.Generator().manual_seed(seed * 1_000_003 + fit.i)
        rows = torch.randint(0, count, (min(batch, count),), generator=g).to(path.states.device)
        level = levels[fit.i % len(levels)] if in_turn else levels[int(torch.randint(0, len(levels), (1,), generator=g))]
        with torch.enable_grad():
            loss, shown = loss_of(level, rows)
            fit.step(loss, denoised=shown.detach(), sigma=float(path.sigmas[level]), whole=True)
    rectifier.load_state_dict(fit.best)
    return rectifier.requires_grad_(False)
