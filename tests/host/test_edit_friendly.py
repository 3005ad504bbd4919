"""Edit-friendly sampling in a real ComfyUI, in the stock SamplerCustomAdvanced."""

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


def concept(words: str, **dials) -> dict:
    return node("HSpaceEditConcept", conditioning=[words, 0], **{"scale": 6.0, "threshold": 0.7, "reverse": False, **dials})


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
