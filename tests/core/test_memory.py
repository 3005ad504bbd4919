"""Memory: a training's estimate keeps nothing, and the engine of derivatives takes no more than is free."""

import copy
import gc

import pytest
import torch

from core.discover import cost, jacobian
from core.discover.jacobian import DecoderJacobian, Route, chunk_for
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule
from core.train.memory import graph_bytes

GB = 2**30


def live() -> int:
    """Bytes of all storages that tensors hold; wrappers of other tests' transforms have none of their own."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor) and o.layout is torch.strided]
    storages = [t.untyped_storage() for t in tensors if not torch._C._functorch.is_functorch_wrapped_tensor(t)]
    return sum({s._cdata: s.nbytes() for s in storages}.values())


def test_the_estimate_of_a_step_keeps_nothing(small):
    def once() -> int:
        trial = copy.deepcopy(small.net).requires_grad_(True)
        x = torch.randn(1, 3, 16, 16)
        return graph_bytes(lambda: trial(x, torch.tensor([10.0])).sum(), (trial,))

    found, kept = [], []
    for _ in range(3):
        found.append(once())
        kept.append(live())
    assert found[0] == found[1] == found[2] > 0 and kept[0] == kept[1] == kept[2]


def need(fixed: float, each: float) -> cost.Need:
    known = cost.Need()
    for n in (1, 2):
        known.add(n, [int(fixed + n * each), int(fixed)])
    return known


@pytest.mark.parametrize(
    ("fixed", "each", "free", "chunk"),
    [
        (0.30, 0.11, 0.5, 1),  # GB: stable diffusion 1.5 at 512 pixels, of which a stage's weights are 0.3
        (0.30, 0.11, 1, 4),
        (0.30, 0.11, 24, 8),
        (3, 0.11, 2, 1),
        (0, 0, 2, 8),
        (0.30, 0.11, None, 8),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "mps", "xpu"])
def test_vectors_at_a_time_follow_free_memory(monkeypatch, fixed, each, free, chunk, device):
    monkeypatch.setattr(jacobian, "free_bytes", lambda _: None if free is None else int(free * GB))
    assert chunk_for(torch.device(device), [need(fixed * GB, each * GB), need(0, each * GB)]) == chunk


def test_a_gpu_takes_more_at_a_time(monkeypatch):
    monkeypatch.setattr(jacobian, "free_bytes", lambda _: 4 * GB)
    assert chunk_for(torch.device("cuda"), [need(0.3 * GB, 0.11 * GB)]) == 26
    assert chunk_for(torch.device("cuda"), [need(0, 1)]) == 64


def counted(J: DecoderJacobian, direction: str, n: int) -> int:
    """Peak of a pass of ``n`` vectors, themselves included."""
    rows = torch.randn(n, *(J.h0 if direction == "push" else J.y0).shape)
    with cost.Live() as live:
        getattr(J.staged, direction)(rows)
    return live.peak + rows.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("keep", [False, True])
def test_the_peak_of_a_pass_is_known_from_two_small_ones(dtype, keep, monkeypatch):
    """Within 15 % of what is counted, and never more than 5 % below it."""
    config = DDPMConfig(3, 3, (32, 64, 64), 1, (False, False, True))
    net = DDPMUNet(config).to(dtype).eval().requires_grad_(False)
    x = torch.randn(1, 3, 32, 32).to(dtype)
    monkeypatch.setattr(jacobian, "free_bytes", lambda _: 100 * GB)
    with torch.no_grad():
        part = VPDenoiser(net, Schedule(), "eps", "0" * 12).split(x, x.new_ones(1))
        J = DecoderJacobian(part, Route(keep=keep))
        J.jvp(torch.randn(3, J.shape[1]))
        J.vjp(torch.randn(3, J.shape[0]))
        for n in (2, 8):
            for direction in ("push", "pull"):
                real = counted(J, direction, n)
                assert 0.95 * real < J.staged.needs[direction].of(n) < 1.15 * real


def test_the_engine_asks_before_it_takes(small, monkeypatch):
    part = small.split(torch.zeros(1, 3, 16, 16), torch.ones(1))
    J = DecoderJacobian(part, Route(keep=False))
    assert J.chunk == 8, "nothing is known yet, and the first vector goes alone"
    J.vjp(torch.eye(9, J.shape[0]))
    assert J.passes == 3, "1, 2 and 6 vectors"
    need = max(J.staged.needs.values(), key=lambda need: need.of(8))
    for n in (1, 3, 8):
        monkeypatch.setattr(jacobian, "free_bytes", lambda _, n=n: int(need.of(n) / 0.79))
        assert J.chunk == n
    with torch.inference_mode():
        assert DecoderJacobian(part).chunk == 8


def test_out_of_memory_halves_as_often_as_needed(small, monkeypatch):
    part = small.split(torch.zeros(1, 3, 16, 16), torch.ones(1))
    J, tries = DecoderJacobian(part, 8), []
    right = J.vjp(torch.eye(8, J.shape[0]))
    pull = J.staged.pull

    def attempt(rows, measured=False):
        tries.append(len(rows))
        if len(rows) > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")
        return pull(rows, measured)

    monkeypatch.setattr(J.staged, "pull", attempt)
    assert torch.allclose(J.vjp(torch.eye(8, J.shape[0])), right, atol=1e-6) and tries == [8, 4, 2, 2, 2, 2]


def test_free_memory_of_machine_and_container(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(cost, "_CGROUP", tmp_path)
    machine = cost.free_bytes(cpu)
    assert machine is not None and machine > 0
    for name, text in (("max", "3000000\n"), ("current", "2000000\n"), ("stat", "anon 7\ninactive_file 500000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert cost.free_bytes(cpu) == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert abs((cost.free_bytes(cpu) or 0) - machine) < 2 * GB
    assert cost.free_bytes(torch.device("xpu")) is None
