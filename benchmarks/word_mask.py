"""How well do words mark a region? ``python dev.py bench word_mask``.

*Word Mask* on pictures of held-out faces with the face text model (a U-Net), against the exact masks of mouth, eyes,
hair, glasses and background. The measure is the intersection over the union. Only faces that show the region count.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks._faces import held_out, masks
from benchmarks._report import bar, write
from core.faces.render import render
from core.measure.sheet import strip
from devtools.executor import Executor

PHRASES = {
    "mouth": ("an open mouth", "a closed mouth"),
    "eyes": ("closed eyes", "open eyes"),
    "hair": ("red hair", "blond hair", "black hair", "grey hair"),
    "glasses": ("glasses", "no glasses"),
    "background": ("a red background", "a cyan background", "a green background", "a pink background"),
}
SEED, BAR, SHOWN = 9000, 0.6, 8


@dataclass(frozen=True)
class Way:
    """A setting of the node: its method, what stands before each phrase (None: the region's name is the word), and the
    region to leave out, by region.
    """

    method: str
    before: str | None
    against: tuple[tuple[str, str], ...] = ()

    def words(self, region: str) -> str:
        """What is written into the node for a region."""
        if self.before is None:
            return region
        return " / ".join(self.before + phrase for phrase in PHRASES[region])


ATTENTION = Way("attention", None)
CONTRAST = Way("contrast", "a person with ")
AGAINST = Way("contrast", "a person with ", (("eyes", "mouth"),))
ROWS = {
    "contrast": dict.fromkeys(PHRASES, CONTRAST),
    "attention": dict.fromkeys(PHRASES, ATTENTION),
    "as the help advises": {**dict.fromkeys(PHRASES, AGAINST), "background": ATTENTION},
}
"""Advised: contrast for things, a region that lights up too named in ``against``, attention for the background."""


class Marker:
    """The node on the face text model."""

    def __init__(self, host: Executor):
        self._host = host
        self._model, self._clip = host.call("HSpaceLoadFaceTextModel")[:2]

    def mark(self, picture: Tensor, region: str, way: Way) -> Tensor:
        """The mask of a region's words on a picture `[3 h w]` in -1..1, `[h w]`."""
        against = dict(way.against).get(region)
        return self._host.call(
            "HSpaceWordMask",
            model=self._model,
            clip=self._clip,
            image=(picture.movedim(0, -1)[None] + 1) / 2,
            words=way.words(region),
            method=way.method,
            against=way.words(against) if against else "",
        )[0][0]


def overlap(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of two masks `[h w]`, each above one half."""
    a, b = mask > 0.5, truth > 0.5
    return float((a & b).sum() / (a | b).sum().clamp_min(1))


def measured(marker: Marker, faces: int, sheets: Path | None) -> dict[str, dict[str, list[float]]]:
    """Overlap of every region on every face that shows it, by row and region."""
    factors, pictures = held_out(faces, SEED)
    visible = render(factors, 64, masks=True)[1]
    exact = {**masks(factors, ("mouth", "eyes", "hair", "glasses")), "background": visible["background"]}
    found: dict[str, dict[str, list[float]]] = {row: {region: [] for region in PHRASES} for row in ROWS}
    for i, picture in enumerate(pictures):
        seen = [region for region in PHRASES if bool((visible[region][i] > 0.5).any())]
        made: dict[tuple[str, Way], Tensor] = {}
        for row, ways in ROWS.items():
            for region in seen:
                way = ways[region]
                key = (region, way if dict(way.against).get(region) else Way(way.method, way.before))
                if key not in made:
                    made[key] = marker.mark(picture, *key)
                found[row][region].append(overlap(made[key], exact[region][i]))
        if sheets is not None and i < SHOWN:
            rows = [("exact", [exact[region][i] for region in seen])]
            rows += [(f"{way.method}\n{region}", [mask]) for (region, way), mask in made.items()]
            _draw(picture, rows, seen, sheets / f"word_mask_{i}.png")
        print(f"{i + 1}/{faces} faces", flush=True)
    return found


def _draw(picture: Tensor, rows: list[tuple[str, list[Tensor]]], seen: list[str], path: Path) -> None:
    """Write masks as pictures that are dark outside of them."""
    lit = [(label, [(picture + 1) * (0.25 + 0.75 * mask) - 1 for mask in masks]) for label, masks in rows]
    sheet = strip(lit, seen)
    Image.fromarray((sheet[0] * 255).byte().numpy()).save(path)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--sheets", type=Path, help="a folder for pictures of the first faces; writes no results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Marker(Executor(Path(folder))), options.faces, options.sheets)
    rows = []
    for row, regions in found.items():
        means = {region: sum(values) / max(1, len(values)) for region, values in regions.items()}
        rows.append({"method": row, **means, "mean": sum(means.values()) / len(means)})
        print(rows[-1], flush=True)
    if options.sheets is None:
        shown = {region: len(values) for region, values in found["contrast"].items()}
        reached = bar("mean over the regions, as the help advises", rows[-1]["mean"], ">=", BAR)
        write("word_mask", {"rows": rows, "faces": options.faces, "faces that show it": shown}, [reached])


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
