"""Quantised weights run forwards: they are steered, and not differentiated."""

import json

from .graphs import node, refused, steer
from .unet_graphs import latent_base, latent_discover


def test_quantised_weights_run_forwards_only(server):
    prompt = latent_base() | {"psnr": node("PreviewAny", source=["invert", 3])}
    prompt["model"]["inputs"]["dtype"] = "scaled fp8"
    prompt["invert"]["inputs"] |= {"method": "edict", "iterations": 3}
    assert float(server.queue(prompt, timeout=300).outputs["psnr"]["text"][0]) > 60
    prompt |= {**latent_discover(), "end": node("SaveImage", images=["discover", 1], filename_prefix="x")}
    refused(server, prompt, "quantised", "derivatives")


def test_quantised_weights_are_steered(server):
    """By a direction that needs no derivative; strength 0 is the plain sampler bit for bit, and a step there and back
    none at all."""
    prompt = latent_base()
    prompt["model"]["inputs"]["dtype"] = "scaled fp8"
    prompt["invert"]["inputs"] |= {"method": "ddim B", "iterations": 3}
    prompt |= {
        "flat": node("EmptyImage", width=144, height=128, batch_size=1, color=0x4060A0),
        "other": {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "image": ["flat", 0]}},
        "directions": node(
            "HSpaceMeanDifference",
            model=["model", 0],
            positive=["invert", 0],
            negative=["other", 0],
            sigma=1.0,
            layer="middle",
        ),
        "latent": node("EmptyLatentImage", width=144, height=128, batch_size=2),
    }
    for name, model, strength in (("off", "model", 0.0), ("on", "model", 20.0), ("back", "on", -20.0)):
        prompt[name] = steer(strength, sigma_start=1000.0, sigma_end=0.0)
        prompt[name]["inputs"] |= {"model": [model, 0], "directions": ["directions", 0]}
    links = {"positive": ["model", 1], "negative": ["model", 2], "latent_image": ["latent", 0]}
    dials = {"seed": 1, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    for name in ("model", "off", "on", "back"):
        prompt[f"sample {name}"] = node("KSampler", model=[name, 0], **links, **dials)
        prompt[f"change {name}"] = node("HSpaceTestDifference", a=["sample model", 0], b=[f"sample {name}", 0])
    outputs = server.queue(prompt, timeout=300).outputs
    off, on, back = (json.loads(outputs[f"change {name}"]["text"][0]) for name in ("off", "on", "back"))
    assert off["same"] and max(back["rows"]) < 1e-4 and min(on["rows"]) > 1e-2
