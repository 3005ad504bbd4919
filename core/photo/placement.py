"""Where the squares that a model works on lie in photographs of any size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..foreign import is_dense, is_finite, shown
from ..payload import AGAIN, check_format

PLACEMENT = "HSPACE_PLACEMENT"
_FORMAT = "hspace.placement"
_PAINTED = 0.1  # a mask above it counts as painted


@dataclass(frozen=True)
class Placement:
    """One square in each photograph of a batch.

    Attributes:
        squares: `[b 4]` float64, centre x and y and the vector (x, y) from the centre to the middle of the right side,
            in pixels of the photograph from its upper left corner. It may reach beyond the photograph.
        size: height and width of the photographs, in pixels.
        mask: `[1 h w]` or `[b h w]` in 0..1, the region that an edit may change, or None for all of the square.
    """

    squares: Tensor
    size: tuple[int, int]
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not is_dense(self.squares, 2) or self.squares.shape[1] != 4 or not is_finite(self.squares):
            raise ValueError(f"squares of a placement must be [b 4] finite numbers, got {shown(self.squares)}")
        if float(self.squares[:, 2:].norm(dim=1).min()) < 0.5:
            raise ValueError("a square of the placement is smaller than a pixel; fit the photograph again")
        if self.mask is not None and (
            not is_dense(self.mask, 3)
            or self.mask.shape[0] not in (1, len(self))
            or tuple(self.mask.shape[1:]) != tuple(self.size)
        ):
            raise ValueError(
                f"the mask of a placement must be [1 or {len(self)}, {self.size[0]}, {self.size[1]}], got"
                f" {shown(self.mask)}"
            )

    def __len__(self) -> int:
        return len(self.squares)

    def side(self, i: int) -> int:
        """Pixels of the photograph along a side of square ``i``, rounded up."""
        return max(1, math.ceil(2 * float(self.squares[i, 2:].norm()) - 1e-6))

    def box(self, i: int) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of square ``i`` if it is upright and on whole pixels, else None."""
        x, y, dx, dy = self.squares[i].tolist()
        edges = (x - dx, y - dx, x + dx, y + dx)
        if dy != 0 or dx <= 0 or any(edge != round(edge) for edge in edges):
            return None
        left, top, right, bottom = (round(edge) for edge in edges)
        return left, top, right, bottom


def place_region(mask: Tensor, size: tuple[int, int], context: float) -> Tensor:
    """Place an upright square around what is painted.

    Args:
        mask: `[h w]` in 0..1, of the photograph's size.
        size: height and width of the photograph.
        context: side of the square over the longer side of what is painted, 1 or more.

    Returns:
        `[4]` float64, see :class:`Placement`. The square is moved into the photograph where it fits into it.

    Raises:
        ValueError: nothing is painted.
    """
    painted = mask > _PAINTED
    rows = torch.nonzero(painted.any(1))[:, 0]
    columns = torch.nonzero(painted.any(0))[:, 0]
    if not len(rows):
        raise ValueError(
            "nothing is painted in the mask at the size of the image: right-click it, choose Open in MaskEditor and"
            " paint the region, or set framing to 'whole picture'"
        )
    top = int(rows[0])
    left = int(columns[0])
    height = int(rows[-1]) + 1 - top
    width = int(columns[-1]) + 1 - left
    side = max(1, round(context * max(height, width)))
    start_x = _start(left + width / 2, side, size[1])
    start_y = _start(top + height / 2, side, size[0])
    return _upright(start_x, start_y, side)


def place_whole(size: tuple[int, int]) -> Tensor:
    """Place an upright square around a whole photograph, `[4]` float64; the longer side fills it."""
    side = max(size)
    return _upright(-((side - size[1]) // 2), -((side - size[0]) // 2), side)


def place_face(points: Tensor) -> Tensor:
    """Place the square of the FFHQ data set (arXiv 1812.04948, its published alignment) on a face, turned with it.

    Args:
        points: `[5 2]`, x and y of both eyes, the nose and both corners of the mouth, those on the left of the picture
            first.

    Returns:
        `[4]` float64, see :class:`Placement`.

    Raises:
        ValueError: the points lie on a line.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = points.double()
    eyes = (left_eye + right_eye) / 2
    mouth = (left_mouth + right_mouth) / 2
    across = right_eye - left_eye
    down = mouth - eyes
    right = across - torch.stack([-down[1], down[0]])
    length = max(2.0 * float(across.norm()), 1.8 * float(down.norm()))
    if float(right.norm()) < 1e-6 * max(length, 1e-9) or length == 0:
        raise ValueError("the five points of the face lie on a line: paint eyes, nose and corners of the mouth as dots")
    return torch.cat([eyes + 0.1 * down, right / right.norm() * length])


def _start(centre: float, side: int, length: int) -> int:
    """Where a side of a square begins: around the centre, moved into the photograph if it fits."""
    start = round(centre - side / 2)
    return min(max(start, 0), length - side) if side <= length else (length - side) // 2


def _upright(left: int, top: int, side: int) -> Tensor:
    return torch.tensor([left + side / 2, top + side / 2, side / 2, 0.0], dtype=torch.float64)


def placement_to_payload(placement: Placement) -> dict:
    """Make what goes onto an ``HSPACE_PLACEMENT`` socket (tensors are shared, not copied)."""
    return {
        "format": _FORMAT,
        "version": 1,
        "squares": placement.squares,
        "size": placement.size,
        "mask": placement.mask,
    }


def placement_from_payload(payload: object) -> Placement:
    """Read the placement that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    values = check_format(PLACEMENT, _FORMAT, payload)
    missing = [name for name in ("squares", "size", "mask") if name not in values]
    size = values.get("size")
    if missing or not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(n, int) for n in size):
        raise ValueError(f"{PLACEMENT} lacks {', '.join(missing) or 'the size of its photographs'}; {AGAIN}")
    try:
        return Placement(values["squares"], (int(size[0]), int(size[1])), values["mask"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{PLACEMENT}: {error}") from error
