"""Forward products by differences of decodes on the host's own U-Net: nobody sets a step."""

import pytest
import torch

K = 5


@pytest.mark.sweep("")
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_five_first_directions_are_moved_as_in_forward_mode(executor, unit):
    """Whatever the unit of h, which the first stage undoes."""
    model, positive = executor.call("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0)[:2]
    run, engine = executor.module("nodes.host.model.run"), executor.module("core.discover.jacobian")
    chain, krylov = executor.module("core.chain").Chain, executor.module("core.discover.krylov")

    def operator(part, forward: str):
        scaled = chain([lambda h: h / unit])
        kernels = {name: scaled.then(getattr(part, name)) for name in ("decode", "smooth", "fused")}
        route = engine.Route(8, forward, True)
        return engine.DecoderJacobian(type(part)(part.h * unit, layer=part.layer, **kernels), route)

    def work(denoiser):
        x = 3 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
        part = denoiser.split(x, x.new_full((1,), 2.0))
        exact, ours = operator(part, "exact"), operator(part, "one-sided")
        mask = torch.zeros(4, 16, 16)
        mask[:, 4:12, 4:12] = 1
        weights = mask.flatten()
        assert ours.check(weights=weights) <= 3e-3 and ours.step.way == "one-sided"
        basis = krylov.block_krylov(exact, weights, krylov.SolverSettings(k=K, widen=0))
        first = torch.linalg.eigh(basis.gram()[0])[1].flip(1)[:, :K].T @ basis.q.double()
        expected, got = (J.jvp(first) * weights for J in (exact, ours))
        return float(((got - expected).norm(dim=1) / expected.norm(dim=1)).max())

    assert run.with_denoiser(model, (1, 4, 16, 16), run.Prompts(positive), work, gradients=True) <= 1e-2
