"""Do region directions stay in their region, and do they mean something? ``python dev.py bench region_locality``.

On held-out faces with exact masks, at equal change inside the mask: leak outside of every mode against ``none`` and
against random directions; which known factor the directions move; whether they transfer to another face through a saved
file.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._faces import each_face, held_out, karras, masks, models
from benchmarks._report import bar, write
from core.directions import Directions
from core.discover.find import discover, krylov_basis, region_result
from core.discover.krylov import SolverSettings
from core.edit.directions.steer import Edit, SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.faces.regressor import factor_change
from core.files.directions import load_directions, save_directions
from core.invert.fixed_point import invert_fixed_point
from core.sample import reconstruct

K, STEPS, TOP, SIGMA, WINDOW = 5, 18, 20.0, 1.6, (6.4, 0.1)
RANK = 20
CHANGE = 0.12
"""Mean absolute change inside the mask at which everything is compared, in the model's range -1..1."""
DIALS = (1.5, 2.5, 4.0)
"""How many times as far the dial is turned where factors are read."""

REGIONS = {
    "mouth": (("smile", "mouth_open"), {"smile", "mouth_open"}),
    "eyes": (("glasses", "eye_open"), {"glasses", "eye_open", "gaze", "eye_color"}),
    "hair": (("hair_color", "hair_length"), {"hair_color", "hair_length", "hair_shade"}),
    "glasses": (("glasses", "eye_open"), {"glasses", "eye_open", "gaze", "eye_color"}),
}
"""Region -> factors that one of its directions should move, and all factors that lie inside it."""

MODES = {"none": 3, "constrained": 3, "generalized": K, "random": 3}
"""Mode -> how many of its directions are rendered."""
DIAL = ("mouth", "eyes", "hair")
"""Regions whose directions are held against the known factors."""


def inside_and_outside(a: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute change of each picture inside and outside the mask, `[n]`."""
    d = (a - b).abs().mean(1)
    return (d * mask).sum((1, 2)) / mask.sum(), (d * (1 - mask)).sum((1, 2)) / (1 - mask).sum()


def rendered(model, path, directions: Directions, strengths: list[tuple[int, float]]) -> Tensor:
    """One picture for each (direction, strength) pair, `[n 3 h w]`, in one batch."""
    high, low = WINDOW
    weights = tuple(tuple(a if i == j else 0.0 for j in range(len(directions))) for i, a in strengths)
    edit = Edit(directions, EditSchedule(1.0, sigma_start=high, sigma_end=low), weights)
    return steer_trajectory(model, path.repeat(len(strengths)), [edit], SteerOptions(start="window"))


def stacked(sets: list[Directions]) -> Directions:
    """Sets of one layer behind each other."""
    first = sets[0]
    parts = {n: torch.cat([getattr(s, n) for s in sets], 1) for n in ("vectors", "gain", "leak")}
    return replace(first, **parts, labels=())


def calibrated(model, path, base: Tensor, directions: Directions, mask: Tensor) -> list[float]:
    """For each direction the strength at which the mask changes as much as wanted (one secant step from a first
    guess)."""
    size = CHANGE * float(mask.sum() * 3) ** 0.5
    guess = [min(size / max(float(g), 1e-3), 120.0) * 0.3 for g in directions.gain[0]]
    got, _ = inside_and_outside(rendered(model, path, directions, list(enumerate(guess))), base, mask)
    return [a * min(max(CHANGE / max(float(c), 1e-6), 0.2), 5.0) for a, c in zip(guess, got, strict=True)]


def one_face(index: int, faces: int) -> dict:
    """All regions of one face."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model, regressor = models()
    factors, images = held_out(faces)
    other = (index + 1) % faces
    sigmas = karras(STEPS, TOP)
    trajectory = reconstruct(model, invert_fixed_point(model, images[[index, other]], sigmas))
    mine, theirs = trajectory.image(0), trajectory.image(1)
    base = mine.rebuilt
    step = trajectory.nearest(SIGMA)
    found: dict = {"face": index}
    for region, (targets, local) in REGIONS.items():
        mask = masks(factors, (region,))[region][index]
        if float(mask.sum()) < 8:
            continue
        started = time.perf_counter()
        basis = krylov_basis(
            model, mine.states[step], float(trajectory.sigmas[step]), mask, SolverSettings(k=K, size=2 * RANK + K)
        )
        directions = {m: region_result(basis, mode=m, k=n, rank=RANK) for m, n in MODES.items() if m != "random"}
        seconds = time.perf_counter() - started
        vectors = torch.randn(
            1, MODES["random"], *directions["none"].vectors.shape[2:], generator=torch.Generator().manual_seed(index)
        )
        vectors /= vectors.flatten(2).norm(dim=2)[..., None, None, None]
        directions["random"] = replace(
            directions["none"],
            vectors=vectors,
            gain=torch.full((1, MODES["random"]), float(directions["none"].gain.mean()) / 5),
        )
        row: dict = {"seconds": seconds, "products": basis.products}
        together = stacked([directions[m] for m in MODES])
        strengths = calibrated(model, mine, base, together, mask)
        start = dict(zip(MODES, accumulate([0, *MODES.values()]), strict=False))
        pairs = list(enumerate(strengths))
        own = range(start["generalized"], start["generalized"] + K)
        if region in DIAL:
            turned = [(i, dial * sign * strengths[i]) for dial in DIALS for sign in (1, -1) for i in own]
            pairs += turned
        y = rendered(model, mine, together, pairs)
        got, out = inside_and_outside(y, base, mask)
        for mode, n in MODES.items():
            part = slice(start[mode], start[mode] + n)
            row[mode] = {"leak": float((out[part] / got[part]).mean()), "inside": float(got[part].mean())}
        if region in DIAL:
            row |= dial(regressor, base, y[-len(turned) :], targets, local)
            best, strength = turned[row["best"]]
            chosen = directions["generalized"].select([best - own[0]])
            row |= {"direction": best - own[0], "strength": strength}
            shown = y[len(pairs) - len(turned) + row["best"]]
            mine_colour = colour(shown, mask) - colour(base[0], mask)
            other_mask = masks(factors, (region,))[region][other]
            row["transfer"] = transfer(
                model, regressor, chosen, strength, theirs, other_mask, row["factor"], row["moved"], mine_colour
            )
        found[region] = row
    return found


def dial(regressor, base: Tensor, pictures: Tensor, targets: tuple[str, ...], local: set[str]) -> dict:
    """Which picture moves a target factor most cleanly: its number, the factor, how far, and the largest other
    factor."""
    change = factor_change(regressor, base.expand_as(pictures) / 2 + 0.5, pictures.clamp(-1, 1) / 2 + 0.5)
    others = torch.stack([v.abs() for n, v in change.items() if n not in local]).amax(0)
    score, pick = None, (0, targets[0])
    for factor in targets:
        moved = change[factor].abs()
        good = torch.minimum(moved, moved.new_tensor(0.6)) * (moved >= 2 * others)
        i = int(good.argmax())
        if score is None or float(good[i]) > score:
            score, pick = float(good[i]), (i, factor)
    i, factor = pick
    moved, worst = float(change[factor][i]), float(others[i])
    return {
        "best": i,
        "factor": factor,
        "moved": moved,
        "largest other": worst,
        "clean": abs(moved) >= 0.25 and abs(moved) >= 2 * worst,
    }


def colour(picture: Tensor, mask: Tensor) -> Tensor:
    """Mean colour inside a mask, `[3]`."""
    return (picture * mask).sum((1, 2)) / mask.sum()


def transfer(
    model,
    regressor,
    direction: Directions,
    strength: float,
    path,
    mask: Tensor,
    factor: str,
    moved: float,
    moved_colour: Tensor,
) -> dict:
    """The same direction, through a file, on another face; read from -a to +a, so that a mouth that is shut already can
    still open."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "direction.safetensors"
        save_directions(file, direction)
        y = rendered(model, path, load_directions(file), [(0, strength), (0, -strength)]).clamp(-1, 1) / 2 + 0.5
    turned = float(factor_change(regressor, y[1:], y[:1])[factor])
    if factor in ("hair_color", "eye_color"):  # classes have no sign: the sense is that of the colour itself
        along = float((colour(y[0], mask) - colour(y[1], mask)) @ moved_colour)
        return {"moved": turned, "colour along": along, "same sense": along > 0 and turned >= 0.05}
    return {"moved": turned, "same sense": turned * moved > 0 and abs(turned) >= 0.05}


def summary(rows: list[dict], region: str) -> dict:
    """Means over the faces of one region."""
    here = [r[region] for r in rows if region in r]
    leak = {m: sum(r[m]["leak"] for r in here) / len(here) for m in MODES}
    line: dict = {"region": region, "faces": len(here)}
    line |= {f"leak, {m}": round(leak[m], 3) for m in MODES}
    line |= {f"{m} / none": round(leak[m] / leak["none"], 2) for m in ("constrained", "generalized")}
    if region in DIAL:
        line["a clean target factor, % of faces"] = round(100 * sum(r["clean"] for r in here) / len(here))
        line["transfer in the same sense, %"] = round(100 * sum(r["transfer"]["same sense"] for r in here) / len(here))
    return line


def main() -> None:
    """Measure and write."""
    rows = each_face(one_face, __doc__)
    torch.set_num_threads(os.cpu_count() or 1)
    model, _ = models()
    factors, images = held_out(1)
    trajectory = invert_fixed_point(model, images, karras(STEPS, TOP))
    step = trajectory.nearest(SIGMA)
    started = time.perf_counter()
    _, report = discover(
        model, trajectory.states[step], float(trajectory.sigmas[step]), masks(factors, ("mouth",))["mouth"][0], k=K
    )
    seconds = time.perf_counter() - started
    lines = [summary(rows, region) for region in REGIONS]
    mean = {m: sum(line[f"{m} / none"] for line in lines) / len(lines) for m in ("constrained", "generalized")}
    moved = [line for line in lines if line["region"] in DIAL]
    settings = {
        "k": K,
        "rank": RANK,
        "steps": STEPS,
        "sigma": SIGMA,
        "window": WINDOW,
        "change inside": CHANGE,
        "dials": DIALS,
    }
    clean, same = "a clean target factor, % of faces", "transfer in the same sense, %"
    write(
        "region_locality",
        {"rows": lines, "settings": settings, "products": report["products"], "raw": rows},
        [
            bar("leak of generalized / leak of none, mean over regions", round(mean["generalized"], 3), "<=", 0.5),
            bar("leak of constrained / leak of none, mean over regions", round(mean["constrained"], 3), "<=", 0.8),
            *(
                bar(f"{r['region']}: faces with a direction that moves its factor cleanly, %", r[clean], ">=", 70)
                for r in moved
            ),
            *(
                bar(f"{r['region']}: saved, loaded, applied to another face: same sense, %", r[same], ">=", 70)
                for r in moved
            ),
            bar("discovery, k = 5, generalized, all cores, seconds", round(seconds, 2), "<=", 10),
        ],
    )


if __name__ == "__main__":
    main()
