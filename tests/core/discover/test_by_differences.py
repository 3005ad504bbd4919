"""Forward products by differences of decodes: a step that nobody has to set, held against the exact adjoint."""

from dataclasses import replace

import pytest
import torch

from core.chain import Chain
from core.denoiser import Bottleneck
from core.discover.jacobian import DecoderJacobian, Route
from core.discover.krylov import SolverSettings, block_krylov
from core.discover.rows import exact_directions

from .test_jacobian import split

BY_DIFFERENCES = Route(forward="one-sided", keep=True)
EXACT = Route(forward="exact", keep=True)
K = 5


@pytest.fixture(scope="module")
def part(device) -> Bottleneck:
    return split(device, torch.float32)


@pytest.fixture(scope="module")
def weights(device) -> torch.Tensor:
    mask = torch.zeros(3, 16, 16)
    mask[:, 8:12, 4:12] = 1
    return mask.flatten().to(device)


@pytest.fixture(scope="module")
def exact(part, weights) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = exact_directions(DecoderJacobian(part, EXACT), weights)
    return values[:K], vectors[:K]


def angle(found: torch.Tensor, expected: torch.Tensor) -> float:
    q = torch.linalg.qr(found.T)[0].T
    return float(torch.linalg.matrix_norm(expected - (expected @ q.T) @ q, 2))


def scaled(part: Bottleneck, factor: float) -> Bottleneck:
    """The same network in another unit of h, which its first layer undoes."""
    return replace(part, h=part.h * factor, decode=Chain([lambda h: h / factor]).then(part.decode))


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_step_is_chosen_whatever_the_unit_of_h(part, weights, exact, unit):
    J = DecoderJacobian(scaled(part, unit), BY_DIFFERENCES)
    assert J.check(weights=weights) <= 3e-3 and J.step is not None and J.step.way == "one-sided"
    expected = DecoderJacobian(scaled(part, unit), EXACT).jvp(exact[1])
    for finer in (J.jvp(exact[1]), J.responses(exact[1])):
        error = ((finer - expected) * weights).norm(dim=1) / (expected * weights).norm(dim=1)
        assert float(error.max()) <= 1e-2
    assert J.step.way == "one-sided", "the finer step is for the responses alone"


def test_a_patch_that_takes_one_picture_at_a_time_is_given_one(part, weights):
    def choosy(h):
        if h.flatten(1).norm(dim=1) < 0:  # of several it is ambiguous, as in the host's RenormCFG
            raise AssertionError
        return h

    J = DecoderJacobian(replace(part, decode=Chain([choosy]).then(part.decode)), replace(BY_DIFFERENCES, chunk=8))
    plain = DecoderJacobian(part, replace(BY_DIFFERENCES, chunk=8))
    assert J.check(weights=weights) <= 3e-3 and plain.check(weights=weights) <= 3e-3
    v = torch.randn(5, J.shape[1], generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(J.algebra)
    expected = DecoderJacobian(part, EXACT).jvp(v)
    error = (J.jvp(v) - expected).norm() / expected.norm()
    assert J.chunk == 1 and plain.chunk == 8
    assert float(error) <= 3 * float((plain.jvp(v) - expected).norm() / expected.norm()) + 1e-3


def test_the_engine_finds_the_same_directions(part, weights, exact):
    J = DecoderJacobian(part, BY_DIFFERENCES)
    J.check(weights=weights)
    basis = block_krylov(J, weights, SolverSettings(k=K, widen=0, size=40))
    lead = torch.linalg.eigh(basis.gram()[0])[1].flip(1)[:, :K].T @ basis.q.double()
    gain = DecoderJacobian(part, EXACT).jvp(lead).double().square() @ weights.double()
    assert angle(lead, exact[1]) <= 1e-2
    assert float(gain.sum()) >= 0.999 * float(exact[0].square().sum())


def test_central_differences_take_as_many_vectors_a_pass(part, weights, exact):
    J = DecoderJacobian(part, Route(forward="central", keep=True))
    assert J.check(weights=weights) <= 3e-3 and J.step is not None and J.step.way == "central"
    J.jvp(torch.eye(2, J.shape[1]))
    assert J.staged.needs["decode"].next is None, "passes of one and of two vectors were measured"
    before = J.passes
    J.jvp(torch.eye(16, J.shape[1]))
    assert J.passes == before + 2 and J.chunk == 8
    expected = DecoderJacobian(part, EXACT).jvp(exact[1])
    error = ((J.jvp(exact[1]) - expected) * weights).norm(dim=1) / (expected * weights).norm(dim=1)
    assert float(error.max()) <= 3e-3


def test_memory_that_runs_out_while_a_step_is_chosen_is_explained(part):
    calls = []

    def tight(h):
        calls.append(len(h))
        if len(calls) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GB")
        return h

    J = DecoderJacobian(replace(part, decode=Chain([tight]).then(part.decode)), Route(forward="one-sided", keep=False))
    with pytest.raises(RuntimeError, match=r"out of memory with 1 Jacobian vector .*smaller picture"):
        J.check()
    assert set(calls) == {1}, "never two at once before anything is known"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_activations_are_not_differenced(part, weights, exact, dtype):
    rounded = part.decode.inside(lambda stage: lambda h: stage(h.to(dtype).to(h.dtype)))
    J = DecoderJacobian(replace(part, decode=rounded), BY_DIFFERENCES)
    assert J.check(weights=weights) < 1e-2
    assert J.step is None, "forward mode instead"
    assert DecoderJacobian(part, EXACT).check() < 1e-5


def test_float64_is_differentiated_exactly(device, weights):
    J = DecoderJacobian(split(device), BY_DIFFERENCES)
    assert J.check(weights=weights) < 1e-12 and J.step is None


def test_a_model_that_draws_noise_is_still_refused(part):
    noisy = part.decode.then(lambda y: y * (1 + 0.2 * torch.randn(())))
    with pytest.raises(RuntimeError, match="differently from one call to the next"):
        DecoderJacobian(replace(part, decode=noisy), BY_DIFFERENCES).check()


def test_unknown_ways_are_named():
    with pytest.raises(ValueError, match="forward must be one of auto, exact, one-sided, central"):
        Route(forward="backward")


def test_small_masks_are_solved_exactly(device):
    """As the block engine does in the end, with a product for each number of the mask."""
    part = split(device)
    mask = torch.zeros(3, 16, 16)
    mask[:, 8:12, 4:8] = 1
    mask[:, 9, 4:8] = 0.25
    weights = mask.flatten().to(device)
    J = DecoderJacobian(part, 8)
    values, vectors = exact_directions(J, weights)
    assert (J.vjps, J.jvps) == (48, 0)
    engine = block_krylov(DecoderJacobian(part, 8), weights, SolverSettings(k=7, size=60, tol=1e-9, widen=0))
    squares, turn = torch.linalg.eigh(engine.gram()[0])
    torch.testing.assert_close(values[:K], squares.flip(0)[:K].sqrt(), rtol=1e-5, atol=0)
    assert angle(vectors[:K], turn.flip(1)[:, :K].T @ engine.q) <= 1e-3
    basis = block_krylov(J := DecoderJacobian(part, 8), weights, SolverSettings(k=K, widen=0))
    assert (J.vjps, J.jvps, basis.residual, basis.core) == (48, 2 * K, 0.0, 2 * K)
    squares = torch.linalg.eigvalsh(basis.gram()[0]).flip(0)
    torch.testing.assert_close(squares[:K].sqrt(), values[:K], rtol=1e-8, atol=0)
