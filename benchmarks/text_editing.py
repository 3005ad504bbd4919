"""Text-guided editing on a folder in PIE-Bench's format, by graphs in a real ComfyUI. ``python dev.py bench
text_editing``.

Without ``--folder`` it is the miniature benchmark of the face world (``scripts/draw_pie.py``), where the factor that
was meant to move is known. A method is a function from an item to a graph: see ``_text_methods.py``. Two rows are no
methods: the untouched source, and in the face world the renderer's own edited picture. All others lie between them.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks._faces import WEIGHTS
from benchmarks._report import bar, read, write
from benchmarks._text_methods import METHODS, SAVE, Method, Setup, node
from core.faces.embedder import load_embedder
from core.faces.factors import NAMES
from core.faces.regressor import factor_change, load_regressor
from core.faces.structure import FaceFeatures
from core.files.dino import load_dino
from core.files.lpips import load_lpips
from core.measure.pie import Instruments, Prompts, means, measure_pie
from core.measure.pie_folder import IMAGES, PieItem, read_folder, read_picture, write_picture
from core.measure.sheet import strip
from devtools import host
from devtools.server import Server
from scripts.draw_pie import IDEAL, make, progress, read_truth
from scripts.draw_pie import write as write_benchmark
from scripts.pie_edits import BY_EDIT

SOURCE, BEST = "source itself", "ideal (renderer)"
DIAL = "FlowEdit"
"""How the rows of the strength dial begin."""
FAITHFUL = 33.0
"""PSNR outside, dB; above it lie rows of Prompt-to-Prompt alone."""
SHOWN = 128  # pixels of a picture on the sheet

ORDERS = (
    ("DirectInversion + P2P", "DDIM + P2P", "PSNR outside", 6.0),
    ("edit-friendly DDPM", "DDIM inversion", "PSNR outside", 0.0),
    ("edit-friendly DDPM", "DDIM inversion", "target moved", 0.0),
)
"""First method, second, figure, and by how much the first is expected to be ahead; held against the figures when both
were run."""


def main() -> None:
    """Run, measure and write."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument(
        "--folder", type=Path, help="in PIE-Bench's format; default: the face world's, drawn into output/pie"
    )
    p.add_argument("--items", type=int, default=40)
    p.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME", help=", ".join(METHODS)
    )
    p.add_argument("--add", action="store_true", help="keep the stored rows of other methods, measured before")
    p.add_argument("--checkpoint", help="of models/checkpoints, for other pictures than the face world's")
    p.add_argument("--dino", type=Path, help="dino_vitbase8_pretrain.pth, for the structure distance of papers")
    p.add_argument("--lpips", type=Path, help="LPIPS on SqueezeNet, see the help of Edit Metrics")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--cfg", type=float, default=3.0)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    if a.folder is None:
        a.folder = Path("output/pie")
        write_benchmark(a.folder, make(a.items))
    items = read_folder(a.folder)[: a.items]
    loader = node("CheckpointLoaderSimple", ckpt_name=a.checkpoint) if a.checkpoint else node("HSpaceLoadFaceTextModel")
    setup = Setup(loader, a.steps, a.cfg, a.seed, small=a.checkpoint is None)
    judge = Judge(a.folder, items, a.dino, a.lpips)
    pictures: dict[str, Sequence[Tensor]] = {SOURCE: judge.sources}
    rows = [judge.row(SOURCE, judge.sources, 0.0)]
    for name, edited, seconds in run({name: METHODS[name] for name in a.methods}, items, setup):
        pictures[name] = edited
        rows.append(judge.row(name, edited, seconds))
        print(rows[-1], flush=True)
    if judge.ideal:
        pictures[BEST] = judge.ideal
        rows.append(judge.row(BEST, judge.ideal, 0.0))
    before = read("text_editing") if a.add else {}
    if before:
        rows = merged(before["figures"]["rows"], rows)
    else:
        sheet(pictures, judge.names)
    facts = {
        "rows": rows,
        "items": len(items),
        "steps": a.steps,
        "cfg": a.cfg,
        "structure seen by": judge.features.name,
    }
    if before:
        added = before["figures"].get("the other rows", {key: before[key] for key in ("command", "commit")})
        facts |= {"seed": a.seed, "the other rows": added}
    write("text_editing", facts, bars(rows))


def merged(stored: Sequence[dict], measured: Sequence[dict]) -> list[dict]:
    """Stored rows with those of the methods that were measured now, in the order of :data:`METHODS`."""
    found = {row["method"]: row for row in [*stored, *measured]}
    order = [SOURCE, *METHODS, BEST]
    return [found[name] for name in order if name in found]


def run(
    methods: Mapping[str, Method], items: Sequence[PieItem], setup: Setup
) -> Iterator[tuple[str, list[Tensor], float]]:
    """Of each method its name, the edited pictures and the median of the seconds that one took."""
    host.ensure_host()
    with Server("text_editing", fresh=setup.small) as process, process.client() as client:
        for item in items:
            write_picture(process.input / f"{item.key}.png", item.image())  # where the host's loader finds it
        for name, method in methods.items():
            edited, seconds = [], []
            for item in items:
                started = time.perf_counter()
                result = client.queue(method(item, setup), timeout=3600)
                seconds.append(time.perf_counter() - started)
                data = client.view(result.outputs[SAVE]["images"][-1])  # the last row of a batch is the edit
                pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
                edited.append(torch.from_numpy(pixels).movedim(-1, 0).float() / 127.5 - 1)
            yield name, edited, statistics.median(seconds)


class Judge:
    """Everything that is measured about a method's pictures.

    Args:
        folder: of the benchmark.
        items: of it.
        dino: file, None: the face world's stand-in.
        lpips: file, None: not measured.
    """

    def __init__(self, folder: Path, items: Sequence[PieItem], dino: Path | None, lpips: Path | None):
        self.items, self.sources = items, [i.image() for i in items]
        truth = read_truth(folder)
        self.truth = [truth[i.key] for i in items] if truth else None
        self.names = [t["edit"] for t in self.truth] if self.truth else [i.target_prompt for i in items]
        self.ideal = (
            [read_picture(folder / IDEAL / i.path.relative_to(folder / IMAGES)) for i in items] if truth else []
        )
        self.regressor = load_regressor(f"{WEIGHTS}/face_regressor.safetensors")
        self.features = load_dino(dino) if dino else FaceFeatures(self.regressor)
        self.lpips = load_lpips(lpips) if lpips else None
        self.embedder = load_embedder(f"{WEIGHTS}/face_embedder.safetensors") if truth else None

    @torch.no_grad()
    def row(self, name: str, edited: Sequence[Tensor], seconds: float) -> dict:
        """Means over the items, on the scales of the benchmark's tables."""
        scores: dict[str, list[Tensor]] = {}
        for item, before, after in zip(self.items, self.sources, edited, strict=True):
            mask = item.mask(*before.shape[-2:])
            one = measure_pie(
                before[None],
                after[None],
                mask,
                Instruments(self.features, self.lpips, self.embedder),
                Prompts([item.source_prompt], [item.target_prompt]),
            )
            for key, value in one.items():
                scores.setdefault(key, []).append(value)
        mean = means({key: torch.cat(values) for key, values in scores.items()})
        shown = {
            "structure x1e3": (mean["structure_distance"], 1e3),
            "PSNR unedit part": (mean["psnr_unedit_part"], 1),
            "PSNR outside": (mean["psnr_outside"], 1),
            "MSE outside x1e4": (mean["mse_outside"], 1e4),
            "SSIM outside x1e2": (mean["ssim_outside"], 1e2),
            "LPIPS outside x1e3": (mean.get("lpips_outside"), 1e3),
            "CLIP": (mean.get("clip_similarity_target_image"), 1),
            "CLIP edited": (mean.get("clip_similarity_target_image_edit_part"), 1),
        }
        found: dict = {
            "method": name,
            **{key: round(value * scale, 2) for key, (value, scale) in shown.items() if value is not None},
        }
        if self.truth:
            x, y = torch.stack(self.sources), torch.stack(list(edited))
            went = progress(self.regressor, x, y, self.truth)
            change = factor_change(self.regressor, x / 2 + 0.5, y.clamp(-1, 1) / 2 + 0.5)
            others = []
            for i, entry in enumerate(self.truth):
                meant = {entry["factor"], *BY_EDIT[entry["edit"]].tied}
                others.append(torch.stack([change[n][i].abs() for n in NAMES if n not in meant]).mean())
            # One edit that overshoots must not pay for another that did nothing.
            found |= {
                "target moved": round(float(went.clamp(-1, 1).mean()), 3),
                "reached half": round(float((went > 0.5).float().mean()), 3),
                "others moved": round(float(torch.stack(others).mean()), 4),
            }
        return {**found, "s": round(seconds, 2)}


def bars(rows: Sequence[dict]) -> list[dict]:
    """The expected orders of methods that were run, and that the instrument itself can be trusted."""
    by = {row["method"]: row for row in rows}
    found = []
    for first, second, figure, ahead in ORDERS:
        if unknown := {first, second} - set(METHODS):
            raise ValueError(f"no method is called {sorted(unknown)}")
        if first in by and second in by:
            found.append(
                bar(
                    f"{figure}: {first} ahead of {second}",
                    round(by[first][figure] - by[second][figure], 3),
                    ">=",
                    ahead,
                )
            )
    dial = sorted((row["PSNR outside"], row["target moved"]) for name, row in by.items() if name.startswith(DIAL))
    rivals = [row for name, row in by.items() if name not in (SOURCE, BEST) and not name.startswith(DIAL)]
    if len(dial) > 1 and rivals:
        ahead = {row["method"]: round(moved_at(dial, row["PSNR outside"]) - row["target moved"], 3) for row in rivals}
        found.append(
            bar("target moved: FlowEdit's dial ahead of every row at its PSNR", min(ahead.values()), ">=", 0.0)
        )
        up_to = [ahead[row["method"]] for row in rivals if row["PSNR outside"] <= FAITHFUL]
        if up_to:
            found.append(bar(f"the same, of rows up to {FAITHFUL:g} dB", min(up_to), ">=", 0.0))
    if BEST in by:
        found.append(bar("target moved by the renderer's own edit", by[BEST]["target moved"], ">=", 0.95))
        found.append(bar("PSNR outside of the renderer's own edit, dB", by[BEST]["PSNR outside"], ">=", 119))
    return found


def moved_at(dial: Sequence[tuple[float, float]], psnr: float) -> float:
    """How far the target moves at a PSNR, between the rows (PSNR, moved) of a dial that rise in PSNR.

    Beyond its ends it is as at the end: above the highest PSNR that is more than the dial reaches.
    """
    found = np.interp(psnr, [row[0] for row in dial], [row[1] for row in dial])
    return round(float(found), 3)


def sheet(pictures: dict[str, Sequence[Tensor]], names: Sequence[str], most: int = 10) -> None:
    """The first items, a column each, and a row for every method."""
    lines = [(name, found[:most]) for name, found in pictures.items()]
    shapes = {picture.shape for _, row in lines for picture in row}
    if len(shapes) == 1:
        image = strip(lines, names[:most], scale=SHOWN / shapes.pop()[-1])[0]
        Image.fromarray((image * 255).round().byte().numpy()).save("assets/text_editing.png")


if __name__ == "__main__":
    main()
