"""The host's own U-Nets: the cut is exact, its derivatives are right, and it lives with what else is in a graph."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from .graphs import node, refused

ROOT = Path(__file__).resolve().parents[2]


def unet(network: str = "sd15", dtype: str = "fp32", seed: int = 0) -> dict:
    return {"model": node("HSpaceTestUNet", network=network, dtype=dtype, seed=seed)}


def split(server, prompt: dict, model=("model", 0), positive=("model", 1), **options) -> dict:
    """Figures of the adapter."""
    inputs = {"cfg": 1.0, "layer": "middle", "batch": 1, "height": 16, "width": 16, "jacobian": True, **options}
    prompt = {**prompt, "split": node("HSpaceTestSplit", model=list(model), positive=list(positive), **inputs)}
    found = json.loads(server.queue(prompt, timeout=300).outputs["split"]["text"][0])
    assert found["repeats"] and not found["left behind"]
    return found


def exact(found: dict) -> None:
    assert found["split"] < 1e-5 and found["smooth"] < 1e-5
    assert found["adjoint"] < 1e-4 and found["difference"] < 5e-3


@pytest.mark.parametrize("network", ["sd15", "sd15 inpaint", "sd2 v", "sdxl"])
@pytest.mark.parametrize("layer", ["middle", "up.2", "x"])
def test_every_family(server, network, layer):
    found = split(server, unet(network), layer=layer)
    assert found["layers"] == ["middle", "up.0", "up.1", "up.2", "up.3", "up.4"]
    assert found["h"][:2] == ([1, 4] if layer == "x" else [1, 128])
    exact(found)


@pytest.mark.parametrize(
    ("kind", "layer", "step", "tolerance"), [("tiny", "middle", 0.1, 3e-2), ("tiny", "x", 0.02, 5e-2), ("kl", "middle", 0.5, 5e-3)]
)
def test_derivatives_through_the_vae(server, kind, layer, step, tolerance):
    """Of the picture, not of the latent, and nothing is left in the VAE. The tiny one is made of rectifiers, which differences do not see."""
    prompt = {**unet(), "vae": node("HSpaceTestVAE", network=kind)}
    found = split(server, prompt, vae=["vae", 0], layer=layer, height=8, width=8, step=step)
    assert found["out"] == [1, 3, 64, 64] and not found["attention left"]
    assert found["split"] < 1e-5 and found["smooth"] < 1e-5
    assert found["adjoint"] < 1e-5 and found["difference"] < tolerance


def test_guidance_batches_and_shapes_that_do_not_halve(server):
    exact(split(server, unet(), negative=["model", 2], cfg=5.0))
    exact(split(server, unet("sdxl"), negative=["model", 2], cfg=5.0, batch=2, height=14, width=22))


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 1e-5), ("bf16", 3e-2), ("fp8", 1e-5)])
def test_narrow_weights_have_exact_derivatives(server, dtype, tolerance):
    found = split(server, unet(dtype=dtype))
    assert found["split"] < tolerance and found["adjoint"] < 1e-4 and found["difference"] < 5e-3


def lora(server, strength: float = 1.0) -> dict:
    """A LoRA on every attention output of the small U-Net."""
    folder = server.process.models / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(9)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
    state = {f"{name}.lora_up.weight": torch.randn(128, 4, generator=g), f"{name}.lora_down.weight": torch.randn(4, 128, generator=g) * 0.3}
    save_file({**state, f"{name}.alpha": torch.tensor(4.0)}, folder / "hspace_test.safetensors")
    return {"lora": node("LoraLoaderModelOnly", model=["model", 0], lora_name="hspace_test.safetensors", strength_model=strength)}


def test_a_lora_is_inside_and_makes_another_model(server):
    plain = split(server, unet())
    with_lora = split(server, {**unet(), **lora(server)}, model=("lora", 0))
    exact(with_lora)
    assert with_lora["fingerprint"] != plain["fingerprint"]
    assert split(server, {**unet(), **lora(server, 0.5)}, model=("lora", 0))["fingerprint"] != with_lora["fingerprint"]
    assert split(server, unet())["fingerprint"] == plain["fingerprint"]


def test_a_controlnet_is_inside(server):
    prompt = {**unet(), "control": node("HSpaceTestControl", conditioning=["model", 1], strength=0.3)}
    exact(split(server, prompt, positive=("control", 0)))
    exact(split(server, prompt, positive=("control", 0), negative=["model", 2], cfg=4.0))
    assert split(server, prompt, positive=("control", 0), jacobian=False) != split(server, unet(), jacobian=False)


@pytest.mark.parametrize("layer", ["middle", "up.1"])
def test_patches_of_other_nodes_are_inside(server, layer):
    freeu = {"freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)}
    exact(split(server, {**unet(), **freeu}, model=("freeu", 0), layer=layer))
    hyper = {"hyper": node("PerturbedAttentionGuidance", model=["model", 0], scale=1.0)}
    found = split(
        server,
        {**unet(), "rescale": node("RescaleCFG", model=["model", 0], multiplier=0.7)},
        model=("rescale", 0),
        negative=["model", 2],
        cfg=5.0,
    )
    exact(found)
    assert hyper


def test_a_patch_outside_the_patch_points_is_noticed(server):
    """Perturbed attention guidance runs the network a second time after the fact, which no cut can see."""
    prompt = {**unet(), "pag": node("PerturbedAttentionGuidance", model=["model", 0], scale=3.0)}
    prompt["split"] = node(
        "HSpaceTestSplit", model=["pag", 0], positive=["model", 1], cfg=1.0, layer="middle", batch=1, height=16, width=16, jacobian=False
    )
    refused(server, prompt, "differs from the whole", "Bypass model patches")


def test_prompts_for_a_part_of_the_picture_are_refused(server):
    area = node("ConditioningSetArea", conditioning=["model", 1], width=64, height=64, x=0, y=0, strength=1.0)
    prompt = {
        **unet(),
        "area": area,
        "split": node(
            "HSpaceTestSplit",
            model=["model", 0],
            positive=["area", 0],
            cfg=1.0,
            layer="middle",
            batch=1,
            height=16,
            width=16,
            jacobian=False,
        ),
    }
    refused(server, prompt, "prompts that hold for a part")


# --- the nodes on a model that works in latents ---------------------------------------------------------------------------------


def latent_base(network: str = "sd15", **invert) -> dict:
    """Model, VAE, picture, sigmas and inversion."""
    return {
        **unet(network), "vae": node("HSpaceTestVAE"), "picture": node("HSpaceTestPicture", case="noise", width=144, height=128),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=6, denoise=1.0),
        "invert": node(
            "HSpaceInvertImage", model=["model", 0], image=["picture", 0], sigmas=["sigmas", 0], method="fixed point", iterations=4,
            **{"vae": ["vae", 0], "positive": ["model", 1], **invert},
        ),
    }  # fmt: skip


def latent_discover(**options) -> dict:
    inputs = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 4, "sigma": 0.0, "layer": "middle", "image_index": 0, "iterations": 2}
    return {
        "mask": node("SolidMask", value=1.0, width=144, height=128),
        "half": node("CropMask", mask=["mask", 0], x=0, y=0, width=72, height=128),
        "empty": node("SolidMask", value=0.0, width=144, height=128),
        "region": node("MaskComposite", destination=["empty", 0], source=["half", 0], x=0, y=0, operation="add"),
        "discover": node(
            "HSpaceDiscoverRegion", model=["model", 0], trajectory=["invert", 0], mask=["region", 0], seed=0, **{**inputs, **options}
        ),
    }


def steered(strength: float, **options) -> dict:
    inputs = {"direction": 1, "sigma_start": 0.0, "sigma_end": 0.1, "normalise": "none"}
    return node("HSpaceSteer", model=["model", 0], directions=["discover", 0], strength=strength, **{**inputs, **options})


def picture(server, outputs, name) -> torch.Tensor:
    import io

    import numpy as np
    from PIL import Image

    data = server.view(outputs[name]["images"][0])
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).copy()).float() / 255


def test_discovery_in_pixels(server):
    """With the VAE the derivative ends in pixels, in every node alike; a VAE of another family is refused."""
    prompt = {**latent_base(), **latent_discover(mode="none")}
    pixels = {**prompt["discover"]["inputs"], "vae": ["vae", 0]}
    look = {key: pixels[key] for key in ("model", "trajectory", "mask", "sigma", "layer", "image_index", "iterations", "seed", "vae")}
    prompt |= {
        "through": node("HSpaceDiscoverRegion", **pixels),
        "basis": node("HSpaceRegionBasis", max_k=2, max_rank=0, **look),
        "from": node("HSpaceBasisDirections", basis=["basis", 0], k=2, mode="none", tau=0.01, rank=0),
    }
    prompt["plot"] = node("SaveImage", images=["from", 1], filename_prefix="plot")
    for name in ("discover", "through"):
        prompt[f"text {name}"] = node("PreviewAny", source=[name, 2])
    outputs = server.queue(prompt, timeout=600).outputs
    gain = {name: [float(g) for g in re.findall(r"gain ([\d.]+)", str(outputs[f"text {name}"]))] for name in ("discover", "through")}
    assert abs(gain["through"][0] / gain["discover"][0] - 1) > 0.1  # not the same units
    prompt |= {"wide": node("HSpaceTestVAE", network="wide"), "through": node("HSpaceDiscoverRegion", **{**pixels, "vae": ["wide", 0]})}
    refused(server, prompt, "4 latent channels", "has 16")


@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_the_whole_way_in_latents(server, network):
    """Invert, discover, steer, render, and the same edit in the stock samplers."""
    off = {
        "steer off": steered(0.0),
        "render off": node(
            "HSpaceRenderTrajectory", model=["steer off", 0], trajectory=["invert", 0], asymmetric=False, protect=0.0, vae=["vae", 0]
        ),
    }
    prompt = {
        **latent_base(network), **latent_discover(), "steer": steered(20.0), **off,
        "render": node("HSpaceRenderTrajectory", model=["steer", 0], trajectory=["invert", 0], asymmetric=False, protect=0.0, vae=["vae", 0]),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False),
        "guider": node("BasicGuider", model=["steer", 0], conditioning=["model", 1]),
        "no noise": node("DisableNoise"),
        "sampler": node(
            "SamplerCustomAdvanced", noise=["no noise", 0], guider=["guider", 0], sampler=["resume", 0], sigmas=["resume", 1], latent_image=["invert", 1]
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
        "atlas": node("HSpaceDirectionAtlas", model=["model", 0], trajectory=["invert", 0], directions=["discover", 0], strength=10.0, columns=3, count=2, title="", vae=["vae", 0]),
    }  # fmt: skip
    for name, source in (
        ("inverted", ["invert", 2]),
        ("edited", ["render", 0]),
        ("same", ["render off", 0]),
        ("plain", ["render", 1]),
        ("sampled", ["decode", 0]),
        ("sheet", ["atlas", 0]),
    ):
        prompt[name] = node("SaveImage", images=source, filename_prefix=name)
    outputs = server.queue(prompt, timeout=600).outputs
    seen = {name: picture(server, outputs, name) for name in ("inverted", "edited", "same", "plain", "sampled", "sheet")}
    assert seen["plain"].shape == (128, 144, 3)
    assert torch.equal(seen["same"], seen["plain"]) and torch.equal(seen["plain"], seen["inverted"])
    change = (seen["edited"] - seen["plain"]).abs()
    assert change.mean() > 2 / 255, "the edit shows nothing"
    # The stock sampler runs the same steps; the two ways round differently.
    assert (seen["sampled"] - seen["edited"]).abs().mean() < 0.1 * change.mean()


@pytest.mark.parametrize(("name", "network"), [("discover_region_sd15", "sd15"), ("discover_region_sdxl", "sdxl")])
def test_shipped_workflows_for_checkpoints_run(server, name, network):
    """The shipped graph, its loader exchanged for a small network of the same family, its picture for one with a painted half."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    number = {entry["_meta"]["title"]: key for key, entry in prompt.items()}
    assert prompt[number["Checkpoint"]]["class_type"] == "CheckpointLoaderSimple"
    moved = {
        (number["Checkpoint"], 2): ["vae", 0], (number["Prompt"], 0): [number["Checkpoint"], 1], (number["Picture"], 1): ["region", 0],
    }  # fmt: skip
    del prompt[number["Prompt"]]
    prompt |= unet(network) | {number["Checkpoint"]: unet(network)["model"], "vae": node("HSpaceTestVAE")}
    prompt[number["Picture"]] = node("HSpaceTestPicture", case="noise", width=128, height=128)
    prompt |= {key: entry for key, entry in latent_discover().items() if key != "discover"}
    for entry in prompt.values():
        inputs = entry["inputs"]
        inputs |= {key: moved.get(tuple(value), value) for key, value in inputs.items() if isinstance(value, list)}
        inputs |= {
            key: value
            for key, value in {"width": 128, "height": 128, "steps": 6, "k": 2, "count": 2, "iterations": 2}.items()
            if key in inputs
        }
    prompt["half"]["inputs"]["width"] = 64
    outputs = server.queue(prompt, timeout=600).outputs
    assert picture(server, outputs, number["Edited"]).shape == (128, 128, 3)
    assert "Jacobian products" in outputs[number["Report"]]["text"][0]


def test_guidance_travels_with_the_trajectory(server):
    prompt = {**latent_base(negative=["model", 2], cfg=3.0), **latent_discover(), "steer": steered(10.0)}
    prompt["render"] = node(
        "HSpaceRenderTrajectory", model=["steer", 0], trajectory=["invert", 0], asymmetric=True, protect=0.0, vae=["vae", 0]
    )
    prompt["save"] = node("SaveImage", images=["render", 0], filename_prefix="guided")
    assert server.queue(prompt, timeout=600).outputs["save"]["images"]


def test_a_steered_latent_model_in_the_stock_sampler(server):
    def sampled(model: str) -> torch.Tensor:
        prompt = {
            **latent_base(), **latent_discover(), "steer": steered(30.0, sigma_start=1000.0, sigma_end=0.0), **lora(server),
            "after lora": node("HSpaceSteer", model=["lora", 0], directions=["discover", 0], strength=30.0, direction=1, sigma_start=1000.0, sigma_end=0.0, normalise="none"),
            "before lora": node("LoraLoaderModelOnly", model=["steer", 0], lora_name="hspace_test.safetensors", strength_model=1.0),
            "empty latent": node("EmptyLatentImage", width=144, height=128, batch_size=2),
            "sample": node("KSampler", model=[model, 0], positive=["model", 1], negative=["model", 2], latent_image=["empty latent", 0], seed=1,
                           steps=4, cfg=4.0, sampler_name="euler", scheduler="karras", denoise=1.0),
            "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]), "save": node("SaveImage", images=["decode", 0], filename_prefix="k"),
        }  # fmt: skip
        return picture(server, server.queue(prompt, timeout=300).outputs, "save")

    assert (sampled("model") - sampled("steer")).abs().mean() > 1 / 255
    assert (sampled("lora") - sampled("after lora")).abs().mean() > 1 / 255
    assert torch.equal(sampled("after lora"), sampled("before lora"))


def test_quantised_weights_run_forwards_only(server):
    prompt = latent_base() | {"psnr": node("PreviewAny", source=["invert", 3])}
    prompt["model"]["inputs"]["dtype"], prompt["invert"]["inputs"]["method"] = "scaled fp8", "edict"
    assert float(server.queue(prompt, timeout=300).outputs["psnr"]["text"][0]) > 60
    prompt |= {**latent_discover(), "end": node("SaveImage", images=["discover", 1], filename_prefix="x")}
    refused(server, prompt, "quantised", "derivatives")


def test_quantised_weights_are_steered(server):
    """By a direction that needs no derivative; strength 0 is the plain sampler bit for bit, and a step there and back none at all."""
    prompt = latent_base()
    prompt["model"]["inputs"]["dtype"], prompt["invert"]["inputs"]["method"] = "scaled fp8", "ddim B"
    prompt |= {
        "flat": node("EmptyImage", width=144, height=128, batch_size=1, color=0x4060A0),
        "other": {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "image": ["flat", 0]}},
        "directions": node("HSpaceMeanDifference", model=["model", 0], positive=["invert", 0], negative=["other", 0], sigma=1.0, layer="middle"),
        "latent": node("EmptyLatentImage", width=144, height=128, batch_size=2),
    }  # fmt: skip
    for name, model, strength in (("off", "model", 0.0), ("on", "model", 20.0), ("back", "on", -20.0)):
        prompt[name] = steered(strength, sigma_start=1000.0, sigma_end=0.0)
        prompt[name]["inputs"] |= {"model": [model, 0], "directions": ["directions", 0]}
    links = {"positive": ["model", 1], "negative": ["model", 2], "latent_image": ["latent", 0]}
    dials = {"seed": 1, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    for name in ("model", "off", "on", "back"):
        prompt[f"sample {name}"] = node("KSampler", model=[name, 0], **links, **dials)
        prompt[f"change {name}"] = node("HSpaceTestDifference", a=["sample model", 0], b=[f"sample {name}", 0])
    outputs = server.queue(prompt, timeout=300).outputs
    off, on, back = (json.loads(outputs[f"change {name}"]["text"][0]) for name in ("off", "on", "back"))
    assert off["same"] and max(back["rows"]) < 1e-4 and min(on["rows"]) > 1e-2


def test_what_latent_models_need_is_said(server):
    no_vae = latent_base()
    del no_vae["invert"]["inputs"]["vae"]
    refused(server, {**no_vae, "save": node("SaveImage", images=["invert", 2], filename_prefix="x")}, "connect the VAE")
    no_prompt = latent_base()
    del no_prompt["invert"]["inputs"]["positive"]
    refused(
        server, {**no_prompt, "save": node("SaveImage", images=["invert", 2], filename_prefix="x")}, "takes prompts", "CLIP Text Encode"
    )
    refused(server, {**latent_base(cfg=4.0), "save": node("SaveImage", images=["invert", 2], filename_prefix="x")}, "negative", "cfg")


def test_rivals_on_a_latent_model(server):
    """LOCO and pullback differentiate the encoder too, with kernels that allow it."""
    prompt = {**latent_base(), **latent_discover()}
    for name, method in (("loco", "LOCO Edit (x)"), ("pullback", "pullback (x)")):
        prompt[name] = node(
            "HSpaceBaselineDirections", model=["model", 0], trajectory=["invert", 0], mask=["region", 0], method=method, k=1, rank=2, sigma=2.0,
            layer="middle", image_index=0, iterations=2, seed=0,
        )  # fmt: skip
        prompt[f"edit {name}"] = node(
            "HSpaceEditState",
            model=["model", 0],
            trajectory=["invert", 0],
            directions=[name, 0],
            strength=3.0,
            direction=1,
            how="step",
            repeats=1,
        )
        prompt[f"render {name}"] = node(
            "HSpaceRenderTrajectory", model=["model", 0], trajectory=[f"edit {name}", 0], asymmetric=False, protect=0.0, vae=["vae", 0]
        )
        prompt[f"save {name}"] = node("SaveImage", images=[f"render {name}", 0], filename_prefix=name)
    prompt["plain"] = node("SaveImage", images=["invert", 2], filename_prefix="plain")
    outputs = server.queue(prompt, timeout=300).outputs
    for name in ("loco", "pullback"):
        assert (picture(server, outputs, f"save {name}") - picture(server, outputs, "plain")).abs().mean() > 0.5 / 255


def test_resuming_on_another_model_is_refused(server):
    prompt = {
        **latent_base(), "other": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=9),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False),
        "guider": node("BasicGuider", model=["other", 0], conditioning=["model", 1]), "no noise": node("DisableNoise"),
        "sampler": node(
            "SamplerCustomAdvanced", noise=["no noise", 0], guider=["guider", 0], sampler=["resume", 0], sigmas=["resume", 1], latent_image=["invert", 1]
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]), "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }  # fmt: skip
    refused(server, prompt, "this trajectory was made with model", "connect the same MODEL")


def test_masks_are_spoken_of_in_pixels(server):
    prompt = {**latent_base(), **latent_discover()}
    prompt["wrong"] = node("SolidMask", value=1.0, width=100, height=200)
    prompt["discover"]["inputs"]["mask"] = ["wrong", 0]
    prompt["show"] = node("SaveImage", images=["discover", 1], filename_prefix="x")
    refused(server, prompt, "aspect of the image (144x128)", "got 100x200")
