"""The shipped editors of three trained systems beside RBE, which needs no training. ``python dev.py bench
trained_editing``.

On held-out faces: how far the target of the prompt moved, how far everything else did, how well each system rebuilds
without an edit, what it took to train and what it takes to apply. RBE: the directions of the target's region on one
face, of which the one is taken, at the strength and sign, that moves the target furthest for the least else; the same
on all faces.
"""

from __future__ import annotations

import argparse
import time

import torch
from PIL import Image
from torch import Tensor

from benchmarks._faces import held_out, karras, masks, models
from benchmarks._report import bar, write
from core.denoiser import Denoiser
from core.discover.find import discover
from core.edit.directions.asyrp import AsyrpEdit
from core.edit.directions.steer import Edit, SteerOptions, steer_trajectory
from core.edit.weights.diffusionclip import Mixed, Share
from core.edit.weights.rectifier import Rectified
from core.edit_schedule import EditSchedule
from core.faces.embedder import load_embedder
from core.faces.factors import HAIR_COLORS, NAMES
from core.faces.regressor import factor_change, measure_scores
from core.files.asyrp import load_asyrp
from core.files.diffusionclip import load_weights
from core.files.rectifier import load_rectifier
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import invert_fixed_point
from core.measure.image import psnr
from core.measure.sheet import strip
from core.sample import reconstruct
from core.train.directional import similarity
from core.trajectory import Trajectory
from core.weights_folder import weights_folder
from scripts.train_face_editors import EDITS, START

FOLDER, STEPS, PARTS = weights_folder() / "edits", 20, 8
LOOK = 3  # of the held-out faces: black hair, a frown and no glasses, so that every edit has something to do
TARGETS = {
    "smile": ("smile", "mouth", ("smile", "mouth_open")),
    "red hair": ("red", "hair", ("hair_color", "hair_shade")),
    "glasses": ("glasses", "eyes", ("glasses", "eye_open")),
    "grey hair": ("grey", "hair", ("hair_color", "hair_shade")),
}
"""Edit -> what its prompt asks for, the region of RBE, and the factors that may move with it."""
SYSTEMS = ("Asyrp", "DiffusionCLIP", "rectifier", "RBE")
SIGMA, TOP, STRENGTHS = 1.6, 20.0, (-40.0, -25.0, -15.0, 15.0, 25.0, 40.0)


def target_of(regressor, name: str, before: Tensor, after: Tensor) -> Tensor:
    """How far the target moved, `[b]`: of a factor's range, or in the share of a hair colour."""
    wanted = TARGETS[name][0]
    if wanted not in HAIR_COLORS:
        return factor_change(regressor, before / 2 + 0.5, after.clamp(-1, 1) / 2 + 0.5)[wanted]
    a, b = (measure_scores(regressor, x.clamp(-1, 1) / 2 + 0.5)["hair_color"] for x in (before, after))
    return (b - a)[:, HAIR_COLORS.index(wanted)]


def others_of(regressor, name: str, before: Tensor, after: Tensor) -> Tensor:
    """Mean change of what the prompt does not speak of, `[b]`."""
    moved = factor_change(regressor, before / 2 + 0.5, after.clamp(-1, 1) / 2 + 0.5)
    return torch.stack([moved[f].abs() for f in NAMES if f not in TARGETS[name][2]]).mean(0)


@torch.no_grad()
def main() -> None:
    """Measure and write."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--faces", type=int, default=24)
    a = p.parse_args()
    torch.set_num_threads(1)
    (model, regressor), embedder = models(), load_embedder(weights_folder() / "face_embedder.safetensors")
    factors, images = held_out(a.faces)
    trajectories = {
        "RBE": reconstruct(model, invert_fixed_point(model, images, karras(STEPS, TOP))),
        "rectifier": reconstruct(model, invert_ddim(model, images, karras(STEPS, START))),
        "Asyrp": reconstruct(model, invert_ddim(model, images, karras(STEPS, TOP))),
    }
    trajectories["DiffusionCLIP"] = trajectories["rectifier"]
    rows, shown = [], {name: [("original", images)] for name in TARGETS}
    for system in SYSTEMS:
        for name in TARGETS:
            trajectory = trajectories[system]
            run, seconds = editor(system, name, model, trajectory, regressor, factors)
            started = time.perf_counter()
            edited = run(trajectory, True)
            took = (time.perf_counter() - started) / a.faces
            plain = run(trajectory, False)
            shown[name].append((system, edited))
            # Against what the system itself rebuilds, so that the edit alone is measured; Asyrp's and RBE's is the
            # trajectory's.
            rows.append(
                {
                    "system": system,
                    "edit": name,
                    "target moved": round(float(target_of(regressor, name, plain, edited).mean()), 3),
                    "others moved": round(float(others_of(regressor, name, plain, edited).mean()), 4),
                    "S_dir": round(float(similarity(embedder, edited.clamp(-1, 1), plain, EDITS[name]).mean()), 3),
                    "rebuilt, dB": round(float(psnr(plain, images).mean()), 1),
                    "train s": round(seconds, 1),
                    "apply s": round(took, 2),
                }
            )
            print(rows[-1], flush=True)
    sheets(shown)
    means = {s: [r for r in rows if r["system"] == s] for s in SYSTEMS}
    least = {s: min(r["target moved"] for r in means[s]) for s in SYSTEMS[:3]}
    bars = [bar(f"least target moved of {s}", round(v, 3), ">=", 0.1) for s, v in least.items()]
    better = means["rectifier"][0]["rebuilt, dB"] - means["DiffusionCLIP"][0]["rebuilt, dB"]
    bars.append(bar("rectifier rebuilds better than plain DDIM, dB", round(better, 1), ">=", 0))
    write("trained_editing", {"rows": rows, "faces": a.faces, "steps": STEPS}, bars)


def editor(system: str, name: str, model, trajectory: Trajectory, regressor, factors):
    """``run(path, edited or not)`` and the seconds that its training took."""
    none = EditSchedule(0.0)
    if system == "Asyrp":
        found = load_asyrp(f"{FOLDER}/asyrp/{name}.safetensors")
        edit = AsyrpEdit(found, found.schedule(1.0))
        return lambda path, on: steered(model, trajectory, [edit] if on else [], True), found.extra["seconds"]
    if system == "DiffusionCLIP":
        weights = load_weights(f"{FOLDER}/finetuned/{name}.safetensors")
        tuned = [Share(weights, EditSchedule(1.0))]
        return lambda path, on: steered(Mixed(model, model.net, tuned if on else []), trajectory, []), weights.extra[
            "seconds"
        ]
    if system == "rectifier":
        first, second = (load_rectifier(f"{FOLDER}/rectifier/{n}.safetensors") for n in ("reconstruction", name))

        def run(trajectory: Trajectory, on: bool) -> Tensor:
            parts = []
            for rows in torch.arange(trajectory.states.shape[1]).split(PARTS):
                made = Rectified(
                    model, model.net, first.rectifier, trajectory.x0[rows], second.rectifier if on else None
                )
                parts.append(steered(made, some(trajectory, rows), []))
            return torch.cat(parts)

        return run, second.extra["seconds"]
    mask = masks(factors, (TARGETS[name][1],))[TARGETS[name][1]][LOOK]
    started, one = time.perf_counter(), trajectory.image(LOOK)
    step = one.nearest(SIGMA)
    directions, _ = discover(model, one.states[step], float(one.sigmas[step]), mask, k=5)
    seconds, best, most = time.perf_counter() - started, Edit(directions.select([0]), none), -1.0
    for i in range(5):
        for strength in STRENGTHS:
            edit = Edit(directions.select([i]), EditSchedule(strength, sigma_start=4 * SIGMA, sigma_end=0.1))
            y = steered(model, one, [edit])
            score = float(target_of(regressor, name, one.rebuilt, y) - others_of(regressor, name, one.rebuilt, y))
            if score > most:
                best, most = edit, score
    return lambda path, on: steered(model, trajectory, [best] if on else []), seconds


def steered(model: Denoiser, trajectory: Trajectory, edits: list, asymmetric: bool = False) -> Tensor:
    """A run in parts that fit the cache of a core."""
    rows = torch.arange(trajectory.states.shape[1]).split(PARTS)
    return torch.cat(
        [steer_trajectory(model, some(trajectory, r), edits, SteerOptions(asymmetric=asymmetric)) for r in rows]
    )


def some(trajectory: Trajectory, rows: Tensor) -> Trajectory:
    """Some pictures of a trajectory."""
    return Trajectory(trajectory.sigmas, trajectory.states[:, rows], trajectory.fingerprint)


def sheets(shown: dict) -> None:
    """Two faces an edit."""
    heads = [label for label, _ in next(iter(shown.values()))]
    lines = [(name, [pictures[i] for _, pictures in columns]) for name, columns in shown.items() for i in (LOOK, 2)]
    Image.fromarray((strip(lines, heads)[0] * 255).round().byte().numpy()).save("assets/trained_editing.png")


if __name__ == "__main__":
    main()
