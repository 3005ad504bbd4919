"""The face world: deterministic, exactly masked, and split into two sets that never meet."""

import random

import pytest
import torch

from core.faces.captions import caption
from core.faces.factors import BY_NAME, FACTORS, NAMES, from_matrix, is_held_out, neutral, sample, to_matrix
from core.faces.regions import REGIONS, region_mask
from core.faces.render import PARTS, render


def faces(n=12, seed=0, **options):
    return sample(n, torch.Generator().manual_seed(seed), **options)


def test_the_same_seed_draws_the_same_faces(device):
    a, b = (render(faces(), device=device)[0] for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, render(faces(seed=1), device=device)[0])
    torch.testing.assert_close(a.cpu(), render(faces())[0], atol=1e-4, rtol=0)


def test_pictures_are_those_the_models_were_trained_on():
    # Recorded when the renderer was written: a change here makes every shipped weight file stale.
    picture = render(faces(4), 64)[0]
    torch.testing.assert_close(
        picture.mean((1, 2, 3)), torch.tensor([0.6702545, 0.6084174, 0.6060268, 0.5369685]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        picture[0, :, 20, 30], torch.tensor([0.9432011, 0.7374531, 0.5838591]), atol=1e-5, rtol=0
    )


def test_training_and_held_out_faces_never_meet():
    train, held = faces(4000), faces(200, held_out=True)
    assert not is_held_out(train).any()
    assert is_held_out(held).all()
    share = (
        is_held_out(from_matrix(torch.stack([f.low + torch.rand(20000) * (f.high - f.low) for f in FACTORS], 1)))
        .float()
        .mean()
    )
    assert 0.03 < float(share) < 0.12


def test_samples_have_the_stated_frequencies():
    found = faces(20000)
    assert abs(float(found["glasses"].mean()) - 0.35) < 0.02
    assert abs(float((found["mouth_open"] == 0).float().mean()) - 0.4) < 0.02
    for name, f in BY_NAME.items():
        assert float(found[name].min()) >= f.low
        assert float(found[name].max()) <= f.high
    for i in range(5):
        assert abs(float((found["hair_color"] == i).float().mean()) - 0.2) < 0.02


def test_matrix_round_trip_and_unknown_factor():
    found = faces(5)
    assert all(torch.equal(found[n], from_matrix(to_matrix(found))[n]) for n in NAMES)
    with pytest.raises(ValueError, match=r"smirk.*the face world has smile"):
        neutral(1, smirk=1.0)


@pytest.mark.parametrize("supersample", [1, 2])
def test_parts_of_every_pixel_add_up_to_one(supersample, device):
    image, parts = render(faces(16), 48, supersample, masks=True, device=device)
    assert tuple(parts) == PARTS
    assert image.shape == (16, 3, 48, 48)
    total = torch.stack(list(parts.values())).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
    assert all(float(p.min()) >= 0 for p in parts.values())


@pytest.mark.parametrize(
    ("region", "changes"),
    [
        ("mouth", {"smile": -0.8, "mouth_open": 0.0}),
        ("mouth", {"smile": 0.9, "mouth_open": 1.0}),
        ("eyes", {"eye_open": 0.2}),
        ("eyes", {"gaze": 1.0, "eye_color": 2.0}),
        ("glasses", {"glasses": 1.0}),
        ("hair", {"hair_length": 0.9, "hair_shade": -1.0}),
    ],
)
def test_a_factor_changes_only_its_region(region, changes):
    before = faces(10, held_out=True)
    if region != "glasses":
        before["glasses"] = torch.zeros(10)
    after = {**before, **{n: torch.full((10,), v) for n, v in changes.items()}}
    change = (render(before)[0] - render(after)[0]).abs().amax(1)
    mask = region_mask(before, region)
    if region == "hair":  # brows have the colour of the hair
        mask = torch.maximum(mask, render(before, masks=True)[1]["brows"])
    assert float(change.amax()) > 0.1
    assert float((change * (mask < 1e-3)).amax()) < 0.02


@pytest.mark.parametrize("region", REGIONS)
def test_region_masks_do_not_depend_on_what_the_region_does_now(region):
    own = {"mouth": "smile", "eyes": "eye_open", "hair": "hair_length", "glasses": "glasses"}[region]
    base = faces(4)
    moved = {**base, own: torch.full((4,), BY_NAME[own].high)}
    torch.testing.assert_close(region_mask(base, region), region_mask(moved, region))
    assert float(region_mask(base, region).flatten(1).sum(1).min()) > 8


def test_unknown_region_is_refused():
    with pytest.raises(ValueError, match=r"one of mouth, eyes, hair, glasses, got 'ear'"):
        region_mask(faces(1), "ear")


def test_captions_say_what_is_drawn():
    face = neutral(1, smile=0.9, glasses=1.0, hair_color=3, hair_length=0.9, eye_color=1, mouth_open=0.8)
    assert caption(face, 0) == "a smiling person with long red hair and glasses and blue eyes and an open mouth"
    short = {caption(face, 0, random.Random(s)) for s in range(20)}
    assert len(short) > 5
    assert all(s.startswith("a smiling person with ") for s in short)
