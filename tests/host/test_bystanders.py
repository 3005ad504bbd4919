"""What other nodes put on a MODEL is named; a MODEL that answers twice differently is not looked at; latents are those
of its own format."""

import pytest
import torch

from devtools.executor import NodeFailed

from .feature_graphs import small
from .graphs import node


def inverted(patch: str, **options) -> dict:
    """An inversion on a MODEL with a patch."""
    prompt = small("sd15") | {"patched": node(patch, model=["model", 0], **options)}
    prompt["invert"]["inputs"] |= {"model": ["patched", 0], "iterations": 1}
    return prompt


@pytest.mark.parametrize(
    ("patch", "options"),
    [
        ("TomePatchModel", {"ratio": 0.4}),
        ("HyperTile", {"tile_size": 32, "swap_size": 4, "max_depth": 1, "scale_depth": False}),
    ],
)
def test_a_patch_that_draws_random_numbers_is_refused_by_name(executor, patch, options):
    with pytest.raises(NodeFailed, match="differently each time") as error:
        executor.run(inverted(patch, **options), "invert")
    assert patch in str(error.value)


def test_a_memory_that_is_scaled_to_one_length_is_seen_in_every_run(executor):
    """APG with a momentum and a small norm_threshold gives the same answer twice for one state, once it has run."""
    prompt = small("sd15") | {"patched": node("APG", model=["model", 0], eta=0.5, norm_threshold=0.01, momentum=-0.5)}
    prompt["invert"]["inputs"] |= {"model": ["patched", 0], "iterations": 1, "cfg": 2.0, "negative": ["negative", 0]}
    for seed in range(3):
        prompt["sigmas"]["inputs"]["steps"] = 2 + seed
        with pytest.raises(NodeFailed, match="differently each time"):
            executor.run(prompt, "invert")


def test_names_are_those_of_the_nodes(executor):
    prompt = small("sd15")
    link = ["model", 0]
    wanted = {
        "FreeU": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
        "PerturbedAttentionGuidance": {"scale": 3.0},
        "RescaleCFG": {"multiplier": 0.7},
        "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0},
    }
    for name, options in wanted.items():
        prompt[name] = node(name, model=link, **options)
        link = [name, 0]
    ((plain, *_), (patched,)) = executor.run(prompt, "model", link[0])
    names = executor.module("nodes.host.patches.bystanders").bystanders
    assert names(plain) == [] and set(names(patched)) == set(wanted)


def test_a_cut_that_does_not_fit_names_what_is_on_the_model(executor):
    prompt = small("sd15") | {"patched": node("PerturbedAttentionGuidance", model=["model", 0], scale=3.0)}
    inputs = {
        "k": 1,
        "mode": "generalized",
        "tau": 0.01,
        "rank": 20,
        "sigma": 0.0,
        "layer": "middle",
        "image_index": 0,
        "iterations": 1,
        "seed": 0,
    }
    prompt["discover"] = node("HSpaceDiscoverRegion", model=["patched", 0], trajectory=["invert", 0], **inputs)
    with pytest.raises(NodeFailed, match="PerturbedAttentionGuidance"):
        executor.run(prompt, "discover")


def test_latents_are_those_of_the_models_own_format_whichever_was_loaded_last(executor):
    """The Playground format shifts and scales each channel; a network keeps it until the next MODEL is loaded."""
    play = inverted("ModelSamplingContinuousEDM", sampling="edm_playground_v2.5", sigma_max=120.0, sigma_min=0.002)
    ((plain, *_),) = executor.run(small("sd15"), "invert")
    ((first, *_), (patched,)) = executor.run(play, "invert", "patched")
    play["same"] = node("wanBlockSwap", model=["patched", 0])
    play["invert"]["inputs"]["model"] = ["same", 0]
    ((second, *_),) = executor.run(play, "invert")  # now the network carries the format already
    assert torch.equal(first["states"], second["states"])
    latent = torch.randn(1, 4, 8, 8)
    latents = executor.module("nodes.host.model.latents")
    assert torch.equal(
        latents.latents_in(patched, latent), patched.get_model_object("latent_format").process_in(latent)
    )
    assert torch.allclose(latents.latents_out(patched, latents.latents_in(patched, latent)), latent, atol=1e-5)
    assert not torch.allclose(first["states"][-1], plain["states"][-1], atol=1e-2)
