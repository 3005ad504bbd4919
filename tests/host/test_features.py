"""Features of a stored picture in other runs: what must not change does not, what should does."""

import pytest

from .feature_graphs import STEPS, inject, inverted, out, resumed, small
from .graphs import node, refused
from .pair_graphs import SOURCE, TARGET, TEXTS, differences, p2p

NAMED = {
    "PnP": {"tau_f": 0.8, "tau_A": 0.5, "f_blocks": "2", "qk_blocks": "2-5"},
    "PnP f only": {"tau_f": 0.8, "f_blocks": "2"},
    "PnP qk only": {"tau_A": 0.5, "qk_blocks": "2-5"},
    "P2P self": {"tau_A": 0.4, "qk_blocks": "input 5, middle, 0-1"},
    "MasaCtrl": {"tau_A": 1.0, "kv_blocks": "3-5"},
}
"""What each preset takes, by the numbers of the text model's six output blocks."""


@pytest.mark.parametrize("preset", NAMED)
def test_each_preset_is_its_blocks_and_the_source_in_itself_changes_nothing(server, preset):
    prompt = inverted() | {"edited": inject(preset, start=0.0), "off": inject(preset, tau_f=0.0, tau_A=0.0)}
    prompt |= {"named": inject("custom", **NAMED[preset]), "alone": node("HSpaceTestAlone", model=["edited", 0])}
    runs = {
        "source": ("model", "source", 1.0),
        "itself": ("edited", "source", 1.0),
        "plain": ("model", "target", 3.0),
        "off": ("off", "target", 3.0),
        "acts": ("edited", "target", 3.0),
        "alone": ("alone", "target", 3.0),
        "one": ("edited", "target", 1.0),
        "named": ("named", "target", 1.0),
    }
    parts = {key: resumed(*run) for key, run in runs.items()}
    for part in parts.values():
        prompt |= part
    pairs = (("source", "itself"), ("plain", "off"), ("acts", "alone"), ("one", "named"), ("plain", "acts"))
    itself, off, split, named, acts = differences(server, prompt, *((out(parts[a]), out(parts[b])) for a, b in pairs))
    assert max(itself["rows"]) < 2e-3  # as good as the inversion is
    assert off["same"] and named["same"] and not acts["same"]
    assert max(split["rows"]) < 1e-5


@pytest.mark.sweep("")
@pytest.mark.parametrize("network", ["sd15", "sd2 v", "sdxl"])
def test_every_family_and_a_picture_that_is_not_square(server, network):
    prompt = small(network)
    prompt |= {
        "edited": inject("PnP"),
        "off": inject("PnP", tau_f=0.0, tau_A=0.0),
        "values": inject("MasaCtrl", start=0.0),
    }
    models = {
        "source": "model",
        "itself": "edited",
        "plain": "model",
        "acts": "edited",
        "off": "off",
        "values": "values",
    }
    runs = {key: resumed(model, "source" if key in ("source", "itself") else "target") for key, model in models.items()}
    for part in runs.values():
        prompt |= part
    pairs = (("source", "itself"), ("plain", "off"), ("source", "plain"), ("source", "acts"), ("source", "values"))
    itself, off, plain, *nearer = differences(server, prompt, *((out(runs[a]), out(runs[b])) for a, b in pairs))
    assert max(itself["rows"]) < 1e-3 and off["same"]
    for result in nearer:
        assert result["rows"][0] < plain["rows"][0]  # what is taken draws the edit to the source


@pytest.mark.sweep("")
@pytest.mark.parametrize(("network", "tau"), [("sd15", 1.0), ("sdxl", 0.5)])
def test_queries_and_keys_are_those_of_a_source_row_beside_it(server, network, tau):
    """What Prompt-to-Prompt copies from a row that is held on the stored states is what Inject Features takes from the
    states alone."""
    prompt = small(network) | {
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "edited": inject("custom", tau_f=0.0, tau_A=tau, qk_blocks="input 1, input 3, middle, 2-5"),
    }
    texts = {**TEXTS, "source_encoded": ["source", 0], "targets_encoded": ["target", 0]}
    prompt |= {
        "tokens": node("HSpaceTestPair", network=network, targets=1),
        "pair": node("HSpacePairConditioning", **texts),
        "words": p2p(tokens=("tokens", 1), cross_end=0.0, self_end=tau, self_resolution="all"),
    }
    runs = [resumed("edited", "target"), resumed("words", "pair", latent=("rows", 0)), resumed("model", "target")]
    for part in runs:
        prompt |= part
    prompt["beside"] = node("LatentFromBatch", samples=[out(runs[1]), 0], batch_index=1, length=1)
    same, acts = differences(server, prompt, (out(runs[0]), "beside"), (out(runs[2]), "beside"))
    assert max(same["rows"]) < 1e-5 and min(acts["rows"]) > 1e-3


@pytest.mark.sweep("")
@pytest.mark.parametrize("preset", ["PnP", "MasaCtrl"])
def test_other_steps_are_looked_up_between_the_stored_ones(server, preset):
    """Three steps for one of the stored ones and a stock sampler of second order: what is taken is nearly what the
    source has there itself."""
    prompt = small("sd15") | {
        "edited": inject(preset, start=0.0),
        "heun": node("KSamplerSelect", sampler_name="heun"),
        "finer": node(
            "ExtendIntermediateSigmas",
            sigmas=["sigmas", 0],
            steps=3,
            start_at_sigma=-1.0,
            end_at_sigma=0.0,
            spacing="cosine",
        ),
    }
    runs = {
        (model, positive): resumed(model, positive, sampler=("heun", 0), sigmas=("finer", 0))
        for model in ("model", "edited")
        for positive in ("source", "target")
    }
    for part in runs.values():
        prompt |= part
    itself, acts = differences(
        server, prompt, *((out(runs["model", name]), out(runs["edited", name])) for name in ("source", "target"))
    )
    assert itself["rows"][0] < 0.25 * acts["rows"][0]


def test_a_schedule_that_starts_noisier_is_refused(server):
    prompt = inverted(3) | {
        "edited": inject("PnP"),
        "low": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=STEPS, denoise=0.3),
    }
    prompt["invert"]["inputs"]["sigmas"] = ["low", 0]
    prompt |= resumed("edited", "target", sigmas=("sigmas", 0), sampler=("euler", 0)) | {
        "euler": node("KSamplerSelect", sampler_name="euler")
    }
    end = {"figures": node("HSpaceTestDifference", a=["invert", 1], b=["out edited-target-1.0-euler-invert", 0])}
    refused(server, prompt | end, "noisier than the trajectory")


def test_blocks_by_name(server):
    prompt = inverted(2) | {
        "edited": inject("custom", f_blocks="2", qk_blocks="middle, 3-5", kv_blocks="none"),
        "said": node("PreviewAny", source=["edited", 1]),
    }
    text = server.queue(prompt, timeout=300).outputs["said"]["text"][0]
    assert (
        "residual: output 2; steps from 0% to 80%" in text
        and "queries and keys: middle 0, output 3, output 4, output 5" in text
    )
    refused(server, {**prompt, "edited": inject("custom")}, "takes no features")
    refused(server, {**prompt, "edited": inject("custom", f_blocks="17")}, "output 17")
    refused(server, {**prompt, "edited": inject("custom", f_blocks="two")}, "4-11, middle")


def test_combined_prompts_and_areas(server):
    """Combined target prompts each take the features; what has rows or places of its own is refused."""
    prompt = small("sd15") | {
        "edited": inject("PnP"),
        "both": node("ConditioningCombine", conditioning_1=["target", 0], conditioning_2=["source", 0]),
        "twice": node("ConditioningCombine", conditioning_1=["target", 0], conditioning_2=["target", 0]),
        "corner": node("ConditioningSetArea", conditioning=["source", 0], width=64, height=64, x=0, y=0, strength=1.0),
        "regions": node("ConditioningCombine", conditioning_1=["target", 0], conditioning_2=["corner", 0]),
    }
    runs = {
        key: resumed(*args)
        for key, args in {
            "one": ("edited", "target", 3.0),
            "same": ("edited", "twice", 3.0),
            "regions": ("edited", "regions", 3.0),
        }.items()
    }
    (same,) = differences(server, prompt | runs["one"] | runs["same"], (out(runs["one"]), out(runs["same"])))
    assert max(same["rows"]) < 1e-5
    end = {"figures": node("HSpaceTestDifference", a=["invert", 1], b=[out(runs["one"]), 0])}
    refused(
        server, prompt | runs["one"] | end | {"edited": inject("PnP", source=["both", 0])}, "one prompt", "'source'"
    )
    refused(server, prompt | runs["one"] | end | {"edited": inject("PnP", source=["corner", 0])}, "area of [8, 8]")
    end["figures"]["inputs"]["b"] = [out(runs["regions"]), 0]
    refused(server, prompt | runs["regions"] | end, "area of [8, 8]", "Set Mask")


def test_several_pictures_and_features_with_words(server):
    """Two pictures, each with a source and a target row; features for every row beside Prompt-to-Prompt."""
    prompt = inverted(2)
    prompt["face"]["inputs"]["count"] = 2
    prompt |= {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "words": p2p(),
        "edited": inject("PnP", model=("words", 0)),
        "true": node("VAEEncode", pixels=["face", 0], vae=["model", 2]),
        "both": node("HSpacePairLatent", latent=["true", 0], rows=2),
    }
    prompt |= resumed("edited", "pair", 3.0, ("rows", 0))
    (difference,) = differences(server, prompt, ("both", out(prompt)))
    assert difference["count"] == 4 and max(difference["rows"][::2]) < 1e-6 < min(difference["rows"][1::2])
