"""Concept guidance (LEDITS++) in a real ComfyUI: bit for bit nothing without concepts, together, within masks, by
attention to words."""

import json

import numpy as np
import pytest

from .edit_friendly_graphs import concept, queue_pictures, run, world
from .graphs import FACE, custom_sampler, half_mask, node, refused, save


def test_no_concept_is_the_negative_prompt_bit_for_bit(server):
    prompt = world(8) | {"basic": node("BasicGuider", model=["model", 0], conditioning=["empty", 0])}
    prompt["invert"]["inputs"]["positive"] = ["empty", 0]
    prompt |= {
        "nothing": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0]),
        "off": concept("target", scale=0.0),
        "late": concept("source", warm_up=0.5, cool_down=0.5, previous=["off", 0]),
        "zero": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["late", 0]),
        "on": concept("target", previous=["off", 0]),
        "some": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["on", 0]),
    }
    for name in ("basic", "nothing", "zero", "some"):
        prompt |= run(prompt, f"{name} out", [name, 0])
    (basic, nothing, zero, some), _ = queue_pictures(server, prompt, "basic out", "nothing out", "zero out", "some out")
    assert np.array_equal(basic, nothing) and np.array_equal(basic, zero) and np.abs(some - basic).mean() > 0.5


def concepts(steps: int, threshold: float = 0.7) -> dict[str, dict]:
    """Concepts one by one and together, anywhere, in the left half and nowhere."""
    prompt = world(steps) | {
        "plain": save([FACE, 0]),
        "glasses": node("CLIPTextEncode", clip=["model", 1], text="glasses"),
    }
    prompt["invert"]["inputs"]["positive"] = ["empty", 0]
    prompt |= {
        "one": concept("target", threshold=threshold),
        "two": concept("glasses", previous=["one", 0], threshold=threshold),
        "away": concept("glasses", reverse=True, threshold=threshold),
        **half_mask(64, 64, "mask"),
    }
    for name, more in (
        ("one", {}),
        ("two", {}),
        ("away", {}),
        ("masked", {"mask": ["mask", 0]}),
        ("nowhere", {"mask": ["mask zeros", 0]}),
    ):
        links = {"model": ["model", 0], "negative": ["empty", 0], "concepts": ["two" if more else name, 0], **more}
        prompt[f"guide {name}"] = node("HSpaceConceptEditGuider", **links)
        prompt |= run(prompt, f"{name} out", [f"guide {name}", 0], skip=steps // 2)
    return prompt


def test_concepts_act_together_and_within_the_mask(server):
    prompt = concepts(10)
    (plain, one, two, away, masked, nowhere), _ = queue_pictures(
        server, prompt, "plain", "one out", "two out", "away out", "masked out", "nowhere out"
    )
    for a, b in ((one, plain), (two, one), (away, two)):
        assert np.abs(a - b).mean() > 0.3
    # The network looks at the whole picture, so that the other half still follows, but less than half as far.
    assert np.abs(masked - plain)[:, :, 40:].mean() < 0.5 * np.abs(two - plain)[:, :, 40:].mean()
    assert np.abs(nowhere - plain).max() <= 1


def test_a_single_step_with_a_mask_is_the_concepts_within_and_nothing_outside(server):
    # Without a threshold: with one, the quantile of what the mask leaves is another.
    prompt = concepts(1, threshold=0.0)
    prompt["sigmas"]["inputs"] |= {"scheduler": "simple", "denoise": 0.5}
    (two, masked, nowhere), _ = queue_pictures(server, prompt, "two out", "masked out", "nowhere out")
    assert np.array_equal(masked[:, :, :32], two[:, :, :32]) and np.array_equal(masked[:, :, 32:], nowhere[:, :, 32:])
    assert min(np.abs(two - nowhere)[:, :, half].mean() for half in (slice(32), slice(32, 64))) > 5


@pytest.mark.parametrize(("network", "batch"), [("sd15", 1), ("sdxl", 2)])
def test_attention_to_the_words_limits_a_concept_too(server, network, batch):
    """Against maps and masks written out; prompts in one call or one by one; without words nothing is looked at."""
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0),
        "faces": node("HSpaceLoadFaceTextModel"),
        "noise": node("RandomNoise", noise_seed=3),
        "latent": node("EmptyLatentImage", width=160, height=128, batch_size=batch),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=3, denoise=1.0),
        "alone": node("HSpaceTestOneByOne", model=["model", 0]),
    }
    for name, words in (("plain", {}), ("words", {"clip": ["faces", 1], "words": "red hat"})):
        dials = {"conditioning": ["model", 1], "threshold": 0.6, **words}
        prompt[f"{name} first"] = node("HSpaceEditConcept", scale=4.0, reverse=False, **dials)
        prompt[name] = node(
            "HSpaceEditConcept",
            scale=3.0,
            reverse=True,
            previous=[f"{name} first", 0],
            **dials | {"conditioning": ["model", 2]},
        )
    kinds = (
        ("plain", "Edit", "model"),
        ("words", "Edit", "model"),
        ("words", "Edit", "alone"),
        ("words", "literal", "model"),
    )
    for concepts, kind, model in kinds:
        links = {"model": [model, 0], "negative": ["empty", 0], "concepts": [concepts, 0]}
        name = f"{concepts} {kind} {model}"
        prompt[f"guide {name}"] = node("HSpaceConceptEditGuider" if kind == "Edit" else "HSpaceTestConcepts", **links)
        prompt[name] = custom_sampler("noise", f"guide {name}", "euler", "sigmas", "latent")
    prompt["empty"] = node(
        "ConditioningAverage",
        conditioning_to=["model", 1],
        conditioning_from=["model", 2],
        conditioning_to_strength=0.4,
    )
    pairs = {
        "literal": ("words literal model", "words Edit model"),
        "apart": ("words Edit model", "words Edit alone"),
        "off": ("plain Edit model", "words Edit model"),
    }
    prompt |= {name: node("HSpaceTestDifference", a=[a, 0], b=[b, 0]) for name, (a, b) in pairs.items()}
    result = server.queue(prompt, timeout=300)
    literal, apart, off = (json.loads(result.outputs[name]["text"][0])["rows"] for name in pairs)
    assert max(literal) < 2e-5 and max(apart) < 2e-5 and min(off) > 1e-3, (literal, apart, off)
    wrong = prompt | {
        "words first": node("HSpaceEditConcept", **{**prompt["words first"]["inputs"], "words": "hat " * 90})
    }
    refused(server, wrong, "154 tokens", "77")
    del prompt["words first"]["inputs"]["clip"]
    refused(server, prompt, "connect the CLIP")
