"""Memory beside the model: what the host is asked for, what it must keep, and what is refused before the work."""

from types import SimpleNamespace

import pytest
import torch

from devtools.executor import NodeFailed

from .unet_graphs import latent_base, latent_discover, unet


def loaded(*patchers) -> list:
    return [SimpleNamespace(model=patcher) for patcher in patchers]


def test_the_host_unloads_what_the_run_does_not_use(executor, monkeypatch):
    import comfy.model_management as host

    memory, asked = executor.module("nodes.host.memory"), []
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    unet, vae, text = (SimpleNamespace(model=object(), load_device=cuda) for _ in range(3))
    clone = SimpleNamespace(model=unet.model, load_device=cuda)
    gone = SimpleNamespace(model=None)
    monkeypatch.setattr(host, "current_loaded_models", [*loaded(unet, vae, text), gone])
    monkeypatch.setattr(host, "free_memory", lambda needed, device, keep_loaded: asked.append((needed, keep_loaded)))
    memory.Room(clone).beside(vae)(1000)
    assert asked[0][0] == 1000 + host.extra_reserved_memory()
    assert [one.model for one in asked[0][1]] == [unet, vae]
    memory.Room(SimpleNamespace(model=object(), load_device=cpu))(1000)
    assert len(asked) == 1


@pytest.mark.parametrize("network", ["sd15", "sdxl deep"])
def test_the_host_is_asked_for_a_product(executor, network):
    """In passes of the network: the float32 weights of the largest part, and a few passes more."""
    ((model, *_),) = executor.run(unet(network), "model")
    count, shape = executor.module("nodes.host.memory").product_passes, [1, 4, 16, 16]
    blocks = model.model.diffusion_model.output_blocks
    largest = 4 * max(sum(p.numel() for p in block.parameters()) for block in blocks) / model.memory_required(shape)
    assert 5 + 0.3 * largest < count(model, shape) < 6 + largest + 1e-6
    assert count(model, [1, 4, 1024, 1024]) == 6, "of a large picture the weights are a small part"


@pytest.mark.parametrize(
    ("free", "loaded", "rows"), [(10_000, 1000, 32), (2000, 1000, 14), (2000, 0, 7), (1100, 0, 1), (500, 0, 1)]
)
def test_as_many_pictures_go_through_at_a_time_as_fit(executor, monkeypatch, free, loaded, rows):
    """A picture takes 100 bytes beside weights of 1000; 0.7 of what is free is used."""
    import comfy.model_management as host

    monkeypatch.setattr(host, "get_free_memory", lambda device: free)
    patcher = SimpleNamespace(
        load_device=torch.device("cpu"),
        model_size=lambda: 1000,
        loaded_size=lambda: loaded,
        memory_required=lambda shape: 100 * shape[0],
    )
    assert executor.module("nodes.host.memory").rows_at_once(patcher, (4, 8, 8), 32) == rows


def test_discovery_is_refused_before_the_work(executor, monkeypatch):
    """On the host's network, whose memory is foreseen without a pass."""
    prompt = latent_base() | latent_discover(mode="none", k=1, iterations=1, seed=9177)
    # A seed of its own: what another test has found is not looked for again.
    prompt["invert"]["inputs"] |= {"method": "ddim B", "iterations": 1}
    for name in ("foresight", "jacobian"):
        monkeypatch.setattr(executor.module(f"core.discover.{name}"), "free_bytes", lambda _: 1_000_000)
    staged = executor.module("core.discover.staged").StagedDecoder
    monkeypatch.setattr(staged, "pull", lambda *_: pytest.fail("a product was made"))
    with pytest.raises(NodeFailed, match=r"one Jacobian vector at a time takes [0-9.]+ MB at this picture size"):
        executor.run(prompt, "discover")
