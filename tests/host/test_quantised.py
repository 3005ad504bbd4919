"""Quantised weights are inverted and steered as they are, and dequantised where they are differentiated."""

import json

import pytest
import torch

from devtools.executor import NodeFailed

from .graphs import discover, node, refused, steer
from .unet_graphs import latent_base, latent_discover, unet

HOSTS = ["scaled fp8", "scaled fp8 e5m2", "int8", "int8 rotated", "int4", "nvfp4", "mxfp8"]
PACKED = ["gguf Q8_0", "gguf Q4_0"]
EXACT = 1e-5  # angle, and relative difference of gains


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", [*HOSTS, *PACKED])
def test_directions_are_those_of_the_dequantised_network(executor, kind):
    """To rounding, and the quantised weights are back where they were."""
    figures = json.loads(executor.call("HSpaceTestCopies", weights=kind, layer="middle", forward="exact")[0])
    assert figures["angle"] < EXACT and figures["gain"] < EXACT and figures["as before"]


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", ["scaled fp8", "int8", "gguf Q8_0"])
@pytest.mark.parametrize(("layer", "forward"), [("x", "exact"), ("up.1", "one-sided")])
def test_layers_and_differences(executor, kind, layer, forward):
    figures = json.loads(executor.call("HSpaceTestCopies", weights=kind, layer=layer, forward=forward)[0])
    assert figures["angle"] < EXACT and figures["gain"] < EXACT and figures["as before"]


def quantised(kind: str) -> dict:
    """Everything of a discovery with a network of quantised weights."""
    prompt = latent_base()
    prompt["model"]["inputs"]["dtype"] = kind
    prompt["invert"]["inputs"] |= {"method": "ddim B", "iterations": 1}
    return prompt | latent_discover(mode="none", k=1, iterations=1)


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", ["int8", "gguf Q8_0"])
def test_the_nodes_take_them(executor, kind):
    """A VAE behind it, and guidance; what is found steers the model that it was found on, without a word."""
    prompt = quantised(kind)
    prompt["discover"]["inputs"] |= {"vae": ["vae", 0]}
    prompt["steer"] = steer(5.0)
    (found,) = executor.run(prompt, "steer")
    assert found[0] is not None and not said(executor, "steer")


def test_weights_that_nobody_can_unpack_are_refused_by_name(executor):
    """Before the network is asked; inversion needs no derivatives."""
    prompt = quantised("opaque")
    with pytest.raises(
        NodeFailed, match=r"time_embed.0.weight \(Linear\) holds OpaqueTensor of torch.uint8.*can unpack"
    ):
        executor.run(prompt, "discover")


def said(executor, name: str) -> str:
    """What a node of the last run wrote on itself."""
    return " ".join(text for event, (where, text) in _texts(executor) if where == name)


def _texts(executor) -> list:
    return [(event, data) for event, data in executor.server.events if event == "text"]


def test_directions_of_the_release_serve_its_quantised_copy(executor):
    """And it is said what differs; between two models that are none, and of a trajectory, they are refused."""
    prompt = quantised("fp32")
    prompt |= {"copy": node("HSpaceTestUNet", network="sd15", dtype="scaled fp8", seed=0)}
    prompt |= {"cast": node("HSpaceTestUNet", network="sd15", dtype="fp8", seed=0)}
    prompt |= {"other": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=9)}
    prompt["latent"] = node("EmptyLatentImage", width=144, height=128, batch_size=1)
    for name in ("copy", "cast", "other"):
        prompt[f"steer {name}"] = steer(20.0, model=(name, 0), sigma_start=1000.0, sigma_end=0.0)
    dials = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    links = {"positive": ["model", 1], "negative": ["model", 2], "latent_image": ["latent", 0]}
    for name in ("copy", "steer copy"):
        prompt[f"sample {name}"] = node("KSampler", model=[name, 0], **links, **dials)
    plain, edited = executor.run(prompt, "sample copy", "sample steer copy")
    assert "differs in the weights" in said(executor, "steer copy")
    assert not torch.allclose(plain[0]["samples"], edited[0]["samples"], atol=1e-2)
    executor.run(prompt, "steer cast")
    assert "differs in the weights" in said(executor, "steer cast")
    with pytest.raises(NodeFailed, match="were found on model"):
        executor.run(prompt, "steer other")
    prompt["there"] = discover(("region", 0), model=["copy", 0])
    with pytest.raises(NodeFailed, match="was made with model"):
        executor.run(prompt, "there")
    executor.run({**prompt, "again": steer(20.0, sigma_start=1000.0, sigma_end=0.0)}, "again")
    assert not said(executor, "again")


def test_nothing_is_trained_through_them(executor):
    (model, positive, _) = executor.run(unet("sd15", "scaled fp8"), "model")[0]
    training, prompts = executor.module("nodes.host.training"), executor.module("nodes.host.model.prompts")
    with pytest.raises(ValueError, match="quantised"):
        training.with_training(model, (1, 4, 8, 8), prompts.Prompts(positive, [], 1.0), lambda denoiser: None)


def test_they_run_forwards(server):
    prompt = latent_base() | {"psnr": node("PreviewAny", source=["invert", 3])}
    prompt["model"]["inputs"]["dtype"] = "scaled fp8"
    prompt["invert"]["inputs"] |= {"method": "edict", "iterations": 3}
    assert float(server.queue(prompt, timeout=300).outputs["psnr"]["text"][0]) > 60
    prompt |= {**latent_discover(mode="none", k=1, iterations=1)}
    prompt["report"] = node("PreviewAny", source=["discover", 2])
    assert "gain" in str(server.queue(prompt, timeout=300).outputs["report"])
    prompt["model"]["inputs"]["dtype"] = "opaque"
    prompt["end"] = node("SaveImage", images=["discover", 1], filename_prefix="x")
    refused(server, prompt, "quantised", "no derivatives")


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
