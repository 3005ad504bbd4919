"""A photograph in and out, in a real host."""

import pytest
import torch

from .graphs import FACE, SCHEDULE, base, discover, node, render, steer

SIZE = (300, 400)


def photograph(executor):
    """A drawn face in a larger, grainy picture; the masks of its mouth and of its head."""
    (face, mouth, *_) = executor.run(base(), FACE)[0]
    large = torch.nn.functional.interpolate(face.movedim(-1, 1), (160, 160), mode="bicubic").movedim(1, -1)
    g = torch.Generator().manual_seed(0)
    photo = 0.5 + 0.03 * torch.randn(1, *SIZE, 3, generator=g)
    photo[:, 100:260, 120:280] = large + 0.03 * torch.randn(large.shape, generator=g)
    masks = torch.zeros(2, *SIZE)
    masks[0, 100:260, 120:280] = torch.nn.functional.interpolate(mouth[None], (160, 160))[0, 0]
    masks[1, 100:260, 120:280] = 1
    return photo.clamp(0, 1), masks[:1], masks[1:]


@pytest.fixture(scope="module")
def fitted(executor):
    """The cut face, its mouth and the placement."""
    photo, mouth, head = photograph(executor)
    model = executor.run(base(), "model")[0][0]
    given = {"image": photo, "mask": mouth, "frame": head, "model": model}
    return photo, executor.call("HSpaceFitPhoto", framing="region", context=1.0, size=0, **given)


def test_the_cut_part_is_what_the_model_works_at(fitted):
    _, (image, mask, placement) = fitted
    assert image.shape == (1, 64, 64, 3) and mask.shape == (1, 64, 64)
    assert placement["squares"].tolist() == [[200.0, 180.0, 80.0, 0.0]] and placement["size"] == SIZE


def test_an_edit_comes_back_at_full_size_and_strength_0_is_the_photograph(executor, fitted):
    photo, (image, mask, placement) = fitted
    model, sigmas = (executor.run(base(steps=8), name)[0][0] for name in ("model", SCHEDULE))
    trajectory = executor.call(
        "HSpaceInvertImage", model=model, image=image, sigmas=sigmas, method="fixed point", iterations=1
    )[0]
    found = discover()["inputs"] | {"model": model, "trajectory": trajectory, "mask": mask}
    directions = executor.call("HSpaceDiscoverRegion", **found)[0]
    results = []
    for strength in (0.0, 12.0):
        turned = steer(strength)["inputs"] | {"model": model, "directions": directions}
        steered = executor.call("HSpaceSteer", **turned)[0]
        shown = render("model")["inputs"] | {"model": steered, "trajectory": trajectory}
        edited, rebuilt, _ = executor.call("HSpaceRenderTrajectory", **shown)
        given = {"original": photo, "reconstruction": rebuilt, "edited": edited, "placement": placement}
        results.append(executor.call("HSpacePasteBack", feather=0.06, **given)[0])
    assert torch.equal(results[0], photo)
    changed = (results[1] - photo).abs().amax((0, 3)) > 0
    rows, columns = torch.nonzero(changed).T
    assert changed.any() and 100 <= int(rows.min()) and int(rows.max()) < 260
    assert 120 <= int(columns.min()) and int(columns.max()) < 280
    assert float((results[1] - photo).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": torch.zeros(1, *SIZE)}, "nothing is painted in 'mask'"),
        ({"mask": torch.zeros(1, 64, 64)}, "Open in MaskEditor"),
        ({"mask": torch.ones(1, 64, 64)}, "aspect of the image"),
        ({"mask": torch.ones(2, *SIZE)}, "one a photograph, got 2"),
        ({"framing": "face"}, "five dots"),
        ({"framing": "face", "frame": torch.ones(1, *SIZE)}, "got 1 spots"),
        ({"framing": "face", "keypoints": [{"people": []}]}, "no face"),
        ({"framing": "face", "keypoints": [{}, {}]}, "2 frames for 1"),
    ],
)
def test_what_is_missing_is_said(executor, given, message):
    inputs = {"image": torch.full((1, *SIZE, 3), 0.5), "framing": "region", "context": 1.7, "size": 64}
    with pytest.raises(ValueError, match=message):
        executor.call("HSpaceFitPhoto", **{**inputs, **given})


def test_a_photograph_without_a_painted_mask_is_taken_whole(executor):
    """Load Image gives 64 x 64 zeros as the MASK of a picture without one."""
    image = torch.rand(2, *SIZE, 3, generator=torch.Generator().manual_seed(1))
    given = {"framing": "whole picture", "context": 1.7, "size": 64, "mask": torch.zeros(1, 64, 64)}
    cut, mask, placement = executor.call("HSpaceFitPhoto", image=image, **given)
    assert cut.shape == (2, 64, 64, 3) and bool((mask == 1).all()) and placement["mask"] is None


@pytest.mark.parametrize(("network", "size"), [("sd15", 512), ("sd2 v", 768), ("sdxl", 1024)])
def test_the_size_of_checkpoints_is_known(executor, monkeypatch, network, size):
    prompt = {"model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0)}
    model = executor.run(prompt, "model")[0][0].clone()
    monkeypatch.delattr(model.model.diffusion_model, "trained_at")
    working_size = executor.module("nodes.host.model.size").working_size
    assert working_size(model) == size


def test_landmarks_and_dots_cut_the_same_face_and_a_mask_stays_the_region(executor):
    points = [(150, 120), (230, 132), (188, 170), (158, 205), (214, 212)]
    image = torch.rand(1, *SIZE, 3, generator=torch.Generator().manual_seed(2))
    dots, region = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    for x, y in points:
        dots[0, y - 2 : y + 2, x - 2 : x + 2] = 1  # centred on the corner of four pixels, which is (x, y)
    region[0, 190:220, 150:220] = 1
    numbers = [0.0] * 210
    for place, (x, y) in [(i, points[0]) for i in range(36, 42)] + [(i, points[1]) for i in range(42, 48)]:
        numbers[3 * place : 3 * place + 3] = [x, y, 1.0]
    for place, (x, y) in zip((30, 48, 54), points[2:], strict=True):
        numbers[3 * place : 3 * place + 3] = [x, y, 1.0]
    pose = [{"people": [{"face_keypoints_2d": numbers}], "canvas_width": SIZE[1], "canvas_height": SIZE[0]}]
    given = {"image": image, "framing": "face", "context": 1.7, "size": 64, "mask": region}
    by_dots = executor.call("HSpaceFitPhoto", frame=dots, **given)
    by_pose = executor.call("HSpaceFitPhoto", keypoints=pose, **given)
    assert torch.allclose(by_dots[2]["squares"], by_pose[2]["squares"], atol=1e-4)
    assert torch.allclose(by_dots[0], by_pose[0], atol=1e-3) and float(by_dots[2]["squares"][0, 3]) != 0
    assert 0 < float(by_pose[1].mean()) < 0.2 and torch.equal(by_pose[2]["mask"], region)
    edited = executor.call(
        "HSpacePasteBack",
        original=image,
        reconstruction=by_pose[0],
        edited=1 - by_pose[0],
        placement=by_pose[2],
        feather=0.0,
    )[0]
    changed = (edited != image).any(-1)[0]
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[185:225, 145:225] = True
    assert not changed[~inside].any() and changed[195:215, 155:215].float().mean() > 0.9


def test_the_demo_photograph_has_masks_where_its_parts_are(executor):
    image, *masks = executor.call("HSpaceDemoPhoto")
    assert image.shape == (1, 512, 512, 3)
    mouth, eyes, hair, face, dots = (mask[0] for mask in masks)
    assert all(mask.shape == (512, 512) and 0 < float(mask.mean()) < 0.05 for mask in (mouth, eyes, hair, face))
    for part in (mouth, eyes):
        assert float((part * face).sum() / part.sum()) > 0.95
    assert float((hair * face).sum() / hair.sum()) < 0.2
    red, _, blue = ((image[0] * part[..., None]).sum((0, 1)) / part.sum() for part in (mouth, face, hair))
    assert red[0] > red[2] and blue[0] > blue[2] and float(red.mean()) > float(blue.mean())  # skin, and darker hair
    fitted, _, placement = executor.call("HSpaceFitPhoto", image=image, framing="face", frame=dots[None], size=256)
    assert fitted.shape == (1, 256, 256, 3)
    same = {"original": image, "reconstruction": fitted, "edited": fitted, "placement": placement}
    assert torch.equal(executor.call("HSpacePasteBack", **same)[0], image)
