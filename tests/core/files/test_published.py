"""Figures that help pages give about the difference to published code."""

import math
from pathlib import Path

import pytest
import torch

from core.directions import Directions
from core.edit.directions.shift import Edit, h_shift
from core.edit.noise.sdedit import sdedit_sigmas
from core.edit_schedule import EditSchedule
from core.faces.factors import sample
from core.faces.render import render
from core.files.diffae import load_autoencoder
from core.invert.ddim import invert_ddim
from core.measure.image import psnr
from core.networks.diffae import Coded
from core.networks.vp import VPDenoiser
from core.sample import sample_ddim
from core.schedule import Schedule, grid, grid_sigmas

WEIGHTS = Path(__file__).parents[3] / "weights"


@pytest.mark.parametrize(("t0", "higher"), [(301, 19), (401, 19), (500, 19), (999, 18)])
def test_sdedit_sigmas_come_near_the_step_grid_of_the_h_space_papers(t0, higher):
    """SDEdit Sigmas, uniform, at (t0 + 1) / 1000: the top of ``int(linspace(0, 1, 40) * t0)``, and no step more than
    one of 1000 away."""
    schedule = Schedule()
    ours = schedule.t(sdedit_sigmas(schedule.sigmas, (t0 + 1) / 1000, 40)[:-1]).round().long()
    away = ours - grid(schedule, 40, "linspace", t0)
    assert int(ours[0]) == t0 and int(away.min()) == 0 and int(away.max()) == 1 and int((away != 0).sum()) == higher


def test_edits_at_one_over_the_root_of_their_number_are_the_released_sum():
    g = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2, 48, generator=g), dim=1).reshape(2, 1, 3, 4, 4)
    found = [
        Directions(v[None], torch.tensor([1.0]), torch.ones(1, 1), torch.ones(1, 1), "middle", "0" * 12)
        for v in vectors
    ]
    h = torch.zeros(1, 3, 4, 4)

    def added(strength):
        return h_shift([Edit(d, EditSchedule(strength)) for d in found], 1.0, h)

    released = (vectors[0] + vectors[1]) / math.sqrt(2)
    assert torch.allclose(added(0.7071), released, atol=1e-4)
    assert abs(float(added(1.0).norm() / released.norm()) - 1.41) < 0.01


@pytest.mark.parametrize("name", ["face_diffae", "face_hdae"])
def test_convention_a_brings_an_autoencoder_back_best(name):
    """Two faces on the embedded autoencoders, by the released step grid: A against B at 20 steps."""
    source = load_autoencoder(WEIGHTS / f"{name}.safetensors")
    x = render(sample(2, torch.Generator().manual_seed(35), held_out=True), 64)[0] * 2 - 1
    sigmas = grid_sigmas(source.schedule, 20, "stride")
    with torch.no_grad():
        model = VPDenoiser(
            Coded(source.net, source.net.encoder(x)), source.schedule, source.prediction, source.fingerprint
        )
        a, b = (
            float(psnr(sample_ddim(model, invert_ddim(model, x, sigmas, way).noisiest, sigmas), x).mean())
            for way in "AB"
        )
    assert a > b + 2, (a, b)
