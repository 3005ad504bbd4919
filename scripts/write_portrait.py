"""Write the demo's portrait and its masks as PNG files: ``python -m scripts.write_portrait`` (needs Pillow)."""

from pathlib import Path

import torch
from PIL import Image

from core.faces.factors import sample
from core.faces.regions import region_mask
from core.faces.render import render

ASSETS = Path("assets")
SEED = 35


def main() -> None:
    """Draw a held-out face (Demo Face, seed 35) and the exact masks of its mouth and eyes."""
    ASSETS.mkdir(exist_ok=True)
    face = sample(1, torch.Generator().manual_seed(SEED), held_out=True)
    pixels = (render(face, 64)[0][0] * 255).round().byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(ASSETS / "portrait.png")
    for region in ("mouth", "eyes"):
        mask = (region_mask(face, region, 64)[0] * 255).round().byte().numpy()
        Image.fromarray(mask).save(ASSETS / f"portrait_{region}.png")


if __name__ == "__main__":
    main()
