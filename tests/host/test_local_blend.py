"""Local blend: a target row is the source outside of its words, or of a painted mask."""

import json

import numpy as np
import pytest

from .graphs import half_mask, node, pictures, refused, save
from .pair_graphs import TARGET, differences, faces, local_blend, p2p, sample, small


@pytest.mark.parametrize(("sampler", "without"), [("euler", ""), ("dpmpp_2m", "sat"), ("heun", "")])
def test_local_blend_is_the_source_outside_of_the_words(server, sampler, without):
    prompt = small("sdxl", 2, 128, 192) | {"edited": p2p(mode="refine")}
    prompt |= {
        "blended": local_blend("edited", words="cat", threshold=0.85, start=0.2, without=without),
        "alone": node("HSpaceTestAlone", model=["blended", 0]),
        "out": sample(("blended", 0), negative=("model", 2), sampler_name=sampler),
        "split": sample(("alone", 0), negative=("model", 2), sampler_name=sampler),
        "mask": node("HSpaceP2PBlendMask", model=["blended", 0], latent=["out", 0]),
        "figures": node("HSpaceTestOutside", latent=["out", 0], mask=["mask", 0]),
    }
    figures = json.loads(server.queue(prompt, timeout=300).outputs["figures"]["text"][0])
    assert all(0.02 < area < 0.98 for area in figures["area"]), figures
    assert figures["outside"] < 1e-6 and min(figures["inside"]) > 1e-2
    (same,) = differences(server, prompt, ("out", "split"))
    assert max(same["rows"]) < 1e-4


def blended(network: str = "sd15", **dials) -> dict:
    blend = {"words": "cat", "threshold": 0.85, "start": 0.2, **dials}
    return small(network) | {"edited": p2p(), "blended": local_blend("edited", **blend)}


def test_a_blend_mask_is_of_the_latent_that_is_connected(server):
    prompt = blended() | {"out": sample(("blended", 0), negative=("model", 2))}
    prompt |= {
        "mask": node("HSpaceP2PBlendMask", model=["blended", 0], latent=["out", 0]),
        "figures": node("HSpaceTestOutside", latent=["out", 0], mask=["mask", 0]),
    }
    server.queue(prompt, timeout=300)
    refused(
        server,
        prompt | {"mask": node("HSpaceP2PBlendMask", model=["blended", 0], latent=["rows", 0])},
        "did not give this latent",
        "P2P Local Blend of its own",
    )
    refused(
        server,
        prompt | {"mask": node("HSpaceP2PBlendMask", model=["edited", 0], latent=["out", 0])},
        "has no P2P Local Blend",
    )


def test_local_blend_with_several_positives(server):
    """Each in a call of its own or all in one: the words are looked for in all of them, in the same picture."""
    prompt = blended() | {"both": node("ConditioningCombine", conditioning_1=["pair", 0], conditioning_2=["other", 0])}
    prompt |= {
        "other": node(
            "ConditioningAverage",
            conditioning_to=["pair", 0],
            conditioning_from=["model", 2],
            conditioning_to_strength=0.7,
        ),
        "alone": node("HSpaceTestAlone", model=["blended", 0]),
        "figures": node("HSpaceTestOutside", latent=["one", 0], mask=["mask", 0]),
        "mask": node("HSpaceP2PBlendMask", model=["blended", 0], latent=["one", 0]),
        "corner": node("ConditioningSetArea", conditioning=["pair", 0], width=64, height=64, x=0, y=0, strength=1.0),
    }
    prompt["one"] = sample(("blended", 0), ("both", 0), negative=("model", 2))
    figures = json.loads(server.queue(prompt, timeout=300).outputs["figures"]["text"][0])
    assert 0.02 < figures["area"][0] < 0.98 and figures["outside"] < 1e-6 < figures["inside"][0]
    split = {k: v for k, v in prompt.items() if k not in ("mask", "figures")} | {
        "two": sample(("alone", 0), ("both", 0), negative=("model", 2))
    }
    (same,) = differences(server, split, ("one", "two"))
    assert max(same["rows"]) < 1e-4
    refused(
        server,
        prompt | {"one": sample(("blended", 0), ("corner", 0), negative=("model", 2))},
        "area of [8, 8]",
        "Set Mask",
    )


def test_local_blend_with_a_painted_mask(server):
    prompt = faces(targets=f"{TARGET}\na sad person with red hair", rows=3, width=96) | {
        **half_mask(96, 64, "painted"),
        "edited": p2p(),
        "blended": local_blend("edited", mask=["painted", 0]),
        "out": sample(("blended", 0), sampler_name="dpmpp_2m"),
        "image": node("VAEDecode", samples=["out", 0], vae=["model", 2]),
    }
    source, one, two = pictures(server, server.queue({**prompt, "keep": save(["image", 0])}, timeout=300), "keep")
    assert np.array_equal(source[:, 48:], one[:, 48:]) and np.array_equal(source[:, 48:], two[:, 48:])
    assert not np.array_equal(source[:, :48], one[:, :48])
