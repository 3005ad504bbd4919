"""Do the embedded diffusion autoencoders carry a face in their code, and can it be edited there? ``python dev.py bench semantic_codes``.

On held-out faces: reconstruction from the inverted noise and from fresh noise (which alone shows what the code holds), linear heads,
manipulation with and without top-k truncation, text edits by DeltaEdit and PADA's samples. The regressor says what moved.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Container, Iterator
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks._codes import EDIT_STEPS, MOVED, Faces, discrete, leaked, open_to, pushed, reached
from benchmarks._faces import WEIGHTS, held_out
from benchmarks._report import bar, write
from core.edit.code_edit_io import AGEING, MAPPER, TrainedCodeEdit, load_code_edit
from core.edit.codes import direction, manipulate
from core.edit.deltaedit import delta_edit
from core.edit.heads import Heads
from core.edit.heads_io import load_heads
from core.edit.pada import pada_edit
from core.faces.code_labels import YES_NO, yes_no
from core.faces.embedder import FaceEmbedder, load_embedder
from core.faces.factors import sample
from core.faces.finish_diffae import labels
from core.faces.regressor import Regressor, load_regressor
from core.faces.seen import seen
from core.measure.auroc import auroc
from core.measure.image import ssim
from core.networks.diffae_io import load_autoencoder
from core.plots import strip
from core.train.directional import text_direction
from core.train.heads import fit_heads

MODELS = {"DiffAE": "diffae", "HDAE": "hdae"}
EDITS = ("glasses", "black hair", "blond hair", "red hair", "grey hair", "blue eyes", "green eyes", "smile", "mouth open")
SHARES = (1.0, 0.3, 0.1)
OTHER_HEADS, FITTED = ("logistic", "mean"), 6000
"""Heads that truncation is tried on too (logistic: the paper's), and the faces they are fitted to."""
STRENGTHS = (0.4, 0.7, 1.0)
"""Times the root of the number of levels: strength 1 is as long as one level's code."""
TEXTS = {
    **{n: f"face with {n}" for n in ("glasses", "black hair", "blond hair", "red hair", "grey hair", "blue eyes")},
    "smile": "smiling face", "mouth open": "face with an open mouth",
}  # fmt: skip
AGE, AGES = "grey hair", ("face with grey hair", "face with brown hair")
VARIANTS = 6
SEED, SHOWN = 5000, 0.7


@torch.no_grad()
def main() -> None:
    """Measure and write."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--faces", type=int, default=256)
    p.add_argument("--edited", type=int, default=24, help="of them, for each edit")
    p.add_argument("--steps", type=int, default=100, help="of the reconstruction")
    p.add_argument("--text-strength", type=float, default=0.7)
    p.add_argument("--relevance", type=float, default=0.5, help="share of coordinates that a text leaves alone")
    p.add_argument("--only", choices=tuple(MODELS), help="measure one model and stop")
    p.add_argument("--resume", type=Path, help="folder that figures are kept in, part by part, and from where a run goes on")
    a = p.parse_args()
    figures, tools = {}, (load_regressor(f"{WEIGHTS}/face_regressor.safetensors"), load_embedder(f"{WEIGHTS}/face_embedder.safetensors"))
    for name in [a.only] if a.only else MODELS:
        kept = a.resume and a.resume / f"{name}.json"
        figures[name] = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else {}
        for part, found in measured(name, a, *tools, done=set(figures[name])):
            figures[name][part] = found
            print(name, part, found, flush=True)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(figures[name]), encoding="utf-8")
    if a.only:
        return
    pictures({name: parts(name, held_out(a.faces, SEED)[1][:48]) for name in MODELS}, *tools, a.text_strength, a.relevance)
    rows, bars = [line(name, f) for name, f in figures.items()], [b for name, f in figures.items() for b in bars_of(name, f, a.steps)]
    write("semantic_codes", {"rows": rows, "faces": a.faces, "edited": a.edited, "steps of edits": EDIT_STEPS, **figures}, bars)


def parts(name: str, x: Tensor) -> tuple[Faces, Heads, TrainedCodeEdit, TrainedCodeEdit]:
    """A model on pictures, its heads, delta mapper and PADA."""
    stem = MODELS[name]
    faces = Faces(load_autoencoder(f"{WEIGHTS}/face_{stem}.safetensors"), x)
    heads = load_heads(f"{WEIGHTS}/edits/attributes/face_{stem}.safetensors", faces.source.space)
    mapper, pada = f"{WEIGHTS}/edits/delta_mapper/{stem}.safetensors", f"{WEIGHTS}/edits/pada/{stem}.safetensors"
    return faces, heads, load_code_edit(mapper, MAPPER), load_code_edit(pada, AGEING)


def measured(
    name: str, a: argparse.Namespace, regressor: Regressor, embedder: FaceEmbedder, done: Container[str]
) -> Iterator[tuple[str, dict]]:
    """All figures of a model, part by part, but for those that are done."""
    factors, x = held_out(a.faces, SEED)
    faces, heads, mapper, pada = parts(name, x)
    noise = cache(lambda: faces.invert(EDIT_STEPS))

    def heads_alone() -> dict[str, float]:
        scores, truth = heads.scores(faces.code), yes_no(factors)
        return {n: round(auroc(scores[:, heads.index(n)], truth[:, i]), 4) for i, n in enumerate(YES_NO)}

    def texts(relevance: float) -> dict[str, dict]:
        return dict(text_edits(faces, mapper, embedder, regressor, noise(), a.edited, a.text_strength, relevance))

    work: dict[str, Callable[[], dict]] = {
        "reconstruction": lambda: reconstruction(faces, regressor, a.steps),
        "AUROC": heads_alone,
        "manipulation": lambda: {f"{share:.0%}": dict(manipulated(faces, heads, regressor, noise(), share, a.edited)) for share in SHARES},
        "other heads": lambda: truncated(faces, regressor, noise(), a.edited // 3),
        "DeltaEdit": lambda: texts(a.relevance),
        "DeltaEdit, all coordinates": lambda: texts(0.0),
        "PADA": lambda: aged(faces, pada, embedder, regressor, noise(), min(a.edited, 24)),
    }
    yield from ((part, find()) for part, find in work.items() if part not in done)


def by_factor(told: dict[str, float]) -> dict[str, float]:
    """AUROC of each factor: the mean of its classes, one against the rest."""
    return {f: mean(v for n, v in told.items() if n.endswith(f)) for f in ("glasses", "hair", "eyes")}


def bars_of(name: str, f: dict, steps: int) -> list[dict]:
    """What the model is held to."""
    rebuilt, ages, full = f["reconstruction"], f["PADA"], f["manipulation"]["100%"]
    return [
        bar(f"{name}: SSIM from the inverted noise, T = {steps}", rebuilt["SSIM, own noise"], ">=", 0.98),
        bar(f"{name}: MSE from fresh noise", rebuilt["MSE, fresh noise"], "<=", 0.02),
        bar(f"{name}: discrete factors kept from the code alone", rebuilt["kept"], ">=", 0.9),
        bar(f"{name}: AUROC of a factor's heads, lowest", round(min(by_factor(f["AUROC"]).values()), 4), ">=", 0.95),
        bar(f"{name}: faces that an attribute edit moves, mean", round(mean(best(c)["moved"] for c in full.values()), 3), ">=", 0.9),
        bar(f"{name}: faces a text edit moves (DeltaEdit), mean", round(mean(t["moved"] for t in f["DeltaEdit"].values()), 3), ">=", 0.7),
        bar(f"{name}: PADA's variants apart, of two faces' distance", ages["apart"], ">=", 0.1),
        bar(f"{name}: other factors moved by PADA", ages["others"], "<=", 0.1),
    ]


def line(name: str, f: dict) -> dict:
    """One row of the table."""
    rebuilt, moved, texts, ages = (f[k] for k in ("reconstruction", "manipulation", "DeltaEdit", "PADA"))
    both = equally_far(moved)
    return {
        "model": name, "SSIM own noise": round(rebuilt["SSIM, own noise"], 4), "MSE own noise": round(rebuilt["MSE, own noise"], 6),
        "MSE fresh noise": round(rebuilt["MSE, fresh noise"], 4), "MSE ancestral": round(rebuilt["MSE, ancestral"], 4),
        "factors kept, code alone": round(rebuilt["kept"], 3),
        "AUROC lowest factor": round(min(by_factor(f["AUROC"]).values()), 3),
        "attribute moved": round(mean(best(c)["moved"] for c in moved["100%"].values()), 3),
        "all the way": round(mean(best(c)["reached"] for c in moved["100%"].values()), 3),
        **{f"others moved, top {share}": round(v, 4) for share, v in both.items()},
        "DeltaEdit moved": round(mean(t["moved"] for t in texts.values()), 3),
        "others moved, DeltaEdit": round(mean(t["others"] for t in texts.values()), 4),
        "the same, all coordinates": round(mean(t["others"] for t in f["DeltaEdit, all coordinates"].values()), 4),
        "PADA reached": ages["reached"], "PADA apart": ages["apart"],
    }  # fmt: skip


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


def best(curve: list[dict]) -> dict:
    """The point of a curve at which most faces have moved."""
    return max(curve, key=lambda point: (point["moved"], point["reached"]))


def reconstruction(faces: Faces, regressor: Regressor, steps: int) -> dict[str, float]:
    """From the faces' own noise, from fresh noise, and from fresh noise with new noise at every step."""
    found: dict[str, float] = {}
    fresh = faces.fresh(EDIT_STEPS)
    ways = (("own noise", faces.invert(steps), steps, 0.0), ("ancestral", fresh, EDIT_STEPS, 1.0), ("fresh noise", fresh, EDIT_STEPS, 0.0))
    for name, noise, n, eta in ways:
        y = faces.decode(faces.code, noise, n, eta)
        found |= {f"SSIM, {name}": float(ssim(y, faces.x).mean()), f"MSE, {name}": float(((y - faces.x) / 2).square().mean())}
    kept = discrete(regressor, faces.x, y)
    return {k: round(v, 6) for k, v in {**found, **{f"{k} kept": v for k, v in kept.items()}, "kept": mean(kept.values())}.items()}


def manipulated(faces: Faces, heads: Heads, regressor: Regressor, noise: Tensor, share: float, count: int) -> Iterator[tuple[str, list]]:
    """For each attribute a curve over strengths: faces moved and taken all the way, mean change of the target and of all else."""
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
        moved = {f"{share:.0%}": dict(manipulated(faces, heads, regressor, noise, share, count)) for share in (SHARES[0], SHARES[-1])}
        found[method] = {share: round(v, 4) for share, v in equally_far(moved).items()}
    return found


def judged(regressor: Regressor, name: str, before: Tensor, after: Tensor) -> dict[str, float]:
    """What an edit did to some faces."""
    far = pushed(regressor, name, before, after)
    figures = {
        "moved": (far > MOVED).float(), "reached": reached(regressor, name, before, after).float(), "target": far,
        "others": leaked(regressor, name, before, after),
    }  # fmt: skip
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
        code = delta_edit(mapper, faces.code[rows], faces.source.space, change, seen, strength=strength, quantile=relevance)
        y = faces.decode(code, noise[rows], EDIT_STEPS)
        yield name, judged(regressor, name, faces.x[rows], y)


def aged(faces: Faces, pada: TrainedCodeEdit, embedder: FaceEmbedder, regressor: Regressor, noise: Tensor, count: int) -> dict[str, float]:
    """PADA's variants: grey hair reached, other factors moved, how far apart they are, and a reference picture instead of the text."""
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


def pictures(sheets: dict, regressor: Regressor, embedder: FaceEmbedder, strength: float, relevance: float) -> None:
    """``assets/semantic_codes.png``: reconstruction and edits of three faces by both models."""
    lines = []
    heads_of = [
        "face", "own noise", "fresh noise", "ancestral", "+ glasses", "+ red hair", "+ smile", "text: grey hair", "text: open mouth",
        "PADA", "PADA",
    ]  # fmt: skip
    edits = ("glasses", "red hair", "smile", "grey hair", "mouth open")
    for name, (faces, heads, mapper, pada) in sheets.items():
        rows = torch.stack([open_to(e, regressor, faces.x) for e in edits]).all(0).nonzero()[:3, 0]
        shown = Faces(faces.source, faces.x[rows])
        code, own, seen = shown.code, shown.invert(EDIT_STEPS), embedder.embed_image(shown.x)
        made = [shown.x, shown.decode(code, own, EDIT_STEPS)]
        made += [shown.decode(code, shown.fresh(EDIT_STEPS), EDIT_STEPS, eta) for eta in (0.0, 1.0)]
        for edit in edits[:3]:
            moved = manipulate(code, heads.space, direction(heads, edit), SHOWN * heads.space.levels**0.5)
            made.append(shown.decode(moved, own, EDIT_STEPS))
        for edit in edits[3:]:
            change = text_direction(embedder, "face", TEXTS[edit])[0]
            moved = delta_edit(mapper, code, shown.source.space, change, seen, strength=strength, quantile=relevance)
            made.append(shown.decode(moved, own, EDIT_STEPS))
        variants = pada_edit(pada, code, shown.source.space, embedder.embed_text([AGES[0]]), variants=2, seed=3)
        aged_faces = shown.decode(variants, own.repeat_interleave(2, 0), EDIT_STEPS)
        made += [aged_faces[0::2], aged_faces[1::2]]
        lines += [(name if not i else "", [m[i] for m in made]) for i in range(len(rows))]
    Image.fromarray((strip(lines, heads_of)[0] * 255).round().byte().numpy()).save("assets/semantic_codes.png")


if __name__ == "__main__":
    main()
