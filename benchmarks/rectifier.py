"""The two claims of High-Fidelity Diffusion-based Image Editing on held-out faces. ``python dev.py bench rectifier``.

(a) With the rectifier, plain DDIM reconstruction has less error, at every number of steps. (b) An edit that was trained
from the original trajectory at every step does not grow worse with more steps; one that was trained along its own
edited chain (as DiffusionCLIP's efficient way) does. Both are trained here for every number of steps on an inversion in
as many, from the same rectifier, seed and number of optimiser steps.
"""

from __future__ import annotations

import argparse
import time

import torch
from PIL import Image
from torch import Tensor

from benchmarks._faces import held_out, karras, masks, models
from benchmarks._report import bar, write
from core.edit.weights.rectifier import Rectified, RectifierOptions
from core.faces.embedder import load_embedder
from core.faces.factors import NAMES
from core.faces.regressor import factor_change
from core.files.rectifier import load_rectifier
from core.invert.ddim import invert_ddim
from core.measure.image import ssim
from core.measure.sheet import strip
from core.networks.rectifier import RectifierNet
from core.sample import reconstruct, sample_ddim
from core.train.directional import PromptPair
from core.train.rectifier import FrozenNetwork
from core.train.rectifier_edit import RectifierEditSettings, train_rectifier_edit
from core.trajectory import Trajectory
from core.weights_folder import weights_folder
from scripts.train_face_editors import EDIT_STEPS, EDITS, SEED, START, inverted, training_faces

STEPS = (6, 10, 20, 50)
TARGET, REGION = "smile", "mouth"
MARKOV = "Markovian"
WAYS = ("original trajectory", MARKOV)


@torch.no_grad()
def main() -> None:
    """Measure and write."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--faces", type=int, default=32)
    a = p.parse_args()
    model, regressor = models()
    embedder = load_embedder(weights_folder() / "face_embedder.safetensors")
    rebuild = load_rectifier(weights_folder() / "edits/rectifier/reconstruction.safetensors").rectifier
    factors, images = held_out(a.faces)
    region = masks(factors, (REGION,))[REGION][:, None]
    rows, cells, pictures, seconds = [], {}, {}, {}
    for steps in STEPS:
        edits, seconds[steps] = trained(model, embedder, rebuild, steps)
        trajectory = reconstruct(model, invert_ddim(model, images, karras(steps, START)))
        better = run(model, trajectory, rebuild, None, 1.0)
        line = {
            "steps": steps,
            "MAE, plain": mae(trajectory.rebuilt, images),
            "MAE, rectified": mae(better, images),
            "SSIM, plain": float(ssim(trajectory.rebuilt, images).mean()),
            "SSIM, rectified": float(ssim(better, images).mean()),
        }
        pictures[steps] = [images, trajectory.rebuilt, better]
        for way, edit in edits.items():
            y = run(model, trajectory, rebuild, edit, 1.0)
            moved = factor_change(regressor, images / 2 + 0.5, y.clamp(-1, 1) / 2 + 0.5)
            others = torch.stack([moved[f].abs() for f in NAMES if f not in ("smile", "mouth_open")]).mean()
            back = ((y - images).abs() * (1 - region)).sum() / (3 * (1 - region).sum())
            cells[way, steps] = (float(moved[TARGET].mean()), float(others), float(back))
            line |= {
                f"{TARGET}, {way}": cells[way, steps][0],
                f"others moved, {way}": float(others),
                f"background MAE, {way}": float(back),
            }
            pictures[steps].append(y)
        rows.append({k: v if k == "steps" else round(v, 4) for k, v in line.items()})
        print(rows[-1], flush=True)
    sheet(pictures)
    curves(rows)
    bars = [
        bar(f"MAE rectified / plain, {r['steps']} steps", round(r["MAE, rectified"] / r["MAE, plain"], 3), "<=", 1)
        for r in rows
    ]
    bars += [
        bar(f"SSIM rectified - plain, {r['steps']} steps", round(r["SSIM, rectified"] - r["SSIM, plain"], 4), ">=", 0)
        for r in rows
    ]
    for name, index in (("others moved", 1), ("background MAE", 2)):
        ours, theirs = (cells[way, STEPS[-1]][index] / cells[way, STEPS[0]][index] for way in WAYS)
        bars.append(bar(f"{name} at 50 steps / at 6, from the original trajectory", round(ours, 3), "<=", 1))
        bars.append(bar(f"{name} at 50 steps / at 6, Markovian", round(theirs, 3), ">=", 1))
    write(
        "rectifier",
        {"rows": rows, "faces": a.faces, "train seconds": seconds, "optimiser steps of each edit": EDIT_STEPS},
        bars,
    )


def trained(model, embedder, rebuild: RectifierNet, steps: int) -> tuple[dict[str, RectifierNet], dict[str, float]]:
    """The two edits for runs of so many steps, and what they took."""
    path, found, seconds = inverted(model, training_faces()[1], steps, START), {}, {}
    for way in WAYS:
        started = time.perf_counter()
        settings = RectifierEditSettings(
            START, steps=EDIT_STEPS, batch=4, lr=1e-3, seed=SEED, markov=way == MARKOV, grid=steps
        )
        prompts = PromptPair(embedder, *EDITS[TARGET])
        found[way] = train_rectifier_edit(FrozenNetwork(model, model.net), path, rebuild, prompts, settings)
        seconds[way] = round(time.perf_counter() - started, 1)
    return found, seconds


def run(model, trajectory: Trajectory, rebuild: RectifierNet, edit: RectifierNet | None, strength: float) -> Tensor:
    """Sample down with the rectifier."""
    parts = []
    for rows in torch.arange(trajectory.states.shape[1]).split(8):
        made = Rectified(model, model.net, rebuild, trajectory.x0[rows], edit, RectifierOptions(strength))
        parts.append(sample_ddim(made, trajectory.noisiest[rows], trajectory.sigmas))
    return torch.cat(parts)


def mae(a: Tensor, b: Tensor) -> float:
    """Mean absolute error."""
    return float((a - b).abs().mean())


def sheet(pictures: dict[int, list[Tensor]]) -> None:
    """Four faces at 6 and at 50 steps."""
    lines = []
    for steps in (STEPS[0], STEPS[-1]):
        lines += [(f"{steps} steps", [p[i] for p in pictures[steps]]) for i in (0, 3)]
    heads = ["original", "DDIM", "rectified", "edit: original path", "edit: Markovian"]
    Image.fromarray((strip(lines, heads)[0] * 255).round().byte().numpy()).save("assets/rectifier.png")


def curves(rows: list[dict]) -> None:
    """The figures over the number of steps."""
    from core.measure.plots import lines_plot

    panels = {
        "reconstruction MAE": {k.split(", ")[1]: [r[k] for r in rows] for k in ("MAE, plain", "MAE, rectified")},
        "others moved by the edit": {w: [r[f"others moved, {w}"] for r in rows] for w in WAYS},
        "background MAE of the edit": {w: [r[f"background MAE, {w}"] for r in rows] for w in WAYS},
    }
    picture = lines_plot([str(s) for s in STEPS], panels, "steps")
    Image.fromarray((picture[0] * 255).round().byte().numpy()).save("assets/rectifier_steps.png")


if __name__ == "__main__":
    main()
