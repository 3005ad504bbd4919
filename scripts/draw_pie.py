"""Draw a miniature PIE-Bench (arXiv 2310.01506): ``python -m scripts.draw_pie --out output/pie``.

Held-out faces, one known factor changed on each. The mask is what the change draws, before and after; the edited
picture of the renderer itself lies in ``ideal_images`` as the best that an edit can be, and ``truth.json`` says which
factor was meant to move from where to where.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import torch
from torch import Tensor

from core.faces.captions import caption
from core.faces.factors import BY_NAME, FACTORS, NAMES, Factors, from_matrix, sample, to_matrix
from core.faces.regions import region_mask
from core.faces.regressor import Regressor, measure_scores
from core.faces.render import render
from core.faces.words import HUES
from core.measure.pie_folder import IMAGES, TYPES, PieItem, encode_mask, write_folder, write_picture
from core.own_file import write_bytes

from .pie_edits import BY_EDIT, EDITS, Face

SIZE, IDEAL, TRUTH = 64, "ideal_images", "truth.json"


_PART = 0.05  # coverage from which a pixel belongs to a part


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
        chosen = next(
            (i for i, row in enumerate(pool) if edit.suits(dict(zip(NAMES, row.tolist(), strict=True)))), None
        )
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
    source, ideal = (
        (x * 255).round() / 255 for x in (source, ideal)
    )  # as files hold them, so that nothing outside a mask differs
    drawn = {p: torch.maximum(first[p], second[p]) > _PART for p in first}
    drawn["glasses"] = (
        torch.maximum(*(region_mask(f, "glasses", SIZE) for f in (before, after))) > 0
    )  # with what the lenses tint
    differs = (ideal != source).any(1)
    masks = torch.stack(
        [differs[i] | torch.stack([drawn[p][i] for p in BY_EDIT[e].parts]).any(0) for i, e in enumerate(edits)]
    ).float()
    prompts = tuple(_prompts(before, after, i, e) for i, e in enumerate(edits))
    return Made(tuple(edits), before, after, source * 2 - 1, ideal * 2 - 1, masks, prompts)


def marked(source: str, target: str) -> tuple[str, str]:
    """Mark in both prompts with ``[]`` the words that the other has not."""
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
    """Read ``truth.json`` of a folder written by :func:`write`; None for any other benchmark.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / TRUTH
    if not path.exists():
        return None
    try:
        truth = json.loads(path.read_text("utf-8"))
        for entry in truth.values():
            if BY_EDIT[entry["edit"]].factor != entry["factor"] or any(
                set(entry[k]) != set(NAMES) for k in ("before", "after")
            ):
                raise ValueError("its entries are of another version")
    except Exception as error:  # a file may hold anything
        raise ValueError(f"{path} cannot be read: {str(error)[:200]}; draw the benchmark again") from error
    return truth


def progress(regressor: Regressor, before: Tensor, after: Tensor, truth: Sequence[dict]) -> Tensor:
    """Measure how much of the way each target factor went, `[b]`: 0 not at all, 1 all of it.

    Args:
        regressor: of the face world.
        before: `[b 3 64 64]` in -1..1.
        after: the same shape.
        truth: of each picture, from :func:`read_truth`.

    Returns:
        Continuous factors and hues: the change read over the change wanted. Colours: change of the share of the wanted
        class.
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
    """Draw the benchmark into the folder that the command line names."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("output/pie"))
    p.add_argument("--items", type=int, default=40)
    p.add_argument("--seed", type=int, default=2026)
    a = p.parse_args()
    items = write(a.out, make(a.items, a.seed))
    print(f"{len(items)} edits in {a.out}")


if __name__ == "__main__":
    main()
