"""Discovery on Stable Diffusion 1.5 at 512 px, once on a CPU. ``python dev.py bench jacobian_512``.

This pack's engine is run: one-sided differences, reverse products stage by stage, 8 vectors a pass, until it stops by
itself. The other ways are too long (and those that hold whole graphs too large) to be run here. They are counted: their
steps on the spectrum that the run has found, times what a step of theirs takes at 128 px, in forwards of the network
(``jacobian.json``), times the seconds of a forward at 512 px. Column ``steps`` says which. The weights are random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks._host import sd15
from benchmarks._report import bar, read, write
from core.denoiser import Denoiser
from core.discover.cost import Live
from core.discover.davidson import Space, leading_directions, rows_to_begin
from core.discover.jacobian import DecoderJacobian, Route
from core.discover.krylov import SolverSettings
from core.discover.mask import output_weights

from ._engine import Clock, StandIn
from ._solvers import SEEDS, K, lanczos, one_by_one, together
from ._states import mouth_box

SIDE, LEVEL, SMALL = 64, 3.4, "sd15, 128 px"
ROUTE = Route(8, "one-sided", False)


def run_engine(model: Denoiser, x: Tensor) -> dict[str, Any]:
    """What the engine takes, and the spectrum that it has found."""
    sigma = x.new_full((1,), LEVEL)
    model(x, sigma)
    with Clock(x.device) as forward:
        model(x, sigma)
    print(f"a forward: {forward.seconds:.1f} s", flush=True)
    weights = output_weights(mouth_box(SIDE), (x.shape[1], x.shape[2], x.shape[3])).to(x.device)
    settings = SolverSettings()
    with Live() as live, Clock(x.device) as clock:
        J = DecoderJacobian(model.split(x, sigma), ROUTE, lambda state: print(state, flush=True))
        gap = J.check(0, weights)
        space = Space(J, weights)
        begin = rows_to_begin(space, K)
        _, residual = leading_directions(space, begin, K, blocks=settings.iterations, tol=settings.tol)
    return {
        "unit": forward.seconds,
        "seconds": clock.seconds,
        "products": J.products,
        "passes": J.passes,
        "GB": live.peak / 1e9,
        "gap": gap,
        "residual": residual,
        "how": J.summary(),
        "stages": len(J.staged.chain.stages),
        "values": torch.linalg.eigvalsh(space.inside).flip(0).clamp_min(0),
        "d": J.shape[1],
    }


def counted(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The other ways, by their steps on the spectrum."""
    small = StandIn(found["values"], found["d"])
    raw = read("jacobian")["figures"]["raw"][SMALL][0]
    seeds = range(SEEDS)

    def steps(run: Any) -> float:
        return sum(run(small.gram, small.shape[1], small.reference, seed)[0] for seed in seeds) / SEEDS

    def row(way: str, text: str, count: float, each: float, products: float) -> dict[str, Any]:
        forwards = count * each
        return {
            "way": f"{way}: {text}",
            "products": round(products, 1),
            "U-Net forwards": round(forwards, 1),
            "seconds": round(forwards * found["unit"]),
            "steps": "counted",
        }

    powers, blocks = steps(one_by_one), steps(together)
    small.jvps = small.vjps = 0
    lanczos(small, small.weights, small.reference)
    single = small.jvps + small.vjps
    each = {
        way: raw[way]["U-Net forwards"] / raw[way].get("steps", raw[way]["products"]) for way in ("a", "b", "c", "p")
    }
    return [
        row("a", "power iteration, whole U-Net", powers, each["a"], 2 * powers),
        row("b", "subspace iteration, whole U-Net", blocks, each["b"], 2 * K * blocks),
        row("c", "block Davidson, decoder, forward mode, 8 a pass", found["products"], each["c"], found["products"]),
        row("p", "single vectors (Lanczos, as PROPACK), forward mode", single, each["p"], single),
    ]


def main() -> None:
    """Measure and write."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    (found,) = sd15(torch.device("cpu"), SIDE, run_engine)
    own = {
        "way": f"e: differences, {found['stages']} stages, 8 a pass",
        "products": found["products"],
        "U-Net forwards": round(found["seconds"] / found["unit"], 1),
        "seconds": round(found["seconds"]),
        "steps": "run",
        "GB beside the weights": round(found["GB"], 2),
        "angle, estimate": round(found["residual"], 4),
    }
    rows = [own, *counted(found)]
    print(rows, flush=True)
    figures = {"rows": rows, "how": found["how"], "gap": found["gap"], "seconds of a forward": found["unit"]}
    least = min(row["U-Net forwards"] for row in rows[1:])
    write(
        "jacobian_512",
        figures,
        [
            bar("angle to the true directions, the engine's own estimate", found["residual"], "<=", 1e-2),
            bar("gap of the adjoint identity", found["gap"], "<=", 3e-3),
            bar("forwards of the quickest other way, counted / ours, run", least / own["U-Net forwards"], ">=", 1),
        ],
    )


if __name__ == "__main__":
    main()
