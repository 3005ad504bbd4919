"""Folders in the format of PIE-Bench (PnP Inversion, arXiv 2310.01506): ``mapping_file.json`` and pictures beside it.

Each entry: ``image_path``, ``original_prompt``, ``editing_prompt``, ``editing_instruction``, ``editing_type_id``,
``blended_word`` and the mask as pairs of start and length over the rows of the picture. Words in square brackets are
what an edit changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..own_file import write_bytes
from ..paths import contained
from ..pictures import extent, read_pixels
from ..text import cleaned, is_plain, label, quoted

MAPPING = "mapping_file.json"
IMAGES = "annotation_images"
MAX_JSON = 64 * 2**20
MAX_ITEMS = 100_000
MAX_SIDE = 4096
MAX_TEXT = 2000
MAX_KEY = 100
TYPES = (
    "random",
    "change object",
    "add object",
    "delete object",
    "change content",
    "change pose",
    "change colour",
    "change material",
    "change background",
    "change style",
)
"""Meaning of ``editing_type_id`` 0..9."""
_TEXTS = ("image_path", "original_prompt", "editing_prompt", "editing_instruction", "blended_word")
_OPTIONAL = ("editing_instruction", "blended_word")


@dataclass(frozen=True)
class PieItem:
    """One edit of the benchmark.

    Attributes:
        key: of the entry.
        path: of the source picture, inside the folder.
        source_marked: prompt of the source, with ``[]`` around what changes.
        target_marked: prompt of the edited picture, likewise.
        instruction: the edit as a command; may be empty.
        kind: 0..9, see :data:`TYPES`.
        blended_word: source and target word whose regions are blended; may be empty.
        runs: of the mask: start and length in turn.
    """

    key: str
    path: Path
    source_marked: str
    target_marked: str
    instruction: str
    kind: int
    blended_word: str
    runs: tuple[int, ...]

    @property
    def source_prompt(self) -> str:
        """Strip the marks off the source prompt."""
        return unmarked(self.source_marked)

    @property
    def target_prompt(self) -> str:
        """Strip the marks off the target prompt."""
        return unmarked(self.target_marked)

    def image(self) -> Tensor:
        """Read the source picture, `[3 h w]` in -1..1.

        Raises:
            ValueError: it is missing, damaged or too large.
        """
        return read_picture(self.path)

    def mask(self, height: int, width: int) -> Tensor:
        """Decode the region that the edit may change, `[h w]` of 0 and 1; the picture's border always belongs to it."""
        return decode_mask(self.runs, height, width)


def unmarked(prompt: str) -> str:
    """Strip the marks off a prompt."""
    return prompt.replace("[", "").replace("]", "")


def encode_mask(mask: Tensor) -> list[int]:
    """Encode a mask `[h w]` (inside: above 0.5) as start and length of each run along the rows.

    Raises:
        ValueError: another shape.
    """
    if mask.dim() != 2:
        raise ValueError(f"mask must be [h w], got {list(mask.shape)}")
    inside = (mask.detach().cpu() > 0.5).flatten().float()
    flat = torch.cat([torch.zeros(1), inside, torch.zeros(1)])
    steps = flat.diff()
    starts = (steps == 1).nonzero()[:, 0]
    ends = (steps == -1).nonzero()[:, 0]
    return torch.stack([starts, ends - starts], 1).flatten().tolist()


def decode_mask(runs: Sequence[int], height: int, width: int, border: bool = True) -> Tensor:
    """Decode the mask `[h w]` of 0 and 1; the part of a run behind the end of the picture is left out.

    Args:
        runs: start and length in turn.
        height: of the picture.
        width: of the picture.
        border: also mark its outermost pixels, as the benchmark does against errors of annotation there.

    Raises:
        ValueError: an odd number of values, or a run that does not start in the picture or has a negative length.
    """
    flat = torch.zeros(height * width)
    if len(runs) % 2:
        raise ValueError(f"a mask is pairs of start and length, got {len(runs)} numbers; the file is damaged")
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start <= len(flat) or length < 0:
            raise ValueError(
                f"a run of the mask starts at {start} with length {length}, outside {width}x{height} pixels; it is"
                " damaged"
            )
        flat[start : start + length] = 1
    mask = flat.reshape(height, width)
    if border:
        mask[0], mask[-1], mask[:, 0], mask[:, -1] = 1, 1, 1, 1
    return mask


def read_picture(path: Path) -> Tensor:
    """Read a picture, `[3 h w]` in -1..1.

    Raises:
        ValueError: it is missing, damaged or larger than 4096 pixels a side.
    """
    if max(extent(path)) > MAX_SIDE:
        raise ValueError(
            f"{quoted(path.name, 120)} is larger than {MAX_SIDE} pixels a side, the most that are read; scale it down"
        )
    return read_pixels(path).float() / 127.5 - 1


def write_picture(path: Path, picture: Tensor) -> None:
    """Write a picture `[3 h w]` in -1..1 as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clamped = picture.detach().float().cpu().clamp(-1, 1)
    levels = ((clamped + 1) * 127.5).round().byte()
    pixels = levels.movedim(0, -1).contiguous().numpy()
    Image.fromarray(pixels).save(path)


def read_folder(folder: Path | str) -> list[PieItem]:
    """Read all entries in the order of the file.

    Args:
        folder: with ``mapping_file.json`` and ``annotation_images``.

    Raises:
        ValueError: the file is missing, too large or no such mapping; an entry lacks something or has it of another
            kind; or a path that leaves the folder. Control characters in prompts are left out.
    """
    file = Path(folder) / MAPPING
    try:
        size = file.stat().st_size
        if size > MAX_JSON:
            raise ValueError(f"it has {size / 2**20:.0f} MB, at most {MAX_JSON >> 20} are read")
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} cannot be read: {cleaned(error, 200)}; give the folder that holds {MAPPING} and {IMAGES}"
        ) from error
    if not isinstance(content, dict) or not 0 < len(content) <= MAX_ITEMS:
        raise ValueError(f"{MAPPING} must be an object of 1 to {MAX_ITEMS} entries, got {type(content).__name__}")
    root = Path(folder) / IMAGES
    items = []
    for key, entry in content.items():
        try:
            items.append(_item(key, entry, root))
        except ValueError as error:
            raise ValueError(f"entry {quoted(key, 40)} of {MAPPING}: {error}") from error
    return items


def write_folder(folder: Path | str, items: Sequence[PieItem]) -> Path:
    """Write ``mapping_file.json``; the pictures are written with :func:`write_picture`. Returns its path."""
    root = Path(folder) / IMAGES
    content = {
        i.key: {
            "image_path": i.path.relative_to(root).as_posix(),
            "original_prompt": i.source_marked,
            "editing_prompt": i.target_marked,
            "editing_instruction": i.instruction,
            "editing_type_id": str(i.kind),
            "blended_word": i.blended_word,
            "mask": list(i.runs),
        }
        for i in items
    }
    return write_bytes(Path(folder) / MAPPING, (json.dumps(content, indent=1) + "\n").encode())


def _item(key: str, entry: object, root: Path) -> PieItem:
    if not isinstance(entry, dict):
        raise ValueError(f"it must be an object, got {type(entry).__name__}")
    texts: dict[str, Any] = {name: entry.get(name, "" if name in _OPTIONAL else None) for name in _TEXTS}
    bad = [name for name, text in texts.items() if not isinstance(text, str) or len(text) > MAX_TEXT]
    if bad:
        raise ValueError(f"{', '.join(bad)} must be text of at most {MAX_TEXT} characters")
    if not is_plain(key, MAX_KEY):
        raise ValueError(f"its key must be at most {MAX_KEY} printable characters")
    texts |= {name: label(text, MAX_TEXT) for name, text in texts.items() if name != "image_path"}
    kind = str(entry.get("editing_type_id"))
    runs = entry.get("mask")
    if kind not in {str(n) for n in range(len(TYPES))}:
        raise ValueError(f"editing_type_id must be 0 to {len(TYPES) - 1}, got {quoted(kind, 20)}")
    if not isinstance(runs, list) or len(runs) % 2 or not all(type(n) is int and 0 <= n <= MAX_SIDE**2 for n in runs):
        raise ValueError("mask must be a list of pairs of start and length, whole numbers from 0")
    return PieItem(
        key=key,
        path=contained(root, texts["image_path"]),
        source_marked=texts["original_prompt"],
        target_marked=texts["editing_prompt"],
        instruction=texts["editing_instruction"],
        kind=int(kind),
        blended_word=texts["blended_word"],
        runs=tuple(runs),
    )
