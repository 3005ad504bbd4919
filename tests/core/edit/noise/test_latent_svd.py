"""SVD of latents: exact decomposition, bit-for-bit identity at 0, and the trained mix against the dense least-squares
solution."""

import pytest
import torch

from core.edit.noise.latent_svd import Svd, mixed, plot_spectra, rescaled, scaled
from core.train.latent_svd import MixSettings, Values, Weights, fit_mix, fit_values, mix_loss


def latents(b=2, c=3, h=12, w=16):
    g = torch.Generator().manual_seed(4)
    return torch.randn(b, c, h, w, generator=g), torch.randn(b, c, h, w, generator=g)


def test_scaling_against_a_literal_loop():
    x, _ = latents()
    for b in range(2):
        for c in range(3):
            u, s, v = torch.linalg.svd(x[b, c].double())
            s = s.clone() * 0.5
            s[1:4] *= 6
            wanted = u[:, :12] @ torch.diag(s) @ v[:12]
            assert torch.allclose(scaled(x, 2, 3, 3.0, 0.5)[b, c].double(), wanted, atol=1e-5)
    assert scaled(x, 1, 12, 1.0) is x
    assert torch.allclose(scaled(x, 1, 12, 2.5), 2.5 * x, atol=1e-5)
    assert torch.allclose(scaled(x, 1, 5, 1.0, 0.0) + scaled(x, 6, 7, 1.0, 0.0), x, atol=1e-5)


def test_mix_ends():
    x, z = latents()
    assert mixed(x, z, 4, 0.0) is x
    full = mixed(x, z, 4, 1.0).double()
    one, two = Svd.of(x), Svd.of(z)
    raw = x.double() - one.joined(one.s[..., :4]) + two.joined(two.s[..., :4])
    assert torch.allclose(full, raw * (x.double().std((2, 3), keepdim=True) / raw.std((2, 3), keepdim=True)), atol=1e-5)
    assert torch.allclose(full.std((2, 3)), x.double().std((2, 3)), atol=1e-5)
    assert torch.allclose(mixed(x, x, 4, 0.7), x, atol=1e-5)


def test_rotated_latent_has_the_same_values():
    x, _ = latents(1, 2, 12, 12)
    assert torch.allclose(Svd.of(x).s, Svd.of(x.transpose(-1, -2)).s, atol=1e-9)


def test_network_starts_at_the_source():
    x, z = latents()
    one, two = Svd.of(x), Svd.of(z)
    s_1, s_2 = Values(12, 9, 5)(one.s, two.s)
    assert (
        torch.allclose(s_1, one.s[..., :9], rtol=1e-6)
        and bool((s_2 < 0.04 * two.s[..., :5]).all())
        and bool((s_2 > 0).all())
    )


def dense(x, one, two, k_x, k_z, weights):
    """The minimum of the same losses for one channel, by least squares on stacked rows."""
    columns = [torch.outer(one.u[:, i], one.v[i]).flatten() for i in range(k_x)] + [
        torch.outer(two.u[:, i], two.v[i]).flatten() for i in range(k_z)
    ]
    a = torch.stack(columns, 1)
    probe = torch.stack(columns[k_x:])
    rows = [weights.target**0.5 * probe @ a, weights.source**0.5 * a]
    aims = [weights.target**0.5 * two.s[:k_z], weights.source**0.5 * x.flatten()]
    eye = torch.eye(k_x + k_z, dtype=torch.float64)
    rows += [weights.hold_target**0.5 * eye[k_x:], weights.hold_source**0.5 * eye[:k_x]]
    aims += [weights.hold_target**0.5 * two.s[:k_z], weights.hold_source**0.5 * one.s[:k_x]]
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(aims)[:, None]).solution[:, 0]


def test_training_reaches_the_dense_minimum():
    g = torch.Generator().manual_seed(2)
    x = torch.randn(1, 1, 10, 10, generator=g)
    z = x + 0.7 * torch.randn(1, 1, 10, 10, generator=g)
    weights, (k_x, k_z) = Weights(1.0, 1.0, 0.5, 0.5), (7, 3)
    one, two = Svd.of(x), Svd.of(z)
    flat = Svd(one.u[0, 0], one.s[0, 0], one.v[0, 0]), Svd(two.u[0, 0], two.s[0, 0], two.v[0, 0])
    best = dense(x[0, 0].double(), *flat, k_x, k_z, weights)
    assert bool((best > 0).all()), "the test needs a minimum with positive values"
    least = float(mix_loss(x.double(), one, two, best[None, None, :k_x], best[None, None, k_x:], weights))
    start = float(mix_loss(x.double(), one, two, *Values(10, k_x, k_z)(one.s, two.s), weights).detach())
    losses = []
    settings = MixSettings(k_x, k_z, weights, steps=600)
    y = fit_values(x, z, settings, callback=lambda s: losses.append(s["loss"]))
    assert losses[0] == pytest.approx(start, rel=1e-6)
    assert least <= losses[-1] < least + 0.01 * (start - least)
    wanted = rescaled(one.joined(best[None, None, :k_x]) + two.joined(best[None, None, k_x:]), x)
    assert float((y - wanted).norm() / wanted.norm()) < 0.02
    assert torch.equal(y, fit_values(x, z, settings)), "same seed, same result"


def test_losses_pull_where_they_say():
    x, z = latents(1, 2, 12, 12)
    near = fit_values(x, z, MixSettings(weights=Weights(0.0, 1.0, 0.0, 0.0), steps=300))
    far = fit_values(x, z, MixSettings(weights=Weights(3.0, 0.1, 1.0, 0.1), steps=300))
    target = mixed(x, z, 8, 1.0)
    assert float((near - x).norm()) < float((far - x).norm())
    assert float((far - target).norm()) < float((near - target).norm())


def test_refusals():
    x, z = latents()
    for call in (
        lambda: scaled(x, 0, 1, 2.0),
        lambda: scaled(x, 10, 4, 2.0),
        lambda: mixed(x, z[:, :, :8], 2),
        lambda: mixed(x, z, 13),
        lambda: mixed(x, z, 2, 1.5),
        lambda: fit_values(x, z, MixSettings(k_z=13)),
        lambda: Svd.of(x[0]),
        lambda: Svd.of(x / 0),
    ):
        with pytest.raises(ValueError):
            call()


def test_a_fitted_mix_tells_its_losses_and_goes_part_of_the_way():
    x, z = latents()
    seen = []
    mix = fit_mix(x, z, lambda state: seen.append(state["loss"]), MixSettings(k_z=4, steps=5))
    assert (
        torch.equal(mix.result, fit_values(x, z, MixSettings(k_z=4, steps=5))) and mix.losses == seen and len(seen) == 5
    )
    assert torch.equal(mix.at(0.0), x) and torch.allclose(mix.at(0.5), (x + mix.result) / 2, atol=1e-6)
    assert mix.text.startswith(f"loss {seen[0]:.4f} > {seen[-1]:.4f} in 5 steps; result ")


def test_spectra_are_drawn():
    x, z = latents()
    sheet = plot_spectra({"source": x, "target": z})
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and float(sheet.std()) > 0
