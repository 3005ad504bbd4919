"""Directions of many images and many steps: matching, averaging, following, carrying over."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.directions import Directions
from core.discover.average import average
from core.discover.find import discover, krylov_basis
from core.discover.krylov import SolverSettings
from core.discover.match import match
from core.discover.track import track
from core.discover.transport import transport
from core.invert.ddim import invert_ddim

SHAPE = (4, 2, 2)


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def directions(rows, gain=None, **options) -> Directions:
    k = len(rows)
    gain = torch.ones(1, k) if gain is None else gain
    facts = {
        "sigmas": torch.ones(1, dtype=torch.float64),
        "gain": gain,
        "leak": torch.full((1, k), 0.1),
        "layer": "middle",
        "fingerprint": "0" * 12,
    }
    return Directions(vectors=unit(rows).float().reshape(1, k, *SHAPE), **{**facts, **options})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_match_undoes_any_order_and_sign(seed, k):
    g = torch.Generator().manual_seed(seed)
    rows = torch.linalg.qr(torch.randn(16, k, generator=g))[0].T
    order, sign = torch.randperm(k, generator=g), torch.randint(0, 2, (k,), generator=g) * 2.0 - 1
    o, s, cosines = match(rows, sign[:, None] * rows[order])
    torch.testing.assert_close(s[:, None] * (sign[:, None] * rows[order])[o], rows)
    assert float(cosines.min()) > 1 - 1e-5


@pytest.mark.parametrize("how", ["match", "subspace"])
def test_the_mean_does_not_depend_on_order_and_sign(how):
    g = torch.Generator().manual_seed(0)
    centre = torch.linalg.qr(torch.randn(16, 3, generator=g))[0].T
    gain = torch.tensor([3.0, 2.0, 1.0])
    sets, shuffled = [], []
    for _ in range(12):
        rows = centre + 0.05 * torch.randn(3, 16, generator=g)
        order, sign = torch.randperm(3, generator=g), torch.randint(0, 2, (3, 1), generator=g) * 2.0 - 1
        sets.append(directions(rows, gain[None]))
        shuffled.append(directions((sign * rows)[order], gain[order][None]))
    (mean, agreement), (other, _) = average(sets, how), average(shuffled, how)
    one, two = (m.vectors[0].flatten(1) for m in (mean, other))
    assert float((one * two).sum(1).abs().min()) > 1 - 1e-5
    # Nearer to the truth than the single images are.
    truth = (one.double() @ centre.double().T).abs().diagonal()
    assert (
        float(truth.min())
        > float(torch.stack([(s.vectors[0].flatten(1) @ centre.T).abs().diagonal() for s in sets]).mean())
        > 0.9
    )
    assert agreement.shape == (12, 3) and float(agreement.min()) > 0.9
    torch.testing.assert_close(mean.gain[0], gain, rtol=0.05, atol=0)


def test_subspaces_are_averaged_whatever_basis_spans_them():
    g = torch.Generator().manual_seed(1)
    plane = torch.linalg.qr(torch.randn(16, 2, generator=g))[0].T
    turned = [torch.linalg.qr(torch.randn(2, 2, generator=g))[0] @ plane for _ in range(5)]
    mean, agreement = average([directions(r) for r in turned], "subspace")
    v = mean.vectors[0].flatten(1)
    assert float(torch.linalg.matrix_norm(v - (v @ plane.T) @ plane, 2)) < 1e-5
    assert float(agreement.min()) > 1 - 1e-5


def test_one_image_is_its_own_mean():
    one = directions(torch.linalg.qr(torch.randn(16, 3))[0].T, torch.tensor([[3.0, 2.0, 1.0]]))
    for how in ("match", "subspace"):
        v = average([one], how)[0].vectors[0].flatten(1)
        torch.testing.assert_close((v @ one.vectors[0].flatten(1).T).abs(), torch.eye(3), rtol=0, atol=1e-5)


def test_what_cannot_be_averaged():
    rows = torch.linalg.qr(torch.randn(16, 3))[0].T
    with pytest.raises(ValueError, match="how must be one of"):
        average([directions(rows)], "median")
    with pytest.raises(ValueError, match="at least one set"):
        average([])
    with pytest.raises(ValueError, match="as many directions"):
        average([directions(rows), directions(rows[:2])])
    with pytest.raises(ValueError, match="found on model"):
        average([directions(rows), directions(rows, fingerprint="f" * 12)])


# --- with a network
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(model, device):
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device) * 2 - 1
    sigmas = torch.tensor([4.0, 2.0, 1.6, 1.3, 1.0, 0.5, 0.0], dtype=torch.float64)
    return invert_ddim(model, x, sigmas)


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(16, 16)
    mask[9:14, 4:12] = 1
    return mask


def test_steps_are_followed_with_one_sign_and_fewer_products(model, path, mask):
    found, report = track(model, path.image(0), mask, [1, 2, 3, 4], k=2, mode="none", tol=1e-2, iterations=40)
    assert found.vectors.shape[:2] == (4, 2) and found.sigmas.tolist() == [2.0, 1.6, 1.3, 1.0]
    v = found.vectors.flatten(2)
    assert ((v[1:] * v[:-1]).sum(2) >= 0).all()
    torch.testing.assert_close((v[1:] * v[:-1]).sum(2).double(), report["cosines"], rtol=0, atol=1e-5)
    _, cold = track(model, path.image(0), mask, [1, 2, 3, 4], k=2, mode="none", tol=1e-2, iterations=40, warm=False)
    print("products", report["products"], "from scratch", cold["products"])
    assert sum(report["products"]) <= sum(cold["products"])
    for i, step in enumerate([1, 2, 3, 4]):
        alone, _ = discover(
            model, path.image(0).states[step], float(path.sigmas[step]), mask, k=2, mode="none", tol=1e-3, iterations=40
        )
        assert float((v[i] @ alone.vectors[0].flatten(1).T).abs().amax(1).min()) > 0.99


def test_the_set_of_the_nearest_step_is_used(model, path, mask):
    found, _ = track(model, path.image(0), mask, [1, 4], k=1)
    assert torch.equal(found.at(1.9), found.vectors[0]) and torch.equal(found.at(0.9), found.vectors[1])


def test_no_steps_is_refused(model, path, mask):
    with pytest.raises(ValueError, match="no noise level"):
        track(model, path.image(0), mask, [], k=1)


def test_a_direction_carried_to_another_image(model, path, mask):
    mine, _ = discover(model, path.image(0).states[2], float(path.sigmas[2]), mask, k=2)
    basis = krylov_basis(model, path.image(1).states[2], float(path.sigmas[2]), mask, SolverSettings(k=2))
    moved, kept = transport(mine, basis)
    v = moved.vectors[0].flatten(1).double()
    torch.testing.assert_close(v.norm(dim=1), torch.ones(2, dtype=torch.float64))
    assert ((kept > 0) & (kept <= 1 + 1e-9)).all()
    # Back on its own image nothing changes: the directions lie in that basis.
    own = krylov_basis(model, path.image(0).states[2], float(path.sigmas[2]), mask, SolverSettings(k=2))
    back, whole = transport(mine, own)
    assert float(whole.min()) > 1 - 1e-5
    torch.testing.assert_close(back.vectors, mine.vectors, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.gain, mine.gain, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="single steps"):
        transport(track(model, path.image(0), mask, [1, 2], k=1)[0], basis)
    with pytest.raises(ValueError, match="one size"):
        transport(replace(mine, vectors=mine.vectors[..., :2]), basis)
