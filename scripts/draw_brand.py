"""The icon and the banner of the registry, with faces of the pack's renderer: ``python -m scripts.draw_brand``."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from core.faces.factors import neutral
from core.faces.render import render

FOLDER = Path(__file__).resolve().parents[1] / "assets"
ICON, BANNER = 400, (1260, 540)  # the registry takes icons up to 400 x 400, and banners of 21:9
FINE = 4  # drawn larger and averaged, for smooth edges
INK, PAPER, ACCENT, SOFT = (38, 33, 58), (236, 231, 252), (108, 74, 214), (196, 184, 236)
FIRST, LAST = 135, 405  # degrees between which the dial turns, clockwise from the right


def main() -> None:
    """Draw both into ``assets/``."""
    for name, picture in (("icon.png", draw_icon()), ("banner.png", draw_banner())):
        picture.save(FOLDER / name, optimize=True)


def draw_icon() -> Image.Image:
    """Draw a smiling face inside of a dial, on a rounded square."""
    whole = ICON * FINE
    picture = Image.new("RGBA", (whole, whole))
    ImageDraw.Draw(picture).rounded_rectangle((0, 0, whole - 1, whole - 1), whole // 6, INK)
    middle, radius = (whole // 2, whole // 2), whole * 2 // 5
    _paste_face(picture, middle, radius * 5 // 6, smile=0.9)
    _draw_dial(picture, middle, radius, share=0.8)
    return picture.resize((ICON, ICON), Image.Resampling.BOX)


def draw_banner() -> Image.Image:
    """Draw the name, and one face under three settings of the dial."""
    wide, high = BANNER[0] * FINE, BANNER[1] * FINE
    picture = Image.new("RGBA", (wide, high), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((wide // 2, high * 17 // 100), "HSpace", INK, ImageFont.load_default(high // 7), "mm")
    line = "semantic image editing inside diffusion models"
    pen.text((wide // 2, high * 29 // 100), line, INK, ImageFont.load_default(high // 20), "mm")
    radius = high * 27 // 100
    for place, smile in ((-1, -1.0), (0, 0.0), (1, 1.0)):
        middle = (wide // 2 + place * wide * 29 // 100, high * 67 // 100)
        _paste_face(picture, middle, radius * 5 // 6, smile)
        _draw_dial(picture, middle, radius, share=(smile + 1) / 2)
    return picture.resize(BANNER, Image.Resampling.BOX)


def _paste_face(picture: Image.Image, middle: tuple[int, int], radius: int, smile: float) -> None:
    size = 2 * radius
    drawn, _ = render(neutral(smile=smile, eye_color=1, shirt_hue=0.72, bg_hue=0.7, brow_tilt=0.6), size)
    face = Image.fromarray((drawn[0].permute(1, 2, 0) * 255).round().byte().numpy())
    window = Image.new("L", (size, size))
    ImageDraw.Draw(window).ellipse((0, 0, size - 1, size - 1), 255)
    picture.paste(face, (middle[0] - radius, middle[1] - radius), window)


def _draw_dial(picture: Image.Image, middle: tuple[int, int], radius: int, share: float) -> None:
    pen, width = ImageDraw.Draw(picture), radius // 11
    box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
    angle = FIRST + share * (LAST - FIRST)
    pen.arc(box, FIRST, LAST, SOFT, width)
    pen.arc(box, FIRST, angle, ACCENT, width)
    x, y = (
        at + (radius - width / 2) * turn(math.radians(angle))
        for at, turn in zip(middle, (math.cos, math.sin), strict=True)
    )
    pen.ellipse((x - width, y - width, x + width, y + width), ACCENT, "white", width // 4)


if __name__ == "__main__":
    main()
