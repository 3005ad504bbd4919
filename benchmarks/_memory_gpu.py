"""What passes of the engine take on a GPU, beside what is counted: ``python -m benchmarks.memory --device cuda``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks._host import sd15
from benchmarks._report import bar, write
from core.denoiser import Denoiser
from core.discover.cost import Live
from core.discover.jacobian import DecoderJacobian, Route

from ._engine import Clock

CHUNKS = (1, 2, 4, 8, 16)
_LEVEL, _MB = 3.4, 1e6


class Peak:
    """The most that the allocator of a GPU handed out inside, beyond what it had before, in bytes; 0 elsewhere."""

    def __init__(self, device: torch.device):
        self._on = device.type == "cuda"
        self.most = 0

    def __enter__(self) -> Peak:
        if self._on:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            self.most = torch.cuda.max_memory_allocated() - self._before


def look(model: Denoiser, x: Tensor) -> dict[str, Any]:
    """Passes of so many vectors, and the gap of the adjoint identity while the host allows TF32."""
    part = model.split(x, x.new_full((1,), _LEVEL))
    return {"rows": [row for n in CHUNKS for row in passes(part, n)], "gap": gap_beside_tf32(part)}


def passes(part: Any, n: int) -> list[dict[str, Any]]:
    """A forward and a reverse pass of ``n`` vectors: time, memory that it took, and memory that is counted."""
    J = DecoderJacobian(part, Route(n, "one-sided", False))
    J.check()
    rows = []
    for name, width in (("jvp", J.shape[1]), ("vjp", J.shape[0])):
        vectors = torch.ones(n, width, device=J.h0.device)
        product = getattr(J, name)
        product(vectors)
        with Peak(J.h0.device) as real, Clock(J.h0.device) as clock:
            product(vectors)
        with Live([vectors]) as live:
            product(vectors)
        rows.append(
            {
                "product": name,
                "vectors": n,
                "ms a vector": round(1000 * clock.seconds / n, 2),
                "MB": round(real.most / _MB, 1),
                "MB counted": round(live.peak / _MB, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def gap_beside_tf32(part: Any) -> float:
    """Of the adjoint identity where the host lets convolutions and products of matrices run in TF32."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = True
        return DecoderJacobian(part, Route(8, "one-sided", False)).check()
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def run(side: int = 64) -> None:
    """Measure Stable Diffusion 1.5 on latents of ``side`` and write ``memory_gpu.json``."""
    (found,) = sd15(torch.device("cuda"), side, look)
    shares = [row["MB"] / row["MB counted"] for row in found["rows"]]
    write(
        "memory_gpu",
        {"rows": found["rows"], "pixels": 8 * side},
        [
            bar("largest peak that was taken / counted", max(shares), "<=", 1.15),
            bar("gap of the adjoint identity while the host allows TF32", found["gap"], "<=", 3e-3),
        ],
    )
