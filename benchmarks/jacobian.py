"""Time, products and memory until the top five directions of a region are right. ``python dev.py bench jacobian``.

In one process, on the same model, state and mask: (a) the way of the released codes, single-vector power iteration
through the whole U-Net with double backward; (b) block subspace iteration through the whole U-Net (Park et al. 2023);
(c) this pack's block Davidson on the decoder half. Each runs until its five vectors span the converged subspace to an
angle of 1e-2.

The embedded model runs all of it, on eight states. On the large ones a converged Krylov basis is the stand-in on which
the steps of (a), (b) and of Lanczos are counted; the time of a step is measured on the model, and (c) runs on the
model. Column ``steps`` says which.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks._faces import held_out, karras, masks, models
from benchmarks._host import sd15
from benchmarks._report import bar, write
from core.discover.davidson import Space, leading_directions, rows_to_begin
from core.discover.jacobian import DecoderJacobian, Route
from core.discover.krylov import SolverSettings, block_krylov
from core.discover.mask import output_weights
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

from ._solvers import (
    ANGLE,
    GIVE_UP,
    SEEDS,
    TIMED,
    K,
    angle,
    double_backward,
    forward_mode,
    lanczos,
    one_by_one,
    together,
)

MODELS = ("embedded", "celebahq", "sd15")


State = tuple[object, Tensor, float, Tensor]
"""Model, x, sigma, mask."""

Operator = Callable[[], DecoderJacobian]


def embedded(device: torch.device) -> Iterator[State]:
    """The face model at the states where its workflow looks: four faces, mouth and eyes."""
    model, _ = models()
    factors, images = held_out(4)
    trajectory = invert_fixed_point(model, images, karras(18, 20.0))
    step = trajectory.nearest(1.6)
    model.net.to(device)
    for i in range(len(images)):
        for region in ("mouth", "eyes"):
            yield (
                model,
                trajectory.states[step][i : i + 1].to(device),
                float(trajectory.sigmas[step]),
                masks(factors, (region,))[region][i],
            )


def celebahq(device: torch.device, side: int) -> Iterator[State]:
    """google/ddpm-celebahq-256's configuration, 114 M parameters, with random weights, on noise."""
    torch.manual_seed(0)
    config = DDPMConfig(3, 3, (128, 128, 256, 256, 512, 512), 2, (False, False, False, False, True, False))
    net = DDPMUNet(config).to(device).eval().requires_grad_(False)
    x = 3.5 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    yield VPDenoiser(net, Schedule("linear"), "eps"), x.to(device), 3.4, mouth_box(side)


def mouth_box(side: int) -> Tensor:
    """The mouth of the released RBE code, `[side side]`."""
    mask = torch.zeros(side, side)
    mask[side * 175 // 256 : side * 200 // 256, side * 95 // 256 : side * 160 // 256] = 1
    return mask


class Meter:
    """Wall clock and peak memory (of the GPU, or of the process above where it began) of what runs inside."""

    def __init__(self, device: torch.device):
        self.device = device

    def __enter__(self) -> Meter:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated()
        else:
            self.base, self.peak, self.on = _resident(), 0, True
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        self.started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.started
            self.megabytes = (torch.cuda.max_memory_allocated() - self.base) / 1e6
            return
        self.seconds = time.perf_counter() - self.started
        self.on = False
        self.thread.join()
        self.megabytes = max(self.peak - self.base, 0) / 1e6

    def _watch(self) -> None:
        while self.on:
            self.peak = max(self.peak, _resident())
            time.sleep(0.01)


def _resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ours(J, weights: Tensor, blocks: int) -> Tensor:
    """(c) Stage 1 of the pack's engine, stopped after so many blocks."""
    space = Space(J, weights)
    return leading_directions(space, rows_to_begin(space, K, seed=0), K, blocks=blocks, tol=0)[0]


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


def decoder_way(operator: Operator, weights: Tensor, stand_in: StandIn, reference: Tensor, large: bool) -> dict:
    """Figures of (c): the fewest blocks that come within the wanted angle; on large models the stand-in tells where
    to begin."""
    blocks = (
        next(n for n in range(1, GIVE_UP) if angle(ours(stand_in, stand_in.weights, n), stand_in.reference) < ANGLE)
        if large
        else 1
    )
    for n in range(blocks, GIVE_UP):
        with Meter(weights.device) as meter:
            J = operator()
            top = ours(J, weights, n)
        away = angle(top, reference) if len(top) == K else 1.0
        if away < ANGLE:
            break
    return {
        "products": J.products,
        "passes": J.passes,
        "seconds": meter.seconds,
        "MB": meter.megabytes,
        "angle": away,
    }


def least_products(operator: Operator, weights: Tensor, stand_in: StandIn, reference: Tensor, large: bool) -> dict:
    """Figures of Lanczos with single vectors, which needs the fewest products there can be."""
    J = stand_in if large else operator()
    J.jvps = J.vjps = J.passes = 0
    seeds = range(SEEDS if large else 1)
    away = max(
        lanczos(J, stand_in.weights if large else weights, stand_in.reference if large else reference, seed)
        for seed in seeds
    )
    return {"products": (J.jvps + J.vjps) / len(seeds), "passes": J.passes / len(seeds), "angle": away}


def one_state(model, x: Tensor, sigma: float, mask: Tensor, device: torch.device, large: bool) -> dict[str, dict]:
    """Figures of each way at one state."""
    weights, rows = output_weights(mask, tuple(x.shape[1:])).to(device), x.new_full((1,), sigma)

    def operator() -> DecoderJacobian:
        return DecoderJacobian(model.split(x, rows), Route(8 if device.type == "cpu" else None, "exact"))

    def f(h: Tensor) -> Tensor:
        """The whole U-Net, encoder and all, as every released code runs it."""
        part = model.split(x, rows)
        return (part.smooth or part.decode)(h).reshape(-1)

    exact = block_krylov(
        operator(), weights, SolverSettings(k=K, iterations=16 if large else 40, widen=0, tol=1e-3 if large else 1e-4)
    )
    values, turn = torch.linalg.eigh(exact.gram()[0])
    reference = turn.flip(1)[:, :K].T @ exact.q
    stand_in = StandIn(values.flip(0).clamp_min(0), exact.q.shape[1])
    h0 = model.split(x, rows).h.detach()
    print(f"reference: {len(exact.q)} vectors, residual {exact.residual:.1e}", flush=True)
    model(x, rows)
    with Meter(device) as forward:
        for _ in range(TIMED):
            model(x, rows)
    unit, found = forward.seconds / TIMED, {}
    # (a) and (b)
    for way, make, run, products, passes in (
        ("a", double_backward, one_by_one, 2, 2),
        ("b", forward_mode, together, 2 * K, 1 + K),
    ):
        gram, peak, seconds, calls = make(f, h0, weights), [0.0], [0.0], [0]

        def metered(v: Tensor, gram=gram, peak=peak, seconds=seconds, calls=calls) -> Tensor:
            with Meter(device) as meter:
                out = gram(v)
            peak[0], seconds[0], calls[0] = max(peak[0], meter.megabytes), seconds[0] + meter.seconds, calls[0] + 1
            return out

        counted = (
            sum(run(stand_in.gram, stand_in.shape[1], stand_in.reference, seed)[0] for seed in range(SEEDS)) / SEEDS
        )
        if large:
            v = torch.randn(products // 2, h0.numel(), generator=torch.Generator().manual_seed(0))
            for _ in range(TIMED):
                v = metered(v / v.norm(dim=1, keepdim=True)).cpu()
            steps, away = counted, ANGLE
        else:
            steps, vectors = run(metered, h0.numel(), reference)
            away = angle(vectors, reference)
        found[way] = {
            "products": products * steps,
            "passes": passes * steps,
            "seconds": seconds[0] / calls[0] * steps,
            "MB": peak[0],
            "angle": away,
            "steps counted on the stand-in": counted,
            "steps": steps,
        }
        print(way, found[way], flush=True)
    found["c"] = decoder_way(operator, weights, stand_in, reference, large)
    found["Lanczos"] = least_products(operator, weights, stand_in, reference, large)
    for way in "abc":
        found[way]["U-Net forwards"] = found[way]["seconds"] / unit
        found[way]["times (c)"] = found[way]["seconds"] / found["c"]["seconds"]
    found["reference"] = {"residual": exact.residual, "vectors": len(exact.q), "forward, seconds": unit}
    print(found, flush=True)
    return found


WAYS = {"a": "power iteration, whole U-Net", "b": "subspace iteration, whole U-Net", "c": "block Davidson, decoder"}


def measure(name: str, device: torch.device, side: int) -> tuple[list[dict], list[dict], list[dict]]:
    """Rows of the table, bars, and the raw figures of every state."""
    if name == "sd15":
        raw = sd15(device, side // 8, lambda model, x: one_state(model, x, 3.4, mouth_box(side // 8), device, True))
    else:
        states = embedded(device) if name == "embedded" else celebahq(device, side)
        raw = [one_state(*state, device, name != "embedded") for state in states]
    label = name if name == "embedded" else f"{name}, {side} px"

    def mean(way: str, key: str) -> float:
        return sum(r[way][key] for r in raw) / len(raw)

    keys = ("products", "passes", "seconds", "U-Net forwards", "times (c)", "MB")
    rows = [
        {
            "model": label,
            "way": f"{way}: {text}",
            **{k: round(mean(way, k), 1) for k in keys},
            "angle": round(mean(way, "angle"), 4),
            "steps": "run" if name == "embedded" or way == "c" else "counted",
        }
        for way, text in WAYS.items()
    ]
    least = [{key: r["c"][key] / r["Lanczos"][key] for key in ("products", "passes")} for r in raw]
    bars = [
        bar(f"{label}: time of the released way / ours", mean("a", "times (c)"), ">=", 10),
        bar(f"{label}: time of subspace iteration / ours", mean("b", "times (c)"), ">=", 5),
        bar(
            f"{label}: products / those of single-vector Lanczos",
            sum(r["products"] for r in least) / len(least),
            "<=",
            2,
        ),
        bar(
            f"{label}: passes / those of single-vector Lanczos",
            sum(r["passes"] for r in least) / len(least),
            "<=",
            1 / 3,
        ),
    ]
    return rows, bars, raw


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pixels", type=int, help="picture size of the large models: 256 on a GPU, 128 on a CPU")
    a = parser.parse_args()
    torch.set_grad_enabled(False)
    device, rows, bars, raw = torch.device(a.device), [], [], {}
    for name in a.models:
        more_rows, more_bars, raw[name] = measure(name, device, a.pixels or (256 if a.device == "cuda" else 128))
        rows, bars = rows + more_rows, bars + more_bars
    write(
        "jacobian_gpu" if a.device == "cuda" else "jacobian",
        {"rows": rows, "k": K, "wanted angle": ANGLE, "raw": raw},
        bars,
    )


if __name__ == "__main__":
    main()
