"""Edit-friendly sampling, concept guidance and SDEdit in a real ComfyUI, in the stock SamplerCustomAdvanced."""

import json

import numpy as np
import pytest

from .graphs import FACE, face, node, refused, save
from .test_pipeline import pictures

SOURCE = "a smiling person with short brown hair"
TARGET = "a smiling person with short red hair"
HAIR = 3  # output of Demo Face


def world(steps: int = 10, model: str = "HSpaceLoadFaceTextModel", seed: int = 35, **options) -> dict[str, dict]:
    """A face, inverted by the model with a prompt of what it shows."""
    text = model == "HSpaceLoadFaceTextModel"
    prompt = {
        "model": node(model),
        FACE: face(seed),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        "noise": node("RandomNoise", noise_seed=3),
        "invert": node(
            "HSpaceEditFriendlyInversion",
            **{"model": ["model", 0], "image": [FACE, 0], "sigmas": ["sigmas", 0], "cfg": 1.0, "seed": 0, "solver": "ddpm", **options},
        ),
        "psnr": node("PreviewAny", source=["invert", 3]),
    }
    if text:
        for name, words in (("source", SOURCE), ("target", TARGET), ("empty", "")):
            prompt[name] = node("CLIPTextEncode", clip=["model", 1], text=words)
        prompt["invert"]["inputs"] |= {"positive": ["source", 0], "negative": ["empty", 0], "vae": ["model", 2], **options}
    return prompt


def vae(prompt: dict) -> list:
    return ["model", 2 if prompt["model"]["class_type"] == "HSpaceLoadFaceTextModel" else 1]


def run(
    prompt: dict, name: str, guider: list, latent: list | None = None, sampler: list | None = None, sigmas: list | None = None, **dials
) -> dict:
    """A stock sampler run, decoded and saved as ``name``."""
    latent = latent or ["invert", 1]
    nodes = {}
    if sampler is None:
        nodes[f"sampler {name}"] = node("HSpaceSampleEditFriendly", **{"trajectory": ["invert", 0], "skip": 0, **dials})
        sampler, sigmas = [f"sampler {name}", 0], [f"sampler {name}", 1]
    nodes[f"run {name}"] = node(
        "SamplerCustomAdvanced", noise=["noise", 0], guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
    )
    nodes[f"decode {name}"] = node("VAEDecode", samples=[f"run {name}", 0], vae=vae(prompt))
    nodes[name] = save([f"decode {name}", 0])
    return nodes


def cfg_guider(positive: str, cfg: float, model: str = "model") -> dict:
    return node("CFGGuider", model=[model, 0], positive=[positive, 0], negative=["empty", 0], cfg=cfg)


def seen(server, prompt, *names):
    result = server.queue(prompt, timeout=600)
    return [np.stack(pictures(server, result, name)).astype(int) for name in names], result


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++2"])
@pytest.mark.parametrize(
    ("model", "cfg"), [("HSpaceLoadFaceTextModel", 3.5), ("HSpaceLoadFaceTextModel", 1.0), ("HSpaceLoadFaceModel", 1.0)]
)
def test_the_picture_comes_back(server, model, cfg, solver):
    prompt = world(20, model, cfg=cfg, solver=solver)
    result = server.queue(prompt | {"keep": save(["invert", 2])}, timeout=600)
    assert float(result.outputs["psnr"]["text"][0]) >= 60


@pytest.mark.parametrize("steps", [20, 50, 100])
def test_the_source_prompt_gives_the_pixels_back(server, steps):
    """By the stock sampler, and measured on its latent, which no file has rounded."""
    prompt = world(steps, cfg=3.5, levels_at_once=8) | {"back": cfg_guider("source", 3.5)} | run(world(), "out", ["back", 0])
    prompt["apart"] = node("HSpaceTestDifference", a=["invert", 1], b=["run out", 0])
    result = server.queue(prompt, timeout=600)
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    (apart,) = json.loads(result.outputs["apart"]["text"][0])["rows"]
    assert apart < 1e-3  # over the size of the picture, which is below 1 where PSNR counts from 2: more than 60 dB


@pytest.mark.parametrize(("network", "dtype"), [("sd15", "fp32"), ("sd15", "bf16"), ("sd2 v", "fp16"), ("sdxl", "fp32")])
def test_latents_come_back_as_well_as_from_the_autoencoder(server, network, dtype):
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype=dtype, seed=0), "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=20, denoise=1.0),
        "invert": node(
            "HSpaceEditFriendlyInversion", model=["model", 0], image=["picture", 0], sigmas=["sigmas", 0], positive=["model", 1], negative=["model", 2],
            cfg=3.0, seed=0, solver="ddpm", vae=["vae", 0],
        ),
        "psnr": node("PreviewAny", source=["invert", 3]),
        "latent": node("VAEEncode", pixels=["picture", 0], vae=["vae", 0]), "round trip": node("VAEDecode", samples=["latent", 0], vae=["vae", 0]),
        "rebuilt": save(["invert", 2]), "best": save(["round trip", 0]), "original": save(["picture", 0]),
    }  # fmt: skip
    (rebuilt, best, original), result = seen(server, prompt, "rebuilt", "best", "original")
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    errors = [10 * np.log10(255**2 / np.square(p - original).mean()) for p in (rebuilt, best)]
    assert abs(errors[0] - errors[1]) < 0.1


def test_sampling_with_the_source_prompt_returns_the_picture_and_another_prompt_edits_it(server):
    prompt = world(20, cfg=2.0)
    prompt |= {
        "plain": save([FACE, 0]),
        "back": cfg_guider("source", 2.0),
        "to": cfg_guider("target", 2.0),
        "strong": cfg_guider("target", 5.0),
    }
    prompt |= run(prompt, "source 0", ["back", 0]) | run(prompt, "source 7", ["back", 0], skip=7)
    prompt |= run(prompt, "edit 4", ["strong", 0], skip=4) | run(prompt, "edit 16", ["strong", 0], skip=16)
    (plain, zero, seven, edit, late), _ = seen(server, prompt, "plain", "source 0", "source 7", "edit 4", "edit 16")
    assert np.abs(zero - plain).max() <= 1 and np.abs(seven - plain).max() <= 1
    assert np.abs(edit - plain).mean() > 2 * np.abs(late - plain).mean() > 0
    redness = [float((p[..., 0] - p[..., 1:].mean(-1)).mean()) for p in (plain, edit)]
    assert redness[1] > redness[0] + 3  # brown hair to red hair


def test_a_colour_painted_into_the_noises(server):
    prompt = world(20) | {"plain": save([FACE, 0]), "back": node("BasicGuider", model=["model", 0], conditioning=["source", 0])}
    prompt |= {
        "hair": node("MaskToImage", mask=[FACE, HAIR]), "where": save(["hair", 0]),
        "red": node("EmptyImage", width=64, height=64, batch_size=1, color=0xFF2010),
        "part": node("SetLatentNoiseMask", samples=["invert", 1], mask=[FACE, HAIR]),
    }  # fmt: skip
    for name, strength in (("off", 0.0), ("on", 0.15)):
        links = {"model": ["model", 0], "trajectory": ["invert", 0], "colour": ["red", 0], "mask": [FACE, HAIR]}
        prompt[f"paint {name}"] = node("HSpaceRecolourEditFriendly", **links, strength=strength, start=0.6, end=0.95)
        prompt |= run(prompt, name, ["back", 0], trajectory=[f"paint {name}", 0])
    prompt |= run(prompt, "unpainted", ["back", 0]) | run(prompt, "held", ["back", 0], ["part", 0], trajectory=["paint on", 0])
    (plain, where, off, on, unpainted, held), _ = seen(server, prompt, "plain", "where", "off", "on", "unpainted", "held")
    hair = where[0, ..., 0] > 128
    assert np.array_equal(off, unpainted)
    redder = ((on - plain)[..., 0] - (on - plain)[..., 1:].mean(-1))[0]
    assert redder[hair].mean() > 30 and abs(redder[~hair].mean()) < 0.2 * redder[hair].mean()
    assert np.array_equal(held[0][where[0, ..., 0] == 0], plain[0][where[0, ..., 0] == 0])
    small = prompt | {"red": node("EmptyImage", width=32, height=32, batch_size=1, color=0xFF2010)}
    refused(server, small, "one size")


def test_other_seeds_edit_otherwise(server):
    found = []
    for seed in (0, 1):
        prompt = world(12, seed=35) | {"strong": cfg_guider("target", 5.0)}
        prompt["invert"]["inputs"]["seed"] = seed
        (edit,), result = seen(server, prompt | run(prompt, "edit", ["strong", 0], skip=2), "edit")
        assert float(result.outputs["psnr"]["text"][0]) >= 60
        found.append(edit)
    assert np.abs(found[0] - found[1]).mean() > 1


def test_paired_rows_share_the_noises(server):
    """Row 0 follows the source prompt, row 1 the target; and one prompt for a batch of three."""
    prompt = world(10, cfg=2.0) | {"plain": save([FACE, 0])}
    prompt |= {
        "rows": node("HSpaceTestRows", a=["source", 0], b=["target", 0]), "pair": cfg_guider("rows", 2.0), "to": cfg_guider("target", 2.0),
        "two": node("RepeatLatentBatch", samples=["invert", 1], amount=2), "three": node("RepeatLatentBatch", samples=["invert", 1], amount=3),
        "far": cfg_guider("rows", 6.0),
    }  # fmt: skip
    prompt |= run(prompt, "paired", ["pair", 0], ["two", 0], skip=1) | run(prompt, "alone", ["to", 0], skip=1)
    prompt |= run(prompt, "batch", ["to", 0], ["three", 0], skip=1) | run(prompt, "held", ["far", 0], ["two", 0], source_row=True)
    (plain, paired, alone, batch, held), _ = seen(server, prompt, "plain", "paired", "alone", "batch", "held")
    assert np.abs(paired[0] - plain[0]).max() <= 1 and np.abs(paired[1] - alone[0]).max() <= 1
    assert np.abs(batch - alone).max() <= 1 and len(batch) == 3
    assert np.array_equal(held[0], plain[0]) and np.abs(held[1] - plain[0]).mean() > 1


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++2"])
def test_a_local_blend_takes_the_true_source(server, solver):
    """Outside of the mask the target is the inverted picture itself, not what the sampler made of the source row on its way."""
    prompt = world(10, cfg=2.0, solver=solver) | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET), "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "half": node("SolidMask", value=1.0, width=32, height=64), "canvas": node("SolidMask", value=0.0, width=64, height=64),
        "painted": node("MaskComposite", destination=["canvas", 0], source=["half", 0], x=0, y=0, operation="add"),
        "edited": node("HSpaceP2PLocalBlend", model=["model", 0], tokens=["pair", 1], words="", threshold=0.3, start=0.0, mask=["painted", 0], without=""),
        "far": cfg_guider("pair", 6.0, "edited"), "figures": node("HSpaceTestOutside", latent=["run held", 0], mask=["painted", 0]),
        "true": node("HSpaceTestDifference", a=["rows", 0], b=["run held", 0]),
    }  # fmt: skip
    prompt |= run(prompt, "held", ["far", 0], ["rows", 0], skip=1, source_row=True)
    result = server.queue(prompt, timeout=600)
    found, true = (json.loads(result.outputs[name]["text"][0]) for name in ("figures", "true"))
    assert true["rows"][0] < 1e-6 and found["outside"] == 0 and found["inside"][0] > 0.05


def test_masks_on_the_latent_hold_the_rest(server):
    prompt = world(10) | {
        "plain": save([FACE, 0]),
        "strong": cfg_guider("target", 6.0),
        "soft model": node("DifferentialDiffusion", model=["model", 0]),
    }
    prompt |= {"soft guider": cfg_guider("target", 6.0, "soft model")}
    prompt |= {
        "left": node("SolidMask", value=1.0, width=32, height=64), "none": node("SolidMask", value=0.0, width=64, height=64),
        "mask": node("MaskComposite", destination=["none", 0], source=["left", 0], x=0, y=0, operation="add"),
        "part": node("SetLatentNoiseMask", samples=["invert", 1], mask=["mask", 0]),
    }  # fmt: skip
    prompt |= run(prompt, "held", ["strong", 0], ["part", 0]) | run(prompt, "soft", ["soft guider", 0], ["part", 0])
    (plain, held, soft), _ = seen(server, prompt, "plain", "held", "soft")
    for found in (held, soft):
        assert np.array_equal(found[:, :, 32:], plain[:, :, 32:]) and np.abs(found - plain)[:, :, :32].mean() > 1


def test_prompts_that_run_one_by_one_change_nothing(server):
    """As the host does with little memory, for the inversion, a guider with a prompt pair and one with concepts."""
    prompt = world(8, cfg=2.0) | {
        "strong": cfg_guider("target", 5.0),
        "one": concept("target", threshold=0.0),  # a quantile jumps where two pixels are equal but for rounding
        "two": concept("source", threshold=0.0, previous=["one", 0]),
    }
    prompt["concepts"] = node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["two", 0])
    prompt |= run(prompt, "edit", ["strong", 0], skip=2) | run(prompt, "both", ["concepts", 0], skip=2)
    whole, _ = seen(server, prompt, "edit", "both")
    for name in ("invert", "strong", "concepts"):
        prompt[name] = node(prompt[name]["class_type"], **prompt[name]["inputs"] | {"model": ["apart", 0]})
    split, result = seen(server, prompt | {"apart": node("HSpaceTestOneByOne", model=["model", 0])}, "edit", "both")
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(whole, split, strict=True))


def test_a_lora_may_be_the_edit_and_another_checkpoint_may_not(server):
    prompt = world(8, cfg=2.0) | {"plain": save([FACE, 0]), "lora": node("HSpaceTestWeightPatch", model=["model", 0], amount=0.5)}
    prompt |= {"with lora": cfg_guider("source", 2.0, "lora"), "other": node("HSpaceLoadFaceModel")}
    (plain, edited), _ = seen(server, prompt | run(prompt, "out", ["with lora", 0], skip=1), "plain", "out")
    assert np.abs(edited - plain).mean() > 0.5
    prompt["invert"]["inputs"]["model"] = ["lora", 0]
    (plain, back), result = seen(server, prompt | run(prompt, "out", ["with lora", 0], skip=1), "plain", "out")
    assert np.abs(back - plain).max() <= 1 and float(result.outputs["psnr"]["text"][0]) >= 60
    foreign = prompt | {"foreign": node("BasicGuider", model=["other", 0], conditioning=["other", 2])}
    refused(server, foreign | run(foreign, "out", ["foreign", 0]), "trajectory was made with model")


def test_a_controlnet_takes_part(server):
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0), "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64), "noise": node("RandomNoise", noise_seed=3),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=6, denoise=1.0),
        "control": node("HSpaceTestControl", conditioning=["model", 1], strength=0.3),
    }  # fmt: skip
    for name, positive in (("plain", ["model", 1]), ("controlled", ["control", 0])):
        prompt[f"invert {name}"] = node(
            "HSpaceEditFriendlyInversion", model=["model", 0], image=["picture", 0], sigmas=["sigmas", 0], positive=positive, negative=["model", 2],
            cfg=2.0, seed=0, solver="ddpm", vae=["vae", 0], levels_at_once=6,
        )  # fmt: skip
        prompt[f"guider {name}"] = node("CFGGuider", model=["model", 0], positive=["control", 0], negative=["model", 2], cfg=2.0)
        prompt[f"sampler {name}"] = node("HSpaceSampleEditFriendly", trajectory=[f"invert {name}", 0], skip=1)
        prompt[f"run {name}"] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=[f"guider {name}", 0], sampler=[f"sampler {name}", 0], sigmas=[f"sampler {name}", 1],
            latent_image=[f"invert {name}", 1],
        )  # fmt: skip
        prompt[f"decode {name}"] = node("VAEDecode", samples=[f"run {name}", 0], vae=["vae", 0])
        prompt[name] = save([f"decode {name}", 0])
    prompt["rebuilt"] = save(["invert controlled", 2])
    (plain, controlled, rebuilt), _ = seen(server, prompt, "plain", "controlled", "rebuilt")
    assert np.abs(controlled - rebuilt).max() <= 1 and np.abs(plain - rebuilt).max() > 1


def concept(words: str, **dials) -> dict:
    return node("HSpaceEditConcept", conditioning=[words, 0], **{"scale": 6.0, "threshold": 0.7, "reverse": False, **dials})


def test_no_concept_is_the_negative_prompt_bit_for_bit(server):
    prompt = world(8) | {"basic": node("BasicGuider", model=["model", 0], conditioning=["empty", 0])}
    prompt["invert"]["inputs"]["positive"] = ["empty", 0]
    prompt |= {
        "nothing": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0]),
        "off": concept("target", scale=0.0), "late": concept("source", warm_up=0.5, cool_down=0.5, previous=["off", 0]),
        "zero": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["late", 0]),
        "on": concept("target", previous=["off", 0]),
        "some": node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["on", 0]),
    }  # fmt: skip
    for name in ("basic", "nothing", "zero", "some"):
        prompt |= run(prompt, f"{name} out", [name, 0])
    (basic, nothing, zero, some), _ = seen(server, prompt, "basic out", "nothing out", "zero out", "some out")
    assert np.array_equal(basic, nothing) and np.array_equal(basic, zero) and np.abs(some - basic).mean() > 0.5


def concepts(steps: int) -> dict[str, dict]:
    """Concepts one by one and together, anywhere, in the left half and nowhere."""
    prompt = world(steps) | {"plain": save([FACE, 0]), "glasses": node("CLIPTextEncode", clip=["model", 1], text="glasses")}
    prompt["invert"]["inputs"]["positive"] = ["empty", 0]
    prompt |= {
        "one": concept("target"), "two": concept("glasses", previous=["one", 0]), "away": concept("glasses", reverse=True),
        "left": node("SolidMask", value=1.0, width=32, height=64), "none": node("SolidMask", value=0.0, width=64, height=64),
        "mask": node("MaskComposite", destination=["none", 0], source=["left", 0], x=0, y=0, operation="add"),
    }  # fmt: skip
    for name, more in (("one", {}), ("two", {}), ("away", {}), ("masked", {"mask": ["mask", 0]}), ("nowhere", {"mask": ["none", 0]})):
        links = {"model": ["model", 0], "negative": ["empty", 0], "concepts": ["two" if more else name, 0], **more}
        prompt[f"guide {name}"] = node("HSpaceConceptEditGuider", **links)
        prompt |= run(prompt, f"{name} out", [f"guide {name}", 0], skip=steps // 2)
    return prompt


def test_concepts_act_together_and_within_the_mask(server):
    prompt = concepts(10)
    (plain, one, two, away, masked, nowhere), _ = seen(
        server, prompt, "plain", "one out", "two out", "away out", "masked out", "nowhere out"
    )
    for a, b in ((one, plain), (two, one), (away, two)):
        assert np.abs(a - b).mean() > 0.3
    # The network looks at the whole picture, so that the other half still follows, but less than half as far.
    assert np.abs(masked - plain)[:, :, 40:].mean() < 0.5 * np.abs(two - plain)[:, :, 40:].mean()
    assert np.abs(nowhere - plain).max() <= 1


def test_a_single_step_with_a_mask_is_the_concepts_within_and_nothing_outside(server):
    prompt = concepts(1)
    prompt["sigmas"]["inputs"] |= {"scheduler": "simple", "denoise": 0.5}
    (two, masked, nowhere), _ = seen(server, prompt, "two out", "masked out", "nowhere out")
    assert np.array_equal(masked[:, :, :32], two[:, :, :32]) and np.array_equal(masked[:, :, 32:], nowhere[:, :, 32:])
    assert min(np.abs(two - nowhere)[:, :, half].mean() for half in (slice(32), slice(32, 64))) > 5


@pytest.mark.parametrize(("network", "batch"), [("sd15", 1), ("sdxl", 2)])
def test_attention_to_the_words_limits_a_concept_too(server, network, batch):
    """Against maps and masks written out; prompts in one call or one by one; without words nothing is looked at."""
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0), "faces": node("HSpaceLoadFaceTextModel"), "noise": node("RandomNoise", noise_seed=3),
        "latent": node("EmptyLatentImage", width=160, height=128, batch_size=batch), "euler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=3, denoise=1.0),
        "alone": node("HSpaceTestOneByOne", model=["model", 0]),
    }  # fmt: skip
    for name, words in (("plain", {}), ("words", {"clip": ["faces", 1], "words": "red hat"})):
        dials = {"conditioning": ["model", 1], "threshold": 0.6, **words}
        prompt[f"{name} first"] = node("HSpaceEditConcept", scale=4.0, reverse=False, **dials)
        prompt[name] = node(
            "HSpaceEditConcept", scale=3.0, reverse=True, previous=[f"{name} first", 0], **dials | {"conditioning": ["model", 2]}
        )
    kinds = (("plain", "Edit", "model"), ("words", "Edit", "model"), ("words", "Edit", "alone"), ("words", "literal", "model"))
    for concepts, kind, model in kinds:
        links = {"model": [model, 0], "negative": ["empty", 0], "concepts": [concepts, 0]}
        name = f"{concepts} {kind} {model}"
        prompt[f"guide {name}"] = node("HSpaceConceptEditGuider" if kind == "Edit" else "HSpaceTestConcepts", **links)
        prompt[name] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=[f"guide {name}", 0], sampler=["euler", 0], sigmas=["sigmas", 0], latent_image=["latent", 0]
        )  # fmt: skip
    prompt["empty"] = node(
        "ConditioningAverage", conditioning_to=["model", 1], conditioning_from=["model", 2], conditioning_to_strength=0.4
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
    wrong = prompt | {"words first": node("HSpaceEditConcept", **{**prompt["words first"]["inputs"], "words": "hat " * 90})}
    refused(server, wrong, "154 tokens", "77")
    del prompt["words first"]["inputs"]["clip"]
    refused(server, prompt, "connect the CLIP")


def painted(steps: int = 8, t0: float = 0.3, spacing: str = "uniform") -> dict:
    """SDEdit of a face with a stroke painted by stock nodes."""
    prompt = {
        "model": node("HSpaceLoadFaceModel"), FACE: face(35), "noise": node("RandomNoise", noise_seed=3),
        "stroke": node("EmptyImage", width=24, height=6, batch_size=1, color=0xC03020),
        "painted": node("ImageCompositeMasked", destination=[FACE, 0], source=["stroke", 0], x=20, y=12, resize_source=False),
        "latent": node("VAEEncode", pixels=["painted", 0], vae=["model", 1]),
        "levels": node("HSpaceSDEditSigmas", model=["model", 0], t0=t0, steps=steps, spacing=spacing),
        "guider": node("BasicGuider", model=["model", 0], conditioning=["model", 2]),
        "guide": save(["painted", 0]),
    }  # fmt: skip
    for name in ("ddpm", "euler", "dpmpp_2m_sde"):
        prompt[name] = node("KSamplerSelect", sampler_name=name)
    return prompt


@pytest.mark.parametrize("name", ["ddpm", "euler", "dpmpp_2m_sde"])
def test_one_repeat_is_the_sampler_itself_and_more_go_on(server, name):
    prompt = painted()
    for k, noise in ((1, "new"), (3, "new"), (3, "same")):
        prompt[f"{k} {noise}"] = node("HSpaceSDEditRepeat", sampler=[name, 0], repeats=k, noise=noise)
        prompt |= run(prompt, f"out {k} {noise}", ["guider", 0], ["latent", 0], [f"{k} {noise}", 0], ["levels", 0])
    prompt |= run(prompt, "plain", ["guider", 0], ["latent", 0], [name, 0], ["levels", 0])
    (plain, one, new, same), _ = seen(server, prompt, "plain", "out 1 new", "out 3 new", "out 3 same")
    assert np.array_equal(plain, one)
    assert np.abs(new - one).mean() > 0.5 and np.abs(same - new).mean() > 0.5


def test_masks_hold_through_all_repeats(server):
    prompt = painted() | {"soft model": node("DifferentialDiffusion", model=["model", 0])}
    prompt |= {
        "soft guider": node("BasicGuider", model=["soft model", 0], conditioning=["model", 2]), "thrice": node("HSpaceSDEditRepeat", sampler=["ddpm", 0], repeats=3, noise="new"),
        "edge": node("SolidMask", value=1.0, width=32, height=64), "half": node("SolidMask", value=0.5, width=16, height=64),
        "none": node("SolidMask", value=0.0, width=64, height=64),
        "hard mask": node("MaskComposite", destination=["none", 0], source=["edge", 0], x=0, y=0, operation="add"),
        "soft mask": node("MaskComposite", destination=["hard mask", 0], source=["half", 0], x=32, y=0, operation="add"),
    }  # fmt: skip
    for kind, guider in (("hard", "guider"), ("soft", "soft guider")):
        prompt[f"{kind} latent"] = node("SetLatentNoiseMask", samples=["latent", 0], mask=[f"{kind} mask", 0])
        prompt |= run(prompt, f"{kind} out", [guider, 0], [f"{kind} latent", 0], ["thrice", 0], ["levels", 0])
    prompt |= run(prompt, "free out", ["guider", 0], ["latent", 0], ["thrice", 0], ["levels", 0])
    (guide, hard, soft, free), _ = seen(server, prompt, "guide", "hard out", "soft out", "free out")
    assert np.abs(hard - guide)[:, :, 32:].max() <= 1 and np.abs(hard - guide)[:, :, :32].mean() > 2
    # Stock DifferentialDiffusion lets go of everything in a last step at the smallest sigma.
    assert np.abs(soft - guide)[:, :, 48:].max() <= 8 and np.abs(soft - guide)[:, :, :32].mean() > 2
    assert 0 < np.abs(soft - guide)[:, :, 32:48].mean() < np.abs(free - guide)[:, :, 32:48].mean()


def test_all_integer_steps(server):
    prompt = painted(t0=0.03, spacing="all steps")
    prompt |= run(prompt, "out", ["guider", 0], ["latent", 0], ["ddpm", 0], ["levels", 0])
    (found, guide), result = seen(server, prompt, "out", "guide")
    steps = [data["max"] for kind, data in result.events if kind == "progress" and data.get("node") == "run out"]
    assert np.abs(found - guide).mean() > 0.1 and (not steps or max(steps) == 30)


def test_what_is_refused(server):
    prompt = world(6) | {"basic": node("BasicGuider", model=["model", 0], conditioning=["source", 0])}
    refused(server, prompt | run(prompt, "out", ["basic", 0], skip=6), "skip", "0..5")
    refused(
        server,
        prompt
        | run(prompt, "out", ["basic", 0], sampler=["x", 0], sigmas=["sigmas", 0])
        | {"x": node("HSpaceSampleEditFriendly", trajectory=["invert", 0], skip=2)},
        "SIGMAS output of Sample Edit-Friendly",
    )
    plain = node(
        "HSpaceInvertImage",
        model=["model", 0],
        image=[FACE, 0],
        sigmas=["sigmas", 0],
        method="ddim B",
        iterations=1,
        positive=["source", 0],
        vae=["model", 2],
    )
    wrong = prompt | {"ddim": plain} | run(prompt, "out", ["basic", 0])
    wrong["sampler out"]["inputs"]["trajectory"] = ["ddim", 0]
    refused(server, wrong, "carries no noises", "Edit-Friendly Inversion")
    short = {**prompt["invert"]["inputs"], "cfg": 3.0}
    del short["negative"]
    refused(server, prompt | {"invert": node("HSpaceEditFriendlyInversion", **short), "keep": save(["invert", 2])}, "negative", "cfg")
