"""Whether the engine of today finds what that of the stored figures found. ``python dev.py bench unchanged``.

Faces of ``region_locality`` and of ``method_comparison`` are measured anew and held, each against itself, against the
stored rows of the same faces. Noise is the standard error of the stored mean over so many faces: what other faces would
have changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import method_comparison, region_locality
from benchmarks._report import bar, read, write

FACES = {"region_locality": 12, "method_comparison": 6}
MEASURES: dict[str, Callable[[int, int], dict]] = {
    "region_locality": region_locality.one_face,
    "method_comparison": method_comparison.one_face,
}
ENGINE = ("generalized", "constrained", "mask alone", "RBE code", "LOCO Edit", "pullback")
"""Methods of ``method_comparison`` that ask the engine."""


def numbers_of(name: str, face: dict) -> Iterator[tuple[str, float]]:
    """What is compared of a face, by the name of the figure."""
    if name == "region_locality":
        for region in region_locality.REGIONS:
            found = face.get(region, {})
            for mode in ("none", "constrained", "generalized"):
                if mode in found:
                    yield f"leak, {mode}", found[mode]["leak"]
            if "clean" in found:
                yield "moves its factor cleanly", float(found["clean"])
                yield "the same sense on another face", float(found["transfer"]["same sense"])
        return
    for region in method_comparison.REGIONS:
        for method in ENGINE:
            yield f"leak, {method}", face[region][method]["leak"]
            yield f"identity, {method}", face[region][method]["identity"]


def means(name: str, faces: list[dict]) -> dict[str, list[float]]:
    """The mean of every figure of each face, in their order."""
    found: dict[str, list[float]] = {}
    for face in faces:
        values: dict[str, list[float]] = {}
        for figure, value in numbers_of(name, face):
            values.setdefault(figure, []).append(value)
        for figure, of_face in values.items():
            found.setdefault(figure, []).append(sum(of_face) / len(of_face))
    return found


def rows_of(name: str, anew: list[dict]) -> list[dict[str, Any]]:
    """A line a figure: stored, anew, and how far apart in units of the noise."""
    stored = read(name)
    before, after = means(name, stored["figures"]["raw"][: len(anew)]), means(name, anew)
    rows = []
    for figure, values in before.items():
        old, new = (torch.tensor(of, dtype=torch.float64) for of in (values, after[figure]))
        noise = float(old.std() / len(old) ** 0.5)
        apart = float((new - old).mean())
        rows.append(
            {
                "benchmark": name,
                "figure": figure,
                "faces": len(anew),
                "stored": round(float(old.mean()), 4),
                "anew": round(float(new.mean()), 4),
                "noise": round(noise, 4),
                "apart / noise": round(abs(apart) / max(noise, 1e-4), 2),
                "stored at": stored["commit"],
            }
        )
    return rows


def measured(name: str, count: int, kept: Path) -> list[dict]:
    """The first faces of a benchmark, measured anew; one that was cut off goes on from ``kept``."""
    faces = len(read(name)["figures"]["raw"])
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for index in range(len(rows), count):
        rows.append(json.loads(json.dumps(MEASURES[name](index, faces))))
        with kept.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(f"{name}: {len(rows)}/{count} faces", flush=True)
    return rows[:count]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--resume", type=Path, default=Path("output"), help="folder of the faces that are done")
    for name, count in FACES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=count, help=f"faces, default {count}")
    a = parser.parse_args()
    a.resume.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    rows = [
        row
        for name in FACES
        if getattr(a, name)
        for row in rows_of(name, measured(name, getattr(a, name), a.resume / f"unchanged_{name}.jsonl"))
    ]
    worst = max(rows, key=lambda row: row["apart / noise"])
    write(
        "unchanged",
        {"rows": rows},
        [
            bar(f"most apart, in units of the noise ({worst['figure']})", worst["apart / noise"], "<=", 1),
            bar("figures that are compared", len(rows), ">=", 10),
        ],
    )


if __name__ == "__main__":
    main()
