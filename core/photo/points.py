"""The five points that a face is aligned by: eyes, nose and corners of the mouth, painted as dots or found by a pose
node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..foreign import is_number

_PAINTED = 0.5
_EYES, _NOSE, _MOUTH = ((36, 42), (42, 48)), 30, (48, 54)  # of the 68 points of a face (iBUG 300-W)
_FACE = "face_keypoints_2d"


def points_of_dots(mask: Tensor) -> Tensor:
    """Read five painted dots.

    Args:
        mask: `[h w]` in 0..1, of the photograph's size.

    Returns:
        `[5 2]` float64, x and y of both eyes, the nose and both corners of the mouth, those on the left first. The two
        that are highest in the face are its eyes; it may be tilted by less than 45 degrees.

    Raises:
        ValueError: not five dots.
    """
    painted = (mask > _PAINTED).numpy()
    labels: np.ndarray = np.zeros(painted.shape, dtype=np.int32)
    count = ndimage.label(painted, structure=np.ones((3, 3)), output=labels)
    if count != 5:
        raise ValueError(
            f"framing 'face' reads five dots in 'frame' (both eyes, nose, corners of the mouth), got {count} spots;"
            " paint the dots so that they do not touch, or connect 'keypoints'"
        )
    rows_and_columns = ndimage.center_of_mass(painted, labels, range(1, 6))
    centres = np.array(rows_and_columns)[:, ::-1] + 0.5
    downwards = np.argsort(centres[:, 1])
    centres = centres[downwards]
    eyes = _by_x(centres[:2])
    nose = centres[2:3]
    mouth = _by_x(centres[3:])
    return torch.tensor(np.concatenate([eyes, nose, mouth]))


def points_of_keypoints(frame: Any, size: tuple[int, int]) -> Tensor:
    """Read the first face in a frame of what pose nodes give (POSE_KEYPOINT, the format of OpenPose).

    Args:
        frame: a dict with ``people`` and the size of the ``canvas``.
        size: height and width of the photograph.

    Returns:
        `[5 2]` float64, as :func:`points_of_dots`.

    Raises:
        ValueError: no face in it.
    """
    values = _face_of(frame)
    if values is None or not all(is_number(v) for v in values):
        raise ValueError(
            "'keypoints' holds no face of 68 points; connect a pose node with its face detection on, or paint five dots"
        )
    numbers = torch.tensor(values[: 3 * 68], dtype=torch.float64)
    points = numbers.reshape(68, 3)[:, :2]
    height, width = size
    whole = torch.tensor([width, height])
    canvas = frame.get("canvas_width"), frame.get("canvas_height")
    if float(points.max()) <= 1:  # some nodes give shares of the canvas
        points = points * whole
    elif all(is_number(side) and side > 0 for side in canvas):
        points = points * whole / torch.tensor(canvas)
    eyes = [points[first:last].mean(0) for first, last in _EYES]
    return torch.stack([*eyes, points[_NOSE], points[_MOUTH[0]], points[_MOUTH[1]]])


def _face_of(frame: Any) -> list | tuple | None:
    """The numbers of the first face of 68 points in a frame."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, (list, tuple)):
        return None
    for person in people:
        face = person.get(_FACE) if isinstance(person, dict) else None
        if isinstance(face, (list, tuple)) and len(face) >= 3 * 68:
            return face
    return None


def _by_x(pair: np.ndarray) -> np.ndarray:
    return pair[np.argsort(pair[:, 0])]
