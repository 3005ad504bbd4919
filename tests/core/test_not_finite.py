"""What is not finite is found where it arises: at the network, with its noise level, in every loop of core that asks
one."""

import pytest
import torch

from core.denoiser import NotFinite, all_finite, check_finite
from core.edit.anchor import drift
from core.edit.noise.edit_friendly import sample_edit_friendly
from core.inputs import check_image
from core.invert.bdia import invert_bdia
from core.invert.ddim import invert_ddim
from core.invert.edict import invert_edict
from core.invert.edit_friendly import invert_edit_friendly
from core.invert.fixed_point import FixedPointOptions, invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.sample import sample_ddim
from core.schedule import Schedule

SIGMAS = torch.tensor([10.0, 6.0, 2.0, 0.5, 0.0], dtype=torch.float64)
X0 = torch.zeros(2, 3, 4, 4)


class Toy:
    """Half of the state; the second picture is NaN above a level."""

    noising = "sigma"

    layers, fingerprint = (), "toy"

    def __init__(self, above: float = float("inf")):
        self.above = above

    def __call__(self, x, sigma):
        out = x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
        out[1:][sigma[1:] > self.above] = float("nan")
        return out


LOOPS = {
    "fixed point": (lambda m: invert_fixed_point(m, X0, SIGMAS), 6),
    "fixed point, averaged": (
        lambda m: invert_fixed_point(m, X0, SIGMAS, 3, options=FixedPointOptions(average=(1, 2))),
        6,
    ),
    "fixed point, anderson": (
        lambda m: invert_fixed_point(m, X0, SIGMAS, 3, options=FixedPointOptions(anderson=True)),
        6,
    ),
    "ddim A": (lambda m: invert_ddim(m, X0, SIGMAS, "A"), 6),
    "ddim B": (lambda m: invert_ddim(m, X0, SIGMAS, "B"), 6),
    "edict": (lambda m: invert_edict(m, X0, SIGMAS), 6),
    "bdia": (lambda m: invert_bdia(m, X0, SIGMAS), 6),
    "edit-friendly": (lambda m: invert_edit_friendly(m, X0, SIGMAS), 10),
    "edit-friendly, two levels a call": (lambda m: invert_edit_friendly(m, X0, SIGMAS, batch=2), 10),
    "sample": (lambda m: sample_ddim(m, X0 + 1, SIGMAS), 10),
    "sample edit-friendly": (lambda m: sample_edit_friendly(m, invert_edit_friendly(Toy(), X0, SIGMAS)), 10),
    "drift": (lambda m: drift(m, invert_ddim(Toy(), X0, SIGMAS)), 10),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_network_is_named_with_the_level(name):
    run, level = LOOPS[name]
    run(Toy())
    with pytest.raises(
        NotFinite,
        match=rf"the network gave NaN or infinite values at sigma {level}: half precision overflows there \(try fp32 or bf16\)",
    ):
        run(Toy(above=5.0))


def test_a_state_that_is_not_finite_is_not_the_networks_fault():
    with pytest.raises(NotFinite, match=r"the state that goes into the network at sigma 10 holds NaN"):
        sample_ddim(Toy(), X0 * float("nan"), SIGMAS)


def test_one_level_for_many_rows_and_levels_of_their_own():
    bad = torch.ones(3, 1, 2, 2)
    bad[2] = float("inf")
    with pytest.raises(NotFinite, match="sigma 7:"):
        check_finite(torch.ones_like(bad), torch.tensor([5.0, 6.0, 7.0]), bad)
    with pytest.raises(NotFinite, match="sigma 5:"):
        check_finite(torch.ones_like(bad), torch.tensor([5.0]), bad)
    assert check_finite(bad, 5.0, bad[:2]) is not None


def test_it_looks_through_gradients_but_not_into_vmap():
    seen = []

    def f(x):
        seen.append(all_finite(x * float("nan")))
        return x.sum()

    torch.func.grad(f)(torch.ones(2))
    torch.func.jvp(f, (torch.ones(2),), (torch.ones(2),))
    torch.func.vmap(f)(torch.ones(3, 2))
    torch.func.vmap(lambda v: torch.func.jvp(f, (torch.ones(2),), (v,))[1])(torch.ones(3, 2))
    assert seen[:3] == [False, False, True]


def test_a_network_of_our_own_with_broken_weights(device):
    net = DDPMUNet(DDPMConfig(3, 3, (32, 32), 1, (False, True))).to(device)
    model, x = VPDenoiser(net, Schedule(), "v", "0" * 12), torch.zeros(1, 3, 8, 8, device=device)
    model(x, x.new_ones(1))
    torch.nn.init.constant_(net.conv_out.bias, float("nan"))
    with pytest.raises(NotFinite, match="the network gave NaN or infinite values at sigma 2:"):
        model(x, 2 * x.new_ones(1))
    part = model.split(x, 3 * x.new_ones(1))
    with pytest.raises(NotFinite, match="sigma 3:"):
        part.decode(part.h)


def test_latents_with_a_frame_axis_are_named():
    with pytest.raises(ValueError, match=r"one picture \[b c h w\], got states with a frame axis, \[1, 16, 1, 8, 8\]"):
        check_image(torch.zeros(1, 16, 1, 8, 8), None)
