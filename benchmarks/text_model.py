"""Does the face text model draw what its prompt says? ``python dev.py bench text_model``.

Captions of held-out faces, sampled by the host's own sampler with guidance; the attribute regressor says which of the
caption's discrete factors the pictures show. The same judge on the renderer's own pictures is the most that can be
reached, on pictures of other captions the least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks._faces import WEIGHTS, held_out
from benchmarks._report import bar, write
from core.faces.captions import caption
from core.faces.factors import EYE_COLORS, HAIR_COLORS, Factors
from core.faces.regressor import load_regressor, measure
from core.measure.sheet import strip
from devtools.inprocess import host, pack

FACTORS = ("mood", "hair color", "hair length", "glasses", "eyes", "mouth")
BAR, BATCH = 0.8, 32


def judge(said: Factors, seen: Factors) -> dict[str, Tensor]:
    """Which of the factors that the captions speak of are right, name -> `[b]`: 1, 0, or NaN where nothing was said.

    Args:
        said: factors behind the captions.
        seen: factors read off the pictures.
    """

    def mood(f: Factors) -> Tensor:
        return (f["smile"] > 0.35).long() - (f["smile"] < -0.35).long()

    def length(f: Factors) -> Tensor:
        return (f["hair_length"] > 0.62).long() - (f["hair_length"] < 0.3).long()

    closed = said["eye_open"] < 0.35
    right = {
        "mood": mood(said) == mood(seen),
        "hair color": said["hair_color"].long() == seen["hair_color"].long(),
        "hair length": length(said) == length(seen),
        "glasses": (said["glasses"] > 0.5) == (seen["glasses"] > 0.5),
        "eyes": torch.where(closed, seen["eye_open"] < 0.35, said["eye_color"].long() == seen["eye_color"].long()),
        "mouth": (said["mouth_open"] > 0.45) == (seen["mouth_open"] > 0.45),
    }
    found = {name: value.float() for name, value in right.items()}
    found["hair length"][length(said) == 0] = torch.nan
    return found


def sampler(checkpoint: str, a: argparse.Namespace) -> Callable[[list[str], int], Tensor]:
    """``run(captions, seed)`` -> pictures `[b 3 64 64]` in -1..1, made as a stock KSampler makes them."""
    host(a.device == "cpu")
    sample = import_module("comfy.sample")
    parts = pack("nodes.host.model.face_text")
    model, clip = parts.load_face_text(Path(checkpoint))

    def encode(texts: list[str]) -> list:
        return [[torch.cat([clip.encode_from_tokens(clip.tokenize(t)) for t in texts]), {}]]

    def run(texts: list[str], seed: int) -> Tensor:
        empty = torch.zeros(len(texts), 3, parts.SIZE, parts.SIZE)
        noise = sample.prepare_noise(empty, seed)
        prompts = encode(texts), encode([""])
        return sample.sample(
            model, noise, a.steps, a.cfg, a.sampler, a.scheduler, *prompts, empty, seed=seed, disable_pbar=True
        ).cpu()

    return run


@torch.inference_mode()
def main() -> None:
    """Measure and write."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--samples", type=int, default=256)
    p.add_argument("--cfg", type=float, default=3.0)
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--sampler", default="euler")
    p.add_argument("--scheduler", default="karras")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--weights", default=f"{WEIGHTS}/face_text.safetensors", help="checkpoint to measure")
    a = p.parse_args()
    faces, drawn = held_out(a.samples, 4000 + a.seed)
    captions = [caption(faces, i) for i in range(a.samples)]
    run, regressor = sampler(a.weights, a), load_regressor(f"{WEIGHTS}/face_regressor.safetensors")
    started, made = time.perf_counter(), []
    for at in range(0, a.samples, BATCH):
        made.append(run(captions[at : at + BATCH], a.seed + at))
        print(f"{at + len(made[-1])}/{a.samples} samples", flush=True)
    pictures, seconds = torch.cat(made).clamp(-1, 1), time.perf_counter() - started
    others = {name: v.roll(1) for name, v in faces.items()}
    rows, share = [], {}
    for name, said, x in (
        ("samples", faces, pictures),
        ("renderer", faces, drawn),
        ("other captions", others, pictures),
    ):
        right = judge(said, measure(regressor, x / 2 + 0.5))
        share[name] = float(torch.cat(list(right.values())).nanmean())
        rows.append(
            {
                "pictures": name,
                "all": round(share[name], 3),
                **{f: round(float(right[f].nanmean()), 3) for f in FACTORS},
            }
        )
        print(rows[-1], flush=True)
    sheet(pictures, captions, judge(faces, measure(regressor, pictures / 2 + 0.5)))
    write(
        "text_model",
        {
            "rows": rows,
            "samples": a.samples,
            "cfg": a.cfg,
            "steps": a.steps,
            "sampler": f"{a.sampler}, {a.scheduler}",
            "seconds a sample": round(seconds / a.samples, 3),
            "trained": trained(a.weights),
            "hair": HAIR_COLORS,
            "eyes": EYE_COLORS,
        },
        [bar(f"discrete factors of the caption right, cfg {a.cfg:g}", round(share["samples"], 3), ">=", BAR)],
    )


def trained(checkpoint: str) -> dict:
    """What the file says about its training."""
    import json

    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as f:
        facts = json.loads((f.metadata() or {}).get("hspace", "{}"))
    return {k: facts[k] for k in ("images", "minutes", "device") if k in facts}


def sheet(pictures: Tensor, captions: list[str], right: dict[str, Tensor], rows: int = 4, columns: int = 3) -> None:
    """The first samples beside their captions, with what is wrong about them."""
    blocks = []
    for first in range(0, rows * columns, rows):
        lines = []
        for i in range(first, min(first + rows, len(captions))):
            who, _, rest = captions[i].partition(" with ")
            wrong = [name for name, value in right.items() if value[i] == 0]
            lines.append(
                (
                    "\n".join([who, *rest.split(" and "), *([f"(not {', '.join(wrong)})"] if wrong else [])]),
                    [pictures[i]],
                )
            )
        blocks.append(strip(lines)[0])
    tall = max(len(b) for b in blocks)
    blocks = [torch.cat([b, b[:1, :1].expand(tall - len(b), b.shape[1], 3)]) for b in blocks]
    Image.fromarray((torch.cat(blocks, 1) * 255).round().byte().numpy()).save("assets/face_text.png")


if __name__ == "__main__":
    main()
