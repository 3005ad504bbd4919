"""The decoder as a list of stages: the same answers, the same derivatives, and the memory of one stage at a time."""

from dataclasses import replace

import pytest
import torch
from torch.func import vjp

from core.chain import Chain
from core.denoiser import Bottleneck
from core.discover import jacobian
from core.discover.cost import Live
from core.discover.jacobian import DecoderJacobian, Route
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

from ..networks.nets import DDPM, OPENAI, P2, PATCHED, make
from .test_jacobian import rows, split, state, tiny

STAGES = Route(keep=False)
GRAPHS = Route(keep=True)


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("config", [DDPM, PATCHED, P2, OPENAI])
def test_stages_together_are_the_network_bit_for_bit(config, device):
    model = VPDenoiser(make(config, device, torch.float32), Schedule(), "eps", "0" * 12)
    x = state(device, torch.float32)
    whole = model(x, x.new_ones(1))
    for n, layer in enumerate(model.layers):
        part = model.split(x, x.new_ones(1), layer)
        h = part.h
        for stage in part.decode.stages:
            h = stage(h)
        assert torch.equal(h, whole)
        assert len(part.decode.stages) == len(model.layers) - 1 - n + 2, "a stage for every block, and the two ends"


@pytest.mark.parametrize("config", [DDPM, PATCHED, P2, OPENAI])
def test_the_state_goes_through_in_stages(config, device):
    """Skips are carried along, and products take the memory of one stage."""
    model = VPDenoiser(make(config, device, torch.float64), Schedule(), "eps", "0" * 12)
    x = state(device, torch.float64)
    part = model.split(x, x.new_ones(1), "x")
    assert torch.equal(part.decode(part.h), model(x, x.new_ones(1)))
    assert len(part.decode.stages) > 2 * len(model.layers)
    J, whole = DecoderJacobian(part, STAGES), vjp(lambda y: model(y, x.new_ones(1)), x)[1]
    u = rows(2, J.shape[0], device).double()
    expected = torch.stack([whole(row.view_as(x))[0].flatten() for row in u])
    assert difference(J.vjp(u), expected) < 1e-12
    torch.testing.assert_close((J.jvp(expected) * u).sum(1), expected.square().sum(1), rtol=1e-10, atol=0)


def test_the_state_takes_the_memory_of_a_stage(device):
    x = torch.randn(1, 3, 64, 64, device=device)
    model = VPDenoiser(make(OPENAI, device, torch.float32), Schedule(), "eps", "0" * 12)
    part = model.split(x, x.new_ones(1), "x")
    peaks = []
    for bottleneck in (part, Bottleneck(part.h, part.decode.__call__, "x")):
        J = DecoderJacobian(bottleneck, STAGES)
        u = rows(1, J.shape[0], device).float()
        with Live() as live:
            J.vjp(u)
        peaks.append(live.peak)
    assert peaks[0] < 0.4 * peaks[1], peaks


def test_a_chain_of_another_copy_of_the_pack_is_one():
    class Other:
        stages = (abs, float)

    assert Chain.of(Other()).stages == (abs, float) and Chain.of(abs).stages == (abs,)


def test_chains():
    double, add = (lambda h: h * 2), (lambda h: h + 1)
    chain = Chain([double]).then(add)
    assert chain(3) == 7 and len(chain.stages) == 2 and Chain.of(chain) is chain
    assert chain.then(Chain([double, add]))(3) == 15 and Chain()(3) == 3
    assert chain.inside(lambda stage: lambda h: -stage(h))(3) == 5
    assert chain.beside_input()(3) == (3, 7)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layer", ["middle", "up.0", "up.2", "up.3"])
def test_products_stage_by_stage_are_those_of_the_whole(device, layer, dtype, tolerance):
    part = split(device, dtype, layer)
    whole = vjp(part.decode, part.h)[1]
    with torch.inference_mode():
        inside = split(device, dtype, layer)
        for route in (STAGES, GRAPHS, replace(STAGES, chunk=2), replace(STAGES, chunk=1)):
            J = DecoderJacobian(inside, route)
            u = rows(3, J.shape[0], device).to(dtype)
            expected = torch.stack([whole(row.view_as(J.y0).clone())[0].flatten() for row in u])
            assert difference(J.vjp(u), expected) < tolerance
            v = rows(3, J.shape[1], device).to(dtype)
            torch.testing.assert_close(
                (J.jvp(v) * u).sum(1), (v * expected).sum(1), rtol=100 * tolerance, atol=10 * tolerance
            )


def test_stages_may_hand_on_several_tensors(device):
    """As with guidance, where the h of each prompt goes its own way."""
    part = split(device)
    chain = Chain([lambda h: (h, h.sin()), lambda pair: (pair[0] * 2, pair[1] ** 2), lambda pair: pair[0] - pair[1]])
    J = DecoderJacobian(Bottleneck(part.h, chain, "middle"), STAGES)
    v = rows(3, J.shape[1], device)
    slope = (2 - (2 * part.h).sin()).flatten()
    torch.testing.assert_close(J.vjp(v), v * slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(J.jvp(v), v * slope, rtol=1e-12, atol=1e-12)


def test_each_direction_has_its_kernels(device):
    part = split(device)
    asked = []

    def noted(name: str) -> Chain:
        return part.decode.inside(lambda stage: lambda h: (asked.append(name), stage(h))[1])

    J = DecoderJacobian(replace(part, decode=noted("plain"), smooth=noted("smooth"), fused=noted("fused")), STAGES)
    J.vjp(rows(1, J.shape[0], device))
    assert set(asked) == {"fused"}
    asked.clear()
    J.jvp(rows(1, J.shape[1], device))
    assert set(asked) == {"smooth"}


def test_nothing_of_half_precision_weights_outlives_a_stage(device):
    x = state(device, torch.float16)
    model = tiny(device, torch.float16)
    weights = sum(p.numel() * 4 for p in model.net.up.parameters())
    with torch.no_grad():
        J = DecoderJacobian(model.split(x, x.new_ones(1)), replace(STAGES, chunk=1))
        u = rows(1, J.shape[0], device).float()
        with Live() as live:
            kept = J.vjp(u)
            assert live.now <= kept.nbytes and live.peak < weights, "one stage's copies at a time"


@pytest.mark.parametrize("share", [0.5, 2.9, 3.1, 100.0])
def test_graphs_are_held_if_they_take_a_third_of_what_is_free(device, monkeypatch, share):
    part = split(device, torch.float32)
    graphs = DecoderJacobian(part, GRAPHS).staged.graphs
    monkeypatch.setattr(jacobian, "free_bytes", lambda _: int(share * graphs))
    J = DecoderJacobian(part)
    assert graphs > 0 and J.staged.graphs == (graphs if share > 3 else 0)
    assert J.check() <= 3e-3 and (J.step is None) == (share > 3), "differences where graphs are too large"


def test_live_counts_what_is_held():
    given = torch.zeros(10)
    with Live([given]) as live:
        a = torch.ones(100)
        view = a[:50]
        b = a + 1
        assert live.now == 800 and live.largest == 400
        del a
        assert live.now == 800, "the view still holds it"
        del view
        assert live.now == 400 and live.peak == 800
        given.add_(1)
        assert live.mark() == 400 and live.peak == 400
    assert b.nbytes == 400
