"""Edit-friendly sampling with masks, LoRA, ControlNet, and prompts that run one by one."""

import numpy as np

from .edit_friendly_graphs import cfg_guider, concept, queue_pictures, run, world
from .graphs import FACE, custom_sampler, edit_friendly, half_mask, node, refused, save


def test_masks_on_the_latent_hold_the_rest(server):
    prompt = world(10) | {
        "plain": save([FACE, 0]),
        "strong": cfg_guider("target", 6.0),
        "soft model": node("DifferentialDiffusion", model=["model", 0]),
    }
    prompt |= {"soft guider": cfg_guider("target", 6.0, "soft model")}
    prompt |= {
        **half_mask(64, 64, "mask"),
        "part": node("SetLatentNoiseMask", samples=["invert", 1], mask=["mask", 0]),
    }
    prompt |= run(prompt, "held", ["strong", 0], ["part", 0]) | run(prompt, "soft", ["soft guider", 0], ["part", 0])
    (plain, hard, soft), _ = queue_pictures(server, prompt, "plain", "held", "soft")
    for edited in (hard, soft):
        assert np.array_equal(edited[:, :, 32:], plain[:, :, 32:]) and np.abs(edited - plain)[:, :, :32].mean() > 1


def test_prompts_that_run_one_by_one_change_nothing(server):
    """As the host does with little memory, for the inversion, a guider with a prompt pair and one with concepts."""
    prompt = world(8, cfg=2.0) | {
        "strong": cfg_guider("target", 5.0),
        "one": concept("target", threshold=0.0),  # a quantile jumps where two pixels are equal but for rounding
        "two": concept("source", threshold=0.0, previous=["one", 0]),
    }
    prompt["concepts"] = node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=["two", 0])
    prompt |= run(prompt, "edit", ["strong", 0], skip=2) | run(prompt, "both", ["concepts", 0], skip=2)
    whole, _ = queue_pictures(server, prompt, "edit", "both")
    for name in ("invert", "strong", "concepts"):
        prompt[name] = node(prompt[name]["class_type"], **prompt[name]["inputs"] | {"model": ["apart", 0]})
    split, result = queue_pictures(
        server, prompt | {"apart": node("HSpaceTestOneByOne", model=["model", 0])}, "edit", "both"
    )
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(whole, split, strict=True))


def test_a_lora_may_be_the_edit_and_another_checkpoint_may_not(server):
    prompt = world(8, cfg=2.0) | {
        "plain": save([FACE, 0]),
        "lora": node("HSpaceTestWeightPatch", model=["model", 0], amount=0.5),
    }
    prompt |= {"with lora": cfg_guider("source", 2.0, "lora"), "other": node("HSpaceLoadFaceModel")}
    (plain, edited), _ = queue_pictures(server, prompt | run(prompt, "out", ["with lora", 0], skip=1), "plain", "out")
    assert np.abs(edited - plain).mean() > 0.5
    prompt["invert"]["inputs"]["model"] = ["lora", 0]
    (plain, back), result = queue_pictures(
        server, prompt | run(prompt, "out", ["with lora", 0], skip=1), "plain", "out"
    )
    assert np.abs(back - plain).max() <= 1 and float(result.outputs["psnr"]["text"][0]) >= 60
    foreign = prompt | {"foreign": node("BasicGuider", model=["other", 0], conditioning=["other", 2])}
    refused(server, foreign | run(foreign, "out", ["foreign", 0]), "trajectory was made with model")


def test_a_controlnet_takes_part(server):
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64),
        "noise": node("RandomNoise", noise_seed=3),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=6, denoise=1.0),
        "control": node("HSpaceTestControl", conditioning=["model", 1], strength=0.3),
    }
    for name, positive in (("plain", ["model", 1]), ("controlled", ["control", 0])):
        prompt[f"invert {name}"] = edit_friendly(
            "picture", "sigmas", positive=positive, negative=["model", 2], cfg=2.0, vae=["vae", 0], levels_at_once=6
        )
        prompt[f"guider {name}"] = node(
            "CFGGuider", model=["model", 0], positive=["control", 0], negative=["model", 2], cfg=2.0
        )
        prompt[f"sampler {name}"] = node("HSpaceSampleEditFriendly", trajectory=[f"invert {name}", 0], skip=1)
        prompt[f"run {name}"] = custom_sampler(
            "noise", f"guider {name}", f"sampler {name}", [f"sampler {name}", 1], [f"invert {name}", 1]
        )
        prompt[f"decode {name}"] = node("VAEDecode", samples=[f"run {name}", 0], vae=["vae", 0])
        prompt[name] = save([f"decode {name}", 0])
    prompt["rebuilt"] = save(["invert controlled", 2])
    (plain, controlled, rebuilt), _ = queue_pictures(server, prompt, "plain", "controlled", "rebuilt")
    assert np.abs(controlled - rebuilt).max() <= 1 and np.abs(plain - rebuilt).max() > 1
