"""The Edit Dial on a flow transformer with a reference latent: its ends, every sampler, no further call, refusals."""

import pytest
import torch

CALLS = []


def sampled(executor, dialled=None, sampler="euler", size=(8, 12), count=False):
    """A tiny Flux with the source as reference; the dial's inputs, or None without it. Source and result."""
    call, g = executor.call, torch.Generator().manual_seed(3)
    model, _ = call("HSpaceTestDiT")
    facts = {"pooled_output": torch.randn(1, 32, generator=g)}
    prompt = [[torch.randn(1, 7, 48, generator=g), facts]]
    source = {"samples": torch.randn(1, 16, 8, 12, generator=g)}
    (prompt,) = call("ReferenceLatent", conditioning=prompt, latent=source)
    if dialled is not None:
        (model,) = call("HSpaceEditDial", model=model, source=source, **{"strength": 0.5, "keep": 0.25, **dialled})
    if count:
        model = model.clone()
        model.set_model_unet_function_wrapper(
            lambda run, given: CALLS.append(1) or run(given["input"], given["timestep"], **given["c"])
        )
    (grid,) = call("BasicScheduler", model=model, scheduler="simple", steps=6, denoise=1.0)
    links = {
        "noise": call("RandomNoise", noise_seed=7)[0],
        "guider": call("BasicGuider", model=model, conditioning=prompt)[0],
        "sampler": call("KSamplerSelect", sampler_name=sampler)[0],
        "latent_image": {"samples": torch.zeros(1, 16, *size)},
    }
    return source["samples"], call("SamplerCustomAdvanced", **links, sigmas=grid)[0]["samples"]


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_its_ends_and_what_lies_between(executor, sampler):
    source, plain = sampled(executor, sampler=sampler)
    _, still = sampled(executor, {"strength": 0.0}, sampler)
    _, full = sampled(executor, {"strength": 1.0, "keep": 0.0}, sampler)
    assert float((still - source).abs().max()) < 1e-5
    assert torch.equal(full, plain)
    apart = [float((sampled(executor, {"strength": s}, sampler)[1] - source).norm()) for s in (0.25, 0.5, 1.0)]
    assert 0 < apart[0] < apart[1] < apart[2] <= float((plain - source).norm()) * 1.05


def test_it_asks_the_network_nothing_more(executor):
    CALLS.clear()
    sampled(executor, count=True)
    plain = len(CALLS)
    sampled(executor, {}, count=True)
    assert len(CALLS) == 2 * plain > 0


def test_it_tells_what_it_kept(executor, caplog):
    with caplog.at_level("INFO"):
        sampled(executor)
        assert "Edit Dial" not in caplog.text
        sampled(executor, {"keep": 1.0})
    assert "Edit Dial kept" in caplog.text


def test_a_window(executor):
    source, plain = sampled(executor)
    _, early = sampled(executor, {"strength": 0.0, "sigma_end": 0.5})
    assert 1e-3 < float((early - source).norm()) < float((plain - source).norm())
    _, never = sampled(executor, {"strength": 0.0, "sigma_end": 2.0})
    assert torch.equal(never, plain)


def test_a_source_of_another_size_is_refused(executor):
    with pytest.raises(ValueError, match="after its scaling"):
        sampled(executor, {}, size=(8, 8))


def test_a_dial_that_decides_nothing_is_refused(executor):
    with pytest.raises(ValueError, match="'decided_per' is '3x3'"):
        sampled(executor, {"keep": 0.0, "decided_per": "3x3"})


def test_walks_outside_of_a_sampler_refuse_it_by_name(executor):
    names = executor.module("nodes.host.patches.sampler_only").sampler_only
    (model, _) = executor.call("HSpaceTestDiT")
    latent = {"samples": torch.ones(1, 16, 8, 12)}
    (edited,) = executor.call("HSpaceEditDial", model=model, source=latent, strength=0.5, keep=0.25)
    assert names(model) == [] and names(edited) == ["Edit Dial"]


def test_it_says_when_the_model_moves_the_whole_picture(executor, caplog):
    """A network that draws its reference three cells to the right."""
    call, g = executor.call, torch.Generator().manual_seed(3)
    (model, prompt) = call("HSpaceTestDiT")
    source = {"samples": torch.randn(1, 16, 24, 32, generator=g)}
    for right, told in ((0, False), (3, True)):
        moved = executor.module("nodes.host.model.latents").latents_in(model, source["samples"].roll(right, -1))
        drawn = model.clone()
        drawn.set_model_sampler_post_cfg_function(lambda args, moved=moved: moved)
        (edited,) = call("HSpaceEditDial", model=drawn, source=source, strength=0.5, keep=0.25)
        links = {
            "noise": call("RandomNoise", noise_seed=7)[0],
            "guider": call("BasicGuider", model=edited, conditioning=prompt)[0],
            "sampler": call("KSamplerSelect", sampler_name="euler")[0],
            "sigmas": call("BasicScheduler", model=edited, scheduler="simple", steps=6, denoise=1.0)[0],
            "latent_image": {"samples": torch.zeros(1, 16, 24, 32)},
        }
        caplog.clear()
        call("SamplerCustomAdvanced", **links)
        assert ("moved the whole picture by 3 cells to the right" in caplog.text) == told
