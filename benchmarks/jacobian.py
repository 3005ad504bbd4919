"""Time, products and memory until the top five directions of a region are right. ``python dev.py bench jacobian``.

In one process, on the same model, state and mask: (a) the way of the released codes, single-vector power iteration
through the whole U-Net with double backward; (b) block subspace iteration through the whole U-Net (Park et al. 2023);
this pack's block Davidson on the decoder half, with 8 vectors a pass and with 1, (c) with forward mode, (d) with
one-sided differences of decodes, (e) with these and reverse products stage by stage; (p) PROPACK on the same masked
operator, with forward mode and with differences. Each runs until its five vectors span the converged subspace to an
angle of 1e-2; this pack also until it stops by itself, with 1 vector a pass only so.

The embedded model runs all of it, on eight states. On the large ones a converged Krylov basis is the stand-in on which
the steps of (a), (b) and of Lanczos are counted; the time of a step is measured on the model, and the others run on the
model. Column ``steps`` says which. Times are of one thread, on a CPU its own time, so that a busy machine hardly
matters; memory is that of the tensors, counted.

Figures are written after every way. ``--models`` and ``--ways`` measure a part anew and leave the rest;
``--resume`` measures what is missing of this commit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks._report import bar, commit, read_figures, report, store
from benchmarks._states import MODELS, each_state
from core.denoiser import Denoiser
from core.discover.jacobian import Route

from ._engine import ENGINES, Place, engine_way, least_products, papers_way, propack_way
from ._solvers import ANGLE, K, double_backward, forward_mode, one_by_one, together

Figures = dict[str, Any]

WAYS: Mapping[str, tuple[str, Callable[[Place], Figures]]] = {
    "a": ("power iteration, whole U-Net", partial(papers_way, double_backward, one_by_one, 2, 2)),
    "b": ("subspace iteration, whole U-Net", partial(papers_way, forward_mode, together, 2 * K, 1 + K)),
    **{way: (text, partial(engine_way, route)) for way, (text, route) in ENGINES.items()},
    "p": ("PROPACK, forward mode", partial(propack_way, Route(1, "exact", True))),
    "pd": ("PROPACK, differences", partial(propack_way, Route(1, "one-sided", True))),
    "Lanczos": ("single-vector Lanczos", least_products),
}
_COLUMNS = ("products", "passes", "seconds", "U-Net forwards", "MB")
_COUNTED = ("a", "b")


class Results:
    """Raw figures by model, state and way, kept in the file of the benchmark."""

    def __init__(self, name: str):
        self.name = name
        self.commit = commit()
        self._read()

    def _read(self) -> None:
        self.raw: dict[str, list[Figures]] = read_figures(self.name).get("raw", {})

    def missing(self, label: str, n: int, ways: list[str]) -> list[str]:
        """Those of ``ways`` that were not measured at this commit."""
        known = self._state(label, n)
        return [way for way in ways if known.get(way, {}).get("commit") != self.commit]

    def add(self, label: str, n: int, way: str, figures: Figures) -> None:
        """Note what a way took at a state, and write all that is known; another run may have written meanwhile."""
        self._read()
        self._state(label, n)[way] = {**figures, "commit": self.commit}
        store(self.name, {"rows": self._rows(), "k": K, "wanted angle": ANGLE, "raw": self.raw}, self.bars())

    def _state(self, label: str, n: int) -> Figures:
        states = self.raw.setdefault(label, [])
        states += [{} for _ in range(n + 1 - len(states))]
        return states[n]

    def mean(self, label: str, way: str, key: str) -> float | None:
        """Mean of a figure over the states of a model; None if one lacks it."""
        found = [state.get(way, {}).get(key) for state in self.raw[label]]
        return None if None in found or not found else sum(found) / len(found)

    def _rows(self) -> list[Figures]:
        return [
            self._row(label, way, text)
            for label in self.raw
            for way, (text, _) in WAYS.items()
            if self.mean(label, way, "seconds") is not None
        ]

    def _row(self, label: str, way: str, text: str) -> Figures:
        figures = {key: self.mean(label, way, key) for key in (*_COLUMNS, "angle", "gain")}
        rounded = {key: value if value is None else round(value, 1) for key, value in figures.items()}
        away, gain = figures["angle"], figures["gain"]
        return {
            "model": label,
            "way": f"{way}: {text}",
            **{key: rounded[key] for key in _COLUMNS},
            "angle": "" if away is None else round(away, 4),
            "gain": "" if gain is None else f"{gain:.3%}",
            "steps": "counted" if way in _COUNTED and label != "embedded" else "run",
            "commit": " ".join(sorted({state[way]["commit"] for state in self.raw[label]})),
        }

    def bars(self) -> list[Figures]:
        """What every model is held against; what was not measured is not met."""
        return [one for label in self.raw for one in self._bars(label)]

    def _bars(self, label: str) -> list[Figures]:
        def times(name: str, way: str, other: str, target: float, op: str = ">=", key: str = "U-Net forwards"):
            one, two = self.mean(label, way, key), self.mean(label, other, key)
            return bar(f"{label}: {name}", one / two if one is not None and two else None, op, target)

        embedded = label == "embedded"
        # PROPACK with forward mode: on differences it is a way that only this pack has.
        bars = [
            times("time of the released way / ours (c)", "a", "c", 10),
            times("time of subspace iteration / ours (c)", "b", "c", 5),
            times("time of forward mode (c) / differences (d), 8 a pass", "c", "d", 1.2 if embedded else 1.0),
            times("time of forward mode (c) / differences (d), 1 a pass", "c1", "d1", 2 if embedded else 1.0),
            times("time stage by stage (e) / graph kept (d), 8 a pass", "e", "d", 1.15, "<="),
            times("time of PROPACK / differences (d)", "p", "d", 2.5),
            times("products / those of single-vector Lanczos", "c", "Lanczos", 2, "<=", "products, check apart"),
            times("passes / those of single-vector Lanczos", "c", "Lanczos", 1 / 3, "<=", "passes, check apart"),
            times("products of (d) / (c), stopped by themselves", "d", "c", 1.1, "<=", "own products"),
            bar(f"{label}: largest angle of (d), stopped by itself", self._worst(label, "own angle", max), "<=", ANGLE),
            bar(f"{label}: least gain of (d), stopped by itself", self._worst(label, "own gain", min), ">=", 0.999),
        ]
        if not embedded:
            bars.append(times("memory of differences stage by stage (e) / forward mode (c)", "e", "c", 0.5, "<=", "MB"))
        return bars

    def _worst(self, label: str, key: str, choose: Callable[[list[float]], float]) -> float | None:
        found = [state.get("d", {}).get(key) for state in self.raw[label]]
        return None if None in found or not found else choose(found)


@dataclass(frozen=True)
class Run:
    """What is to be measured of a model.

    Attributes:
        results: where it goes.
        label: the model and its size.
        ways: keys of :data:`WAYS`.
        resume: whether what was measured at this commit stays.
    """

    results: Results
    label: str
    ways: list[str]
    resume: bool

    def look(self, n: int, model: Denoiser, x: Tensor, sigma: float, mask: Tensor) -> None:
        """Measure the ways at state ``n``."""
        wanted = self.results.missing(self.label, n, self.ways) if self.resume else self.ways
        if not wanted:
            return
        place = Place(model, x, sigma, mask, large=self.label != "embedded")
        print(f"{self.label}, state {n}: {place.vectors} vectors, residual {place.residual:.1e}", flush=True)
        for way in wanted:
            figures = WAYS[way][1](place)
            if "seconds" in figures:
                figures["U-Net forwards"] = figures["seconds"] / place.unit
            self.results.add(self.label, n, way, figures)
            print(way, figures, flush=True)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--resume", action="store_true", help="measure only what is missing of this commit")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pixels", type=int, help="picture size of the large models: 256 on a GPU, 128 on a CPU")
    a = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    device, side = torch.device(a.device), a.pixels or (256 if a.device == "cuda" else 128)
    results = Results("jacobian_gpu" if a.device == "cuda" else "jacobian")
    for name in a.models:
        label = name if name == "embedded" else f"{name}, {side} px"
        each_state(name, device, side, Run(results, label, a.ways, a.resume).look)
    report(results.bars())


if __name__ == "__main__":
    main()
