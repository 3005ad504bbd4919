"""Names of published values in the graph: saved workflows that use the old ones, and what a level is connected to."""

import pytest
import torch

from .dial_world import Bench, at
from .graphs import node


@pytest.mark.parametrize(("old", "new"), [("l0", "hard"), ("l1", "soft")])
def test_old_names_of_proximal_guidance_are_still_read(executor, old, new):
    def picture(mode: str) -> torch.Tensor:
        prompt = {
            "model": node("HSpaceLoadFaceTextModel"),
            "empty": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
            "latent": node("VAEEncode", pixels=["empty", 0], vae=["model", 2]),
            "near": node("HSpaceProximalCFG", model=["model", 0], mode=mode, quantile=0.7),
        }
        prompt |= {
            name: node("CLIPTextEncode", clip=["model", 1], text=text)
            for name, text in (("a", "face"), ("b", "face with glasses"))
        }
        links = {"model": ["near", 0], "positive": ["b", 0], "negative": ["a", 0], "latent_image": ["latent", 0]}
        prompt["run"] = node(
            "KSampler", seed=3, steps=2, cfg=5.0, sampler_name="euler", scheduler="karras", denoise=1.0, **links
        )
        return executor.run(prompt, "run")[0][0]["samples"]

    assert torch.equal(picture(old), picture(new)) and not torch.equal(picture("hard"), picture("soft"))


@pytest.mark.parametrize(
    ("preset", "count", "strength"),
    [("Stable Diffusion", 5, 3.2), ("LCM", 5, 9.6), ("DeepFloyd IF", 5, 12.8), ("CelebA-HQ", 1, 8.0)],
)
def test_presets_of_loco_load_from_saved_workflows(executor, preset, count, strength):
    bench = Bench(executor)
    look = {"model": at("small"), "trajectory": at("small invert"), "k": 5, "rank": 5, "sigma": 0.0, "iterations": 1}
    directions, _, given = bench.call("HSpaceBaselineDirections", {**look, "method": "LOCO Edit (x)", "preset": preset})
    assert given == pytest.approx(strength) and directions["vectors"].shape[1] == count


def test_a_level_is_the_top_of_the_karras_scheduler(executor):
    """What Load DiffusionCLIP Checkpoint gives as sigma, here that of t0 = 401."""
    sigma = float(executor.module("core.schedule").Schedule().sigma(401))
    (sigmas,) = executor.call("KarrasScheduler", steps=4, sigma_max=sigma, sigma_min=0.02, rho=7.0)
    assert float(sigmas[0]) == pytest.approx(sigma, rel=1e-6) and float(sigmas[-1]) == 0 and len(sigmas) == 5
