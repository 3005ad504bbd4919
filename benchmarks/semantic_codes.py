"""Do the embedded diffusion autoencoders carry a face in their code, and can it be edited there? ``python dev.py bench
semantic_codes``.

On held-out faces: reconstruction from the inverted noise and from fresh noise (which alone shows what the code holds),
linear heads, manipulation with and without top-k truncation, text edits by DeltaEdit and PADA's samples. The regressor
says what moved.
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

from benchmarks._codes import EDIT_STEPS, Faces, open_to
from benchmarks._faces import WEIGHTS, held_out
from benchmarks._report import bar, write
from core.edit.codes.deltaedit import delta_edit
from core.edit.codes.manipulate import direction, manipulate
from core.edit.codes.pada import pada_edit
from core.faces.code_labels import YES_NO, yes_no
from core.faces.embedder import FaceEmbedder, load_embedder
from core.faces.regressor import Regressor, load_regressor
from core.files.code_edits import TrainedCodeEdit, load_code_edit
from core.files.diffae import load_autoencoder
from core.files.heads import load_heads
from core.files.kinds import DELTAEDIT, PADA
from core.measure.auroc import auroc
from core.measure.sheet import strip
from core.networks.heads import Heads
from core.train.directional import text_direction

from ._code_edits import (
    AGES,
    SEED,
    SHARES,
    SHOWN,
    TEXTS,
    aged,
    equally_far,
    manipulated,
    mean,
    reconstruction,
    text_edits,
    truncated,
)

MODELS = {"DiffAE": "diffae", "HDAE": "hdae"}


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
    p.add_argument(
        "--resume", type=Path, help="folder that figures are kept in, part by part, and from where a run goes on"
    )
    a = p.parse_args()
    figures, tools = (
        {},
        (
            load_regressor(f"{WEIGHTS}/face_regressor.safetensors"),
            load_embedder(f"{WEIGHTS}/face_embedder.safetensors"),
        ),
    )
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
    pictures(
        {name: parts(name, held_out(a.faces, SEED)[1][:48]) for name in MODELS}, *tools, a.text_strength, a.relevance
    )
    rows, bars = (
        [line(name, f) for name, f in figures.items()],
        [b for name, f in figures.items() for b in bars_of(name, f, a.steps)],
    )
    write(
        "semantic_codes",
        {"rows": rows, "faces": a.faces, "edited": a.edited, "steps of edits": EDIT_STEPS, **figures},
        bars,
    )


def parts(name: str, x: Tensor) -> tuple[Faces, Heads, TrainedCodeEdit, TrainedCodeEdit]:
    """A model on pictures, its heads, delta mapper and PADA."""
    stem = MODELS[name]
    faces = Faces(load_autoencoder(f"{WEIGHTS}/face_{stem}.safetensors"), x)
    heads = load_heads(f"{WEIGHTS}/edits/attributes/face_{stem}.safetensors", faces.source.space)
    mapper, pada = f"{WEIGHTS}/edits/delta_mapper/{stem}.safetensors", f"{WEIGHTS}/edits/pada/{stem}.safetensors"
    return faces, heads, load_code_edit(mapper, DELTAEDIT), load_code_edit(pada, PADA)


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
        "manipulation": lambda: {
            f"{share:.0%}": dict(manipulated(faces, heads, regressor, noise(), share, a.edited)) for share in SHARES
        },
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
        bar(
            f"{name}: faces that an attribute edit moves, mean",
            round(mean(best(c)["moved"] for c in full.values()), 3),
            ">=",
            0.9,
        ),
        bar(
            f"{name}: faces a text edit moves (DeltaEdit), mean",
            round(mean(t["moved"] for t in f["DeltaEdit"].values()), 3),
            ">=",
            0.7,
        ),
        bar(f"{name}: PADA's variants apart, of two faces' distance", ages["apart"], ">=", 0.1),
        bar(f"{name}: other factors moved by PADA", ages["others"], "<=", 0.1),
    ]


def line(name: str, f: dict) -> dict:
    """One row of the table."""
    rebuilt, moved, texts, ages = (f[k] for k in ("reconstruction", "manipulation", "DeltaEdit", "PADA"))
    both = equally_far(moved)
    return {
        "model": name,
        "SSIM own noise": round(rebuilt["SSIM, own noise"], 4),
        "MSE own noise": round(rebuilt["MSE, own noise"], 6),
        "MSE fresh noise": round(rebuilt["MSE, fresh noise"], 4),
        "MSE ancestral": round(rebuilt["MSE, ancestral"], 4),
        "factors kept, code alone": round(rebuilt["kept"], 3),
        "AUROC lowest factor": round(min(by_factor(f["AUROC"]).values()), 3),
        "attribute moved": round(mean(best(c)["moved"] for c in moved["100%"].values()), 3),
        "all the way": round(mean(best(c)["reached"] for c in moved["100%"].values()), 3),
        **{f"others moved, top {share}": round(v, 4) for share, v in both.items()},
        "DeltaEdit moved": round(mean(t["moved"] for t in texts.values()), 3),
        "others moved, DeltaEdit": round(mean(t["others"] for t in texts.values()), 4),
        "the same, all coordinates": round(mean(t["others"] for t in f["DeltaEdit, all coordinates"].values()), 4),
        "PADA reached": ages["reached"],
        "PADA apart": ages["apart"],
    }


def best(curve: list[dict]) -> dict:
    """The point of a curve at which most faces have moved."""
    return max(curve, key=lambda point: (point["moved"], point["reached"]))


def pictures(sheets: dict, regressor: Regressor, embedder: FaceEmbedder, strength: float, relevance: float) -> None:
    """``assets/semantic_codes.png``: reconstruction and edits of three faces by both models."""
    lines = []
    heads_of = [
        "face",
        "own noise",
        "fresh noise",
        "ancestral",
        "+ glasses",
        "+ red hair",
        "+ smile",
        "text: grey hair",
        "text: open mouth",
        "PADA",
        "PADA",
    ]
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
