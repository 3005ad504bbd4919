"""Photographs: is a picture of the model's world, and what Paste Back keeps. ``python dev.py bench photo``.

Photographs and textures are those that scikit-image brings (none is downloaded), and drawn textures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._faces import WEIGHTS, held_out, karras, masks, models
from benchmarks._report import bar, write
from core.edit.directions.shift import Edit
from core.edit.directions.steer import SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.faces.regressor import FOREIGN, misfit
from core.files.directions import load_directions
from core.invert.fixed_point import invert_fixed_point
from core.measure.domain import USUAL, compare, denoising_error
from core.measure.known_worlds import KNOWN_WORLDS
from core.photo.crop import crop
from core.photo.paste import paste_difference
from core.photo.placement import Placement
from core.photo.whole import fit_picture, plan_fit
from core.pictures import read_pixels
from core.sample import reconstruct

SIDE, FACES = 64, 500
SKIPPED = ("multipage", "no_time", "lbpcascade", "motorcycle_disp", "microaneurysms")
PARTS = 3  # squares cut out of each photograph beside its middle
FEATHER = 0.06
SCALE, GRAIN, BORDER = 6, 0.04, 60  # of the photograph that is edited: pixels a pixel of the face, noise, and around it


def photographs() -> dict[str, list[Tensor]]:
    """Pictures `[1 3 64 64]` in -1..1 by kind."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("this benchmark takes the photographs of scikit-image: pip install 'scikit-image>=0.22'")
    folder = Path(spec.origin).parent / "data"
    files = [f for f in sorted(folder.glob("*.[pj][np]g")) if not f.name.startswith(SKIPPED)]
    faces = torch.from_numpy(np.load(folder / "lfw_subset.npy")).float()[:100, None].expand(-1, 3, -1, -1)
    return {
        "photographs and textures of scikit-image, whole": [fitted(read(f)) for f in files],
        "parts of them": [part for f in files for part in parts(read(f))],
        "faces of LFW": [fitted(face[None]) for face in faces],
        "drawn textures": [fitted(t) for t in textures()],
    }


def read(file: Path) -> Tensor:
    """A picture, `[1 3 h w]` in 0..1."""
    return read_pixels(file)[None].float() / 255


def fitted(picture: Tensor) -> Tensor:
    """The middle of a picture at the model's size, in -1..1, as Invert Image fits it."""
    plan = plan_fit((picture.shape[2], picture.shape[3]), SIDE, 8, "crop", True)
    return (picture if plan is None else fit_picture(picture, plan)).clamp(0, 1) * 2 - 1


def parts(picture: Tensor) -> Iterator[Tensor]:
    """Squares of a picture at random places, as Fit Photo would cut them."""
    g = torch.Generator().manual_seed(picture.shape[2] * 4099 + picture.shape[3])
    height, width = picture.shape[-2:]
    for _ in range(PARTS):
        side = int(min(height, width) * (0.4 + 0.5 * float(torch.rand((), generator=g))))
        top, left = (int(float(torch.rand((), generator=g)) * (n - side)) for n in (height, width))
        yield fitted(picture[..., top : top + side, left : left + side])


def textures() -> Iterator[Tensor]:
    """Noise, stripes, boards, ramps and plain colours, `[1 3 128 128]` in 0..1."""
    g = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    for coarse in (1, 4, 16):
        yield F.interpolate(torch.rand(1, 3, 128 // coarse, 128 // coarse, generator=g), (128, 128), mode="bilinear")
    for period in (6.0, 16.0, 40.0):
        yield (0.5 + 0.5 * torch.sin(2 * math.pi * x / period)).expand(1, 3, 128, 128)
        yield ((x // period + y // period) % 2).expand(1, 3, 128, 128)
    for angle in (0.0, 0.8, 1.6):
        ramp = (math.cos(angle) * x + math.sin(angle) * y) / 180
        yield ramp.clamp(0, 1).expand(1, 3, 128, 128)
    for colour in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.9, 0.2, 0.1)):
        yield torch.tensor(colour)[None, :, None, None].expand(1, 3, 128, 128)


def world_row(name: str, model, regressor, pictures: Tensor) -> dict[str, object]:
    """What is said of one kind of pictures."""
    reference = KNOWN_WORLDS[model.fingerprint]
    fact = compare(reference, torch.cat([denoising_error(model, p, reference.sigma) for p in pictures.split(50)]))
    ratios = torch.tensor(fact.ratios)
    read = torch.cat([misfit(regressor, p / 2 + 0.5) for p in pictures.split(50)]) <= FOREIGN
    return {
        "pictures": name,
        "number": len(pictures),
        "smallest": round(float(ratios.min()), 2),
        "median": round(float(ratios.median()), 2),
        "largest": round(float(ratios.max()), 2),
        "warned": round(float((ratios > fact.usual).float().mean()), 4),
        "outside": round(float((ratios > fact.limit).float().mean()), 4),
        "factors read": round(float(read.float().mean()), 4),
    }


def worlds(model, regressor) -> list[dict[str, object]]:
    """One row a kind."""
    rows = [world_row("held-out drawn faces", model, regressor, held_out(FACES)[1])]
    return rows + [world_row(k, model, regressor, torch.cat(v)) for k, v in photographs().items()]


def photograph() -> tuple[Tensor, Tensor, Placement]:
    """A grainy picture with a face in it, its grain, and where the face and its mouth lie."""
    factors, face = held_out(1, seed=35)
    side = SIDE * SCALE
    large = F.interpolate(face / 2 + 0.5, (side, side), mode="bicubic", antialias=True)
    clean = F.pad(large, (BORDER, BORDER, BORDER, BORDER), value=0.5).clamp(0.15, 0.85)
    grain = GRAIN * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)).clamp(-3, 3)
    mouth = masks(factors, ("mouth",))["mouth"][:, None].float()
    region = F.pad(F.interpolate(mouth, (side, side)), (BORDER, BORDER, BORDER, BORDER))[:, 0]
    middle = BORDER + side / 2
    squares = torch.tensor([[middle, middle, side / 2, 0.0]], dtype=torch.float64)
    return clean + grain, grain, Placement(squares, (clean.shape[2], clean.shape[3]), region)


def paste(model) -> dict[str, float]:
    """What an edit of the mouth leaves of the photograph."""
    photo, grain, placement = photograph()
    x0 = crop(photo, placement, 0, SIDE) * 2 - 1
    path = invert_fixed_point(model, x0, karras(20, float(model.schedule.sigmas[-1])), 1)
    directions = load_directions(WEIGHTS / "directions" / "mouth.safetensors").select([0])
    start = 4 * float(directions.sigmas.max())
    pictures = []
    for strength in (0.0, 18.0):
        edit = Edit(directions, EditSchedule(strength, sigma_start=start))
        pictures.append(steer_trajectory(model, path, [edit], SteerOptions()) / 2 + 0.5)
    before, after = (p.clamp(0, 1) for p in (reconstruct(model, path).rebuilt / 2 + 0.5, pictures[1]))
    result = paste_difference(photo, after, before, placement, FEATHER)
    replaced = photo.clone()
    inside = painted(placement)[None, None] > 0.99
    part = slice(BORDER, BORDER + SIDE * SCALE)
    replaced[..., part, part] = F.interpolate(after, (SIDE * SCALE, SIDE * SCALE), mode="bicubic", antialias=True)
    outside = (result - photo)[..., ~reach(placement)]
    return {
        "largest change inside": float((result - photo).abs().max()),
        "largest change outside": float(outside.abs().max()),
        "grain kept, difference": kept(result, grain, inside),
        "grain kept, replaced": kept(replaced, grain, inside),
        "null edit": float((paste_difference(photo, before, before, placement, FEATHER) != photo).sum()),
    }


def painted(placement: Placement) -> Tensor:
    """The mask, `[h w]`."""
    if placement.mask is None:
        raise ValueError("the photograph of this benchmark has a region")
    return placement.mask[0]


def reach(placement: Placement) -> Tensor:
    """Where the feathered region ends, twice the feather around the mask, `[h w]`."""
    width = 2 * round(FEATHER * SIDE * SCALE) + SCALE
    return F.max_pool2d(painted(placement)[None, None], 2 * width + 1, 1, width)[0, 0] > 0


def kept(result: Tensor, grain: Tensor, inside: Tensor) -> float:
    """How much of the grain is in a picture, inside of a region: 1 is all."""
    fine = [(x - F.avg_pool2d(x, 5, 1, 2))[inside.expand_as(x)] for x in (result, grain)]
    return float((fine[0] * fine[1]).sum() / fine[1].square().sum())


def main() -> None:
    """Measure and write."""
    torch.set_grad_enabled(False)
    model, regressor = models()
    rows = worlds(model, regressor)
    others = rows[1:]
    strangers = sum(int(r["number"]) for r in others)
    warned, read = (sum(float(r[k]) * int(r["number"]) for r in others) / strangers for k in ("warned", "factors read"))
    pasted = paste(model)
    outside = pasted["largest change outside"]
    psnr = math.inf if outside == 0 else -20 * math.log10(outside)
    write(
        "photo",
        {"rows": rows, "paste back": pasted, "warned above": USUAL, "PSNR outside, dB": str(psnr)},
        [
            bar("share of held-out drawn faces warned", float(rows[0]["warned"]), "<=", 0.02),
            bar(f"share of {strangers} photographs and textures warned", warned, ">=", 0.98),
            bar("share of them whose face factors are read all the same", read, "<=", 0.02),
            bar("PSNR outside of the feathered region is infinite", outside == 0, "==", True),
            bar("grain kept inside of the region", pasted["grain kept, difference"], ">=", 0.98),
            bar("values that an edit of strength 0 changes", pasted["null edit"], "==", 0),
        ],
    )


if __name__ == "__main__":
    main()
