"""Write the directions that come with the pack: ``python -m scripts.write_directions``.

They are those of the mouth of the demo's portrait.
"""

from dataclasses import replace

import torch

from core.discover.find import discover
from core.faces.factors import sample
from core.faces.regions import region_mask
from core.faces.render import render
from core.files.checkpoint import load_denoiser
from core.files.directions import save_directions
from core.invert.fixed_point import invert_fixed_point
from core.schedule import karras
from core.weights_folder import weights_folder

from .write_portrait import SEED

FOLDER = weights_folder() / "directions"
SIGMA = 1.6
LABELS = ("lip shade", "smile", "one corner", "lip colour", "parted")
"""What each direction does, named by looking at its two ends."""


def main() -> None:
    """Invert the portrait, discover five directions of its mouth, save them."""
    model = load_denoiser(weights_folder() / "face_model.safetensors")
    face = sample(1, torch.Generator().manual_seed(SEED), held_out=True)
    trajectory = invert_fixed_point(model, render(face, 64)[0] * 2 - 1, karras(20, 20.0))
    step = trajectory.nearest(SIGMA)
    found, report = discover(
        model, trajectory.states[step], float(trajectory.sigmas[step]), region_mask(face, "mouth", 64)[0]
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_directions(FOLDER / "mouth.safetensors", replace(found, labels=LABELS))
    print(report["text"])


if __name__ == "__main__":
    main()
