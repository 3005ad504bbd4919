"""Region directions of this pack beside the published ways, on faces whose factors are known. ``python dev.py bench
method_comparison``.

For every face, region and method: directions are found as the method's paper has it, the first three are turned both
ways until the mask has changed by the same amount, and the pictures are measured: how much changed outside, how far the
region's own factors moved, and how much every other factor stayed ("identity": 1 less their mean change). These are
means over the six; "best" is the one of the six that a user would pick, by its own factor less the largest other.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._faces import each_face, held_out, karras, masks, models
from benchmarks._report import bar, write
from benchmarks.region_locality import SIGMA, STEPS, TOP, WINDOW, inside_and_outside
from core.denoiser import to_eps
from core.directions import Directions
from core.discover.difference import difference
from core.discover.find import discover
from core.discover.loco import loco
from core.discover.pca import h_of, pca
from core.discover.pullback import pullback
from core.edit.directions.steer import Edit, SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.faces.factors import NAMES, sample
from core.faces.regressor import factor_change
from core.faces.render import render
from core.invert.fixed_point import invert_fixed_point
from core.measure.image import psnr
from core.measure.sheet import strip
from core.sample import reconstruct, sample_ddim
from core.schedule import vp_scale
from core.trajectory import Trajectory

CHANGE, K, SECANTS = 0.12, 3, 2
START = {"LOCO Edit": 4.0, "pullback": 3.0, "PCA of h": 50.0, "mean difference": 45.0, "random": 200.0}
"""Where the search for the strength begins; 12 for the others."""
EXAMPLES = 200
"""Faces behind PCA and behind each side of the mean difference (500 and 100 in the paper)."""
REGIONS = {
    "mouth": ("smile", "mouth_open"),
    "eyes": ("eye_open", "glasses", "gaze", "eye_color"),
    "hair": ("hair_color", "hair_length", "hair_shade"),
    "background": ("bg_hue",),
}
"""Region -> the factors that lie inside it."""
OURS = "generalized"
METHODS = (
    OURS,
    "constrained",
    "mask alone",
    "RBE code",
    "LOCO Edit",
    "pullback",
    "PCA of h",
    "mean difference",
    "random",
)


@cache
def shared():
    """What does not depend on the face: model, regressor, directions of many faces."""
    model, regressor = models()
    g = torch.Generator().manual_seed(77)
    faces = sample(EXAMPLES, g)
    noisy = render(faces, 64)[0] * 2 - 1
    states = noisy + SIGMA * torch.randn(noisy.shape, generator=g)
    started = time.process_time()
    components = pca(model, states, SIGMA, k=K)
    seconds = {"PCA of h": time.process_time() - started}
    apart = {}
    for region, factor in (("mouth", "smile"), ("eyes", "glasses"), ("hair", "hair_length"), ("background", "bg_hue")):
        started = time.process_time()
        value = faces[factor].float()
        high, low = value > value.median(), value <= value.median()
        if factor == "glasses":
            high, low = value > 0.5, value < 0.5
        apart[region] = difference(
            h_of(model, states[high], SIGMA), h_of(model, states[low], SIGMA), SIGMA, model.fingerprint
        )
        seconds[f"mean difference {region}"] = time.process_time() - started
    return model, regressor, components, apart, seconds


def found(method: str, trajectory: Trajectory, region: str, mask: Tensor, step: int) -> tuple[Directions, float]:
    """Directions of one method and the CPU seconds they took, on one thread."""
    model, _, components, apart, seconds = shared()
    x, sigma, started = trajectory.states[step], float(trajectory.sigmas[step]), time.process_time()
    if method == "PCA of h":
        return components, seconds[method]
    if method == "mean difference":
        return apart[region], seconds[f"{method} {region}"]
    if method == "LOCO Edit":
        directions = loco(model, x, sigma, mask, k=K, rank=5)
    elif method == "pullback":
        directions = pullback(model, x, sigma, k=K)[0]
    elif method == "random":
        v = torch.randn(
            1, K, *model.split(x, x.new_full((1,), sigma)).h.shape[1:], generator=torch.Generator().manual_seed(step)
        )
        v /= v.flatten(2).norm(dim=2)[..., None, None, None]
        none = torch.zeros(1, K)
        directions = Directions(v, torch.tensor([sigma], dtype=torch.float64), none, none, "middle", model.fingerprint)
    else:
        mode = {"mask alone": "none", "RBE code": "single"}.get(method, method)
        directions = discover(model, x, sigma, mask, mode=mode, k=K)[0]
    return directions, time.process_time() - started


@torch.no_grad()
def rendered(method: str, trajectory: Trajectory, directions: Directions, pairs: list[tuple[int, float]]) -> Tensor:
    """One picture for each (direction, strength), as the method applies it."""
    model = shared()[0]
    if directions.layer != "x":
        high, low = WINDOW
        weights = tuple(tuple(a if i == j else 0.0 for j in range(len(directions))) for i, a in pairs)
        edit = Edit(directions, EditSchedule(1.0, sigma_start=high, sigma_end=low), weights)
        released = {"lagged": True, "eta": 0.5} if method == "RBE code" else {}
        return steer_trajectory(model, trajectory.repeat(len(pairs)), [edit], SteerOptions(start="window", **released))
    i = trajectory.nearest(float(directions.sigmas[0]))
    sigma = float(trajectory.sigmas[i])
    unit = vp_scale(sigma)
    x = trajectory.states[i].expand(len(pairs), -1, -1, -1)
    v = torch.stack([directions.vectors[0, j] for j, _ in pairs])
    a = torch.tensor([a for _, a in pairs])[:, None, None, None]
    if method == "LOCO Edit":
        x = x + a * unit * v
    else:
        rows = x.new_full((len(x),), sigma)
        for _ in range(16):
            x = x + a * unit * (
                to_eps(x + unit * v, sigma, model(x + unit * v, rows)) - to_eps(x, sigma, model(x, rows))
            )
    return sample_ddim(model, x, trajectory.sigmas[i:])


def calibrated(
    method: str, trajectory: Trajectory, directions: Directions, base: Tensor, mask: Tensor
) -> list[tuple[int, float]]:
    """(direction, strength) both ways, so that the mask changes by ``CHANGE``; ``SECANTS`` steps in the logarithm."""
    start = START.get(method, 12.0)
    pairs = [(i, s * start) for s in (1, -1) for i in range(len(directions))]
    for _ in range(SECANTS):
        got, _ = inside_and_outside(rendered(method, trajectory, directions, pairs), base, mask)
        pairs = [
            (i, a * min(max(CHANGE / max(float(c), 1e-6), 0.2), 5.0)) for (i, a), c in zip(pairs, got, strict=True)
        ]
    return pairs


def one_face(index: int, faces: int) -> dict:
    """All regions and methods of one face."""
    torch.set_num_threads(1)
    model, regressor = shared()[:2]
    factors, images = held_out(faces)
    other = (index + 1) % faces
    both = reconstruct(model, invert_fixed_point(model, images[[index, other]], karras(STEPS, TOP)))
    path, theirs = both.image(0), both.image(1)
    step = path.nearest(SIGMA)
    rows: dict = {"face": index}
    for region, own in REGIONS.items():
        mask = (
            render(factors, 64, masks=True)[1]["background"][index]
            if region == "background"
            else masks(factors, (region,))[region][index]
        )
        rows[region] = {}
        for method in METHODS:
            directions, seconds = found(method, path, region, mask, step)
            pairs = calibrated(method, path, directions, path.rebuilt, mask)
            y = rendered(method, path, directions, pairs)
            inside, outside = inside_and_outside(y, path.rebuilt, mask)
            change = factor_change(regressor, path.rebuilt.expand_as(y) / 2 + 0.5, y.clamp(-1, 1) / 2 + 0.5)
            target = torch.stack([change[f].abs() for f in own]).amax(0)
            others = torch.stack([change[f].abs() for f in NAMES if f not in own])
            best = int((target - others.amax(0)).argmax())
            name = max(own, key=lambda f: float(change[f][best].abs()))
            there = (
                rendered(method, theirs, directions, [pairs[best], (pairs[best][0], -pairs[best][1])]).clamp(-1, 1) / 2
                + 0.5
            )
            moved = factor_change(regressor, theirs.rebuilt.expand_as(there) / 2 + 0.5, there)[name]
            turned = float(moved[0]) if name in ("hair_color", "eye_color") else float(moved[0] - moved[1])
            rows[region][method] = {
                "leak": float((outside / inside).mean()),
                "inside": float(inside.mean()),
                "seconds": seconds,
                "factor": name,
                "moved": float(target.mean()),
                "identity": 1 - float(others.mean()),
                "best moved": float(target[best]),
                "best identity": 1 - float(others[:, best].mean()),
                "best largest other": float(others[:, best].max()),
                "transfer": turned * float(change[name][best]) > 0 and abs(turned) >= 0.05,
                "pair": list(pairs[best]),
                "psnr outside": float(psnr(y[best : best + 1] * (1 - mask), path.rebuilt * (1 - mask)).mean()),
            }
    return rows


def picture(file: Path, index: int, faces: int, rows: dict) -> None:
    """A sheet of one face: a row a method, a column a region, each at its best."""
    model = shared()[0]
    _, images = held_out(faces)
    trajectory = reconstruct(model, invert_fixed_point(model, images[[index]], karras(STEPS, TOP)))
    factors, step, lines = held_out(faces)[0], trajectory.nearest(SIGMA), []
    for method in METHODS:
        cells = [trajectory.rebuilt[0]]
        for region in REGIONS:
            mask = (
                render(factors, 64, masks=True)[1]["background"][index]
                if region == "background"
                else masks(factors, (region,))[region][index]
            )
            directions, _ = found(method, trajectory, region, mask, step)
            cells.append(rendered(method, trajectory, directions, [tuple(rows[region][method]["pair"])])[0])
        lines.append((method, cells))
    from PIL import Image

    sheet = strip(lines, ["unedited", *REGIONS])[0]
    Image.fromarray((sheet * 255).round().byte().numpy()).save(file)


def main() -> None:
    """Measure and write."""
    rows = each_face(one_face, __doc__)
    faces = len(rows)
    lines = []
    for method in METHODS:
        line: dict = {"method": method}
        cells = [r[region][method] for r in rows for region in REGIONS]
        for region in REGIONS:
            line[f"leak, {region}"] = round(sum(r[region][method]["leak"] for r in rows) / len(rows), 3)
        line["leak"] = round(sum(c["leak"] for c in cells) / len(cells), 3)
        for key in ("inside", "moved", "identity", "best moved", "best identity"):
            line[key] = round(sum(c[key] for c in cells) / len(cells), 4 if "identity" in key else 3)
        line["transfer, %"] = round(100 * sum(c["transfer"] for c in cells) / len(cells))
        line["CPU seconds"] = round(sum(c["seconds"] for c in cells) / len(cells), 2)
        lines.append(line)
    picture(Path("assets/method_comparison.png"), 3, faces, rows[3])
    ours, rivals = lines[0], lines[2:]
    write(
        "method_comparison",
        {"rows": lines, "change inside": CHANGE, "directions": K, "sigma": SIGMA, "raw": rows},
        [
            bar(
                "leak of ours / least leak of a rival", round(ours["leak"] / min(r["leak"] for r in rivals), 3), "<=", 1
            ),
            bar(
                "identity of ours - best identity of a rival",
                round(ours["identity"] - max(r["identity"] for r in rivals), 4),
                ">=",
                0,
            ),
            bar(
                "the same for the best of six",
                round(ours["best identity"] - max(r["best identity"] for r in rivals), 4),
                ">=",
                0,
            ),
        ],
    )


if __name__ == "__main__":
    main()
