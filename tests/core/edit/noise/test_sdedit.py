"""SDEdit: the released loop in VP variables, levels, masks, repeats, what is refused."""

import math

import pytest
import torch

from core.edit.noise.sdedit import SDEditOptions, sdedit, sdedit_sigmas
from core.schedule import Schedule, karras

S = Schedule()


def picture(device, b=1):
    g = torch.Generator().manual_seed(4)
    return (torch.rand(b, 3, 16, 24, generator=g, dtype=torch.float64) * 1.6 - 0.8).to(device)


def released(model, x0, t, repeats, keep, seed):
    """The released loop: VP variables, every integer step, posterior variance floored, mask of 1 for what stays."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(x0.shape, generator=g).to(x0)  # noqa: E731
    abar = S.abar.tolist()
    source = x0
    for _ in range(repeats):
        e = draw()
        x = math.sqrt(abar[t - 1]) * x0 + math.sqrt(1 - abar[t - 1]) * e
        for i in reversed(range(t)):
            before = abar[i - 1] if i else 1.0
            alpha = abar[i] / before
            sigma = math.sqrt((1 - abar[i]) / abar[i])
            eps = (
                x / math.sqrt(abar[i])
                - model(x / math.sqrt(abar[i]), torch.full((len(x),), sigma, dtype=torch.float64))
            ) / sigma
            mean = (x - (1 - alpha) / math.sqrt(1 - abar[i]) * eps) / math.sqrt(alpha)
            var = (1 - alpha) * (1 - before) / (1 - abar[i])
            x = mean + (math.exp(0.5 * math.log(max(var, 1e-20))) * draw() if i else 0.0)
            if keep is not None:  # at the level reached; the released code takes the one above
                x = torch.where(keep == 1, math.sqrt(before) * source + math.sqrt(1 - before) * e, x)
        x0 = x
    return x0


@pytest.mark.parametrize("masked", [False, True])
def test_the_released_loop(model, device, masked):
    x0, t = picture(device), 40
    keep = (torch.arange(24, device=device) < 10).double().expand(16, 24)
    expected = released(model, x0, t, 2, keep if masked else None, seed=5)
    levels = sdedit_sigmas(S.sigmas, t / 1000, 1, "all steps")
    assert len(levels) == t + 1 and torch.equal(levels[:-1], S.sigmas[:t].flip(0))
    found = sdedit(model, x0, levels, SDEditOptions(repeats=2, seed=5), mask=1 - keep if masked else None)
    assert float((found - expected).abs().max()) < 1e-9
    if masked:
        assert torch.equal(found[..., :10], x0[..., :10]) and not torch.equal(found[..., 10:], x0[..., 10:])


def test_levels_start_at_t0_whatever_the_spacing():
    for t0 in (0.3, 0.5, 1.0):
        top = float(S.sigma(round(1000 * t0) - 1))
        for spacing in ("uniform", "karras", "all steps"):
            levels = sdedit_sigmas(S.sigmas, t0, 12, spacing)
            assert float(levels[0]) == pytest.approx(top, rel=1e-12) and float(levels[-1]) == 0.0
            assert bool((levels[1:] < levels[:-1]).all())
            assert len(levels) == (round(1000 * t0) + 1 if spacing == "all steps" else 13)
    assert torch.allclose(
        sdedit_sigmas(S.sigmas, 0.5, 9, "karras"), karras(9, float(S.sigmas[499]), float(S.sigmas[0]))
    )
    even = S.t(sdedit_sigmas(S.sigmas, 0.5, 11)[:-1])
    assert float((even[1:] - even[:-1] + 49.9).abs().max()) <= 1


def test_more_noise_is_less_faithful_and_a_repeat_goes_on_from_the_last(small, device):
    x0 = picture(device).float()
    far = [
        float((sdedit(small, x0, sdedit_sigmas(S.sigmas, t0, 10), SDEditOptions(repeats=1)) - x0).square().mean())
        for t0 in (0.02, 0.2, 0.5)
    ]
    assert far == sorted(far) and far[0] > 0
    levels = sdedit_sigmas(S.sigmas, 0.2, 6)
    seen = []
    twice = sdedit(small, x0, levels, SDEditOptions(repeats=2, eta=0.0), callback=lambda s: seen.append(s["x"]))
    g = torch.Generator().manual_seed(0)
    torch.randn(x0.shape, generator=g)
    second = torch.randn(x0.shape, generator=g)
    start, sigma = seen[5] + levels[0].float() * second, levels[0].float().expand(1)
    step = start + (levels[1] - levels[0]).float() * (start - small(start, sigma)) / sigma
    assert float((seen[6] - step).abs().max()) < 1e-4 and len(seen) == 12 and torch.equal(seen[-1], twice)


def test_masks(model, device):
    x0, levels = picture(device), sdedit_sigmas(S.sigmas, 0.4, 5)
    plain = sdedit(model, x0, levels, SDEditOptions(repeats=2))
    assert torch.equal(
        sdedit(model, x0, levels, SDEditOptions(repeats=2), mask=torch.ones(16, 24, device=device)), plain
    )
    assert torch.equal(sdedit(model, x0, levels, SDEditOptions(repeats=2), mask=torch.zeros(16, 24, device=device)), x0)
    soft = sdedit(model, x0, levels, SDEditOptions(repeats=2), mask=torch.full((16, 24), 0.5, device=device))
    assert 0 < float((soft - x0).abs().mean()) < float((plain - x0).abs().mean())


def test_what_is_refused(small, device):
    x0, levels = picture(device).float(), sdedit_sigmas(S.sigmas, 0.4, 5)
    for options, word in (({"repeats": 0}, "repeats"), ({"eta": 2.0}, "eta")):
        with pytest.raises(ValueError, match=word):
            sdedit(small, x0, levels, SDEditOptions(**options))
    with pytest.raises(ValueError, match="mask"):
        sdedit(small, x0, levels, mask=torch.full((4, 4), 2.0))
    for args, word in (((0.0, 5), "t0"), ((1.2, 5), "t0"), ((0.5, 501), "1..500"), ((0.5, 5, "cosine"), "spacing")):
        with pytest.raises(ValueError, match=word):
            sdedit_sigmas(S.sigmas, *args)
