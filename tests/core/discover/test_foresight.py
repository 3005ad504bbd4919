"""What does not fit into memory is refused before the work, and what is found too late takes another way."""

import re

import pytest
import torch
from torch import nn

from core.chain import Chain
from core.denoiser import Bottleneck
from core.discover import cost, foresight, jacobian
from core.discover.davidson import Space
from core.discover.jacobian import DecoderJacobian
from core.discover.krylov import SolverSettings, block_krylov
from core.discover.route import Route

GB = 10**9
OUT = "CUDA out of memory. Tried to allocate 9 GiB."


class Block(nn.Module):
    """A stage whose reverse pass holds much more than its decode."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))

    def forward(self, h):
        for layer in self.layers:
            h = h + torch.tanh(layer(h))
        return h


@pytest.fixture
def part() -> Bottleneck:
    torch.manual_seed(0)
    stages = [Block(4, depth).half().requires_grad_(False) for depth in (1, 6, 2)]
    return Bottleneck(torch.randn(1, 4, 16, 16).half(), Chain(stages), "middle")


def free(monkeypatch, amount: int | None) -> None:
    for module in (foresight, jacobian):
        monkeypatch.setattr(module, "free_bytes", lambda _: amount)


def taken(part: Bottleneck) -> int:
    """Bytes of the largest reverse pass of one vector."""
    J = DecoderJacobian(part, Route(keep=False))
    J.vjp(torch.ones(1, J.shape[0]))
    return J.staged.needs["pull"].of(1)


def test_a_pass_is_foreseen_to_the_byte(part, monkeypatch):
    real = taken(part)
    J = DecoderJacobian(part, Route(keep=False))
    assert abs(foresight._least(J.staged, 0) / real - 1) < 0.05


def test_what_cannot_fit_is_refused_before_a_product_is_made(part, monkeypatch):
    real = taken(part)
    free(monkeypatch, int(0.5 * real))
    monkeypatch.setattr("core.discover.staged.StagedDecoder.pull", lambda *_: pytest.fail("a product was made"))
    with pytest.raises(RuntimeError, match=r"takes .* MB at this picture size .* are free") as refused:
        DecoderJacobian(part)
    side = int(re.search(r"about (\d+) %", str(refused.value))[1])
    assert 65 <= side <= 71, "half of the memory is that of a picture of 0.7 its sides"
    free(monkeypatch, int(1.1 * real))
    monkeypatch.undo()
    assert DecoderJacobian(part, Route(keep=False)).vjp(torch.ones(1, 1024)).shape == (1, 1024)


def test_whoever_manages_memory_is_asked_for_it_first(part, monkeypatch):
    real, asked = taken(part), []
    left = [int(0.5 * real)]

    def make_room(needed: int) -> None:
        asked.append(needed)
        left[0] = 2 * needed

    for module in (foresight, jacobian):
        monkeypatch.setattr(module, "free_bytes", lambda _: left[0])
    J = DecoderJacobian(Bottleneck(part.h, part.decode, "middle", make_room=make_room), Route(keep=False))
    assert len(asked) == 1 and abs(asked[0] / real - 1) < 0.05
    J.vjp(torch.randn(3, J.shape[0]))
    assert J.passes == 2 and asked[1] == int(2 * J.staged.needs["pull"].of(1) / 0.8), (
        "for two, so that they are measured"
    )
    left[0] = 0
    J._ask_for_room(8, "pull")
    assert asked[-1] == int(J.staged.needs["pull"].of(8) / 0.8)


def test_a_network_that_looks_at_its_numbers_is_not_foreseen(part, monkeypatch):
    def looks(h):
        return h * (1.0 if float(h.detach().flatten()[0]) < 1e9 else 2.0)

    J = DecoderJacobian(Bottleneck(part.h, Chain([looks]), "middle"), Route(keep=False))
    assert foresight._least(J.staged, 0) == 0
    free(monkeypatch, 1)
    DecoderJacobian(Bottleneck(part.h, Chain([looks]), "middle"), Route(keep=False))


def test_a_basis_that_does_not_fit_says_how_many_directions_do(part, monkeypatch):
    J = DecoderJacobian(part, Route(4))
    width = 3 * 1024 * 4
    free(monkeypatch, 10 * width)
    with pytest.raises(RuntimeError, match=r"a basis for 8 directions takes .* ask for 4 directions or fewer"):
        block_krylov(J, torch.ones(1024), SolverSettings(k=8))


def out_of_memory(*_):
    raise RuntimeError(OUT)


@pytest.mark.parametrize("keep", [True, False])
def test_forward_mode_gives_way_to_differences(part, monkeypatch, keep):
    """With one vector, and not before the graphs have been let go; the report says so, and directions are as before."""
    weights = torch.zeros(4, 16, 16)
    weights[:, :8, :8] = 1
    exact = block_krylov(DecoderJacobian(part, Route(2, "exact")), weights.flatten(), SolverSettings(k=2, widen=0))
    J = DecoderJacobian(part, Route(keep=True))
    if not keep:
        J.staged.let_go()
    monkeypatch.setattr(J.staged, "push", out_of_memory)
    J._checked = True
    v = exact.q[:2] / 1.0
    found = J.jvp(v)
    assert J.step is not None and not J.staged.graphs and "ran out of memory with one vector" in J.summary()
    assert float((found - exact.b[:2]).norm() / exact.b[:2].norm()) < 1e-2


def test_forward_mode_that_was_asked_for_does_not_give_way(part, monkeypatch):
    J = DecoderJacobian(part, Route(1, "exact"))
    monkeypatch.setattr(J.staged, "push", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory with 1 Jacobian vector"):
        J.jvp(torch.ones(1, 1024))


def test_graphs_are_let_go_before_a_vector_is_given_up(part, monkeypatch):
    J = DecoderJacobian(part, Route(1, keep=True))
    right, pull = J.vjp(torch.ones(1, 1024)), J.staged.pull
    monkeypatch.setattr(J.staged, "pull", lambda *a: out_of_memory() if J.staged.graphs else pull(*a))
    assert torch.allclose(J.vjp(torch.ones(1, 1024)), right, atol=1e-6)


def test_graphs_that_do_not_fit_are_not_held(part, monkeypatch):
    monkeypatch.setattr("core.discover.staged.vjp", out_of_memory)
    assert not DecoderJacobian(part, Route(1)).staged.graphs


@pytest.mark.parametrize(("recommended", "taken_"), [(10 * GB, 4 * GB), (4 * GB, 5 * GB)])
def test_graphics_of_a_mac(monkeypatch, recommended, taken_):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: recommended)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: taken_)
    monkeypatch.setattr(cost, "_system", lambda: 100 * GB)
    assert cost.free_bytes(torch.device("mps")) == max(0, recommended - taken_)
    monkeypatch.setattr(cost, "_system", lambda: GB)
    assert cost.free_bytes(torch.device("mps")) == min(GB, max(0, recommended - taken_))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_basis_is_as_exact_as_products(part, dtype):
    """Stored in their precision, and nothing is lost by it."""
    wide = Bottleneck(part.h.to(dtype), part.decode.inside(lambda s: s.to(dtype)), "middle")
    J = DecoderJacobian(wide, Route(4))
    space = Space(J, torch.ones(1024))
    space.add(torch.randn(6, 1024))
    space.add(torch.randn(3, 1024))
    assert space.q.dtype == space.b.dtype == dtype and space.inside.dtype == torch.float64
    rounding = 1e-6 if dtype == torch.float32 else 1e-12
    apart = space.q.double() @ space.q.double().T - torch.eye(9, dtype=torch.float64)
    assert float(apart.abs().max()) < rounding
    images = J.jvp(space.q)
    assert float((space.b - images).norm() / images.norm()) < rounding, "the images are those of what is stored"
