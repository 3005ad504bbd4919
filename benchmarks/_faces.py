"""What the benchmarks of the face world share: held-out faces, the grid, model and regressor."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from core.faces.factors import Factors, sample
from core.faces.regions import region_mask
from core.faces.regressor import load_regressor
from core.faces.render import render
from core.files.checkpoint import load_denoiser
from core.schedule import karras
from core.weights_folder import weights_folder

__all__ = ["each_face", "held_out", "karras", "masks", "models"]
WEIGHTS = weights_folder()


def models():
    """The embedded model and the regressor."""
    return load_denoiser(f"{WEIGHTS}/face_model.safetensors"), load_regressor(f"{WEIGHTS}/face_regressor.safetensors")


def held_out(n: int, seed: int = 2026) -> tuple[Factors, Tensor]:
    """``n`` faces that training cannot contain, and their pictures `[n 3 64 64]` in -1..1."""
    factors = sample(n, torch.Generator().manual_seed(seed), held_out=True)
    return factors, render(factors, 64)[0] * 2 - 1


def masks(factors: Factors, regions: tuple[str, ...]) -> dict[str, Tensor]:
    """Exact region masks, name -> `[n 64 64]`."""
    return {r: region_mask(factors, r, 64) for r in regions}


def each_face(measure: Callable[[int, int], dict], about: str | None) -> list[dict]:
    """Run ``measure(index, faces)`` for every face in processes of their own.

    Options: ``--faces``, ``--workers``, and ``--resume FILE``, where every finished face is written at once and from
        where a run that
    was cut off goes on.

    Returns:
        What came back, in order.
    """
    parser = argparse.ArgumentParser(description=str(about).splitlines()[0])
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", type=Path)
    a = parser.parse_args()
    rows: dict[int, dict] = {}
    if a.resume and a.resume.exists():
        rows = dict(json.loads(line) for line in a.resume.read_text().splitlines())
    with ProcessPoolExecutor(a.workers, mp_context=get_context("spawn")) as pool:
        runs = {pool.submit(measure, i, a.faces): i for i in range(a.faces) if i not in rows}
        for done in as_completed(runs):
            rows[runs[done]] = done.result()
            if a.resume:
                with a.resume.open("a") as f:
                    f.write(json.dumps([runs[done], done.result()]) + "\n")
            print(f"{len(rows)}/{a.faces} faces", flush=True)
    return [rows[i] for i in range(a.faces)]
