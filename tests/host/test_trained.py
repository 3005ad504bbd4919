"""Training as a node, and what was trained as a patch of a MODEL: in Render, in stock samplers, on disk."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from .graphs import FACE, base, cancelled, discover, face, invert, node, pictures, refused, render, sampler, save, steer
from .trained_graphs import apart, asyrp, both_ways, faces, rectifier, rectifier_edit, same, tuned


def test_asyrp_trains_in_the_graph_and_steers(server):
    prompt = {**faces(), "train": asyrp(), "text": node("PreviewAny", source=["train", 2])}
    prompt |= {"file": node("HSpaceSaveTrained", trained=["train", 0], name="grin")}
    for name, strength in (("on", 1.0), ("off", 0.0)):
        prompt |= {
            name: node("HSpaceSteerTrained", model=["model", 0], trained=["train", 0], strength=strength),
            **both_ways(name, name, True),
        }
    prompt |= {"render model": render("model"), "keep model": save(["render model", 0])}
    result = server.queue(prompt, timeout=600)
    assert "MB" in result.outputs["text"]["text"][0] and "loss" in result.outputs["text"]["text"][0]
    same(server, result, "on")
    assert apart(server, result, "off", "model") == 0 and apart(server, result, "on", "off") > 0.3
    assert result.outputs["train"]["images"], "no curve is shown"
    assert any(kind == "binary" for kind, _ in result.events), "no preview came"
    assert (server.process.models / "hspace_edits" / "asyrp" / "grin.safetensors").is_file()
    assert not list((server.process.models / "hspace_edits" / "training").glob("*")), (
        "the state of a finished run is gone"
    )
    again = {**faces(), "load": node("HSpaceLoadTrained", file="grin.safetensors")}
    again |= {
        "on": node("HSpaceSteerTrained", model=["model", 0], trained=["load", 0], strength=1.0),
        "render on": render("on", asymmetric=True),
    }
    again |= {
        "mean": node("HSpaceMeanTrained", model=["model", 0], trajectory=["invert", 0], trained=["load", 0], one=False)
    }
    again |= {
        "all": node("HSpaceSteerTrained", model=["model", 0], trained=["mean", 0], strength=1.0),
        "render all": render("all", asymmetric=True),
    }
    second = server.queue(
        {**again, "keep on": save(["render on", 0]), "keep all": save(["render all", 0])}, timeout=600
    )
    loaded, before = (np.stack(pictures(server, r, "keep on")).astype(int) for r in (second, result))
    assert np.abs(loaded - before).max() <= 2  # stored in half precision
    assert apart(server, second, "all", "on") < apart(server, result, "on", "off")


def test_fine_tuned_weights_mix_and_are_a_stock_lora(server):
    prompt = {**faces(), "train": tuned(), "file": node("HSpaceSaveTrained", trained=["train", 0], name="red hair")}
    for name, degree in (("half", 0.5), ("off", 0.0)):
        prompt |= {
            name: node("HSpaceSteerFineTuned", model=["model", 0], lora=["train", 0], degree=degree),
            **both_ways(name, name),
        }
    prompt["twice"] = node("HSpaceSteerFineTuned", model=["half", 0], lora=["train", 0], degree=0.5, sigma_end=0.5)
    prompt |= {**both_ways("twice", "twice"), "render model": render("model"), "keep model": save(["render model", 0])}
    result = server.queue(prompt, timeout=600)
    for name in ("half", "twice"):
        same(server, result, name)
    assert apart(server, result, "off", "model") == 0
    assert 0 < apart(server, result, "half", "model") < apart(server, result, "twice", "model")
    file = server.process.models / "loras" / "hspace" / "red hair.safetensors"
    with safe_open(file, "pt") as f:
        assert (
            any(k.endswith("lora_up.weight") for k in f.keys())
            and json.loads(f.metadata()["hspace"])["label"] == "face > face with red hair"
        )
    # The stock loader takes the file: all of its weights, at the strength of a dial.
    stock = {
        **faces(1),
        "lora": node(
            "LoraLoaderModelOnly", model=["model", 0], lora_name="hspace/red hair.safetensors", strength_model=1.0
        ),
    }
    stock |= {"load": node("HSpaceLoadFineTuned", file="red hair.safetensors")}
    stock |= {"ours": node("HSpaceSteerFineTuned", model=["model", 0], lora=["load", 0], degree=1.0)}
    stock |= {"socket": node("LoraModelLoader", model=["model", 0], lora=["load", 0], strength_model=1.0, bypass=False)}
    stock |= {
        "empty": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "latent": node("VAEEncode", pixels=["empty", 0], vae=["model", 1]),
    }
    for name in ("lora", "ours", "socket", "model"):
        stock |= {
            f"s {name}": sampler(name, ["latent", 0]),
            f"d {name}": node("VAEDecode", samples=[f"s {name}", 0], vae=["model", 1]),
            f"keep {name}": save([f"d {name}", 0]),
        }
    sampled = server.queue(stock, timeout=600)
    assert apart(server, sampled, "lora", "ours") < 0.2 and apart(server, sampled, "socket", "ours") < 0.2
    assert apart(server, sampled, "ours", "model") > 0.5


def test_a_rectifier_corrects_and_edits_and_goes_with_steering(server):
    prompt = {
        **faces(2),
        "rectifier": rectifier(),
        "edit": rectifier_edit(),
        "text": node("PreviewAny", source=["rectifier", 2]),
    }
    prompt |= {
        "file": node("HSpaceSaveTrained", trained=["rectifier", 0], name="plain"),
        "other": node("HSpaceSaveTrained", trained=["edit", 0], name="grin"),
    }
    links = {"trajectory": ["invert", 0], "rectifier": ["rectifier", 0]}
    prompt["discover"] = discover(None)
    prompt["steer"] = steer(15.0)
    for name, model, more in (
        ("rebuilt", "model", {"strength": 0.0}),
        ("edited", "model", {"strength": 1.0, "edit": ["edit", 0]}),
        ("off", "model", {"strength": 1.0, "edit": ["edit", 0], "amount": 0.0}),
        ("steered", "steer", {"strength": 0.0}),
    ):
        prompt |= {name: node("HSpaceApplyRectifier", model=[model, 0], **links, **more), **both_ways(name, name)}
    prompt |= {"render model": render("model"), "keep model": save(["render model", 0])}
    result = server.queue(prompt, timeout=600)
    for name in ("rebuilt", "edited", "steered"):
        same(server, result, name)
    assert apart(server, result, "off", "model") == 0
    assert apart(server, result, "rebuilt", "model") > 0.05 and apart(server, result, "edited", "rebuilt") > 0.05
    assert apart(server, result, "steered", "rebuilt") > 0.5
    assert "parameters" in result.outputs["text"]["text"][0]
    again = {
        **faces(2),
        "rectifier": node("HSpaceLoadRectifier", file="plain.safetensors"),
        "edit": node("HSpaceLoadRectifier", file="grin.safetensors"),
    }
    again |= {
        "edited": node("HSpaceApplyRectifier", model=["model", 0], **links, edit=["edit", 0], strength=1.0),
        "render edited": render("edited"),
    }
    second = server.queue({**again, "keep edited": save(["render edited", 0])}, timeout=600)
    before, after = (np.stack(pictures(server, r, "keep edited")).astype(int) for r in (result, second))
    assert np.abs(before - after).max() <= 3
    again["edited"]["inputs"] |= {"rectifier": ["edit", 0], "edit": ["rectifier", 0]}
    refused(server, {**again, "keep edited": save(["render edited", 0])}, "exchange them")


@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_host_networks_can_be_trained_beside(server, network):
    """Asyrp and the rectifier on the host's own U-Net, guided through its VAE; nothing of it is moved."""
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
    }
    prompt |= {
        FACE: face(),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=4, denoise=0.6),
    }
    prompt["invert"] = invert(FACE, "sigmas", "ddim B", vae=["vae", 0], positive=["model", 1])
    prompt |= {
        "embedder": node("HSpaceLoadFaceEmbedder"),
        "asyrp": asyrp(vae=["vae", 0], batch=1),
        "rectifier": rectifier(batch=1),
    }
    prompt["edit"] = rectifier_edit(vae=["vae", 0], batch=1, sigma_start=5.0)
    prompt["steer"] = node("HSpaceSteerTrained", model=["model", 0], trained=["asyrp", 0], strength=1.0)
    links = {"trajectory": ["invert", 0], "rectifier": ["rectifier", 0], "edit": ["edit", 0], "strength": 1.0}
    prompt["both"] = node("HSpaceApplyRectifier", model=["steer", 0], **links)
    prompt["none"] = node("HSpaceApplyRectifier", model=["model", 0], **{**links, "amount": 0.0})
    for name in ("model", "steer", "both", "none"):
        prompt |= {f"render {name}": render(name, vae=["vae", 0]), f"keep {name}": save([f"render {name}", 0])}
    result = server.queue(prompt, timeout=600)
    assert apart(server, result, "none", "model") == 0
    assert apart(server, result, "steer", "model") > 0 and apart(server, result, "both", "steer") > 0


def test_levels_by_the_papers_rule(server):
    prompt = {
        **faces(3, 10),
        "levels": node(
            "HSpaceAsyrpLevels",
            model=["model", 0],
            trajectory=["invert", 0],
            embedder=["embedder", 0],
            source="face",
            target="smiling face",
        ),
        "text": node("PreviewAny", source=["levels", 3]),
        "plot": save(["levels", 2]),
    }
    result = server.queue(prompt, timeout=300)
    assert (
        "1 - SSIM in place of LPIPS (" in result.outputs["text"]["text"][0]
        and "edit down to sigma" in result.outputs["text"]["text"][0]
    )


def test_into_the_domain(server):
    prompt = {"model": node("HSpaceLoadFaceModel"), FACE: face()}
    prompt["invert colours"] = node("ImageInvert", image=[FACE, 0])
    prompt["domain"] = node(
        "HSpaceIntoDomain", model=["model", 0], image=["invert colours", 0], sigma=2.0, steps=3, repeats=2, seed=1
    )
    result = server.queue({**prompt, "save": save(["domain", 0])}, timeout=300)
    assert pictures(server, result, "save")[0].std() > 10


def test_cancel_keeps_the_run_and_it_goes_on(server):
    prompt = {
        **faces(4),
        "train": asyrp(epochs=8, lr=0.002),
        "file": node("HSpaceSaveTrained", trained=["train", 0], name="late"),
    }
    folder = server.process.models / "hspace_edits" / "training"
    cancelled(server, prompt, "train", 5)
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as f:
        done = json.loads(f.metadata()["hspace"])["i"]
    assert done > 0
    # The best state so far loads, and is not the one that training began with.
    unfinished = node("HSpaceLoadTrained", file=f"{file.stem} unfinished.safetensors")
    look = {**faces(4), "load": unfinished}
    look |= {"steer": node("HSpaceSteerTrained", model=["model", 0], trained=["load", 0], strength=1.0)}
    for name in ("model", "steer"):
        look |= {
            f"render {name}": render(name, asymmetric=name != "model"),
            f"keep {name}": save([f"render {name}", 0]),
        }
    assert apart(server, server.queue(look, timeout=300), "model", "steer") > 0.2
    shorter = {**prompt, "text": node("PreviewAny", source=["train", 2])}
    result = server.queue(shorter, timeout=600)
    assert "resumed at" in result.outputs["text"]["text"][0]
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": ""}, ("target prompt is empty",)),
        ({"target": "face"}, ("mean the same",)),
        ({"target": "a zeppelin"}, ("knows not 'zeppelin'",)),
        ({"target": "the face"}, ("mean the same",)),
        ({"sigma_edit": 190.0}, ("lower sigma_edit",)),
    ],
)
def test_prompts_and_settings_that_cannot_train(server, change, words):
    prompt = {
        **faces(2),
        "train": asyrp(**change),
        "file": node("HSpaceSaveTrained", trained=["train", 0], name="never"),
    }
    refused(server, prompt, *words)


def test_what_does_not_fit_together_is_refused(server):
    prompt = {**faces(2), "train": asyrp(), "dit": node("HSpaceTestDiT")}
    prompt["steer"] = node("HSpaceSteerTrained", model=["dit", 0], trained=["train", 0], strength=1.0)
    refused(server, {**prompt, "render": render("steer"), "save": save(["render", 0])}, "bottleneck of a U-Net")
    sd = {**faces(2), "unet": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0), "train": tuned()}
    sd["train"]["inputs"]["model"] = ["unet", 0]
    refused(
        server, {**sd, "file": node("HSpaceSaveTrained", trained=["train", 0], name="never")}, "whole pixel networks"
    )
    zero = {**faces(2), "train": asyrp(epochs=0), "file": node("HSpaceSaveTrained", trained=["train", 0], name="never")}
    refused(server, zero, "epochs")


def test_curves_are_legible(server):
    prompt = {**faces(2), "train": asyrp(epochs=3), "curve": save(["train", 1])}
    result = server.queue(prompt, timeout=300)
    (picture,) = result.outputs["curve"]["images"]
    assert Image.open(io.BytesIO(server.view(picture))).size == (640, 288)


def test_the_atlas_names_directions_by_words(server):
    prompt = {**base(), "discover": discover(), "embedder": node("HSpaceLoadFaceEmbedder")}
    options = {
        "strength": 15.0,
        "columns": 3,
        "first": 1,
        "count": 2,
        "sigma_start": 0.0,
        "sigma_end": 0.1,
        "image_index": 0,
        "title": "mouth",
    }
    links = {
        "model": ["model", 0],
        "trajectory": ["invert", 0],
        "directions": ["discover", 0],
        "embedder": ["embedder", 0],
    }
    for name, words in (("own", ""), ("given", "smiling person, sad person, glasses")):
        prompt[name] = node("HSpaceDirectionAtlas", **links, **options, words=words)
        prompt[f"keep {name}"] = save([name, 0])
    result = server.queue(prompt, timeout=300)
    without_words, given = (pictures(server, result, f"keep {name}")[0] for name in ("own", "given"))
    assert without_words.std() > 10
    assert without_words.shape != given.shape or not np.array_equal(without_words, given)
    prompt["given"]["inputs"]["words"] = "glasses"
    refused(server, prompt, "at least two")
