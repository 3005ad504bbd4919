"""The engine on the face model that ships, at the eight states where its workflow looks: forward products by differences
against forward mode."""

import pytest
import torch

from core.discover.find import discover
from core.discover.jacobian import DecoderJacobian, Route
from core.discover.krylov import SolverSettings, block_krylov
from core.discover.mask import output_weights
from core.faces.factors import sample
from core.faces.regions import region_mask
from core.faces.render import render
from core.files.checkpoint import load_denoiser
from core.invert.fixed_point import invert_fixed_point
from core.schedule import karras
from core.weights_folder import weights_folder

K = 5
EXACT, DIFFERENCES = Route(8, "exact", True), Route(8, "one-sided", True)


@pytest.fixture(scope="module")
def faces(device):
    """Model, factors, states `[4 3 64 64]` and their sigma."""
    model = load_denoiser(f"{weights_folder()}/face_model.safetensors")
    model.net.to(device)
    factors = sample(4, torch.Generator().manual_seed(2026), held_out=True)
    images = (render(factors, 64)[0] * 2 - 1).to(device)
    trajectory = invert_fixed_point(model, images, karras(18, 20.0))
    step = trajectory.nearest(1.6)
    return model, factors, trajectory.states[step], float(trajectory.sigmas[step])


def found(J: DecoderJacobian, weights: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
    """The directions of a region, `[k d]`; more finely from a ``start``."""
    settings = SolverSettings(k=K, widen=0) if start is None else SolverSettings(k=K, widen=0, tol=1e-4, iterations=30)
    basis = block_krylov(J, weights, settings, start)
    return torch.linalg.eigh(basis.gram()[0])[1].flip(1)[:, :K].T @ basis.q.double()


@pytest.mark.parametrize("face", range(4))
def test_differences_find_what_forward_mode_finds(faces, face):
    model, factors, states, sigma = faces
    x = states[face : face + 1]
    products = {EXACT: 0, DIFFERENCES: 0}
    for region in ("mouth", "eyes"):
        weights = output_weights(region_mask(factors, region, 64)[face], tuple(x.shape[1:])).to(x.device)
        vectors, operators = {}, {}
        for route in products:
            J = DecoderJacobian(model.split(x, x.new_full((1,), sigma)), route)
            assert J.check(weights=weights) <= 3e-3 and (J.step is None) == (route is EXACT)
            vectors[route], operators[route] = found(J, weights), J
            products[route] += J.products
        exact = DecoderJacobian(model.split(x, x.new_full((1,), sigma)), EXACT)
        right, ours = found(exact, weights, vectors[EXACT]), vectors[DIFFERENCES]
        assert float(torch.linalg.matrix_norm(right - (right @ ours.T) @ ours, 2)) <= 1e-2
        expected, got = (J.jvp(right) * weights for J in (exact, operators[DIFFERENCES]))
        assert float(((got - expected).norm(dim=1) / expected.norm(dim=1)).max()) <= 1e-2
        gain = exact.jvp(torch.cat([ours, right])).double().square() @ weights.double()
        assert float(gain[:K].sum()) >= 0.999 * float(gain[K:].sum())
    assert products[DIFFERENCES] <= 1.1 * products[EXACT]


def test_the_quotients_are_those_of_forward_mode(faces, monkeypatch):
    """Gain and leak of the generalised mode, the default of discovery, within a hundredth."""
    model, factors, states, sigma = faces
    mask = region_mask(factors, "mouth", 64)[0]
    exact, other = discover(model, states[:1], sigma, mask, chunk=8)
    assert "forward mode" in other["how"]
    monkeypatch.setattr(DecoderJacobian, "_ways", lambda self: ("one-sided",))
    ours, report = discover(model, states[:1], sigma, mask, chunk=8)
    assert "differences" in report["how"]
    assert float(ours.spectrum[:K].sum()) == pytest.approx(float(exact.spectrum[:K].sum()), rel=1e-2)
    assert report["products"] <= 1.1 * other["products"]
