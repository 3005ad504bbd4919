"""The 4-pixel grid in samples of the embedded model, by sampler. ``python dev.py bench sample_grid``.

The network folds 4 x 4 pixels into channels, and a trace of the blocks stays in what it draws from noise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks._faces import held_out, karras, models
from benchmarks._report import bar, write
from core.denoiser import Denoiser, predict
from core.faces.regressor import Regressor, misfit
from core.invert.fixed_point import invert_fixed_point
from core.measure.pixel_grid import grid_strength
from core.sample import reconstruct, sample_ddim

FACES, BATCH, SEED = 16, 16, 5
Sampler = Callable[[Denoiser, Tensor], Tensor]


def main() -> None:
    """Measure and write."""
    torch.set_grad_enabled(False)
    model, regressor = models()
    top = float(model.schedule.sigmas[-1])
    _, drawn = held_out(FACES)
    path = invert_fixed_point(model, drawn, karras(25, top))
    rebuilt = reconstruct(model, path).rebuilt
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(SEED))
    rows = [row("drawn faces", 0, regressor, drawn), row("inverted, 25 steps", 50, regressor, rebuilt)]
    for name, calls, run in samplers(top):
        made = torch.cat([run(model, part * top) for part in noise.split(BATCH)])
        rows.append(row(name, calls, regressor, made))
        print(rows[-1], flush=True)
    grids = {entry["pictures"]: entry["grid"] for entry in rows}
    write(
        "sample_grid",
        {"rows": rows, "faces": FACES},
        [
            bar("grid of drawn faces", grids["drawn faces"], "<=", 1.1),
            bar("grid of inverted faces over that of drawn ones", grids[INVERTED] / grids["drawn faces"], "<=", 1.1),
            bar(f"grid of samples, {SHIPPED}", grids[SHIPPED], "<=", 1.5),
        ],
    )


INVERTED, SHIPPED = "inverted, 25 steps", "ancestral, 30 steps"


def row(name: str, calls: int, regressor: Regressor, x: Tensor) -> dict[str, str | int | float]:
    """One row of the table: the grid, and how far the pictures are from the nearest face that can be drawn."""
    x = x.clamp(-1, 1)
    return {
        "pictures": name,
        "evaluations": calls,
        "grid": round(float(grid_strength(x).mean()), 2),
        "distance from a drawn face": round(float(misfit(regressor, x / 2 + 0.5).mean()), 4),
    }


def samplers(top: float) -> list[tuple[str, int, Sampler]]:
    """Name, calls and function of every way that is compared."""
    grids = {f"euler, {n} steps": karras(n, top) for n in (10, 20, 25, 50)}
    grids |= {f"euler, 25 steps, last level {low:g}": karras(25, top, low) for low in (0.05, 0.1, 0.2)}
    ways: list[tuple[str, int, Sampler]] = [(name, len(s) - 1, euler(s)) for name, s in grids.items()]
    ways += [(f"ancestral, {n} steps", n, euler(karras(n, top), eta=1.0)) for n in (20, 30, 50)]
    ways += [(f"heun, {n} steps", 2 * n - 1, heun(karras(n, top))) for n in (13, 25)]
    return ways


def euler(sigmas: Tensor, eta: float = 0.0) -> Sampler:
    """The stock *euler* (``eta`` 0) and *euler_ancestral* (``eta`` 1)."""

    def run(model: Denoiser, x: Tensor) -> Tensor:
        return sample_ddim(model, x, sigmas, eta=eta, generator=torch.Generator().manual_seed(SEED))

    return run


def heun(sigmas: Tensor) -> Sampler:
    """The stock *heun*: a step of Euler, and the mean of the slopes at its two ends; the last step is Euler's."""

    def slope(model: Denoiser, x: Tensor, sigma: float) -> Tensor:
        return (x - predict(model, x, x.new_full((len(x),), sigma))) / sigma

    def run(model: Denoiser, x: Tensor) -> Tensor:
        for sigma, nxt in pairwise(sigmas.tolist()):
            first = slope(model, x, sigma)
            guess = x + (nxt - sigma) * first
            mean = (first + slope(model, guess, nxt)) / 2 if nxt else first
            x = x + (nxt - sigma) * mean
        return x

    return run


if __name__ == "__main__":
    main()
