"""What the engine of derivatives takes in memory, counted without a GPU or weights. ``python dev.py bench memory``.

The host's own U-Nets of Stable Diffusion stand on the ``meta`` device, behind the pack's adapter, and every tensor that
a pass makes is counted until it is let go: forward products by one-sided differences, reverse products stage by stage,
float16 weights, one prompt. The context of CUDA and the basis are not counted. Layer ``x`` is the state itself, where
LOCO Edit looks.

With ``--device cuda`` passes run on a GPU, and ``memory_gpu.json`` says what they took.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks._report import bar, write
from core.chain import Chain
from core.denoiser import Bottleneck
from core.discover.by_differences import Step, differences
from core.discover.cost import Live
from core.discover.jacobian import DecoderJacobian, Route
from devtools.inprocess import host, pack

from . import _memory_gpu

GB = 1e9
VECTORS = (1, 2, 8)
SCORES = 1024  # side of the smallest matrix of attention scores that must never be there
_BASE = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
_NETWORKS: dict[str, dict[str, Any]] = {
    "sd15": {
        **_BASE,
        "num_res_blocks": [2] * 4,
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "num_heads": 8,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    },
    "sdxl": {
        **_BASE,
        "num_res_blocks": [2] * 3,
        "channel_mult": (1, 2, 4),
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "num_head_channels": 64,
        "num_heads": -1,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
}


@dataclass(frozen=True)
class Case:
    """A network at a picture size, the most that it may take in GB with one and with eight vectors a pass, and where h
    is read.
    """

    network: str
    pixels: int
    most: tuple[float, float]
    layer: str = "middle"

    @property
    def name(self) -> str:
        """Of the command line."""
        return f"{self.network}:{self.pixels}" + (":x" if self.layer == "x" else "")


CASES = (
    Case("sd15", 512, (2.5, 3.2)),
    Case("sd15", 768, (3.0, 4.8)),
    Case("sdxl", 768, (6.0, 7.5)),
    Case("sdxl", 1024, (6.5, 9.2)),
    Case("sd15", 512, (2.5, 3.2), "x"),
)


class Counted(Live):
    """Counts, and notes the matrices of attention scores that it meets: among ``tokens`` or more."""

    def __init__(self, known: list[torch.Tensor], tokens: set[int]):
        super().__init__(known)
        self.tokens = tokens
        self.scores: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Call, then look at the shape of what comes out."""
        result = super().__torch_dispatch__(func, types, args, kwargs)
        shape = tuple(result.shape) if isinstance(result, torch.Tensor) else ()
        if len(shape) > 2 and shape[-1] == shape[-2] and shape[-1] in self.tokens:
            self.scores.add(shape)
        return result


def efficient_attention(q, k, v, mask, scale, grouped):
    """The kernel that a GPU takes for float32; on ``meta`` the choice falls on attention written out."""
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, mask, True, scale=scale)[0]


def split(case: Case) -> tuple[torch.nn.Module, Any]:
    """The network on ``meta`` and its bottleneck, as the pack's adapter cuts it."""
    config, side, half = _NETWORKS[case.network], case.pixels // 8, torch.float16
    unet: ModuleType = pack("nodes.host.model.unet")
    attention: ModuleType = pack("nodes.host.model.own_attention")
    fused = attention.as_override(efficient_attention)
    network = import_module("comfy.ldm.modules.diffusionmodules.openaimodel").UNetModel
    operations = import_module("comfy.ops").disable_weight_init
    net = network(**config, dtype=half, device="meta", operations=operations).eval().requires_grad_(False)
    with torch.device("meta"):
        x, t = torch.empty(1, 4, side, side, dtype=half), torch.empty(1)
        context = torch.empty(1, 77, config["context_dim"], dtype=half)
        y = torch.empty(1, 2816, dtype=half) if config.get("num_classes") else None
    options = {"cond_or_uncond": [0], attention.OVERRIDE: fused}
    call = unet._NetworkCall(net, x, t, context, y, None, options, {})
    if case.layer == "x":
        h, stages = unet._whole_network(call, 0)
    else:
        h, stages = unet._split_unet(unet._run_encoder(call, net._forward), case.layer, 0)
    blocks = [lambda h, stage=stage: stage(h, fused) for stage in stages]
    chain = Chain(blocks).then(lambda eps: x.float() - 3.4 * eps)
    return net, Bottleneck(h, chain, case.layer)


def count(case: Case) -> dict[str, Any]:
    """Bytes of weights, of what is held, and of passes of so many vectors; what the engine predicts of them."""
    started = time.perf_counter()
    net, part = split(case)
    weights = list(net.parameters())
    known = [*weights, *held_by(part.decode), part.h]
    sides = [case.pixels // 8 // 2**level for level in range(4)]
    with torch.no_grad(), Counted(known, {side**2 for side in sides if side**2 >= SCORES}) as live:
        J = DecoderJacobian(part, Route(1, keep=False))
        gc.collect()
        figures: dict[str, Any] = {"kept": live.now}
        step = Step("one-sided", 1.0)
        for n in VECTORS:
            for name, shape in (("push", J.h0.shape), ("pull", J.y0.shape)):
                rows = torch.empty(n, *shape, device="meta")
                before = live.mark() - rows.nbytes
                if name == "push":
                    differences(J.staged, rows, step)
                else:
                    J.staged.pull(rows)
                figures[f"{name} {n}"] = live.peak - before
                del rows
    for n in VECTORS[:2]:
        differences(J.staged, torch.empty(n, *J.h0.shape, device="meta"), step, measured=True)
        with torch.no_grad():
            J.staged.pull(torch.empty(n, *J.y0.shape, device="meta"), measured=True)
    figures["predicted 8"] = max(need.of(8) for need in J.staged.needs.values())
    figures["weights"] = sum(p.nbytes for p in weights)
    figures["skips"] = sum(t.nbytes for t in held_by(part.decode))
    figures["scores"] = sorted(live.scores)
    figures["seconds"] = time.perf_counter() - started
    return figures


def held_by(chain: Any) -> list[torch.Tensor]:
    """Skip connections and what else the adapter holds: tensors that the closures of the stages lead to."""
    seen: dict[int, torch.Tensor] = {}
    todo, done = [chain], set()
    while todo:
        value = todo.pop()
        if id(value) in done or isinstance(value, (torch.nn.Module, type, ModuleType, str, int, float)):
            continue
        done.add(id(value))
        if isinstance(value, torch.Tensor):
            seen[value.untyped_storage()._cdata] = value
            continue
        todo += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        todo += [*(getattr(value, "__defaults__", None) or ()), *getattr(value, "args", ())]
        todo += [getattr(value, "func", None), getattr(value, "__self__", None)]
        todo += value if isinstance(value, (list, tuple)) else list(getattr(value, "__dict__", {}).values())
    return list(seen.values())


def row(case: Case, figures: dict[str, Any]) -> dict[str, Any]:
    """A line of the table, in GB."""
    base = figures["weights"] + figures["kept"] + figures["skips"]
    sums = {n: base + max(figures[f"push {n}"], figures[f"pull {n}"]) for n in VECTORS}
    return {
        "model": f"{case.network}, {case.pixels} px" + (", layer x" if case.layer == "x" else ""),
        "weights": round(figures["weights"] / GB, 2),
        "held": round((figures["kept"] + figures["skips"]) / GB, 2),
        "J v, 1": round(figures["push 1"] / GB, 2),
        "J v, 8": round(figures["push 8"] / GB, 2),
        "J^T u, 1": round(figures["pull 1"] / GB, 2),
        "J^T u, 8": round(figures["pull 8"] / GB, 2),
        "sum, chunk 1": round(sums[1] / GB, 2),
        "sum, chunk 8": round(sums[8] / GB, 2),
        "predicted 8": round(figures["predicted 8"] / GB, 2),
    }


def bars(case: Case, line: dict[str, Any], figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What the figures are held against."""
    name = line["model"]
    real = max(figures["push 8"], figures["pull 8"])
    return [
        bar(f"{name}: GB with one vector a pass", line["sum, chunk 1"], "<=", case.most[0]),
        bar(f"{name}: GB with eight vectors a pass", line["sum, chunk 8"], "<=", case.most[1]),
        bar(f"{name}: matrices of {SCORES} scores squared or more", len(figures["scores"]), "==", 0),
        bar(f"{name}: predicted peak of eight / counted", figures["predicted 8"] / real, "<=", 1.15),
        bar(f"{name}: counted peak of eight / predicted", real / figures["predicted 8"], "<=", 1.05),
    ]


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, help="write the bars here instead of into the results")
    a = parser.parse_args()
    torch.set_grad_enabled(False)
    if a.device == "cuda":
        _memory_gpu.run()
        return
    host(True)
    rows, checked, raw = [], [], {}
    for case in CASES:
        if a.cases and case.name not in a.cases:
            continue
        raw[case.name] = figures = count(case)
        rows.append(row(case, figures))
        checked += bars(case, rows[-1], figures)
        print(rows[-1], f"{figures['seconds']:.0f} s", flush=True)
    if a.out is not None:
        a.out.write_text(json.dumps({"rows": rows, "bars": checked}), encoding="utf-8")
    else:
        write("memory", {"rows": rows, "raw": raw}, checked)


if __name__ == "__main__":
    main()
