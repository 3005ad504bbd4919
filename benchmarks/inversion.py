"""What a call of the model buys in an inversion: dB of held-out faces, warm and cold. ``python dev.py bench
inversion``.

The flow rows ask the same network in the dialect of flow models, ``s = sigma / (1 + sigma)``, on the same levels. The
rows with a cfg ask the face model with prompts, each face with its own caption.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks._faces import WEIGHTS, held_out, karras, models
from benchmarks._report import bar, write
from core.denoiser import Callback, Denoiser
from core.faces.captions import caption
from core.invert.fixed_point import FixedPointOptions, damping_for, invert_fixed_point
from core.measure.image import psnr
from core.sample import reconstruct
from devtools.inprocess import host, pack

STEPS = (5, 10, 25, 50)
GUIDANCE, GUIDED_STEPS, GUIDED_FACES = (1.0, 3.0, 5.0), 20, 4
REFINEMENTS = (0, 1, 2, 3)
TOP = 20.0
WARM, COLD = FixedPointOptions(), FixedPointOptions(warm=False, extrapolate=False)


@dataclass(frozen=True)
class Flow:
    """A model of sigma space, asked as a flow model is."""

    model: Denoiser
    noising = "flow"

    @property
    def fingerprint(self) -> str:
        """Return that of the model."""
        return self.model.fingerprint

    def __call__(self, z: Tensor, s: Tensor) -> Tensor:
        """Denoise a state ``z = (1 - s) x + s eps``, `[b c h w]`."""
        return self.model(z / (1 - s)[:, None, None, None], s / (1 - s))


def row(model: Denoiser, x: Tensor, grid: Tensor, iterations: int, options: FixedPointOptions) -> dict[str, float]:
    """Invert and come back: calls a step, PSNR in dB (mean and worst)."""
    calls = 0

    def count(_: dict) -> None:
        nonlocal calls
        calls += 1

    callback: Callback = count
    trajectory = invert_fixed_point(model, x, grid, iterations, options=options, callback=callback)
    quality = psnr(reconstruct(model, trajectory).rebuilt, x)
    return {
        "calls a step": round(calls / (len(grid) - 1), 2),
        "mean dB": round(float(quality.mean()), 1),
        "worst dB": round(float(quality.min()), 1),
    }


def guided(work: Callable[[float, Denoiser, Tensor], None]) -> None:
    """Call ``work`` with every cfg, a guided denoiser of one face, and the face `[1 3 64 64]`."""
    host(True)
    model, clip = pack("nodes.host.model.face_text").load_face_text(WEIGHTS / "face_text.safetensors")
    prompts, run = pack("nodes.host.model.prompts"), pack("nodes.host.model.run")
    factors, x = held_out(GUIDED_FACES)
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    with torch.inference_mode():
        for cfg in GUIDANCE:
            for i in range(GUIDED_FACES):
                told = clip.encode_from_tokens_scheduled(clip.tokenize(caption(factors, i)))
                asked = prompts.Prompts(told, empty, cfg)
                run.with_denoiser(
                    model, (1, *x.shape[1:]), asked, lambda net, cfg=cfg, i=i: work(cfg, net, x[i : i + 1])
                )


def guided_rows() -> list[dict]:
    """Measure the rows with a cfg: the mean and the worst of the faces."""
    quality: dict[tuple, list[dict]] = {}

    def measure(cfg: float, net: Denoiser, x: Tensor) -> None:
        for start, options in (("warm", FixedPointOptions(damping=damping_for(cfg))), ("cold", COLD)):
            for iterations in REFINEMENTS:
                figures = row(net, x, karras(GUIDED_STEPS, TOP), iterations, options)
                quality.setdefault((cfg, start, iterations), []).append(figures)

    guided(measure)
    return [
        {
            "model": f"cfg {cfg:g}",
            "steps": GUIDED_STEPS,
            "start": start,
            "refinements": iterations,
            "calls a step": faces[0]["calls a step"],
            "mean dB": round(sum(f["mean dB"] for f in faces) / len(faces), 1),
            "worst dB": min(f["worst dB"] for f in faces),
        }
        for (cfg, start, iterations), faces in quality.items()
    ]


def main() -> None:
    """Run, measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--faces", type=int, default=8)
    faces = parser.parse_args().faces
    model, _ = models()
    _, x = held_out(faces)
    rows = []
    for dialect in ("sigma", "flow"):
        for steps in STEPS:
            grid = karras(steps, TOP)
            asked = model if dialect == "sigma" else Flow(model)
            levels = grid if dialect == "sigma" else grid / (1 + grid)
            for start, options in (("warm", WARM), ("cold", COLD)):
                for iterations in REFINEMENTS:
                    named = {"model": dialect, "steps": steps, "start": start, "refinements": iterations}
                    rows.append(named | row(asked, x, levels, iterations, options))
                    print(rows[-1], flush=True)
    rows += guided_rows()
    by = {(r["model"], r["steps"], r["start"], r["refinements"]): r for r in rows}
    bars = [
        bar("25 steps, 1.04 calls a step, mean dB", by["sigma", 25, "warm", 0]["mean dB"], ">=", 50),
        bar("25 steps, 2.04 calls a step, mean dB", by["sigma", 25, "warm", 1]["mean dB"], ">=", 60),
        bar("10 steps, 1.1 calls a step, mean dB", by["sigma", 10, "warm", 0]["mean dB"], ">=", 37),
        bar("10 steps, 2.1 calls a step, mean dB", by["sigma", 10, "warm", 1]["mean dB"], ">=", 47),
        bar("cfg 3, 20 steps, 3.05 calls a step, mean dB", by["cfg 3", 20, "warm", 2]["mean dB"], ">=", 50),
        bar("cfg 5, 20 steps, 2.05 calls a step, worst dB", by["cfg 5", 20, "warm", 1]["worst dB"], ">=", 35),
        bar("flow, 25 steps, 2.04 calls a step, mean dB", by["flow", 25, "warm", 1]["mean dB"], ">=", 60),
    ]
    write("inversion", {"rows": rows, "faces": faces, "sigma": TOP}, bars)


if __name__ == "__main__":
    main()
