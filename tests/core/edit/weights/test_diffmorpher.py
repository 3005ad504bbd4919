"""Morphing: the arc, AdaIN, blends of LoRAs and the perceptual reschedule against literal formulas; ends come back."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.edit.weights.diffmorpher import interpolated_steps, noises_between
from core.edit.weights.interpolate import adain, alphas_text, even_alphas, parse_alphas, slerp
from core.edit.weights.reschedule import neighbour_distances, reschedule_plot, reschedule_text, rescheduled
from core.networks.low_rank import beside, blended


def noises():
    g = torch.Generator().manual_seed(3)
    return torch.randn(3, 6, 8, generator=g), 1.5 + 0.5 * torch.randn(3, 6, 8, generator=g)


def test_slerp_is_the_arc():
    a, b = noises()
    alphas = [0.0, 0.1, 0.5, 0.8, 1.0]
    found = slerp(a, b, alphas)
    assert torch.equal(found[0], a) and torch.equal(found[-1], b)
    u, v = a.double().flatten() / a.double().norm(), b.double().flatten() / b.double().norm()
    whole = math.acos(float(u @ v))
    for one, t in zip(slerp(a / a.double().norm(), b / b.double().norm(), alphas), alphas, strict=True):
        p = one.double().flatten()
        assert float(p.norm()) == pytest.approx(1, abs=1e-6)
        assert float(p @ u) == pytest.approx(math.cos(t * whole), abs=1e-6)
        assert float(p @ v) == pytest.approx(math.cos((1 - t) * whole), abs=1e-6)
    assert torch.allclose(found, slerp(3 * a, 3 * b, alphas) / 3, atol=1e-6), "the arc does not depend on the scale"


def test_slerp_of_equal_and_opposite_noises_is_finite():
    a, _ = noises()
    assert torch.allclose(slerp(a, a, [0.3])[0], a, atol=1e-5)
    ends = slerp(a, -a, [0.0, 0.5, 1.0])
    assert torch.isfinite(ends).all() and torch.equal(ends[0], a) and torch.equal(ends[2], -a)


def test_adain_interpolates_moments_and_keeps_the_ends():
    a, b = noises()
    alphas = [0.0, 0.25, 1.0]
    found = adain(slerp(a, b, alphas), a, b, alphas).double()
    assert torch.allclose(found[0], a.double(), atol=1e-6) and torch.allclose(found[2], b.double(), atol=1e-6)
    for c in range(3):
        mean = 0.75 * a[c].double().mean() + 0.25 * b[c].double().mean()
        deviation = 0.75 * a[c].double().std(correction=0) + 0.25 * b[c].double().std(correction=0)
        assert float(found[1, c].mean()) == pytest.approx(float(mean), abs=1e-5)
        assert float(found[1, c].std(correction=0)) == pytest.approx(float(deviation), rel=1e-4)


def test_noises_between_trajectories(small_trajectory):
    first, second = small_trajectory.image(0), small_trajectory.image(1)
    plain = noises_between(first, second, [0.0, 0.4, 1.0], statistics=False)
    assert torch.equal(plain[:1], first.noisiest) and torch.equal(plain[2:], second.noisiest)
    full = noises_between(first, second, [0.0, 0.4, 1.0])
    assert torch.allclose(full[[0, 2]], torch.cat([first.noisiest, second.noisiest]), atol=1e-5)
    assert not torch.allclose(full[1], plain[1], atol=1e-3)
    coarse = replace(second, sigmas=second.sigmas[[0, 2, 4, 6, 8]], states=second.states[[0, 2, 4, 6, 8]])
    for other in (small_trajectory, coarse):
        with pytest.raises(ValueError):
            noises_between(first, other, [0.5])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 7), nn.Linear(7, 4, bias=False)

    def forward(self, x):
        return self.two(self.one(x).tanh())


def pair(o, i, rank, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(o, rank, generator=g, dtype=torch.float64), torch.randn(
        rank, i, generator=g, dtype=torch.float64
    )


def test_blends_equal_merged_weights_row_by_row():
    net, alphas = Net().double(), [0.0, 0.3, 1.0]
    first = {"one": pair(7, 5, 2, 1), "two": pair(4, 7, 2, 2)}
    second = {"one": pair(7, 5, 2, 3), "two": pair(4, 7, 2, 4)}
    x = torch.randn(6, 9, 5, dtype=torch.float64)  # two chunks of three rows
    before = net(x)
    for mode in ("delta", "factors"):
        with beside(net, blended(first, second, alphas, mode)), torch.no_grad():
            found = net(x)
        for row in range(6):
            a, merged = alphas[row % 3], Net().double()
            merged.load_state_dict(net.state_dict())
            for name, (u0, d0) in first.items():
                u1, d1 = second[name]
                added = (1 - a) * u0 @ d0 + a * u1 @ d1
                if mode == "factors":
                    added = ((1 - a) * u0 + a * u1) @ ((1 - a) * d0 + a * d1)
                merged.get_submodule(name).weight.data += added
            assert torch.allclose(found[row], merged(x[row]), atol=1e-12)
    assert torch.equal(net(x), before), "nothing is left behind"


def test_modes_agree_where_downs_are_shared_and_a_missing_side_is_zero():
    up0, down = pair(7, 5, 2, 1)
    up1 = pair(7, 5, 2, 5)[0]
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    alphas = [0.25, 0.75]
    delta, factors = (
        blended({"one": (up0, down)}, {"one": (up1, down)}, alphas, m)["one"](x) for m in ("delta", "factors")
    )
    assert torch.allclose(delta, factors, atol=1e-12)
    alone = blended({"one": (up0, down)}, {}, alphas)["one"](x)
    assert torch.allclose(
        alone, torch.tensor([0.75, 0.25], dtype=torch.float64)[:, None, None] * (x @ down.T @ up0.T), atol=1e-12
    )
    alone = blended({"one": (up0, down)}, {}, alphas, "factors")["one"](x)
    assert torch.allclose(
        alone, torch.tensor([0.75, 0.25], dtype=torch.float64)[:, None, None] ** 2 * (x @ down.T @ up0.T), atol=1e-12
    )


def test_hooks_come_off_when_something_breaks():
    net = Net()
    with pytest.raises(RuntimeError), beside(net, {"one": lambda x: x / 0, "two": lambda x: 1 / 0}):
        raise RuntimeError
    with pytest.raises(ValueError, match="no layer"), beside(net, {"one": lambda x: x, "three": lambda x: x}):
        pass
    assert not net.one._forward_hooks and not net.two._forward_hooks
    with pytest.raises(ValueError, match="rank"):
        blended({"one": pair(7, 5, 2, 1)}, {"one": pair(7, 5, 3, 1)}, [0.5], "factors")


def test_even_distances_give_even_alphas():
    for n in (2, 3, 12, 50):
        assert rescheduled([0.37] * (n - 1), even_alphas(n)) == pytest.approx(even_alphas(n), abs=1e-12)


def test_reschedule_against_the_papers_formula_and_its_properties():
    g = torch.Generator().manual_seed(1)
    for n in (3, 7, 20):
        d = (torch.rand(n - 1, generator=g, dtype=torch.float64) + 0.01).tolist()
        found = rescheduled(d, even_alphas(n))
        c = [sum(d[:j]) / sum(d) for j in range(n)]
        for k in range(1, n - 1):
            y = k / (n - 1)
            j = max(i for i in range(n - 1) if c[i] <= y)
            assert found[k] == pytest.approx((j + (y - c[j]) / (c[j + 1] - c[j])) / (n - 1), abs=1e-12)
        assert found[0] == 0 and found[-1] == 1 and all(b > a for a, b in itertools.pairwise(found))


def test_equal_neighbours_do_not_divide_by_zero():
    for d in ([0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]):
        found = rescheduled(d, even_alphas(5))
        assert found[0] == 0 and found[-1] == 1 and all(b > a for a, b in itertools.pairwise(found))
    # All the distance lies between 0.5 and 0.75: so do all new frames.
    assert rescheduled([0.0, 0.0, 1.0, 0.0], even_alphas(5))[1:-1] == pytest.approx([0.5625, 0.625, 0.6875])
    assert rescheduled([0.0] * 4, even_alphas(5)) == even_alphas(5)


def test_reschedule_makes_a_curved_path_even():
    """A path whose distance from its start is alpha^3: after one pass, and more so after a second, neighbours are
    equally far."""

    def spread(alphas):
        d = [b**3 - a**3 for a, b in itertools.pairwise(alphas)]
        return d, max(d) / min(d)

    alphas, ratios = even_alphas(16), []
    for _ in range(3):
        d, ratio = spread(alphas)
        ratios.append(ratio)
        alphas = rescheduled(d, alphas)
    assert ratios[0] > 100 and ratios[1] < 8 and ratios[2] < ratios[1]


def test_distances_and_texts():
    frames = torch.rand(4, 3, 16, 16) * 2 - 1
    frames[2] = frames[1]
    d = neighbour_distances(frames)
    assert d[1] == pytest.approx(0, abs=1e-6) and d[0] > 0.1
    assert parse_alphas(alphas_text(even_alphas(4))) == pytest.approx(even_alphas(4), abs=1e-6)
    assert parse_alphas("0; .5\n1") == [0, 0.5, 1]
    for text in ("", "0, x", "0, 1.5", "nan"):
        with pytest.raises(ValueError):
            parse_alphas(text)


def test_share_of_steps():
    assert [interpolated_steps(50, s) for s in (0, 0.6, 1)] == [0, 30, 50]
    assert interpolated_steps(8, 0.6) == sum(i < 8 * 0.6 for i in range(8)) and interpolated_steps(10, 0.3) == 3
    with pytest.raises(ValueError):
        interpolated_steps(10, 1.2)


def test_a_reschedule_is_drawn_and_told():
    before = even_alphas(4)
    picture = reschedule_plot([0.1, 0.2, 0.1], before, rescheduled([0.1, 0.2, 0.1], before), "LPIPS")
    assert picture.shape[0] == 1 and picture.shape[-1] == 3
    assert reschedule_text([0.1, 0.2, 0.1], "LPIPS") == "LPIPS: 0.400 in all, neighbours 0.1000 to 0.2000 apart"
    assert reschedule_text([0.0, 0.0], "LPIPS").endswith("alphas are left as they are")
