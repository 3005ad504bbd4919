"""The host's own U-Nets: the cut is exact, its derivatives are right, and it lives with what else is in a graph."""

import json

import pytest

from .graphs import link, node, refused
from .unet_graphs import lora, unet


def split_node(model: str, positive: str | tuple, **options) -> dict:
    """The node that looks at the two halves of a network."""
    inputs = {"cfg": 1.0, "layer": "middle", "batch": 1, "height": 16, "width": 16, "jacobian": True, **options}
    return node("HSpaceTestSplit", model=[model, 0], positive=link(positive), **inputs)


def split(server, prompt: dict, model: str = "model", positive: str | tuple = ("model", 1), **options) -> dict:
    """Figures of the adapter."""
    result = server.queue({**prompt, "split": split_node(model, positive, **options)}, timeout=300)
    figures = json.loads(result.outputs["split"]["text"][0])
    assert figures["repeats"] and not figures["left behind"]
    return figures


def exact(figures: dict) -> None:
    assert figures["split"] < 1e-5 and figures["smooth"] < 1e-5
    assert figures["adjoint"] < 1e-4 and figures["difference"] < 5e-3
    assert figures["composed"] and figures["reverse"] < 1e-5


@pytest.mark.sweep("")
@pytest.mark.parametrize("network", ["sd15", "sd15 inpaint", "sd2 v", "sdxl"])
@pytest.mark.parametrize("layer", ["middle", "up.2", "x"])
def test_every_family(server, network, layer):
    figures = split(server, unet(network), layer=layer)
    assert figures["layers"] == ["middle", "up.0", "up.1", "up.2", "up.3", "up.4"]
    assert figures["h"][:2] == ([1, 4] if layer == "x" else [1, 128])
    assert figures["stages"] == {"middle": 9, "up.2": 6, "x": 17}[layer]
    exact(figures)


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    ("kind", "layer", "step", "tolerance"),
    [("tiny", "middle", 0.1, 3e-2), ("tiny", "x", 0.02, 5e-2), ("kl", "middle", 0.5, 5e-3)],
)
def test_derivatives_through_the_vae(server, kind, layer, step, tolerance):
    """Of the picture, not of the latent, and nothing is left in the VAE. The tiny one is made of rectifiers, which
    differences do not see."""
    prompt = {**unet(), "vae": node("HSpaceTestVAE", network=kind)}
    figures = split(server, prompt, vae=["vae", 0], layer=layer, height=8, width=8, step=step)
    assert figures["out"] == [1, 3, 64, 64] and not figures["attention left"]
    assert figures["split"] < 1e-5 and figures["smooth"] < 1e-5
    assert figures["adjoint"] < 1e-5 and figures["difference"] < tolerance
    assert figures["composed"] and figures["reverse"] < 1e-5


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_transformers_one_after_the_other_are_their_block(server, dtype):
    """A chain of them is one stage each, with the layers before and behind it in one of their own."""
    deep = split(server, unet("sdxl deep", dtype), negative=["model", 2], cfg=3.0)
    assert deep["stages"] == 9 + 4 + 3
    exact(deep)
    freeu = {"freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)}
    exact(split(server, {**unet("sdxl deep", dtype), **freeu}, model="freeu", layer="up.0"))


def test_guidance_batches_and_shapes_that_do_not_halve(server):
    exact(split(server, unet(), negative=["model", 2], cfg=5.0))
    exact(split(server, unet("sdxl"), negative=["model", 2], cfg=5.0, batch=2, height=14, width=22))


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 1e-5), ("bf16", 3e-2), ("fp8", 1e-5)])
def test_narrow_weights_have_exact_derivatives(server, dtype, tolerance):
    figures = split(server, unet(dtype=dtype))
    assert figures["split"] < tolerance and figures["adjoint"] < 1e-4 and figures["difference"] < 5e-3
    assert figures["composed"] and figures["reverse"] < 1e-5


def test_a_lora_is_inside_and_makes_another_model(server):
    plain = split(server, unet())
    with_lora = split(server, {**unet(), **lora(server)}, model="lora")
    exact(with_lora)
    assert with_lora["fingerprint"] != plain["fingerprint"]
    assert split(server, {**unet(), **lora(server, 0.5)}, model="lora")["fingerprint"] != with_lora["fingerprint"]
    assert split(server, unet())["fingerprint"] == plain["fingerprint"]


def test_a_controlnet_is_inside(server):
    prompt = {**unet(), "control": node("HSpaceTestControl", conditioning=["model", 1], strength=0.3)}
    exact(split(server, prompt, positive="control"))
    exact(split(server, prompt, positive="control", negative=["model", 2], cfg=4.0))
    assert split(server, prompt, positive="control", jacobian=False) != split(server, unet(), jacobian=False)
    exact(split(server, prompt, positive="control", negative=["model", 2], cfg=4.0, layer="x"))


@pytest.mark.sweep("")
@pytest.mark.parametrize("layer", ["middle", "up.1", "x"])
def test_patches_of_other_nodes_are_inside(server, layer):
    freeu = {"freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)}
    exact(split(server, {**unet(), **freeu}, model="freeu", layer=layer))
    figures = split(
        server,
        {**unet(), "rescale": node("RescaleCFG", model=["model", 0], multiplier=0.7)},
        model="rescale",
        negative=["model", 2],
        cfg=5.0,
    )
    exact(figures)


def test_a_patch_outside_the_patch_points_is_noticed(server):
    """Perturbed attention guidance runs the network a second time after the fact, which no cut can see."""
    prompt = {**unet(), "pag": node("PerturbedAttentionGuidance", model=["model", 0], scale=3.0)}
    prompt["split"] = split_node("pag", ("model", 1), jacobian=False)
    refused(server, prompt, "differs from the whole", "Bypass model patches")


def test_prompts_for_a_part_of_the_picture_are_refused(server):
    area = node("ConditioningSetArea", conditioning=["model", 1], width=64, height=64, x=0, y=0, strength=1.0)
    prompt = {**unet(), "area": area, "split": split_node("model", "area", jacobian=False)}
    refused(server, prompt, "prompts that hold for a part")
