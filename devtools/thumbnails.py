"""Thumbnails of shipped workflows from their own pictures: ``python -m devtools.thumbnails prompt_to_prompt ...``."""

from __future__ import annotations

import argparse
import io
import json
import math

from PIL import Image

from . import host
from .client import Client
from .server import Server
from .workflows import FOLDER

SIZE, GAP, PAPER = (640, 480), 12, (245, 246, 248)


def main() -> None:
    """Run the workflows and draw what they show."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("names", nargs="+")
    a = p.parse_args()
    host.ensure_host()
    with Server("thumbnails", fresh=True) as process, process.client() as client:
        for name in a.names:
            grid(shown(client, json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8")))).save(
                FOLDER / f"{name}.jpg", quality=88
            )
            print(name, flush=True)


def shown(client: Client, prompt: dict) -> list[Image.Image]:
    """The source picture, then what every node that shows pictures shows, in the order of the graph."""
    source = {
        f"source {number}": {"class_type": "PreviewImage", "inputs": {"images": [number, 0]}, "_meta": {"title": "Source"}}
        for number, entry in prompt.items() if entry["class_type"] == "HSpaceDemoFace"
    }  # fmt: skip
    prompt = source | prompt
    result = client.queue(prompt, timeout=900)
    kinds = ("PreviewImage", "SaveImage")
    files = [file for n, e in prompt.items() if e["class_type"] in kinds for file in result.outputs.get(n, {}).get("images", [])]
    return [Image.open(io.BytesIO(client.view(file))).convert("RGB") for file in files]


def grid(pictures: list[Image.Image]) -> Image.Image:
    """All of them on one page, as large as they fit."""
    sheet = Image.new("RGB", SIZE, PAPER)
    columns = min(
        range(1, len(pictures) + 1),
        key=lambda n: -min((SIZE[0] - GAP) / n, (SIZE[1] - GAP) / math.ceil(len(pictures) / n)),
    )
    rows = math.ceil(len(pictures) / columns)
    side = min((SIZE[0] - GAP) // columns, (SIZE[1] - GAP) // rows) - GAP
    left, top = ((SIZE[i] - n * (side + GAP) + GAP) // 2 for i, n in ((0, columns), (1, rows)))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (left + column * (side + GAP), top + row * (side + GAP)))
    return sheet


if __name__ == "__main__":
    main()
