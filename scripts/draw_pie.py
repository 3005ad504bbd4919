"""A miniature benchmark in the format of PIE-Bench, drawn: ``python -m core.faces.pie --out output/pie`` (arXiv 2310.01506 for the format).

Held-out faces, one known factor changed on each. The mask is what the change draws, before and after; the edited picture of the renderer
itself lies in ``ideal_images`` as the best that an edit can be, and ``truth.json`` says which factor was meant to move from where to where.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import torch
from torch import Tensor

from ..measure.pie_folder import IMAGES, TYPES, PieItem, encode_mask, write_folder, write_picture
from ..own_file import write_bytes
from .captions import caption
from .factors import BY_NAME, EYE_COLORS, FACTORS, HAIR_COLORS, NAMES, Factors, from_matrix, sample, to_matrix
from .regions import region_mask
from .regressor import Regressor, measure_scores
from .render import render
from .words import HUES

SIZE, IDEAL, TRUTH = 64, "ideal_images", "truth.json"
_PART = 0.05  # coverage from which a pixel belongs to a part
Face = dict[str, float]


@dataclass(frozen=True)
class Edit:
    """One kind of edit.

    Attributes:
        name: of the edit.
        kind: ``editing_type_id``.
        factor: that changes.
        parts: of the picture that it draws.
        suits: whether a face can be edited so.
        target: new value of the factor.
        instruction: the edit as a command.
        blended: ``blended_word``; empty: the words that the prompts mark.
        tied: other factors that may move with it.
    """

    name: str
    kind: int
    factor: str
    parts: tuple[str, ...]
    suits: Callable[[Face], bool]
    target: Callable[[Face, random.Random], float]
    instruction: str
    blended: str = ""
    tied: tuple[str, ...] = ()


def _place(face: Face) -> float:
    return face["bg_hue"] * len(HUES)


def _far_hue(face: Face, rng: random.Random) -> float:
    return (round(_place(face)) + rng.choice((2, 3, 4))) % len(HUES) / len(HUES)


def _recoloured(factor: str, count: int) -> Callable[[Face, random.Random], float]:
    return lambda f, rng: float(rng.choice([i for i in range(count) if i != int(f[factor])]))


def _to(value: float) -> Callable[[Face, random.Random], float]:
    return lambda f, rng: value


EDITS = (
    Edit("hair color", 6, "hair_color", ("hair", "brows"), lambda f: True, _recoloured("hair_color", len(HAIR_COLORS)),
         "change the color of the hair", "hair hair", ("hair_shade",)),
    Edit("add glasses", 2, "glasses", ("glasses",), lambda f: f["glasses"] < 0.5, _to(1.0), "add glasses", "glasses", ("eye_open",)),
    Edit("smile", 4, "smile", ("mouth",), lambda f: f["smile"] < -0.4 or abs(f["smile"]) < 0.2, _to(0.85),
         "make the person smile", tied=("mouth_open",)),
    Edit("open mouth", 5, "mouth_open", ("mouth",), lambda f: f["mouth_open"] < 0.05, _to(0.85), "open the mouth", "mouth", ("smile",)),
    Edit("background", 8, "bg_hue", ("background",), lambda f: abs(_place(f) - round(_place(f))) < 0.35, _far_hue,
         "change the color of the background", "background background"),
    Edit("remove glasses", 3, "glasses", ("glasses",),
         lambda f: f["glasses"] > 0.5, _to(0.0), "remove the glasses", "glasses", ("eye_open",)),
    Edit("frown", 4, "smile", ("mouth",), lambda f: f["smile"] > 0.4 or abs(f["smile"]) < 0.2, _to(-0.85),
         "make the person frown", tied=("mouth_open",)),
    Edit("eye color", 6, "eye_color", ("eyes",), lambda f: f["eye_open"] > 0.6, _recoloured("eye_color", len(EYE_COLORS)),
         "change the color of the eyes", "eyes eyes", ("gaze",)),
    Edit("close eyes", 5, "eye_open", ("eyes",), lambda f: f["eye_open"] > 0.6, _to(0.2), "close the eyes", "eyes eyes",
         ("gaze", "eye_color")),
    Edit("hair length", 4, "hair_length", ("hair",), lambda f: f["hair_length"] > 0.65 or f["hair_length"] < 0.27,
         lambda f, rng: 0.1 if f["hair_length"] > 0.5 else 0.9, "change the length of the hair", "hair hair"),
)  # fmt: skip
BY_EDIT = {e.name: e for e in EDITS}


@dataclass(frozen=True)
class Made:
    """Items of the benchmark and what is known about them; pictures `[n 3 64 64]` in -1..1, masks `[n 64 64]`."""

    edits: tuple[str, ...]
    before: Factors
    after: Factors
    source: Tensor
    ideal: Tensor
    masks: Tensor
    prompts: tuple[tuple[str, str], ...]


def make(items: int = 40, seed: int = 2026) -> Made:
    """Draw the benchmark; the kinds of edit take turns.

    Args:
        items: how many.
        seed: of the faces and of what they are changed to.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311 - which faces, no secret
    rows, changed, edits = [], [], []
    pool: list[Tensor] = []
    while len(rows) < items:
        edit = EDITS[len(rows) % len(EDITS)]
        if not pool:
            pool = list(to_matrix(sample(64, generator, held_out=True)))
        chosen = next((i for i, row in enumerate(pool) if edit.suits(dict(zip(NAMES, row.tolist(), strict=True)))), None)
        if chosen is None:
            pool = []
            continue
        row = pool.pop(chosen)
        new = row.clone()
        new[NAMES.index(edit.factor)] = edit.target(dict(zip(NAMES, row.tolist(), strict=True)), rng)
        rows.append(row)
        changed.append(new)
        edits.append(edit.name)
    before, after = from_matrix(torch.stack(rows)), from_matrix(torch.stack(changed))
    (source, first), (ideal, second) = (render(f, SIZE, masks=True) for f in (before, after))
    source, ideal = ((x * 255).round() / 255 for x in (source, ideal))  # as files hold them, so that nothing outside a mask differs
    drawn = {p: torch.maximum(first[p], second[p]) > _PART for p in first}
    drawn["glasses"] = torch.maximum(*(region_mask(f, "glasses", SIZE) for f in (before, after))) > 0  # with what the lenses tint
    differs = (ideal != source).any(1)
    masks = torch.stack([differs[i] | torch.stack([drawn[p][i] for p in BY_EDIT[e].parts]).any(0) for i, e in enumerate(edits)]).float()
    prompts = tuple(_prompts(before, after, i, e) for i, e in enumerate(edits))
    return Made(tuple(edits), before, after, source * 2 - 1, ideal * 2 - 1, masks, prompts)


def marked(source: str, target: str) -> tuple[str, str]:
    """Both prompts with ``[]`` around the words that the other has not."""
    a, b = source.split(), target.split()
    first, second = [], []
    for tag, i, j, k, l in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for words, out in ((a[i:j], first), (b[k:l], second)):
            if words:
                out.append(" ".join(words) if tag == "equal" else f"[{' '.join(words)}]")
    return " ".join(first), " ".join(second)


def write(folder: Path, made: Made) -> list[PieItem]:
    """Write pictures, ``mapping_file.json`` and ``truth.json``."""
    items, truth = [], {}
    for i, name in enumerate(made.edits):
        edit, key = BY_EDIT[name], f"{i:012d}"
        place = f"{edit.kind}_{TYPES[edit.kind].replace(' ', '_')}/{key}.png"
        write_picture(folder / IMAGES / place, made.source[i])
        write_picture(folder / IDEAL / place, made.ideal[i])
        runs = tuple(encode_mask(made.masks[i]))
        source, target = made.prompts[i]
        blended = edit.blended or " ".join(re.findall(r"\[(\w+)\]", f"{source} {target}"))
        items.append(PieItem(key, folder / IMAGES / place, source, target, edit.instruction, edit.kind, blended, runs))
        truth[key] = {
            "edit": name,
            "factor": edit.factor,
            **{k: _values(f, i) for k, f in (("before", made.before), ("after", made.after))},
        }
    write_folder(folder, items)
    write_bytes(folder / TRUTH, (json.dumps(truth, indent=1) + "\n").encode())
    return items


def read_truth(folder: Path) -> dict[str, dict] | None:
    """``truth.json`` of a folder written by :func:`write`; None for any other benchmark.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / TRUTH
    if not path.exists():
        return None
    try:
        truth = json.loads(path.read_text("utf-8"))
        for entry in truth.values():
            if BY_EDIT[entry["edit"]].factor != entry["factor"] or any(set(entry[k]) != set(NAMES) for k in ("before", "after")):
                raise ValueError("its entries are of another version")
    except Exception as error:  # a file may hold anything
        raise ValueError(f"{path} cannot be read: {str(error)[:200]}; draw the benchmark again") from error
    return truth


def progress(regressor: Regressor, before: Tensor, after: Tensor, truth: Sequence[dict]) -> Tensor:
    """How much of the way each target factor went, as read off the pictures, `[b]`: 0 not at all, 1 all of it.

    Args:
        regressor: of the face world.
        before: `[b 3 64 64]` in -1..1.
        after: the same shape.
        truth: of each picture, from :func:`read_truth`.

    Returns:
        Continuous factors and hues: the change read over the change wanted. Colours: change of the share of the wanted class.
    """
    a, b = (measure_scores(regressor, x.clamp(-1, 1) / 2 + 0.5) for x in (before, after))
    found = []
    for i, entry in enumerate(truth):
        f, start, end = BY_NAME[entry["factor"]], *(entry[k][entry["factor"]] for k in ("before", "after"))
        moved, wanted = b[f.name][i] - a[f.name][i], end - start
        if f.classes > 2:
            found.append(moved[int(end)])
        elif f.circular:
            found.append(((moved + 0.5) % 1.0 - 0.5) / ((wanted + 0.5) % 1.0 - 0.5))
        else:
            found.append(moved / wanted)
    return torch.stack(found)


def _prompts(before: Factors, after: Factors, i: int, name: str) -> tuple[str, str]:
    said = [caption(f, i) for f in (before, after)]
    if name == "background":
        hues = [HUES[round(float(f["bg_hue"][i]) * len(HUES)) % len(HUES)] for f in (before, after)]
        said = [f"{text} and a {hue} background" for text, hue in zip(said, hues, strict=True)]
    return marked(*said)


def _values(factors: Factors, i: int) -> Face:
    return {f.name: round(float(factors[f.name][i]), 6) for f in FACTORS}


def main() -> None:
    """Command line entry."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("output/pie"))
    p.add_argument("--items", type=int, default=40)
    p.add_argument("--seed", type=int, default=2026)
    a = p.parse_args()
    items = write(a.out, make(a.items, a.seed))
    print(f"{len(items)} edits in {a.out}")


if __name__ == "__main__":
    main()
