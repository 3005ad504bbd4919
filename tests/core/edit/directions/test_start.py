"""Where a way back starts: at the first edited level where that is the same picture, else at the top."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.directions import Directions
from core.edit.directions.atlas import Atlas, render_variants
from core.edit.directions.steer import Edit, SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.files.checkpoint import load_denoiser
from core.files.directions import load_directions
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import invert_fixed_point
from core.measure.image import psnr
from core.sample import known_reconstruction, reconstruct
from core.schedule import Schedule, grid_sigmas, karras

WEIGHTS = Path(__file__).resolve().parents[4] / "weights"


class Counting:
    """A denoiser that counts its calls."""

    def __init__(self, model):
        self.model, self.calls = model, 0
        self.layers, self.fingerprint, self.noising = model.layers, model.fingerprint, model.noising

    def __call__(self, x, sigma):
        self.calls += 1
        return self.model(x, sigma)

    def split(self, x, sigma, layer="middle", smooth=False):
        self.calls += 1
        return self.model.split(x, sigma, layer, smooth)


@pytest.fixture(scope="module")
def consistent(small, device):
    x0 = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2)) - 0.5).to(device)
    trajectory = invert_fixed_point(small, x0, grid_sigmas(Schedule(), 8, t0=500))
    assert not trajectory.is_consistent  # a network of random weights
    return replace(trajectory, residual=torch.full((8,), 1e-3))


@pytest.fixture(scope="module")
def edit(small, consistent):
    h = small.split(consistent.noisiest, consistent.sigmas[:1]).h
    v = torch.nn.functional.normalize(torch.randn(1, 1, h[0].numel()), dim=2).view(1, 1, *h.shape[1:])
    facts = torch.ones(1, 1)
    directions = Directions(v, consistent.sigmas[:1].double(), facts, facts, "middle", small.fingerprint)
    return Edit(directions, EditSchedule(8.0, 1.5, 0.1))


def test_from_the_window_is_the_picture_from_the_top_on_the_face_model(device, faces):
    """On a trajectory of one iteration, to 60 dB and more."""
    model = load_denoiser(WEIGHTS / "face_model.safetensors", device)
    found = load_directions(WEIGHTS / "directions" / "mouth.safetensors").select([1])
    trajectory = invert_fixed_point(model, faces[:2].to(device), karras(25, 20.0), iterations=1)
    assert trajectory.is_consistent
    edits = [Edit(found, EditSchedule(18.0, 4.0, 0.1))]
    counted = Counting(model)
    top, window = (steer_trajectory(counted, trajectory, edits, SteerOptions(start=start)) for start in ("top", "auto"))
    levels = sum(s <= 4.0 for s in trajectory.sigmas.tolist()[:-1])
    assert counted.calls == 25 + levels and levels < 20
    plain = reconstruct(model, trajectory).rebuilt
    assert float(psnr(top, window).min()) >= 60 and float(psnr(trajectory.x0, plain).min()) >= 60
    assert float(psnr(top, plain).max()) < 50


def test_it_starts_at_the_top_where_the_window_is_another_picture(small, consistent, edit):
    fresh = {"eta": 0.5, "boost": 1.0, "lagged": True}
    for name, value in fresh.items():
        options = {name: value}
        top, auto = (
            steer_trajectory(small, consistent, [edit], SteerOptions(start=start, **options))
            for start in ("top", "auto")
        )
        assert torch.equal(top, auto), name
    for other in (
        invert_ddim(small, consistent.x0, consistent.sigmas),
        replace(consistent, residual=torch.full((8,), 0.02)),
        replace(consistent, moved=True),
    ):
        counted = Counting(small)
        auto = steer_trajectory(counted, other, [edit], SteerOptions(start="auto"))
        assert torch.equal(auto, steer_trajectory(small, other, [edit]))
        assert counted.calls == 8


def test_strength_zero_is_the_reconstruction_bit_for_bit(small, consistent, edit):
    off = replace(edit, schedule=replace(edit.schedule, strength=0.0))
    plain = reconstruct(small, consistent).rebuilt
    assert torch.equal(steer_trajectory(small, consistent, [off], SteerOptions(start="auto")), plain)


def test_edits_of_the_model_itself_count_too(small, consistent, edit):
    counted = Counting(small)
    steer_trajectory(counted, consistent, [edit], SteerOptions(start="auto"), edited=lambda s: s <= 3.0)
    assert counted.calls == sum(s <= 3.0 for s in consistent.sigmas.tolist()[:-1])
    with pytest.raises(ValueError, match="start must be"):
        steer_trajectory(small, consistent, [edit], SteerOptions(start="bottom"))


def test_the_plain_picture_of_an_atlas_is_taken_where_it_is_known(small, consistent, edit):
    atlas = Atlas.of(edit.directions, edit.schedule, 3.0, 3)
    counted = Counting(small)
    pictures = render_variants(counted, consistent, atlas, 4)
    assert counted.calls == sum(s <= 1.5 for s in consistent.sigmas.tolist()[:-1])
    assert torch.equal(pictures[:1], consistent.x0)
    known = reconstruct(small, consistent)
    assert torch.equal(render_variants(small, known, atlas, 4)[:1], known.rebuilt)
    edited = render_variants(small, known, atlas, 4, before=[edit])[:1]
    assert torch.equal(edited, steer_trajectory(small, known, [edit], SteerOptions(start="auto")))


def test_the_reconstruction_of_a_moved_trajectory_is_the_pictures_own(small, consistent):
    moved = replace(
        consistent, states=torch.cat([consistent.states[:1] + 1, consistent.states[1:]]), moved=True, residual=None
    )
    assert known_reconstruction(moved) is None
    own = reconstruct(small, replace(consistent, sigmas=consistent.sigmas[1:], states=consistent.states[1:]))
    assert torch.equal(reconstruct(small, moved).rebuilt, own.rebuilt)
