"""The rival methods against dense Jacobians and known answers: LOCO Edit, pullback, PCA, mean difference, and edits of
the state."""

from dataclasses import replace

import pytest
import torch
from torch.func import jacrev

from core.discover.difference import difference
from core.discover.loco import PRESETS, loco
from core.discover.mask import output_weights
from core.discover.pca import h_of, pca
from core.discover.pullback import pullback
from core.edit.directions.state import edit_state
from core.invert.ddim import invert_ddim
from core.sample import reconstruct, sample_ddim

SIGMA = 1.0


@pytest.fixture(scope="module")
def states(device):
    return torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(8, 8)
    mask[4:7, 2:6] = 1
    return mask


def rows(directions):
    return directions.vectors[0].flatten(1).double()


def test_layer_x_is_the_whole_model(model, states):
    sigma = torch.full((1,), SIGMA, dtype=torch.float64, device=states.device)
    part = model.split(states[:1], sigma, "x")
    assert torch.equal(part.h, states[:1]) and torch.equal(part.decode(part.h), model(states[:1], sigma))
    assert part.decode(states[:3]).shape == (3, 3, 8, 8)


def test_presets_are_those_of_the_unsupervised_scripts():
    """``edit_t``, ``pca_rank``, ``pca_rank_null`` and scale times steps of the scripts of LOCO-Edit (text models: those
    named nonsemantic)."""
    assert {name: (p.t, p.k, p.rank, round(p.strength, 6)) for name, p in PRESETS.items()} == {
        "CelebA-HQ": (0.6, 1, 5, 8.0),
        "AFHQ": (0.7, 1, 10, 3.2),
        "FFHQ": (0.2, 3, 5, 12.0),
        "Flower": (0.7, 5, 5, 8.0),
        "MetFaces": (0.7, 1, 0, 6.0),
        "LSUN Church": (0.6, 5, 5, 4.0),
        "Stable Diffusion": (0.7, 5, 5, 3.2),
        "LCM": (0.519, 5, 5, 9.6),
        "DeepFloyd IF": (0.75, 5, 5, 12.8),
    }


def test_loco_against_the_dense_jacobian(model, states, mask):
    x, w = states[:1], output_weights(mask, (3, 8, 8)).double().to(states.device)
    J = jacrev(lambda y: model(y, y.new_full((1,), SIGMA)))(x).reshape(192, 192)
    top = torch.linalg.svd(w.sqrt()[:, None] * J)[2][:2]
    away = torch.linalg.svd((1 - w).sqrt()[:, None] * J)[2][:5]
    wanted = top - (top @ away.T) @ away
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    found = loco(model, x, SIGMA, mask, k=2, rank=5, iterations=24)
    assert float((rows(found).to(wanted) * wanted).sum(1).abs().min()) > 1 - 1e-3
    assert float((rows(found).to(away) @ away.T).abs().max()) < 1e-2
    y = (rows(found).to(J) @ J.T).square()
    torch.testing.assert_close((y @ w).sqrt().float().cpu(), found.gain[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((y @ (1 - w)).sqrt().float().cpu(), found.leak[0], rtol=1e-4, atol=1e-6)
    assert found.layer == "x"


def test_pullback_against_the_dense_jacobian(model, states):
    x = states[:1]
    J = jacrev(lambda y: model.split(y, y.new_full((1,), SIGMA)).h)(x).reshape(-1, 192)
    u, s, v = torch.linalg.svd(J, full_matrices=False)
    found, images = pullback(model, x, SIGMA, k=3, iterations=24)
    torch.testing.assert_close(found.gain[0].to(s), s[:3], rtol=1e-3, atol=0)
    assert float((rows(found).to(v) * v[:3]).sum(1).abs().min()) > 0.99
    assert float((images.to(u) * u[:, :3].T).sum(1).abs().min()) > 0.99


def test_pca_finds_the_axes_of_a_known_cloud(model, states):
    found = pca(model, states, SIGMA, k=3)
    h = h_of(model, states, SIGMA).flatten(1)
    covariance = torch.cov(h.T)
    for i, v in enumerate(rows(found)):
        torch.testing.assert_close(covariance @ v, found.spectrum[i].double() ** 2 * v, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rows(found) @ rows(found).T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="more than 12 pictures"):
        pca(model, states, SIGMA, k=12)


def test_difference_carries_one_mean_onto_the_other(model, states):
    one, two = h_of(model, states[:6], SIGMA), h_of(model, states[6:], SIGMA)
    found = difference(one, two, SIGMA, model.fingerprint)
    means = [h.flatten(1).mean(0) for h in (one, two)]
    torch.testing.assert_close(means[1] + found.spectrum[0].double() * rows(found)[0], means[0], rtol=1e-4, atol=1e-5)
    out = pca(model, states, SIGMA, k=2)
    apart = difference(one, two, SIGMA, model.fingerprint, without=out)
    assert float((rows(apart) @ rows(out).T).abs().max()) < 1e-5
    for bad, says in (
        ((one, one), "do not differ"),
        ((one, one[:0]), "at least one picture"),
        ((one, two[..., :1]), "one picture size"),
    ):
        with pytest.raises(ValueError, match=says):
            difference(*bad, SIGMA, model.fingerprint)
    with pytest.raises(ValueError, match="all steps share"):
        difference(one, two, SIGMA, model.fingerprint, without=replace(out, vectors=out.vectors[..., :1]))


@pytest.fixture(scope="module")
def path(model, states):
    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    return reconstruct(model, invert_ddim(model, states[:2].clamp(-1, 1), sigmas))


@pytest.mark.parametrize("how", ["step", "guidance"])
def test_strength_zero_is_the_stored_trajectory(model, path, mask, how):
    found = loco(model, path.image(0).states[2], SIGMA, mask)
    same = edit_state(model, path, found, 0.0, how=how)
    assert torch.equal(same.states, path.states[2:]) and torch.equal(same.sigmas, path.sigmas[2:])


def test_a_step_moves_the_state_by_its_length_in_vp_units(model, path, mask):
    found = loco(model, path.image(0).states[2], SIGMA, mask)
    moved = edit_state(model, path, found, 8.0)
    torch.testing.assert_close(
        (moved.states[0] - path.states[2]).flatten(1).norm(dim=1),
        torch.full((2,), 8 * 2**0.5).to(path.states),
        rtol=1e-5,
        atol=0,
    )
    assert float((sample_ddim(model, moved.noisiest, moved.sigmas) - path.rebuilt).abs().max()) > 1e-3


def test_guidance_follows_its_formula(model, path, mask):
    found = loco(model, path.image(0).states[2], SIGMA, mask)
    moved = edit_state(model, path.image(0), found, 0.1, how="guidance", repeats=1)
    x, v, unit = path.image(0).states[2], rows(found)[0].reshape(1, 3, 8, 8).to(path.states), 2**0.5
    s = x.new_full((1,), SIGMA)
    wanted = x + 0.1 * unit * ((x + unit * v - model(x + unit * v, s)) - (x - model(x, s))) / SIGMA
    torch.testing.assert_close(moved.states[0], wanted, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_edited(model, path, mask):
    found = loco(model, path.image(0).states[2], SIGMA, mask)
    with pytest.raises(ValueError, match="steer with them instead"):
        edit_state(model, path, replace(found, layer="middle"), 1.0)
    with pytest.raises(ValueError, match="found on model"):
        edit_state(model, path, replace(found, fingerprint="f" * 12), 1.0)
    with pytest.raises(ValueError, match="how must be"):
        edit_state(model, path, found, 1.0, how="jump")
    with pytest.raises(ValueError, match="size it was found at"):
        edit_state(model, path, replace(found, vectors=found.vectors[..., :4]), 1.0)
