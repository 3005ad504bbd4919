import pytest
import torch

from core.photo.points import points_of_dots, points_of_keypoints

POINTS = torch.tensor([[60.5, 50.5], [120.5, 62.5], [88.5, 90.5], [64.5, 120.5], [104.5, 128.5]], dtype=torch.float64)


def dots(points=POINTS, radius=3):
    rows, columns = torch.arange(200)[:, None] + 0.5, torch.arange(240)[None] + 0.5
    near = [((rows - y) ** 2 + (columns - x) ** 2).sqrt() <= radius for x, y in points.tolist()]
    return torch.stack(near).any(0).float()


BAD = [None, [], {}, {"people": []}, {"people": [{"face_keypoints_2d": [1, 2]}]}, "x"]
BAD.append({"people": [{"face_keypoints_2d": ["a"] * 210}]})


def test_painted_dots_are_read_in_order():
    assert torch.allclose(points_of_dots(dots()), POINTS, atol=1e-9)


@pytest.mark.parametrize("count", [0, 4])
def test_another_number_of_dots_is_refused(count):
    with pytest.raises(ValueError, match=f"got {count} spots"):
        points_of_dots(dots(POINTS[:count]) if count else torch.zeros(200, 240))


def pose(scale=1.0, **canvas):
    """A face of 68 points whose eyes, nose and mouth corners are POINTS."""
    face = torch.zeros(70, 3)
    face[36:42, :2], face[42:48, :2] = POINTS[0], POINTS[1]
    face[30, :2], face[48, :2], face[54, :2] = POINTS[2], POINTS[3], POINTS[4]
    face[:, :2] *= torch.tensor([scale, scale]) if not canvas else torch.tensor([1 / 240, 1 / 200]) * scale
    return {"people": [{}, {"face_keypoints_2d": face.flatten().tolist()}], **canvas}


def test_a_pose_nodes_face_is_read_in_pixels_and_in_shares():
    whole = {"canvas_width": 240, "canvas_height": 200}
    assert torch.allclose(points_of_keypoints({**pose(), **whole}, (200, 240)), POINTS)
    assert torch.allclose(points_of_keypoints(pose(1.0, canvas_width=1), (200, 240)), POINTS, atol=1e-4)
    half = {"canvas_width": 120, "canvas_height": 100}
    assert torch.allclose(points_of_keypoints({**pose(0.5), **half}, (200, 240)), POINTS)


@pytest.mark.parametrize("bad", BAD)
def test_no_face_is_refused(bad):
    with pytest.raises(ValueError, match="'keypoints' holds no face"):
        points_of_keypoints(bad, (200, 240))
