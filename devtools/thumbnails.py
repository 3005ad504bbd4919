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
    """All of them on one page, as large as they fit, none squashed."""
    sheet = Image.new("RGB", SIZE, PAPER)
    columns = max(range(1, len(pictures) + 1), key=lambda n: sum(w * h for w, h in _fit_all(pictures, n)))
    rows, sizes = math.ceil(len(pictures) / columns), _fit_all(pictures, columns)
    cell = max(w for w, _ in sizes), max(h for _, h in sizes)
    left, top = ((SIZE[i] - n * (cell[i] + GAP) + GAP) // 2 for i, n in ((0, columns), (1, rows)))
    for i, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        row, column = divmod(i, columns)
        x, y = left + column * (cell[0] + GAP), top + row * (cell[1] + GAP)
        place = (x + (cell[0] - size[0]) // 2, y + (cell[1] - size[1]) // 2)
        sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), place)
    return sheet


def _fit_all(pictures: list[Image.Image], columns: int) -> list[tuple[int, int]]:
    """Width and height that each picture gets, if so many stand in a row; its aspect stays."""
    rows = math.ceil(len(pictures) / columns)
    cell = (SIZE[0] - GAP) // columns - GAP, (SIZE[1] - GAP) // rows - GAP
    scales = (min(cell[0] / picture.width, cell[1] / picture.height) for picture in pictures)
    return [
        (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        for picture, scale in zip(pictures, scales, strict=True)
    ]
