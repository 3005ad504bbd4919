"""DeltaEdit and PADA in the graph: trained, saved, loaded and applied to codes; what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from devtools.console import ROOT

from .code_graphs import FILE, age, codes, delta_edit, drawn, empty, inverted_codes, mapper, pada, sampled, shown
from .graphs import cancelled, face, node, refused, save
from .trained_graphs import rectifier, tuned

MAKE = """
import json, sys, torch
from safetensors.torch import save_file
from scripts.train_face_diffae import config
from core.networks.diffae import DiffAENet

torch.manual_seed(0)
net = DiffAENet(config(0))
# What starts at zero would hide the code.
state = {k: 0.05 * torch.randn(v.shape) if v.dim() > 1 and not v.any() else v for k, v in net.state_dict().items()}
info = {"format": "hspace_face_diffae", "version": 1, "prediction": "v", "patch": 4, "size": 64}
info |= {"betas": "linear", "beta_start": 1e-4, "beta_end": 0.02, "steps": 1000}
save_file({k: v.half().contiguous() for k, v in state.items()}, sys.argv[1], {"hspace": json.dumps(info)})
"""


@pytest.fixture(scope="module", autouse=True)
def autoencoder(server):
    """A DiffAE with random weights where Load DiffAE finds it."""
    file = server.process.models / "hspace" / FILE
    file.parent.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", MAKE, str(file)], cwd=ROOT, check=True)
    yield
    file.unlink()


def test_delta_edit_from_training_to_file(server):
    prompt = {**codes(), **empty(12), "train": mapper(), "report": node("PreviewAny", source=["train", 2])}
    prompt |= {"file": node("HSpaceSaveTrained", trained=["train", 0], name="words")}
    prompt |= {
        "on": delta_edit(),
        "off": delta_edit(0.0),
        "some": delta_edit(relevance=0.9),
        "blind": delta_edit(image=False),
    }
    for name in ("on", "off", "some", "blind"):
        prompt |= drawn(name, ["latent", 0])
    prompt |= drawn("plain", ["latent", 0], ["code", 0])
    result = server.queue(prompt, timeout=600)
    plain, on, off, some, blind = (shown(server, result, n) for n in ("plain", "on", "off", "some", "blind"))
    assert len(plain) == 12 and (off == plain).all() and (on != plain).any() and (blind != on).any()
    assert 0 < np.abs(some - plain).mean() < np.abs(on - plain).mean()
    assert "30 steps" in result.outputs["report"]["text"][0] and "12 pictures" in result.outputs["report"]["text"][0]
    assert "face > face with glasses" in result.outputs["on"]["text"][0]
    assert result.outputs["train"]["images"], "no curve is shown"
    assert (server.process.models / "hspace_edits" / "delta_mapper" / "words.safetensors").is_file()
    assert not list((server.process.models / "hspace_edits" / "training").glob("*")), (
        "the state of a finished run is gone"
    )
    again = {
        **codes(),
        **empty(12),
        "load": node("HSpaceLoadDeltaMapper", file="words.safetensors"),
        "on": delta_edit(trained="load"),
    }
    second = server.queue({**again, **drawn("on", ["latent", 0])}, timeout=600)
    assert np.abs(shown(server, second, "on") - on).max() <= 6  # stored in half precision


def test_pada_gives_a_batch_of_variants(server):
    prompt = {
        **codes(8),
        **empty(1),
        "train": pada(),
        "file": node("HSpaceSaveTrained", trained=["train", 0], name="older"),
    }
    prompt |= {"one": face(), "code one": node("HSpaceEncodeCode", model=["model", 0], image=["one", 0])}
    prompt |= {"noise": node("HSpaceVaryNoise", noise=["latent", 0], amount=0.0, variants=2, seed=0)}
    options = {"spread": {"tau": 5.0}, "equal": {"tau": 0.0}, "off": {"strength": 0.0}}
    for name, given in options.items():
        prompt[name] = age(**given)
        prompt[name]["inputs"]["code"] = ["code one", 0]
    prompt["reference"] = age()
    prompt["reference"]["inputs"] |= {"reference": ["one", 0], "code": ["code one", 0]}
    for name in (*options, "reference"):
        prompt |= drawn(name, ["noise", 0])
    # The host's noise differs over a batch: the same picture twice would not be the same otherwise.
    for name in (*options, "reference"):
        prompt[f"s {name}"] = sampled(name, ["noise", 0])
    prompt |= {"euler": node("KSamplerSelect", sampler_name="euler")}
    prompt |= {"sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=4, denoise=1.0)}
    result = server.queue(prompt, timeout=600)
    spread, equal, off, reference = (shown(server, result, n) for n in (*options, "reference"))
    assert all(len(v) == 2 for v in (spread, equal, off, reference))
    assert (equal[0] == equal[1]).all() and (spread[0] != spread[1]).any() and (off[0] == off[1]).all()
    assert (equal[0] != off[0]).any() and (reference != spread).any()
    assert "from face with brown hair to face with grey hair" in result.outputs["spread"]["text"][0]
    again = {
        **codes(8),
        "load": node("HSpaceLoadPada", file="older.safetensors"),
        "text": node("PreviewAny", source=["load", 1]),
    }
    assert "grey hair" in server.queue(again, timeout=300).outputs["text"]["text"][0]


def test_pada_is_judged_on_pictures_too(server):
    prompt = {**codes(8), "other": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)")}
    cases = {
        "plain": {},
        "without pictures": {"model": ["model", 0], "image_weight": 0.0},
        "with pictures": {"model": ["model", 0]},
    }
    training = {}
    for name, options in cases.items():
        training[name] = pada(steps=6, **options)
        training[f"file {name}"] = node("HSpaceSaveTrained", trained=[name, 0], name=name)
    server.queue({**prompt, **training}, timeout=600)
    folder = server.process.models / "hspace_edits" / "pada"
    plain, without, judged = (load_file(folder / f"{name}.safetensors") for name in cases)
    assert all((plain[k] == without[k]).all() for k in plain) and any((plain[k] != judged[k]).any() for k in plain)
    wrong = {"train": pada(steps=2, model=["other", 0]), "text": node("PreviewAny", source=["train", 2])}
    refused(server, {**prompt, **wrong}, "made by another model")


def test_noise_is_varied(server):
    prompt = inverted_codes(1)
    prompt |= {"euler": node("KSamplerSelect", sampler_name="euler")}
    for name, amount in (("none", 0.0), ("much", 1.0)):
        prompt[name] = node("HSpaceVaryNoise", noise=["invert", 1], amount=amount, variants=2, seed=1)
        prompt[f"s {name}"] = sampled("code", [name, 0])
        prompt |= {
            f"d {name}": node("VAEDecode", samples=[f"s {name}", 0], vae=["model", 1]),
            f"keep {name}": save([f"d {name}", 0]),
        }
    result = server.queue(prompt, timeout=300)
    none, much = (shown(server, result, n) for n in ("none", "much"))
    assert (none[0] == none[1]).all() and (much[0] != much[1]).any() and (much[0] != none[0]).any()


@pytest.mark.parametrize("make", [mapper, pada])
def test_cancelled_training_goes_on(server, make):
    prompt = {
        **codes(8),
        "train": make(steps=100_000),
        "keep": node("HSpaceSaveTrained", trained=["train", 0], name="never"),
    }
    cancelled(server, prompt, "train", 20)
    folder = server.process.models / "hspace_edits"
    kind = "delta_mapper" if make is mapper else "pada"
    states = list((folder / "training").glob("*.safetensors"))
    unfinished = list((folder / kind).glob("*unfinished.safetensors"))
    assert len(states) == 1 and len(unfinished) == 1
    load = node("HSpaceLoadDeltaMapper" if make is mapper else "HSpaceLoadPada", file=unfinished[0].name)
    apply = (delta_edit if make is mapper else age)(trained="load")
    server.queue({**codes(8), "load": load, "on": apply, "text": node("PreviewAny", source=["on", 1])}, timeout=300)
    states[0].unlink()
    unfinished[0].unlink()


def test_training_of_whole_networks_refuses_an_autoencoder(server):
    prompt = inverted_codes(1)
    prompt["train"] = tuned(steps=2, batch=1)
    refused(
        server,
        {**prompt, "text": node("PreviewAny", source=["train", 2])},
        "is a diffusion autoencoder",
        "Manipulate Code",
    )


def test_training_beside_the_model_refuses_a_code_a_picture(server):
    prompt = inverted_codes(2)
    prompt["train"] = rectifier(steps=2)
    refused(
        server,
        {**prompt, "text": node("PreviewAny", source=["train", 2])},
        "one prompt or semantic code for all, got 2",
    )


def test_what_is_refused(server):
    trained = {**codes(8), "train": mapper(steps=2), "old": pada(steps=2)}

    def edit(entry: dict, *words, **nodes):
        refused(server, {**trained, **nodes, "on": entry, "text": node("PreviewAny", source=["on", 1])}, *words)

    edit(delta_edit(target="face"), "mean the same")
    edit(delta_edit(neutral=" "), "neutral prompt is empty")
    edit(delta_edit(target="face with a moustache"), "knows not")
    edit(age(trained="old", text=" "), "text is empty")
    text = delta_edit()
    text["inputs"]["code"] = ["model", 1]
    other = {**node("HSpaceDemoFace"), **face(seed=1)}
    other["inputs"]["count"] = 3
    wrong = delta_edit()
    wrong["inputs"]["image"] = ["other", 0]
    edit(wrong, "8 codes need one 'image', or as many, got 3", other=other)
    refused(
        server,
        {**codes(3), **empty(2), **drawn("few", ["latent", 0], ["code", 0])},
        "3 semantic codes need as many latents, got 2",
    )
    fewer = mapper(steps=2)
    fewer["inputs"]["image"] = ["other", 0]
    refused(
        server,
        {**trained, "other": other, "few": fewer, "text": node("PreviewAny", source=["few", 2])},
        "8 pictures, image 3",
    )
    refused(
        server, {**codes(4), "train": mapper(steps=2), "text": node("PreviewAny", source=["train", 2])}, "at least 8"
    )
    refused(
        server,
        {**codes(8), "train": pada(steps=2, young=" "), "text": node("PreviewAny", source=["train", 2])},
        "at least one text",
    )
