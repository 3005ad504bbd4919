"""Write the directions that come with the pack: ``python -m core.faces.shipped`` (the mouth of the demo's portrait)."""

from pathlib import Path

import torch

from ..directions_io import save_directions
from ..discover.find import discover
from ..invert.fixed_point import invert_fixed_point
from ..networks.read import load_denoiser
from ..schedule import karras
from .factors import sample
from .portrait import SEED
from .regions import region_mask
from .render import render

FOLDER = Path("weights/directions")
SIGMA = 1.6


def main() -> None:
    """Invert the portrait, discover five directions of its mouth, save them."""
    model = load_denoiser("weights/face_model.safetensors")
    face = sample(1, torch.Generator().manual_seed(SEED), held_out=True)
    path = invert_fixed_point(model, render(face, 64)[0] * 2 - 1, karras(20, 20.0))
    step = path.nearest(SIGMA)
    found, report = discover(model, path.states[step], float(path.sigmas[step]), region_mask(face, "mouth", 64)[0])
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_directions(FOLDER / "mouth.safetensors", found)
    print(report["text"])


if __name__ == "__main__":
    main()
