"""What every way takes at one state until its directions are right."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.denoiser import Denoiser
from core.discover.cost import Live
from core.discover.davidson import Space, leading_directions, rows_to_begin
from core.discover.jacobian import DecoderJacobian, Route
from core.discover.krylov import SolverSettings
from core.discover.mask import output_weights
from core.discover.subspace import orthonormal

from ._solvers import ANGLE, GIVE_UP, SEEDS, TIMED, TOLERANCES, Gram, K, angle, lanczos, propack

Figures = dict[str, Any]

ENGINES = {
    "c": ("block Davidson, decoder, forward mode, 8 a pass", Route(8, "exact", True)),
    "c1": ("the same, 1 a pass", Route(1, "exact", True)),
    "d": ("block Davidson, decoder, differences, 8 a pass", Route(8, "one-sided", True)),
    "d1": ("the same, 1 a pass", Route(1, "one-sided", True)),
    "e": ("differences, stage by stage, 8 a pass", Route(8, "one-sided", False)),
    "e1": ("the same, 1 a pass", Route(1, "one-sided", False)),
}
"""Ways of this pack: text, and how products are made."""


class Clock:
    """Seconds of what runs inside: on a CPU those of this process, on a GPU those that pass."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"

    def __enter__(self) -> Clock:
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._now() - self._began

    def _now(self) -> float:
        if not self._cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class Place:
    """One state, and its right directions.

    Args:
        model: the network.
        x: `[1 c h w]`.
        sigma: its level.
        mask: `[h w]`.
        large: whether the network is too slow for ways that take hundreds of products.

    Attributes:
        weights: of the output, `[m]`.
        exact: an operator in forward mode.
        reference: the right directions `[k d]`.
        vectors, residual: size of their basis and how well they are known.
        unit: seconds of one pass through the whole network.
        stand_in: the operator in small.
        blocks: of the engine, to begin the search for the fewest with.
    """

    def __init__(self, model: Denoiser, x: Tensor, sigma: float, mask: Tensor, large: bool):
        self.large = large
        self._model, self._x, self._rows = model, x, x.new_full((1,), sigma)
        self.device = x.device
        self.weights = output_weights(mask, (x.shape[1], x.shape[2], x.shape[3])).to(x.device)
        self.exact = self.operator(Route(8, "exact", True))
        space = Space(self.exact, self.weights)
        blocks, tol = (16, 1e-3) if large else (40, 1e-5)
        self.reference, self.residual = leading_directions(space, rows_to_begin(space, K), K, blocks=blocks, tol=tol)
        self.vectors, self._most = len(space.q), 1.0
        self._most = self.gain(self.reference)
        self.stand_in = StandIn(torch.linalg.eigvalsh(space.inside).flip(0).clamp_min(0), space.q.shape[1])
        self.unit = self._time_of_a_pass()
        near = (n for n in range(1, GIVE_UP) if angle(self.leading(self.stand_in, n), self.stand_in.reference) < ANGLE)
        self.blocks = max(1, next(near) - (not large))

    def _time_of_a_pass(self) -> float:
        self._model(self._x, self._rows)
        with Clock(self.device) as clock:
            for _ in range(TIMED):
                self._model(self._x, self._rows)
        return clock.seconds / TIMED

    def operator(self, route: Route) -> DecoderJacobian:
        """A fresh operator at this state."""
        return DecoderJacobian(self._model.split(self._x, self._rows), route)

    def whole(self, h: Tensor) -> Tensor:
        """The whole U-Net as a function of h, encoder and all, as every released code runs it."""
        part = self._model.split(self._x, self._rows)
        return (part.smooth or part.decode)(h).reshape(-1)

    def leading(self, J: Any, blocks: int, tol: float = 0.0) -> Tensor:
        """The directions that the engine finds, `[k d]`."""
        space = Space(J, J.weights if isinstance(J, StandIn) else self.weights)
        return leading_directions(space, rows_to_begin(space, K), K, blocks=blocks, tol=tol)[0]

    def away(self, rows: Tensor) -> float:
        """Angle of what was found to the right directions."""
        return angle(rows, self.reference) if len(rows) == K else 1.0

    def gain(self, rows: Tensor) -> float:
        """Share of the squared gain of the right directions that others have."""
        kept = self.exact.jvp(orthonormal(rows)).double().square() @ self.weights.double()
        return float(kept.sum()) / self._most


class StandIn:
    """The operator of a converged Krylov basis, written in its singular vectors: a diagonal, and zero elsewhere."""

    def __init__(self, values: Tensor, d: int):
        # Directions beyond the basis carry nothing; some of them are kept, so that a random start is as far off as in
        # h-space.
        self.root = torch.cat([values.sqrt(), values.new_zeros(min(d - len(values), 4 * len(values)))])
        self.shape, self.algebra, self.h0 = (len(self.root), len(self.root)), values.device, values
        self.chunk, self.jvps, self.vjps, self.passes, self.weights = 8, 0, 0, 0, torch.ones_like(self.root)
        self.reference = torch.eye(K, len(self.root), dtype=values.dtype, device=values.device)

    def jvp(self, v: Tensor) -> Tensor:
        """Rows."""
        self.jvps, self.passes = self.jvps + len(v), self.passes - (-len(v) // self.chunk)
        return v.to(self.root) * self.root

    def vjp(self, v: Tensor) -> Tensor:
        """Rows."""
        self.vjps, self.passes = self.vjps + len(v), self.passes - (-len(v) // self.chunk)
        return v.to(self.root) * self.root

    def gram(self, v: Tensor) -> Tensor:
        """Rows."""
        return v.to(self.root) * self.root**2


def engine_way(route: Route, place: Place) -> Figures:
    """Figures of this pack, check and set-up included: the fewest blocks that come within the wanted angle.

    Of 8 vectors a pass also where the engine stops by itself; of 1 this alone, as there every vector is a block.
    """
    single = route.chunk == 1
    for blocks in range(SolverSettings().iterations if single else place.blocks, GIVE_UP):
        with Clock(place.device) as clock:
            J = place.operator(route)
            gap = J.check(0, place.weights)
            products, passes = J.products, J.passes
            top = place.leading(J, blocks, ANGLE if single else 0.0)
        if place.away(top) < ANGLE:
            break
    figures = {
        "products": J.products,
        "passes": J.passes,
        "products, check apart": J.products - products,
        "passes, check apart": J.passes - passes,
        "seconds": clock.seconds,
        "MB": _megabytes(place, J),
        "angle": place.away(top),
        "gain": place.gain(top),
        "gap": gap,
        "how": J.summary(),
    }
    return figures if single else figures | _own_stop(route, place)


def _own_stop(route: Route, place: Place) -> Figures:
    J = place.operator(route)
    J.check(0, place.weights)
    top = place.leading(J, SolverSettings().iterations, SolverSettings().tol)
    return {"own products": J.products, "own angle": place.away(top), "own gain": place.gain(top)}


def _megabytes(place: Place, like: DecoderJacobian) -> float:
    """What set-up and a pass of each kind take, with as many vectors as the engine puts into it."""
    chunk = like.route.chunk or 1
    with Live() as live:
        J = place.operator(like.route)
        J.step = like.step
        J.jvp(torch.ones(chunk, J.shape[1]))
        J.vjp(torch.ones(chunk, J.shape[0]))
        return live.peak / 1e6


def papers_way(
    make: Callable[..., Gram], run: Callable[..., tuple[int, Tensor]], products: int, passes: int, place: Place
) -> Figures:
    """Figures of a way of the papers, of so many products and passes a step."""
    h0 = place.exact.h0
    gram = make(place.whole, h0, place.weights)
    clock, calls = Clock(place.device), [0.0, 0]

    def timed(v: Tensor) -> Tensor:
        with clock:
            out = gram(v)
        calls[0], calls[1] = calls[0] + clock.seconds, calls[1] + 1
        return out

    small = place.stand_in
    counted = sum(run(small.gram, small.shape[1], small.reference, seed)[0] for seed in range(SEEDS)) / SEEDS
    v = torch.randn(products // 2, h0.numel(), generator=torch.Generator().manual_seed(0)).to(h0)
    with Live() as live:
        gram(v / v.norm(dim=1, keepdim=True))
    if place.large:
        for _ in range(TIMED):
            v = timed(v / v.norm(dim=1, keepdim=True))
        steps, away = counted, ANGLE
    else:
        steps, vectors = run(timed, h0.numel(), place.reference)
        away = place.away(vectors)
    return {
        "products": products * steps,
        "passes": passes * steps,
        "seconds": calls[0] / calls[1] * steps,
        "MB": live.peak / 1e6,
        "angle": away,
        "steps counted on the stand-in": counted,
        "steps": steps,
    }


def propack_way(route: Route, place: Place) -> Figures:
    """Figures of PROPACK, at the loosest tolerance that comes within the wanted angle."""
    small = place.stand_in
    loose = (t for t in TOLERANCES if angle(propack(small, small.weights, t), small.reference) < ANGLE)
    begin = TOLERANCES.index(next(loose)) if place.large else 0
    for tol in TOLERANCES[begin:]:
        with Clock(place.device) as clock:
            J = place.operator(route)
            if route.forward != "exact":
                J.check(0, place.weights)
            top = propack(J, place.weights, tol)
        if place.away(top) < ANGLE:
            break
    return {
        "products": J.products,
        "passes": J.passes,
        "seconds": clock.seconds,
        "MB": _megabytes(place, J),
        "angle": place.away(top),
        "gain": place.gain(top),
        "tolerance": tol,
    }


def least_products(place: Place) -> Figures:
    """Figures of Lanczos with single vectors, which needs the fewest products there can be."""
    J = place.stand_in if place.large else place.operator(Route(8, "exact", True))
    J.jvps = J.vjps = J.passes = 0
    seeds = range(SEEDS if place.large else 1)
    of = place.stand_in if place.large else place
    away = max(lanczos(J, of.weights, of.reference, seed) for seed in seeds)
    products, passes = (J.jvps + J.vjps) / len(seeds), J.passes / len(seeds)
    return {
        "products": products,
        "passes": passes,
        "products, check apart": products,
        "passes, check apart": passes,
        "angle": away,
    }
