"""In a ComfyUI that somebody else started, a small network takes a number of threads that work."""

from types import SimpleNamespace

import pytest
import torch

from .graphs import base


@pytest.fixture
def threads(executor):
    """The pack's module, with two threads to choose from."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield executor.module("nodes.host.threads")
    torch.set_num_threads(before)


def on_cpu(size=1000, device="cpu"):
    return SimpleNamespace(load_device=torch.device(device), model_size=lambda: size)


def taking(threads, monkeypatch, **seconds):
    """Let a layer take so long with ``two`` threads and with ``one``."""
    monkeypatch.setattr(threads, "_usual_time", lambda n, x, weight: seconds["two" if n == 2 else "one"])


@pytest.mark.parametrize(("two", "chosen"), [(0.6, 2), (1.4, 2), (1.6, 1), (100.0, 1)])
def test_all_threads_unless_they_wait_for_each_other(threads, monkeypatch, two, chosen):
    taking(threads, monkeypatch, one=1.0, two=two)
    with pytest.raises(KeyError), threads.working_threads(on_cpu()):
        assert torch.get_num_threads() == chosen
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("model", [on_cpu(size=10**9), on_cpu(device="cuda")], ids=["large", "elsewhere"])
def test_others_keep_the_hosts_number(threads, monkeypatch, model):
    taking(threads, monkeypatch, one=1.0, two=100.0)
    with threads.working_threads(model) as pace:
        assert pace is None and torch.get_num_threads() == 2


def test_the_real_layer_is_timed_with_the_number_it_is_given(threads):
    assert threads.choose(2) in (1, 2)
    assert threads._usual_time(1, torch.zeros(1, 64, 8, 8), torch.zeros(64, 64, 3, 3)) > 0
    assert torch.get_num_threads() == 1


def test_a_call_that_stalls_has_the_number_chosen_anew(threads, monkeypatch):
    clock, chosen = [0.0], []
    monkeypatch.setattr(threads.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(threads, "choose", lambda most: chosen.append(most) or 1)
    pace = threads.Pace(2)

    def call(seconds):
        clock[0] += seconds
        return seconds

    # An ordinary one, another kind of call, one that stalls right after the start, one a little slow, and one that stalls.
    given = [("a", 0.05), ("b", 3.0), ("a", 1.5), ("a", 0.15), ("a", 3.0)]
    answers = [pace.run(kind, lambda s=seconds: call(s)) for kind, seconds in given]
    assert answers == [seconds for _, seconds in given]
    assert chosen == [2] and torch.get_num_threads() == 1


def test_an_inversion_gives_the_number_back(threads, executor, monkeypatch):
    taking(threads, monkeypatch, one=1.0, two=100.0)
    seen = []
    net = executor.module("core.networks.ddpm").DDPMUNet
    split = net.split
    monkeypatch.setattr(net, "split", lambda *a, **k: seen.append(torch.get_num_threads()) or split(*a, **k))
    executor.run(base(steps=2, seed=71, iterations=1), "invert")
    assert seen and set(seen) == {1} and torch.get_num_threads() == 2
