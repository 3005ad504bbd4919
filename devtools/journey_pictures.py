"""Pictures of ``docs/journeys.md``: ``python -m devtools.journey_pictures``, once the browser tests have run.

The tests keep what the screen showed in ``output/journeys``. This takes a part of it at its own size, so that a reader
sees every letter as a person at the editor does. Look at the result; a picture that has not changed needs no commit.
"""

from __future__ import annotations

import io

from PIL import Image

from .console import ROOT, StepFailed, say
from .gestures import SCREENSHOTS, Box

PICTURES = ROOT / "docs" / "pictures"
LIMIT = 150_000  # bytes
QUALITIES = (82, 74, 66, 58)
PARTS: dict[str, tuple[str, Box]] = {
    "newcomer": ("newcomer_nodes2", (250, 120, 1420, 830)),
    "photo": ("photo_classic", (660, 40, 610, 1010)),
    "warning": ("warning_classic", (350, 190, 850, 720)),
    "missing": ("missing_classic", (760, 30, 1160, 770)),
    "cancel": ("cancel_nodes2", (660, 30, 1260, 540)),
    "reload": ("reload_classic", (250, 120, 1420, 830)),
}
"""Name of a picture -> the screen that a test kept, and the part of it."""


def main() -> None:
    """Write all of them.

    Raises:
        StepFailed: a test has not run, or a picture is too large.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, (screen, (left, top, width, height)) in PARTS.items():
        source = SCREENSHOTS / f"{screen}.png"
        if not source.is_file():
            raise StepFailed(
                "pictures", f"{source} is missing", "Run python dev.py test tests/browser -k journeys first."
            )
        part = Image.open(source).convert("RGB").crop((left, top, left + width, top + height))
        path = PICTURES / f"journey_{name}.jpg"
        path.write_bytes(_as_jpeg(part, name))
        say("pictures", f"wrote {path}")


def _as_jpeg(picture: Image.Image, name: str) -> bytes:
    """At the best quality that is small enough."""
    for quality in QUALITIES:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= LIMIT:
            return out.getvalue()
    raise StepFailed("pictures", f"{name} has more than {LIMIT} bytes", "Show a smaller part of the screen.")


if __name__ == "__main__":
    main()
