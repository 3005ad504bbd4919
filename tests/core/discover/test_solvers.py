"""Every solver against the dense singular value decomposition in float64, and the Krylov basis against the dense
pencil."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds
from torch.func import jacrev

from core.discover.davidson import Space, leading_directions, rows_to_begin
from core.discover.jacobian import DecoderJacobian
from core.discover.krylov import SolverSettings, block_krylov, pencil, shortfall, solved_basis
from core.discover.power import power_iteration
from core.discover.subspace import orthonormal, subspace_iteration
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

K = 4


@pytest.fixture(scope="module")
def network(device):
    torch.manual_seed(1)
    net = (
        DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=2))
        .to(device, torch.float64)
        .eval()
        .requires_grad_(False)
    )
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)
    return VPDenoiser(net, Schedule(), "v", "0" * 12).split(x, x.new_ones(1))


@pytest.fixture(scope="module")
def dense(network):
    return jacrev(network.decode)(network.h).reshape(768, -1)


@pytest.fixture(scope="module")
def bottleneck(network, dense):
    """A decoder with the very Jacobian of the network, but linear: what the solvers do is the same, in a tenth of the
    time."""
    return replace(network, decode=lambda h: (h.flatten(1) @ dense.T).view(-1, 3, 16, 16))


@pytest.fixture(scope="module", params=["hard", "soft"])
def weights(request, device):
    mask = torch.zeros(16, 16, dtype=torch.float64)
    mask[9:14, 4:12] = 1
    if request.param == "soft":
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        mask = torch.exp(-((y - 11) ** 2 / 8 + (x - 8) ** 2 / 20)).double()
    return mask.reshape(1, -1).expand(3, -1).reshape(-1).to(device)


@pytest.fixture(scope="module")
def exact(dense, weights):
    """Singular values and right singular vectors of the masked Jacobian."""
    _, values, vectors = torch.linalg.svd(weights.sqrt()[:, None] * dense, full_matrices=False)
    return values, vectors


def angle(rows, others) -> float:
    """Sine of the largest angle between the spans of two orthonormal sets of equal size."""
    return float(torch.linalg.matrix_norm(rows - (rows @ others.T) @ others, 2))


def off_orthonormal(q) -> float:
    return float((q @ q.T - torch.eye(len(q), dtype=q.dtype, device=q.device)).abs().max())


def test_power_iteration_finds_every_component_thanks_to_deflation(bottleneck, weights, exact):
    J = DecoderJacobian(bottleneck)
    found = power_iteration(J, weights, K, iterations=400, tol=1e-5)
    torch.testing.assert_close(found.values, exact[0][:K].cpu(), rtol=1e-6, atol=0)
    assert angle(found.vectors, exact[1][:K]) < 1e-2 and found.turned < 1e-5
    assert off_orthonormal(found.vectors) < 1e-10


def test_subspace_iteration_and_its_stop_on_the_angle(bottleneck, weights, exact):
    J = DecoderJacobian(bottleneck)
    found = subspace_iteration(J, weights, K, block=2 * K + 5, tol=1e-6, iterations=100)
    torch.testing.assert_close(found.values, exact[0][:K].cpu(), rtol=1e-9, atol=0)
    assert angle(found.vectors, exact[1][:K]) < 1e-5
    assert J.products < 100 * 2 * (2 * K + 5)
    narrow = subspace_iteration(
        DecoderJacobian(bottleneck), weights, K, iterations=400, tol=1e-6
    )  # as wide as in the papers
    torch.testing.assert_close(narrow.values, exact[0][:K].cpu(), rtol=1e-4, atol=0)
    loose = DecoderJacobian(bottleneck)
    subspace_iteration(loose, weights, K, block=2 * K + 5, tol=1e-2, iterations=100)
    assert loose.products < J.products


def test_krylov_reaches_the_angle_it_claims(bottleneck, weights, exact):
    J = DecoderJacobian(bottleneck)
    basis = block_krylov(J, weights, SolverSettings(k=K, iterations=30, widen=0, tol=1e-3))
    values, turn = torch.linalg.eigh(basis.gram()[0])
    assert basis.residual < 1e-3
    found = turn.flip(1)[:, :K].T @ basis.q.double()
    assert angle(found, exact[1][:K]) <= basis.residual * 1.01  # the estimate is a bound
    torch.testing.assert_close(values.flip(0)[:K].sqrt(), exact[0][:K], rtol=1e-5, atol=0)
    assert off_orthonormal(basis.q) < 1e-12
    torch.testing.assert_close(basis.b, J.jvp(basis.q), rtol=1e-9, atol=1e-9)
    assert basis.products + len(basis.q) == J.products


@pytest.mark.parametrize("blocks", [3, 5])
def test_directions_read_backwards_are_ahead_of_the_basis_they_come_from(bottleneck, weights, exact, blocks):
    J = DecoderJacobian(bottleneck)
    space = Space(J, weights)
    leading, residual = leading_directions(space, rows_to_begin(space, K), K, blocks=blocks, tol=0)
    ritz = torch.linalg.eigh(space.inside)[1].flip(1)[:, :K].T @ space.q.double()
    assert off_orthonormal(leading) < 1e-12
    assert angle(leading, exact[1][:K]) < 0.9 * angle(ritz, exact[1][:K])
    assert angle(leading, exact[1][:K]) <= residual
    assert J.jvps == J.vjps == len(space.q)


@pytest.mark.parametrize("error", [3e-4, 3e-3])
def test_wrong_forward_products_cost_no_more_of_them(bottleneck, weights, exact, error):
    """Differences are off by more than the residual that is wanted, and reverse products are not."""

    def found(error: float) -> tuple[torch.Tensor, float, int]:
        J = DecoderJacobian(bottleneck)
        g, right = torch.Generator().manual_seed(7), J.jvp

        def wrong(v: torch.Tensor) -> torch.Tensor:
            y = right(v)
            noise = torch.randn(y.shape, generator=g, dtype=torch.float64).to(y)
            return y + error * float(exact[0][0]) * noise / noise.norm(dim=1, keepdim=True)

        J.jvp = wrong
        space = Space(J, weights)
        return *leading_directions(space, rows_to_begin(space, K), K, blocks=30), J.products

    (_, _, products), (leading, residual, more) = found(0.0), found(error)
    assert more <= 1.1 * products
    assert residual < 1e-2 and angle(leading, exact[1][:K]) < 1e-2


def test_one_vector_a_pass_takes_fewer_of_them(bottleneck, weights, exact):
    products = {}
    for chunk in (1, 2, 8):
        J = DecoderJacobian(bottleneck, chunk)
        space = Space(J, weights)
        leading, residual = leading_directions(space, rows_to_begin(space, K), K, blocks=8)
        assert residual < 1e-2 and angle(leading, exact[1][:K]) < 1e-2
        assert J.passes == -(-J.products // chunk) or chunk == 8
        products[chunk] = J.products
    assert products[1] < products[2] < products[8]


def test_krylov_needs_fewer_products_than_what_the_papers_run(bottleneck, weights, exact):
    """Products until the subspace is within an angle of 1e-2."""

    def cost(run) -> int:
        for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128):
            J = DecoderJacobian(bottleneck)
            if angle(run(J, n), exact[1][:K]) < 1e-2:
                return J.products
        raise AssertionError("did not converge")

    def krylov(J, n):
        basis = block_krylov(J, weights, SolverSettings(k=K, iterations=n, widen=0, tol=0))
        return torch.linalg.eigh(basis.gram()[0])[1].flip(1)[:, :K].T @ basis.q.double()

    cheap = cost(krylov)
    assert cheap < cost(lambda J, n: subspace_iteration(J, weights, K, iterations=n, tol=0).vectors)
    assert cheap < cost(lambda J, n: power_iteration(J, weights, K, iterations=n, tol=0).vectors)


def test_scipy_agrees_on_the_masked_operator(bottleneck, weights, exact):
    from scipy.sparse.linalg import LinearOperator

    plain, root = DecoderJacobian(bottleneck).to_scipy(), weights.sqrt().cpu().numpy()
    masked = LinearOperator(
        plain.shape,
        matvec=lambda v: root * plain.matvec(v),
        rmatvec=lambda u: plain.rmatvec(root * np.ravel(u)),
        dtype="float64",
    )
    found = np.sort(svds(masked, K, return_singular_vectors=False, random_state=0))[::-1]
    basis = block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=K, iterations=30, widen=0, tol=1e-4))
    np.testing.assert_allclose(
        torch.linalg.eigvalsh(basis.gram()[0]).flip(0)[:K].sqrt().cpu().numpy(), found, rtol=1e-6
    )


def dense_pencil(dense, weights, tau):
    """Optimal quotients in all of h-space. Outside the row space of J both forms are zero, so the row space holds the
    optimum."""
    _, size, rows = torch.linalg.svd(dense, full_matrices=False)
    b = (dense @ rows[size > 1e-9 * size[0]].T).T
    return pencil((b * weights) @ b.T, (b * (1 - weights)) @ b.T, tau)[0]


@pytest.mark.parametrize("tau", [0.1, 0.01])
@pytest.mark.parametrize("k", [1, 5])
def test_generalized_comes_within_two_percent_of_the_dense_optimum(network, dense, weights, tau, k):
    best = dense_pencil(dense, weights, tau)[:k]
    J = DecoderJacobian(network)
    basis = block_krylov(J, weights, SolverSettings(k=k, tau=tau))
    found = pencil(*basis.gram(), tau)[0][:k]
    print(
        f"k {k}, tau {tau}: {float(found.sum() / best.sum()):.4f} of the optimum, {J.products} products, basis {len(basis.q)}"
    )
    assert float(found.sum()) >= 0.98 * float(best.sum())
    assert (found <= best * (1 + 1e-2)).all()  # the scale s of the basis may be a little below the true one
    assert J.products <= 400


def test_the_shortfall_it_reports_is_about_the_true_one(bottleneck, dense, weights):
    best = float(dense_pencil(dense, weights, 0.01)[:5].sum())
    for widen in (6, 9, 14):
        basis = block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=5, widen=widen, tol=0))
        true = 1 - basis.history[-1][1] / best
        assert true / 4 < basis.shortfall < true * 4


def test_history_grows_and_stops_by_itself(bottleneck, weights):
    basis = block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=5, tol=5e-2))
    values = [value for _, value in basis.history]
    assert all(b > a * (1 - 1e-12) for a, b in pairwise(values))
    assert basis.shortfall < 5e-2 and len(values) < 24
    longer = block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=5, tol=1e-3))
    assert longer.products > basis.products and longer.history[-1][1] > values[-1]


def test_shortfall_of_a_geometric_series_is_exact():
    series = [(i, 10 - 4 * 0.5**i) for i in range(6)]
    assert shortfall(series) == pytest.approx((10 - series[-1][1]) / series[-1][1])
    assert shortfall(series[:2]) == 1 and shortfall([(0, 1.0), (1, 2.0), (2, 2.0)]) == 0


def test_size_wins_over_the_limit_of_blocks(bottleneck, weights):
    basis = block_krylov(
        DecoderJacobian(bottleneck), weights, SolverSettings(k=K, iterations=2, size=60, widen=0, tol=1)
    )
    assert basis.core == len(basis.q) >= 60


def test_outside_directions_for_single(bottleneck, dense, weights):
    basis = block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=K, outside_k=K, widen=0))
    outside = torch.linalg.svdvals((1 - weights).sqrt()[:, None] * dense)
    got = torch.linalg.eigvalsh(basis.gram()[1]).flip(0).sqrt()
    torch.testing.assert_close(got[:K], outside[:K], rtol=2e-2, atol=0)
    assert len(basis.q) > basis.core and off_orthonormal(basis.q) < 1e-12


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_region_of_fewer_dimensions_than_directions(bottleneck, dense, device, pixels):
    """Three channels of one or two pixels: the Krylov space closes, and must stay orthonormal when it does."""
    weights = torch.zeros(3, 256, dtype=torch.float64, device=device)
    weights[:, :pixels] = 1
    weights = weights.reshape(-1)
    J = DecoderJacobian(bottleneck)
    basis = block_krylov(J, weights, SolverSettings(k=5))
    assert off_orthonormal(basis.q) < 1e-10
    best, got = (
        torch.linalg.svdvals(weights[:, None] * dense)[:5],
        torch.linalg.eigvalsh(basis.gram()[0]).flip(0)[:5].clamp_min(0).sqrt(),
    )
    torch.testing.assert_close(got, best, rtol=1e-6, atol=1e-6)
    found = power_iteration(DecoderJacobian(bottleneck), weights, 5, iterations=300, tol=1e-8)
    assert off_orthonormal(found.vectors) < 1e-8
    torch.testing.assert_close(found.values.to(best), best, rtol=1e-4, atol=1e-5)


def test_a_basis_never_outgrows_h(bottleneck, weights):
    small = DecoderJacobian(bottleneck)
    space = torch.linalg.qr(torch.randn(small.shape[1], small.shape[1] - 2, dtype=torch.float64, device=small.algebra))[
        0
    ].T
    rest = orthonormal(torch.randn(6, small.shape[1], dtype=torch.float64, device=small.algebra), space)
    assert len(rest) == 2 and off_orthonormal(torch.cat([space, rest])) < 1e-10


def test_orthonormal_drops_what_is_dependent(device):
    q = orthonormal(torch.randn(3, 9, dtype=torch.float64, device=device))
    new = torch.randn(2, 9, dtype=torch.float64, device=device)
    rows = torch.stack([new[0], 1e3 * q[0] + 1e-3 * new[1], new[0] + q[1], 2 * q[2]])
    got = orthonormal(rows, q)
    assert len(got) == 2 and off_orthonormal(torch.cat([q, got])) < 1e-12
    assert angle(got, orthonormal(new, q)) < 1e-6


@pytest.mark.parametrize("solver", ["power", "subspace"])
def test_basis_of_the_reference_solvers(bottleneck, dense, weights, exact, solver):
    basis = solved_basis(
        DecoderJacobian(bottleneck), weights, SolverSettings(k=2, solver=solver, iterations=300, tol=1e-4)
    )
    inside, outside = basis.gram()
    torch.testing.assert_close(torch.linalg.eigvalsh(inside).flip(0)[:2].sqrt(), exact[0][:2], rtol=1e-4, atol=0)
    other = torch.linalg.svdvals((1 - weights).sqrt()[:, None] * dense)[:2]
    torch.testing.assert_close(torch.linalg.eigvalsh(outside).flip(0)[:2].sqrt(), other, rtol=1e-4, atol=0)
    assert len(basis.q) == basis.core == 4 and basis.residual < 1e-4 and basis.shortfall is None


def test_the_seed_decides_everything_and_hardly_matters(bottleneck, weights):
    one, same, other = (
        block_krylov(DecoderJacobian(bottleneck), weights, SolverSettings(k=K, seed=s)) for s in (3, 3, 4)
    )
    assert torch.equal(one.q, same.q) and torch.equal(one.b, same.b)
    assert not torch.equal(one.q, other.q[: len(one.q)])
    quotients = [float(pencil(*b.gram(), 0.01)[0][:K].sum()) for b in (one, other)]
    assert quotients[0] == pytest.approx(quotients[1], rel=2e-2)


def test_the_pencil_is_solved(device):
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(12, 12, generator=g, dtype=torch.float64).to(device) for _ in range(2))
    inside, outside = a @ a.T, b[:, :5] @ b[:, :5].T
    values, s, shift = pencil(inside, outside, 0.1)
    assert shift == pytest.approx(0.1 * float(torch.linalg.eigvalsh(inside)[-1]))
    regular = outside + shift * torch.eye(12, dtype=torch.float64, device=device)
    torch.testing.assert_close(inside @ s, regular @ s * values, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(s.norm(dim=0), torch.ones(12, dtype=torch.float64, device=device))
    assert (values[:-1] >= values[1:]).all()
