"""Training of the rectifier (Hou et al. 2023, arXiv 2312.15707, section 3): first to rebuild, then to edit from the original trajectory."""

from __future__ import annotations

import copy
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
_FLOOR = 1e-7


def train_reconstruction(
    model: Denoiser, net: nn.Module, path: Trajectory, rectifier: Rectifier, *, steps: int = 1000, batch: int = 4, lr: float = 1e-4,
    seed: int = 0, perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, weight_of: WeightOf = own_weight,
    callback: Callback | None = None, begin: Begin | None = None,
) -> Rectifier:  # fmt: skip
    """Stage 1: every rectified step down is to arrive where the inversion came from, the last one at the picture itself.

    Half of the steps take a stored state at a random level. The other half walk down runs of the rectified model itself, from inversions
    in fewer steps as well: there the states are off the stored trajectory, and a rectifier that has seen only that one lets them drift
    further at every step. The error counts relative to that of the plain step from the same state: steps differ by orders of magnitude.

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
    own = _OwnRuns(model, path, batch, seed)

    def loss_of(fit: Fit, i: int, rows: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        turn = own.turn(fit)
        rows, x, aim, now, nxt = turn or (rows, path.states[i][rows], path.states[i + 1][rows], *path.sigmas[i : i + 2].tolist())
        x0 = path.x0[rows]
        shown, plain = predicted(model, net, rectifier, x, x0, now, weight_of)
        reached, reference = (edited_step(x, now, nxt, d, d) for d in (shown, plain))
        if turn:
            own.walked = reached.detach()
        loss = F.mse_loss(reached, aim) / (F.mse_loss(reference, aim) + _FLOOR)
        return (loss if perceptual is None else loss + 0.8 * perceptual(shown, x0).mean()), shown, own.carry

    return _run(path, rectifier, range(len(path.sigmas) - 1), loss_of, steps, batch, lr, seed, callback, begin)


def train_edit(
    model: Denoiser, net: nn.Module, path: Trajectory, rectifier: Rectifier, embedder: Embedder, source: str, target: str, *,
    sigma_start: float, steps: int = 500, batch: int = 4, lr: float = 1e-4, clip_weight: float = 3.0, l1_weight: float = 1.0,
    blur: float = 0.0, seed: int = 0, markov: bool = False, grid: int = 6, decode: Callable[[Tensor], Tensor] | None = None,
    weight_of: WeightOf = own_weight, callback: Callback | None = None, begin: Begin | None = None,
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
        blur: of the pictures before they are embedded, a share of their side; against fine patterns that only please the embedder.
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

    def loss_of(fit: Fit, i: int, rows: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x, carry = path.states[i][rows], {}
        if fit.carry:  # in the middle of an edited chain
            rows, x = fit.carry["rows"].long(), fit.carry["x"].to(x)
        shown, _ = predicted(model, net, edited, x, path.x0[rows], float(path.sigmas[i]), weight_of)
        if markov and i != picked[-1]:
            nxt = float(path.sigmas[picked[picked.index(i) + 1]])
            carry = {"rows": rows.float(), "x": edited_step(x, float(path.sigmas[i]), nxt, shown.detach(), shown.detach())}
        moved = guided(embedder, decode(shown), pictures[rows], direction, blur)
        return clip_weight * moved + l1_weight * F.l1_loss(shown, path.x0[rows]), shown, carry

    return _run(path, edited, picked if markov else window, loss_of, steps, batch, lr, seed, callback, begin, in_turn=markov)


class _OwnRuns:
    """Every other step, the next one of a run of the rectified model down an inversion in a random number of steps."""

    def __init__(self, model: Denoiser, path: Trajectory, batch: int, seed: int):
        self.model, self.path, self.batch = model, path, batch
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.left: list[tuple[Tensor, float, float]] = []
        self.rows = self.walked = path.states
        self.done = 0

    @property
    def carry(self) -> dict[str, Tensor]:
        """Where a run is that has not come down yet."""
        return {"walked": self.walked} if self.left else {}

    def turn(self, fit: Fit) -> tuple[Tensor, Tensor, Tensor, float, float] | None:
        """Pictures, state, where to arrive, noise level now and next; None if it is a stored state's turn."""
        while self.done < fit.i // 2:  # a resumed run has seen them
            self._begin(fit.i // 2 - self.done)
            self.walked = fit.carry.get("walked", self.walked).to(self.path.states)
        if fit.i % 2 == 0:
            return None
        if not self.left:
            self._begin()
        aim, now, nxt = self.left.pop(0)
        self.done += 1
        return self.rows, self.walked, aim, now, nxt

    @torch.no_grad()
    def _begin(self, seen: int = 0) -> None:
        """Invert some pictures, by plain DDIM, unless all of the run's steps, or more, were ``seen``."""
        last, count = len(self.path.sigmas) - 1, self.path.states.shape[1]
        steps = min(last, (6, 10, 20, last)[int(torch.randint(4, (1,), generator=self.generator))])
        self.rows = torch.randint(0, count, (min(self.batch, count),), generator=self.generator).to(self.path.states.device)
        picked = [*torch.linspace(0, last - 1, steps).round().long().unique().tolist(), last]
        sigmas = self.path.sigmas[picked]
        self.done += min(seen, len(picked) - 1)
        if seen >= len(picked) - 1:
            return
        if steps == last:
            states = self.path.states[:, self.rows]
        else:
            states = invert_ddim(self.model, self.path.x0[self.rows], sigmas, limit=None).states
        self.walked = states[0]
        self.left = [(a, n, m) for a, n, m in zip(states[1:], sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)][seen:]


def predicted(
    model: Denoiser, net: nn.Module, rectifier: Rectifier, x: Tensor, x0: Tensor, sigma: float, weight_of: WeightOf = own_weight
) -> tuple[Tensor, Tensor]:
    """Rectified prediction, with a graph to the rectifier, and the plain one."""
    rows = x.new_full((len(x),), sigma)
    with torch.no_grad():
        plain = model(x, rows)
    with rectified(net, rectifier(x0, plain, rows), weight_of):
        return model(x, rows), plain


def _run(
    path: Trajectory, rectifier: Rectifier, window, loss_of: Callable[[Fit, int, Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]],
    steps: int, batch: int, lr: float, seed: int, callback: Callback | None, begin: Begin | None, in_turn: bool = False,
) -> Rectifier:  # fmt: skip
    count, levels = path.states.shape[1], list(window)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    rectifier.to(path.states.device).requires_grad_(True)
    rectifier.step.requires_grad_(False)
    fit = Fit(rectifier, lr, steps, callback=callback)
    if begin is not None:
        begin(fit)
    while fit.i < steps:
        fit.cool()
        g = torch.Generator().manual_seed(seed * 1_000_003 + fit.i)
        rows = torch.randint(0, count, (min(batch, count),), generator=g).to(path.states.device)
        level = levels[fit.i % len(levels)] if in_turn else levels[int(torch.randint(0, len(levels), (1,), generator=g))]
        with torch.enable_grad():
            loss, shown, carry = loss_of(fit, level, rows)
            fit.step(loss, carry, denoised=shown.detach())
    rectifier.load_state_dict(fit.best)
    return rectifier.requires_grad_(False)
