"""An atlas: what stands where, and that every picture is the edit that its label says."""

import pytest
import torch

from core.directions import Directions
from core.edit.directions.atlas import Atlas, render_variants
from core.edit.directions.steer import Edit, SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.invert.ddim import invert_ddim
from core.schedule import Schedule, grid_sigmas

SCHEDULE = EditSchedule(1.0, 100.0, 0.0)


@pytest.fixture(scope="module")
def trajectory(small):
    x0 = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return invert_ddim(small, x0, grid_sigmas(Schedule(), 4, t0=500))


@pytest.fixture(scope="module")
def atlas(small, trajectory):
    h = small.split(trajectory.noisiest, trajectory.sigmas[:1]).h
    vectors = torch.nn.functional.normalize(torch.randn(2, h[0].numel()), dim=1).view(1, 2, *h.shape[1:])
    facts = torch.ones(1, 2)
    directions = Directions(vectors, trajectory.sigmas[:1].double(), facts, facts, "middle", small.fingerprint)
    return Atlas.of(directions, SCHEDULE, 3.0, 3)


def test_columns_are_even_steps_around_nothing(atlas):
    assert atlas.strengths == (-6.0, 0.0, 6.0)
    assert atlas.variants() == [(0, -6.0), (0, 6.0), (1, -6.0), (1, 6.0)]
    assert [len(batch) for batch in atlas.batches(3)] == [3, 1]
    with pytest.raises(ValueError, match="columns must be odd"):
        Atlas.of(atlas.directions, SCHEDULE, 3.0, 4)


@pytest.mark.parametrize("size", [1, 3])
def test_every_picture_is_its_own_edit(small, trajectory, atlas, size):
    plain, *variants = render_variants(small, trajectory, atlas, size)
    assert torch.equal(plain, steer_trajectory(small, trajectory, [])[0])
    for (i, strength), picture in zip(atlas.variants(), variants, strict=True):
        edit = Edit(atlas.directions.select([i]), SCHEDULE, ((strength,),))
        alone = steer_trajectory(small, trajectory, [edit], SteerOptions(start="window"))[0]
        assert torch.allclose(picture, alone, atol=1e-3)
        assert not torch.allclose(picture, plain, atol=1e-1)


def test_rows_hold_the_reconstruction_in_the_middle(atlas):
    plain, *variants = torch.arange(5.0)
    images = atlas.in_order(plain, variants)
    assert [int(image) for image in images] == [1, 0, 2, 3, 0, 4]
    assert atlas.ends(images).tolist() == [2, 1, 4, 3]


def test_a_sheet_has_a_row_a_direction(atlas):
    pictures = [torch.zeros(3, 16, 16)] * 6
    named = atlas.sheet(pictures[0], pictures, "mouth", ["open", "shut", "wide", "narrow"])
    assert named.dim() == 4 and named.shape[-1] == 3
    assert named.shape[1] > named.shape[2] / 4 > 0
    assert not torch.equal(named, atlas.sheet(pictures[0], pictures, "mouth", ["open", "shut", "wide", "thin"]))
