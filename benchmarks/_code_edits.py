"""Measure what edits of semantic codes do to the factors of the face world."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks._codes import EDIT_STEPS, MOVED, Faces, discrete, leaked, open_to, pushed, reached
from core.edit.codes.deltaedit import delta_edit
from core.edit.codes.manipulate import direction, manipulate
from core.edit.codes.pada import pada_edit
from core.faces.embedder import FaceEmbedder
from core.faces.factors import sample
from core.faces.regressor import Regressor
from core.faces.seen import seen
from core.files.code_edits import TrainedCodeEdit
from core.measure.image import ssim
from core.networks.heads import Heads
from core.train.directional import text_direction
from core.train.heads import fit_heads
from scripts.finish_face_diffae import labels

EDITS = (
    "glasses",
    "black hair",
    "blond hair",
    "red hair",
    "grey hair",
    "blue eyes",
    "green eyes",
    "smile",
    "mouth open",
)


SHARES = (1.0, 0.3, 0.1)


OTHER_HEADS, FITTED = ("logistic", "mean"), 6000
"""Heads that truncation is tried on too (logistic: the paper's), and the faces they are fitted to."""


STRENGTHS = (0.4, 0.7, 1.0)
"""Times the root of the number of levels: strength 1 is as long as one level's code."""


TEXTS = {
    **{n: f"face with {n}" for n in ("glasses", "black hair", "blond hair", "red hair", "grey hair", "blue eyes")},
    "smile": "smiling face",
    "mouth open": "face with an open mouth",
}


AGE, AGES = "grey hair", ("face with grey hair", "face with brown hair")


VARIANTS = 6


SEED, SHOWN = 5000, 0.7


def mean(values) -> float:
    """Of numbers."""
    values = list(values)
    return sum(values) / len(values)


def equally_far(moved: dict[str, dict]) -> dict[str, float]:
    """Mean change of the other factors by share of coordinates, each attribute taken as far as every share can."""
    found: dict[str, list[float]] = {share: [] for share in moved}
    for name in EDITS:
        aim = min(max(point["target"] for point in moved[share][name]) for share in moved)
        for share in moved:
            found[share].append(_at(aim, moved[share][name]))
    return {share: mean(values) for share, values in found.items()}


def _at(aim: float, curve: list[dict]) -> float:
    """Change of the others where the target has changed by ``aim``, between the points of a curve that starts at 0."""
    before = {"target": 0.0, "others": 0.0}
    for point in curve:
        if point["target"] >= aim:
            part = (aim - before["target"]) / max(point["target"] - before["target"], 1e-9)
            return before["others"] + part * (point["others"] - before["others"])
        before = point if point["target"] > before["target"] else before
    return before["others"]


def reconstruction(faces: Faces, regressor: Regressor, steps: int) -> dict[str, float]:
    """From the faces' own noise, from fresh noise, and from fresh noise with new noise at every step."""
    found: dict[str, float] = {}
    fresh = faces.fresh(EDIT_STEPS)
    ways = (
        ("own noise", faces.invert(steps), steps, 0.0),
        ("ancestral", fresh, EDIT_STEPS, 1.0),
        ("fresh noise", fresh, EDIT_STEPS, 0.0),
    )
    for name, noise, n, eta in ways:
        y = faces.decode(faces.code, noise, n, eta)
        found |= {
            f"SSIM, {name}": float(ssim(y, faces.x).mean()),
            f"MSE, {name}": float(((y - faces.x) / 2).square().mean()),
        }
    kept = discrete(regressor, faces.x, y)
    return {
        k: round(v, 6)
        for k, v in {**found, **{f"{k} kept": v for k, v in kept.items()}, "kept": mean(kept.values())}.items()
    }


def manipulated(
    faces: Faces, heads: Heads, regressor: Regressor, noise: Tensor, share: float, count: int
) -> Iterator[tuple[str, list]]:
    """For each attribute a curve over strengths: faces moved and taken all the way, mean change of the target and of
    all else."""
    for name in EDITS:
        rows = torch.arange(len(faces.x))[open_to(name, regressor, faces.x)][:count]
        unit, curve = direction(heads, name, keep=share), []
        for strength in (s * heads.space.levels**0.5 for s in STRENGTHS):
            y = faces.decode(manipulate(faces.code[rows], heads.space, unit, strength), noise[rows], EDIT_STEPS)
            curve.append({"strength": round(strength, 2), **judged(regressor, name, faces.x[rows], y)})
        yield name, curve


def truncated(faces: Faces, regressor: Regressor, noise: Tensor, count: int) -> dict[str, dict[str, float]]:
    """Change of the other factors at equal change of the target, by share of coordinates, with heads of other kinds."""
    factors = sample(FITTED, torch.Generator().manual_seed(SEED + 1))
    (codes,), found = seen(factors, faces.source.net.encoder), {}
    for method in OTHER_HEADS:
        heads = fit_heads(codes, {k: v for k, v in labels(factors).items() if k in EDITS}, faces.source.space, method)
        moved = {
            f"{share:.0%}": dict(manipulated(faces, heads, regressor, noise, share, count))
            for share in (SHARES[0], SHARES[-1])
        }
        found[method] = {share: round(v, 4) for share, v in equally_far(moved).items()}
    return found


def judged(regressor: Regressor, name: str, before: Tensor, after: Tensor) -> dict[str, float]:
    """What an edit did to some faces."""
    far = pushed(regressor, name, before, after)
    figures = {
        "moved": (far > MOVED).float(),
        "reached": reached(regressor, name, before, after).float(),
        "target": far,
        "others": leaked(regressor, name, before, after),
    }
    return {**{k: round(float(v.mean()), 4) for k, v in figures.items()}, "faces": len(before)}


def text_edits(
    faces: Faces,
    mapper: TrainedCodeEdit,
    embedder: FaceEmbedder,
    regressor: Regressor,
    noise: Tensor,
    count: int,
    strength: float,
    relevance: float,
) -> Iterator[tuple[str, dict]]:
    """DeltaEdit at one strength for all texts."""
    for name, text in TEXTS.items():
        rows = torch.arange(len(faces.x))[open_to(name, regressor, faces.x)][:count]
        change = text_direction(embedder, "face", text)[0]
        seen = embedder.embed_image(faces.x[rows])
        code = delta_edit(
            mapper, faces.code[rows], faces.source.space, change, seen, strength=strength, quantile=relevance
        )
        y = faces.decode(code, noise[rows], EDIT_STEPS)
        yield name, judged(regressor, name, faces.x[rows], y)


def aged(
    faces: Faces, pada: TrainedCodeEdit, embedder: FaceEmbedder, regressor: Regressor, noise: Tensor, count: int
) -> dict[str, float]:
    """PADA's variants: grey hair reached, other factors moved, how far apart they are, and a reference picture instead
    of the text."""
    rows = torch.arange(len(faces.x))[open_to(AGE, regressor, faces.x)][:count]
    grey = torch.arange(len(faces.x))[~open_to(AGE, regressor, faces.x)][:1]
    before = faces.x[rows].repeat_interleave(VARIANTS, 0)
    found: dict[str, float] = {}
    guides = {"": embedder.embed_text([AGES[0]]), ", by a reference": embedder.embed_image(faces.x[grey])}
    for name, guide in guides.items():
        code = pada_edit(pada, faces.code[rows], faces.source.space, guide, variants=VARIANTS, seed=3)
        y = faces.decode(code, noise[rows].repeat_interleave(VARIANTS, 0), EDIT_STEPS)
        found[f"reached{name}"] = round(float(reached(regressor, AGE, before, y).float().mean()), 3)
        found[f"others{name}"] = round(float(leaked(regressor, AGE, before, y, hair=True).mean()), 4)
        if not name:
            groups = y.reshape(len(rows), VARIANTS, -1)
            apart = (groups[:, :, None] - groups[:, None]).square().mean(-1).sum((1, 2)) / (VARIANTS * (VARIANTS - 1))
            faces_apart = (faces.x[rows] - faces.x[rows].roll(1, 0)).square().mean()
            found["apart"] = round(float(apart.mean().sqrt() / faces_apart.sqrt()), 3)
    return found
