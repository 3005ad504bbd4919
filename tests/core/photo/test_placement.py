import pytest
import torch

from core.photo.placement import (
    Placement,
    place_face,
    place_region,
    place_whole,
    placement_from_payload,
    placement_to_payload,
)


def painted(height, width, top, left, bottom, right):
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1
    return mask


def box(square, height, width):
    return Placement(square[None], (height, width)).box(0)


def test_a_region_gets_a_square_with_context_around_it():
    assert box(place_region(painted(300, 400, 100, 200, 120, 240), (300, 400), 1.5), 300, 400) == (190, 80, 250, 140)


def test_a_square_at_the_edge_is_moved_and_not_shrunk():
    assert box(place_region(painted(300, 400, 290, 380, 300, 400), (300, 400), 3.0), 300, 400) == (340, 240, 400, 300)


def test_a_square_larger_than_the_photograph_reaches_beyond_it_evenly():
    assert box(place_region(painted(100, 400, 0, 100, 100, 300), (100, 400), 1.7), 100, 400) == (30, -120, 370, 220)


def test_nothing_painted_names_the_gesture():
    with pytest.raises(ValueError, match="Open in MaskEditor"):
        place_region(torch.zeros(64, 64), (64, 64), 1.7)


@pytest.mark.parametrize(("size", "expected"), [((300, 400), (0, -50, 400, 350)), ((400, 301), (-49, 0, 351, 400))])
def test_the_whole_photograph_is_in_its_square(size, expected):
    assert box(place_whole(size), *size) == expected


def quad(points):
    """The published alignment of FFHQ, written out: corners of the square from the upper left, against the clock."""
    left_eye, right_eye, _, left_mouth, right_mouth = points.double().numpy()
    eye, eye_to_eye = (left_eye + right_eye) * 0.5, right_eye - left_eye
    eye_to_mouth = (left_mouth + right_mouth) * 0.5 - eye
    import numpy as np

    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eye + eye_to_mouth * 0.1
    return torch.tensor(np.stack([c - x - y, c - x + y, c + x + y, c + x - y]))


@pytest.mark.parametrize("turn", [0.0, 0.3, -1.2, 3.0])
def test_a_face_lies_as_the_data_set_has_it(turn):
    points = torch.tensor([[-30.0, -20], [32, -22], [1, 5], [-20, 40], [22, 41]], dtype=torch.float64)
    c, s = torch.tensor(turn).cos().double(), torch.tensor(turn).sin().double()
    points = points @ torch.stack([torch.stack([c, s]), torch.stack([-s, c])]) + 150
    x, y, dx, dy = place_face(points).tolist()
    corners = [(x + a * dx - b * dy, y + a * dy + b * dx) for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    assert torch.allclose(torch.tensor(corners, dtype=torch.float64), quad(points), atol=1e-9)


def test_points_on_a_line_are_no_face():
    with pytest.raises(ValueError, match="dots"):
        place_face(torch.zeros(5, 2))


def test_it_travels_as_a_plain_dict():
    placement = Placement(place_whole((30, 40))[None], (30, 40), torch.ones(1, 30, 40))
    again = placement_from_payload(placement_to_payload(placement))
    assert torch.equal(again.squares, placement.squares) and again.size == (30, 40) and again.mask is placement.mask


@pytest.mark.parametrize(
    "damage",
    [
        {"squares": torch.zeros(1, 3)},
        {"squares": torch.full((1, 4), float("nan"))},
        {"squares": torch.zeros(1, 4)},
        {"squares": "four"},
        {"size": (1, 2, 3)},
        {"size": None},
        {"mask": torch.ones(1, 3, 3)},
        {"mask": torch.ones(2, 30, 40)},
        {"version": 2},
        {"format": "hspace.trajectory"},
    ],
)
def test_a_damaged_one_is_refused_by_name(damage):
    placement = Placement(place_whole((30, 40))[None], (30, 40), None)
    with pytest.raises(ValueError, match="HSPACE_PLACEMENT"):
        placement_from_payload({**placement_to_payload(placement), **damage})
    with pytest.raises(ValueError, match="HSPACE_PLACEMENT"):
        placement_from_payload(["squares"])
