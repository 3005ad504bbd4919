"""Thumbnails of shipped workflows, from the pictures that a run of them shows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from .client import Client

SIZE, GAP, PAPER = (640, 480), 12, (245, 246, 248)
SHOWS = ("PreviewImage", "SaveImage")
SOURCES = ("HSpaceDemoFace", "LoadImage", "LoadImageDataSetFromFolder")


def draw(client: Client, prompt: Mapping[str, Mapping[str, Any]]) -> Image.Image:
    """Run a workflow and put what it shows on one page."""
    return arrange(run_and_collect(client, prompt))


def run_and_collect(client: Client, prompt: Mapping[str, Mapping[str, Any]]) -> list[Image.Image]:
    """Run a workflow; one picture of each node that it starts from, then all that its nodes show, in their order."""
    sources = {
        f"source {number}": {
            "class_type": "PreviewImage",
            "inputs": {"images": [number, 0]},
            "_meta": {"title": "Source"},
        }
        for number, entry in prompt.items()
        if entry["class_type"] in SOURCES
    }
    result = client.queue({**sources, **prompt}, timeout=1800)
    shown = {
        **{number: 1 for number in sources},
        **{n: None for n, entry in prompt.items() if entry["class_type"] in SHOWS},
    }
    files = [file for number, most in shown.items() for file in result.outputs.get(number, {}).get("images", [])[:most]]
    return [Image.open(io.BytesIO(client.view(file))).convert("RGB") for file in files]


def arrange(pictures: list[Image.Image]) -> Image.Image:
    """All of them on one page, as large as they fit."""
    sheet = Image.new("RGB", SIZE, PAPER)
    columns = min(range(1, len(pictures) + 1), key=lambda n: -_side(len(pictures), n))
    rows, side = math.ceil(len(pictures) / columns), _side(len(pictures), columns)
    left, top = ((SIZE[i] - n * (side + GAP) + GAP) // 2 for i, n in ((0, columns), (1, rows)))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        place = (left + column * (side + GAP), top + row * (side + GAP))
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), place)
    return sheet


def _side(count: int, columns: int) -> int:
    """Pixels of a square picture, if so many stand in so many columns."""
    rows = math.ceil(count / columns)
    return min((SIZE[0] - GAP) // columns, (SIZE[1] - GAP) // rows) - GAP
