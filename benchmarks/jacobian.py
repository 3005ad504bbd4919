"""Time, products and memory until the top five directions of a region are right. ``python dev.py bench jacobian``.

In one process, on the same model, state and mask: (a) the way of the released codes, single-vector power iteration through the whole
U-Net with double backward; (b) block subspace iteration through the whole U-Net (Park et al. 2023); (c) this pack's block Krylov on
the decoder half. Each runs until its five vectors span the converged subspace to an angle of 1e-2.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from benchmarks._faces import held_out, karras, masks, models
from benchmarks._report import bar, write
from core.discover.jacobian import DecoderJacobian
from core.discover.krylov import KrylovBasis, block_krylov
from core.discover.mask import output_weights
from core.discover.subspace import orthonormal
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

K, ANGLE, GIVE_UP = 5, 1e-2, 400
MODELS = ("embedded", "celebahq")


def embedded(device: torch.device):
    """The face model at the state where its workflow looks: model, x, sigma, mask."""
    model, _ = models()
    factors, images = held_out(1)
    path = invert_fixed_point(model, images, karras(18, 20.0))
    step = path.nearest(1.6)
    model.net.to(device)
    return model, path.states[step].to(device), float(path.sigmas[step]), masks(factors, ("mouth",))["mouth"][0]


def celebahq(device: torch.device):
    """google/ddpm-celebahq-256's configuration, 114 M parameters, with random weights, on noise."""
    torch.manual_seed(0)
    config = DDPMConfig(3, 3, (128, 128, 256, 256, 512, 512), 2, (False, False, False, False, True, False))
    net = DDPMUNet(config).to(device).eval().requires_grad_(False)
    x = 3.5 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(256, 256)
    mask[175:200, 95:160] = 1  # the mouth box of the released RBE code
    return VPDenoiser(net, Schedule("linear"), "eps"), x.to(device), 3.4, mask


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


def angle(rows: Tensor, reference: Tensor) -> float:
    """Sine of the largest angle between the spans of ``rows`` and ``reference``."""
    q = orthonormal(rows.to(reference))
    return float(torch.linalg.matrix_norm(reference - (reference @ q.T) @ q, 2))


def whole(model, x: Tensor, sigma: float) -> Callable[[Tensor], Tensor]:
    """h -> flattened picture by running the whole U-Net, as every released code does."""
    rows = x.new_full((1,), sigma)
    return lambda h: model.split(x, rows).decode(h).reshape(-1)


def released(model, x: Tensor, sigma: float, weights: Tensor, reference: Tensor, device: torch.device) -> dict:
    """(a) One vector after the other, deflated (the released deflation is commented out and never converges beyond the first)."""
    f, root = whole(model, x, sigma), weights.sqrt()
    h0 = model.split(x, x.new_full((1,), sigma)).h.detach()
    found: list[Tensor] = []
    products, seconds, peak, g = 0, 0.0, 0.0, torch.Generator().manual_seed(0)
    for i in range(len(reference)):
        v = torch.randn(h0.numel(), generator=g).to(h0)
        for _ in range(GIVE_UP):
            with Meter(device) as meter:
                if found:
                    basis = torch.stack(found)
                    v = v - basis.T @ (basis @ v)
                v = (v / v.norm()).detach()
                # J v by double backward, then J^T, each from scratch.
                h = h0.clone().requires_grad_(True)
                with torch.enable_grad():
                    y = f(h) * root
                    dummy = torch.zeros_like(y, requires_grad=True)
                    (pulled,) = torch.autograd.grad(y, h, dummy, create_graph=True)
                    (w,) = torch.autograd.grad(pulled, dummy, v.view_as(pulled))
                    y = f(h) * root
                    (back,) = torch.autograd.grad(y, h, w.detach())
                v = back.reshape(-1)
            products, seconds, peak = products + 2, seconds + meter.seconds, max(peak, meter.megabytes)
            unit = v / v.norm()
            # Its own vector is right when it lies in the span of the first i + 1; the last one settles the subspace.
            if angle(torch.stack([*found, unit]), reference[: i + 1]) < ANGLE:
                break
        found.append(v / v.norm())
    return {"products": products, "passes": products, "seconds": seconds, "MB": peak, "angle": angle(torch.stack(found), reference)}


def park(model, x: Tensor, sigma: float, weights: Tensor, reference: Tensor, device: torch.device) -> dict:
    """(b) A block of k, forward mode in one chunk, k backward passes, QR."""
    f = whole(model, x, sigma)
    h0 = model.split(x, x.new_full((1,), sigma)).h.detach()
    v = orthonormal(torch.randn(K, h0.numel(), generator=torch.Generator().manual_seed(0))).to(h0)
    products, passes, seconds, peak = 0, 0, 0.0, 0.0
    for _ in range(GIVE_UP):
        with Meter(device) as meter:
            y = vmap(lambda row: jvp(f, (h0,), (row.view_as(h0),))[1])(v)
            pull = vjp(f, h0)[1]
            w = torch.stack([pull(row)[0].reshape(-1) for row in y * weights])
            v = orthonormal(w).to(h0)
        products, passes, seconds, peak = products + 2 * K, passes + 1 + K, seconds + meter.seconds, max(peak, meter.megabytes)
        if angle(v, reference) < ANGLE:
            break
    return {"products": products, "passes": passes, "seconds": seconds, "MB": peak, "angle": angle(v, reference)}


def krylov(model, x: Tensor, sigma: float, weights: Tensor, reference: Tensor, device: torch.device, width: int | None = None) -> dict:
    """(c) Block Krylov on the decoder half; ``width`` 1 is single-vector Lanczos, the least products there can be."""
    for blocks in range(1, GIVE_UP):
        with Meter(device) as meter:
            J = DecoderJacobian(model.split(x, x.new_full((1,), sigma)))
            if width is None:
                basis = block_krylov(J, weights, K, blocks=blocks, widen=0, tol=0)
            else:
                basis = _lanczos(J, weights, blocks)
            top = torch.linalg.eigh(basis.gram()[0])[1].flip(1)[:, :K].T @ basis.q
        if len(top) == K and angle(top, reference) < ANGLE:
            break
    return {"products": J.products, "passes": J.passes, "seconds": meter.seconds, "MB": meter.megabytes, "angle": angle(top, reference)}


def _lanczos(J: DecoderJacobian, weights: Tensor, steps: int):
    """Single-vector Lanczos with full reorthogonalisation."""
    q = orthonormal(torch.randn(1, J.shape[1], generator=torch.Generator().manual_seed(0)).to(J.algebra))
    b = J.jvp(q)
    for _ in range(steps + K):
        new = orthonormal(J.vjp(b[-1:] * weights), q)
        if not len(new):
            break
        q, b = torch.cat([q, new]), torch.cat([b, J.jvp(new)])
    return KrylovBasis(q, b, weights, len(q), 1.0, (), None, J.products, J.passes)


def measure(name: str, device: torch.device) -> tuple[list[dict], dict]:
    """Rows of one model, and its ratios."""
    model, x, sigma, mask = {"embedded": embedded, "celebahq": celebahq}[name](device)
    weights = output_weights(mask, tuple(x.shape[1:])).to(device)
    J = DecoderJacobian(model.split(x, x.new_full((1,), sigma)))
    exact = block_krylov(J, weights, K, blocks=40, widen=0, tol=1e-5)
    reference = torch.linalg.eigh(exact.gram()[0])[1].flip(1)[:, :K].T @ exact.q
    rows = x.new_full((1,), sigma)
    with torch.no_grad():
        model(x, rows)
        with Meter(device) as forward:
            for _ in range(5):
                model(x, rows)
    unit = forward.seconds / 5
    found = {}
    for way, run in (
        ("c: block Krylov, decoder", krylov),
        ("b: subspace iteration, whole U-Net", park),
        ("a: power iteration, whole U-Net", released),
    ):
        found[way[0]] = {"model": name, "way": way, **run(model, x, sigma, weights, reference, device)}
        print(found[way[0]], flush=True)
    least = krylov(model, x, sigma, weights, reference, device, width=1)
    for row in found.values():
        row["U-Net forwards"] = row["seconds"] / unit
        row["times (c)"] = row["seconds"] / found["c"]["seconds"]
    figures = {"residual of the reference": exact.residual, "single-vector Lanczos": least, "forward, seconds": unit}
    return [found[key] for key in "abc"], figures


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["embedded"])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    a = parser.parse_args()
    torch.set_grad_enabled(False)
    device, rows, facts, bars = torch.device(a.device), [], {}, []
    for name in a.models:
        found, facts[name] = measure(name, device)
        rows += found
        released_way, park_way, ours = found
        least = facts[name]["single-vector Lanczos"]
        bars += [
            bar(f"{name}: time of the released way / ours", released_way["times (c)"], ">=", 10),
            bar(f"{name}: time of subspace iteration / ours", park_way["times (c)"], ">=", 5),
            bar(f"{name}: products / those of single-vector Lanczos", ours["products"] / least["products"], "<=", 2),
            bar(f"{name}: passes / those of single-vector Lanczos", ours["passes"] / least["passes"], "<=", 1 / 3),
        ]
    rounded = [{k: round(v, 4 if k == "angle" else 1) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    write("jacobian_gpu" if a.device == "cuda" else "jacobian", {"rows": rounded, "k": K, "wanted angle": ANGLE, **facts}, bars)


if __name__ == "__main__":
    main()
