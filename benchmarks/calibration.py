"""Is dial 1 a clearly visible change for every direction? ``python dev.py bench calibration``.

On held-out faces with exact masks: five directions of four regions each, calibrated on the face, then turned to +1 and
to -1. Beside it what a fixed strength changes, and what the same unit changes on the next face. Twelve steps a picture,
so that 64 faces take an hour on two cores.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks._faces import each_face, held_out, karras, masks, models
from benchmarks._report import bar, write
from core.denoiser import Denoiser
from core.directions import Directions
from core.discover.find import discover
from core.edit.directions.calibrate import CHANGE, calibrate, region_change
from core.edit.directions.dials import Dials, WayBack
from core.edit.directions.shift import Edit
from core.edit_schedule import EditSchedule
from core.faces.factors import Factors
from core.faces.render import render
from core.invert.fixed_point import invert_fixed_point
from core.trajectory import Trajectory

K, STEPS, TOP, SIGMA, WINDOW = 5, 12, 20.0, 1.6, (6.4, 0.1)
REGIONS = ("mouth", "eyes", "hair", "skin")
FIXED = 18.0
"""The strength that people typed before there was a unit."""
WITHIN = 1.3
LEAST = 8.0
"""Pixels; on some faces a region is hidden."""


def region_masks(factors: Factors, index: int) -> dict[str, Tensor]:
    """Masks of one face by region, `[64 64]`; skin is what can be seen of it."""
    one = {name: value[index : index + 1] for name, value in factors.items()}
    reach = masks(one, tuple(r for r in REGIONS if r != "skin"))
    _, parts = render(one, 64, masks=True)
    return {**{region: mask[0] for region, mask in reach.items()}, "skin": parts["skin"][0]}


def turned(model: Denoiser, path: Trajectory, dials: Dials, rows: list[list[float]]) -> Tensor:
    """One picture for each row of dials, behind the one with all at 0, as a screen shows them."""
    rows = [[0.0] * len(dials), *rows]
    return WayBack(model, path.repeat(len(rows))).picture(dials.edits(rows)).clamp(-1, 1)


def changes(model: Denoiser, path: Trajectory, directions: Directions, mask: Tensor) -> list[float]:
    """Root mean square change inside a mask at +1, then at -1 of each dial."""
    single = torch.eye(len(directions)).tolist()
    rows = [[sign * value for value in row] for sign in (1, -1) for row in single]
    before, *after = turned(model, path, Dials((directions,)), rows)
    return region_change(torch.stack(after), before[None], mask.expand(3, -1, -1)).tolist()


def fixed(model: Denoiser, path: Trajectory, directions: Directions, mask: Tensor) -> list[float]:
    """The same at a fixed strength, forwards."""
    rows = (FIXED * torch.cat([torch.zeros(1, len(directions)), torch.eye(len(directions))])).tolist()
    edit = Edit(directions, EditSchedule(1.0, *WINDOW), tuple(map(tuple, rows)))
    before, *after = WayBack(model, path.repeat(len(rows))).picture([edit]).clamp(-1, 1)
    return region_change(torch.stack(after), before[None], mask.expand(3, -1, -1)).tolist()


def one_face(index: int, faces: int) -> dict[str, Any]:
    """All regions of one face."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model, _ = models()
    factors, images = held_out(faces)
    other = (index + 1) % faces
    both = invert_fixed_point(model, images[[index, other]], karras(STEPS, TOP))
    path, next_path = both.image(0), both.image(1)
    step = path.nearest(SIGMA)
    next_masks = region_masks(factors, other)
    found: dict[str, Any] = {"face": index}
    for region, mask in region_masks(factors, index).items():
        if float(mask.sum()) < LEAST:
            continue
        directions, _ = discover(model, path.states[step], float(path.sigmas[step]), mask, k=K)
        started = time.perf_counter()
        unit = calibrate(model, path, directions, EditSchedule(1.0, *WINDOW))
        seconds = time.perf_counter() - started
        directions = replace(directions, calibration=unit)
        found[region] = {
            "seconds": seconds,
            "unit": unit.unit.flatten().tolist(),
            "changes": changes(model, path, directions, mask),
            "fixed": fixed(model, path, directions, mask),
        }
        if float(next_masks[region].sum()) >= LEAST:
            found[region]["next face"] = changes(model, next_path, directions, next_masks[region])
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, the middle 90 %, and how uneven they are."""
    v = torch.tensor(values, dtype=torch.float64)
    low, middle, high = v.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    near = (v / CHANGE).log().abs() <= math.log(WITHIN)
    return {
        "median": round(middle, 3),
        "5 %": round(low, 3),
        "95 %": round(high, 3),
        "variation": round(float(v.std() / v.mean()), 2),
        f"within {WITHIN:g} of {CHANGE:g}, %": round(100 * float(near.double().mean()), 1),
    }


def main() -> None:
    """Measure and write."""
    rows = each_face(one_face, __doc__)
    lines = []
    kinds = (("changes", "dial at +1 and -1"), ("next face", "the same on the next face"), ("fixed", "strength 18"))
    for region in (*REGIONS, "all"):
        regions = REGIONS if region == "all" else (region,)
        for kind, name in kinds:
            values = [v for row in rows for r in regions for v in row.get(r, {}).get(kind, ())]
            lines.append({"region": region, "what": name, "pictures": len(values), **spread(values)})
    units = torch.tensor([u for row in rows for r in REGIONS for u in row.get(r, {}).get("unit", ())])
    bars = [
        bar(
            f"{line['region']}: changes at dial 1 within a factor of {WITHIN:g} of {CHANGE:g}, %",
            line[f"within {WITHIN:g} of {CHANGE:g}, %"],
            ">=",
            90,
        )
        for line in lines
        if line["what"] == kinds[0][1]
    ]
    settings = {"k": K, "steps": STEPS, "sigma": SIGMA, "window": WINDOW, "change": CHANGE, "fixed": FIXED}
    seconds = [row[r]["seconds"] for row in rows for r in REGIONS if r in row]
    ends = units.quantile(torch.tensor([0.0, 0.5, 1.0])).tolist()
    figures = {"rows": lines, "settings": settings, "units, least to most": ends, "raw": rows}
    figures["seconds of a calibration, one thread, median"] = sorted(seconds)[len(seconds) // 2]
    write("calibration", figures, bars)


if __name__ == "__main__":
    main()
