"""Region modes against the dense Jacobian in float64, what each promises, and discovery in one call with what it
refuses."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import jacrev

from core.discover.find import discover, krylov_basis, region_result, true_response
from core.discover.jacobian import DecoderJacobian
from core.discover.krylov import SolverSettings, block_krylov, pencil
from core.discover.loco import loco
from core.discover.mask import output_weights
from core.discover.payload import basis_from_payload, basis_to_payload
from core.discover.region import MODES, region_directions
from core.networks.vp import VPDenoiser

K, RANK, TAU = 4, 6, 0.01


@pytest.fixture(scope="module")
def x(device):
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(16, 16)
    mask[9:14, 4:12] = 1
    return mask


@pytest.fixture(scope="module")
def weights(mask, device):
    return output_weights(mask, (3, 16, 16)).double().to(device)


@pytest.fixture(scope="module")
def dense(model, x):
    split = model.split(x, x.new_ones(1))
    return jacrev(split.decode)(split.h).reshape(768, -1)


@pytest.fixture(scope="module")
def basis(model, x, dense, weights):
    linear = replace(model.split(x, x.new_ones(1)), decode=lambda h: (h.flatten(1) @ dense.T).view(-1, 3, 16, 16))
    return block_krylov(DecoderJacobian(linear), weights, SolverSettings(k=K, size=2 * RANK + K, outside_k=K))


@pytest.fixture(scope="module")
def found(basis):
    return {mode: region_directions(basis, K, mode, rank=RANK, tau=TAU) for mode in MODES}


def quotients(dense, weights, v, tau=TAU):
    """What ``generalized`` maximises, of rows ``v``, from the dense Jacobian."""
    s = float(torch.linalg.matrix_norm(weights.sqrt()[:, None] * dense, 2)) ** 2
    y = (v @ dense.T).square()
    return (y @ weights) / (y @ (1 - weights) + tau * s)


@pytest.mark.parametrize("mode", MODES)
def test_unit_length_and_gain_and_leak_of_the_dense_jacobian(found, dense, weights, mode):
    r = found[mode]
    torch.testing.assert_close(r.vectors.norm(dim=1), torch.ones_like(r.gain))
    y = (r.vectors @ dense.T).square()
    torch.testing.assert_close((y @ weights).sqrt(), r.gain, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close((y @ (1 - weights)).sqrt(), r.leak, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_the_sign_makes_the_mask_brighter(found, dense, weights, mode):
    assert ((found[mode].vectors @ dense.T) @ weights >= -1e-12).all()


@pytest.mark.parametrize("mode", ["none", "constrained"])
def test_orthogonal_sets(found, mode):
    v = found[mode].vectors
    torch.testing.assert_close(v @ v.T, torch.eye(K, dtype=v.dtype, device=v.device), rtol=0, atol=1e-10)


def test_none_is_the_dense_svd(found, dense, weights):
    _, values, rows = torch.linalg.svd(weights.sqrt()[:, None] * dense, full_matrices=False)
    v = found["none"].vectors
    assert float(torch.linalg.matrix_norm(v - (v @ rows[:K].T) @ rows[:K], 2)) < 1e-2
    torch.testing.assert_close(found["none"].gain, values[:K], rtol=1e-3, atol=0)


def outside_top(basis, rank):
    q = basis.q[: basis.core]
    _, turn = torch.linalg.eigh(basis.gram()[1][: basis.core, : basis.core])
    return turn.flip(1)[:, :rank].T @ q


@pytest.mark.parametrize("mode", ["constrained", "post"])
def test_the_top_of_the_outside_is_projected_away(found, basis, mode):
    away = outside_top(basis, RANK)
    assert float((found[mode].vectors @ away.T).abs().max()) < 1e-8


def test_constrained_gains_at_least_what_post_keeps(found, dense, weights):
    """Both lie in the same constrained space; ``constrained`` is the optimum there, ``post`` is whatever is left."""
    best, kept = found["constrained"], found["post"]
    assert float(best.gain[0]) >= float(kept.gain.max()) * (1 - 1e-10)
    # The directions of ``post`` are no longer orthogonal; an orthogonal set of their span gains no more than the
    # optimum.
    span = torch.linalg.qr(kept.vectors.T)[0].T
    gain = ((span @ dense.T).square() @ weights).sum()
    assert float(gain) <= float(best.gain.square().sum()) * (1 + 1e-10)


def test_generalized_leads_every_mode_and_nears_the_dense_optimum(found, dense, weights):
    own = quotients(dense, weights, found["generalized"].vectors)
    for mode in MODES[1:]:
        assert float(own[0]) >= float(quotients(dense, weights, found[mode].vectors).max()) * (1 - 1e-6), mode
    _, size, rows = torch.linalg.svd(dense, full_matrices=False)
    b = (dense @ rows[size > 1e-9 * size[0]].T).T
    best = pencil((b * weights) @ b.T, (b * (1 - weights)) @ b.T, TAU)[0][:K]
    assert float(own.sum()) >= 0.98 * float(best.sum())


def test_smaller_tau_is_more_local_and_weaker(basis):
    small, large = (region_directions(basis, 1, tau=tau) for tau in (0.01, 1.0))
    assert float(small.leak / small.gain) < float(large.leak / large.gain)
    assert float(small.gain) <= float(large.gain)


def test_single_removes_the_matching_outside_direction(found, basis):
    """As the released RBE code does it: v_i - <v_i, u_i> u_i with the i-th outside vector, then unit length."""
    inside, outside = (torch.linalg.eigh(g)[1].flip(1)[:, :K] for g in basis.gram())
    wanted = inside - outside * (inside * outside).sum(0)
    wanted = (wanted / wanted.norm(dim=0)).T @ basis.q.double()
    got = found["single"].vectors
    torch.testing.assert_close((got * wanted).sum(1).abs(), torch.ones(K, dtype=got.dtype, device=got.device))


def test_rank_zero_is_none(basis, found):
    for mode in ("constrained", "post"):
        assert torch.allclose(
            region_directions(basis, K, mode, rank=0).gain, region_directions(basis, K, "none").gain, rtol=1e-3
        )


def test_another_mask_on_the_same_basis(basis, dense, device):
    other = torch.zeros(16, 16)
    other[2:6, 4:12] = 1
    w = output_weights(other, (3, 16, 16)).double().to(device)
    r = region_directions(basis, 2, "none", weights=w)
    torch.testing.assert_close(((r.vectors @ dense.T).square() @ w).sqrt(), r.gain, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"mode": "magic"}, "mode must be one of"),
        ({"tau": 0}, "tau must be above 0"),
        ({"tau": -1.0}, "tau must be above 0"),
        ({"k": 0}, "k must lie in"),
        ({"k": 10_000}, "k must lie in"),
        ({"mode": "constrained", "rank": 10_000}, "rank must lie in"),
        ({"mode": "post", "rank": -1}, "rank must lie in"),
    ],
)
def test_refused_out_of_range(basis, bad, says):
    with pytest.raises(ValueError, match=says):
        region_directions(basis, **bad)


# --- discovery in one call
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_discover_reports_what_it_spent_and_found(model, x, mask, mode):
    directions, report = discover(model, x, 1.0, mask, mode=mode, k=2, rank=3)
    assert directions.vectors.shape[:2] == (1, 2) and torch.isfinite(directions.vectors).all()
    assert (
        directions.method.startswith(mode)
        and directions.layer == "middle"
        and directions.fingerprint == model.fingerprint
    )
    assert report["products"] > 0 and f"{report['products']} Jacobian products" in report["text"]
    gain, leak = true_response(model, x, directions)
    torch.testing.assert_close(gain, directions.gain[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(leak, directions.leak[0], rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_directions(model, x, mask):
    one, two = (discover(model, x, 1.0, mask, k=2, seed=5)[0] for _ in range(2))
    assert torch.equal(one.vectors, two.vectors)


def test_the_basis_serves_every_mode_without_the_network(model, x, mask):
    basis = krylov_basis(model, x, 1.0, mask, SolverSettings(k=2, size=10))
    before = basis.products
    for mode in MODES:
        assert len(region_result(basis, mode=mode, k=2, rank=3)) == 2
    assert basis.products == before


@pytest.mark.parametrize("given_mask", [None, torch.ones(16, 16)])
def test_a_full_mask_is_allowed_and_says_what_it_means(model, x, given_mask):
    directions, report = discover(model, x, 1.0, given_mask, k=2)
    assert "covers everything" in directions.method and "no outside" in report["note"]
    assert float(directions.leak.abs().max()) < 1e-6 * float(directions.gain.max())


@pytest.mark.parametrize(
    "change, says",
    [
        ({"k": 0}, "k must lie in 1..64"),
        ({"k": 65}, "k must lie in 1..64"),
        ({"mode": "magic"}, "mode must be one of"),
        ({"rank": -1}, "rank must be 0 or more"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"tau": float("nan")}, "tau must be above 0"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"solver": "magic"}, "solver must be one of"),
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"sigma": float("inf")}, "sigma must be above 0"),
        ({"mask": torch.zeros(16, 16)}, "mask is empty"),
        ({"mask": torch.ones(16, 32)}, "aspect"),
        ({"mask": torch.full((16, 16), float("nan"))}, "without NaN"),
        ({"mask": torch.full((16, 16), 2.0)}, "0..1"),
        ({"mask": torch.ones(2, 16, 16)}, "one picture"),
        ({"x": torch.zeros(2, 3, 16, 16)}, "one state"),
        ({"x": torch.full((1, 3, 16, 16), float("nan"))}, "NaN"),
    ],
)
def test_discover_refuses_bad_input(model, x, mask, change, says):
    call = {"x": x, "sigma": 1.0, "mask": mask, "k": 2, **change}
    call["x"] = call["x"].to(x)
    with pytest.raises(ValueError, match=says):
        discover(model, **call)


@pytest.mark.parametrize("find", [discover, lambda *where, **dials: loco(*where, rank=0, **dials)])
def test_more_directions_than_the_mask_has_numbers_are_refused(model, x, find):
    one = torch.zeros(16, 16)
    one[9, 4] = 1
    with pytest.raises(ValueError, match=r"k must be at most 3, got 4: the mask holds 3 numbers"):
        find(model, x, 1.0, one, k=4)
    assert len(krylov_basis(model, x, 1.0, one, SolverSettings(k=3, widen=0)).krylov.q) >= 3


def test_directions_of_another_model_are_refused(model, x, mask):
    directions, _ = discover(model, x, 1.0, mask, k=2)
    with pytest.raises(ValueError, match="were found on model ffffffffffff"):
        true_response(model, x, replace(directions, fingerprint="f" * 12))


def test_a_model_that_answers_differently_each_time_is_caught(model, x, mask):
    class Noisy:
        layers, fingerprint = model.layers, model.fingerprint

        def split(self, *args):
            s = model.split(*args)
            return replace(s, decode=lambda h: s.decode(h) * (1 + 0.2 * torch.randn((), dtype=h.dtype)))

    with pytest.raises(RuntimeError, match="differently from one call to the next"):
        discover(Noisy(), x, 1.0, mask, k=2)


# --- masks
# ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(factor=st.integers(1, 7), top=st.integers(0, 15), left=st.integers(0, 15), value=st.floats(0.01, 1.0))
def test_a_mask_of_any_resolution_keeps_its_area(factor, top, left, value):
    small = torch.zeros(16, 16)
    small[top, left] = value
    big = small.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    w = output_weights(big, (3, 16, 16)).reshape(3, 16, 16)
    torch.testing.assert_close(w, small.expand(3, -1, -1), rtol=1e-5, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(1, 40), w=st.integers(1, 40))
def test_only_the_images_aspect_is_accepted(h, w):
    if abs(h - w) <= 0.02 * max(h, w):
        weights = output_weights(torch.ones(h, w), (3, 16, 16))
        assert weights.shape == (768,) and float(weights.min()) == 1
    else:
        with pytest.raises(ValueError, match="aspect"):
            output_weights(torch.ones(h, w), (3, 16, 16))


def test_directions_serve_the_same_weights_with_patches_on_top(model, x, mask):
    directions, _ = discover(model, x, 1.0, mask, k=1)
    directions.check_model(f"{model.fingerprint}+12345678", model.layers)
    patched = krylov_basis(
        VPDenoiser(model.net, model.schedule, "v", f"{model.fingerprint}+12345678"), x, 1.0, mask, SolverSettings(k=1)
    )
    assert region_result(patched, k=1).fingerprint == model.fingerprint


def test_a_basis_travels_as_a_plain_dict(model, x, mask):
    basis = krylov_basis(model, x, 1.0, mask, SolverSettings(k=2, size=10, outside_k=2))
    payload = basis_to_payload(basis)
    assert {type(v) for v in payload.values()} <= {str, int, float, tuple, type(None), torch.Tensor}
    for mode in MODES:
        one, two = (region_result(b, mode=mode, k=2, rank=3) for b in (basis, basis_from_payload(payload)))
        torch.testing.assert_close(one.vectors, two.vectors, rtol=0, atol=1e-5)
        assert one.fingerprint == two.fingerprint
    for broken in (
        {},
        None,
        {**payload, "format": "x"},
        {**payload, "version": 9},
        {**payload, "b": payload["b"][:, 1:]},
        {**payload, "q": 3},
    ):
        with pytest.raises(ValueError, match="HSPACE_BASIS"):
            basis_from_payload(broken)
    with pytest.raises(ValueError, match="lacks core"):
        basis_from_payload({k: v for k, v in payload.items() if k != "core"})


def test_a_part_of_the_region_on_the_same_basis(model, x, mask, dense, device):
    """What the basis of the whole region knows of a part of it: nearly the part's own optimum."""
    part = mask.clone()
    part[:, 8:] = 0
    whole, own = (krylov_basis(model, x, 1.0, m, SolverSettings(k=3)) for m in (mask, part))
    weights = output_weights(part, (3, 16, 16)).double().to(device)
    reused, best = (
        quotients(dense, weights, region_result(b, k=1, mask=part).vectors.double().flatten(2)[0].to(device))
        for b in (whole, own)
    )
    assert float(reused[0]) > 0.5 * float(best[0])
    assert torch.equal(region_result(whole, k=1, mask=part).mask, part)
