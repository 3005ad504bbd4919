"""Fit Image LoRA, Morph Frames and Perceptual Reschedule in a real host, on the face text model and on small U-Nets of every family."""

import itertools
import json
import re
import shutil
import threading
import time

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from devtools.client import Interrupted

from .graphs import face, node, refused, save
from .test_pipeline import pictures
from .test_text_model import sampled, text_model

TUNED = "hspace/glasses.safetensors"
LAYERS = 80  # ten transformer blocks
SEEDS = {"first": 3, "second": 11}
TEXTS = {"first": "a person with brown hair", "second": "a smiling person with glasses and long hair"}


def ends(steps: int = 6, method: str = "ddim B", lora_steps: int = 12, **fit) -> dict:
    """Both faces with prompt, LoRA, the model with it, and inversion."""
    prompt = {**text_model(), "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0)}
    for name, seed in SEEDS.items():
        prompt |= {
            f"face {name}": face(seed),
            f"prompt {name}": node("CLIPTextEncode", clip=["model", 1], text=TEXTS[name]),
            f"fit {name}": fitted(name, steps=lora_steps, **fit),
            f"tuned {name}": node("LoraModelLoader", model=["model", 0], lora=[f"fit {name}", 0], strength_model=1.0, bypass=False),
            **inverted(name, f"tuned {name}", method),
        }
    return prompt


def fitted(name: str, **options) -> dict:
    inputs = {"steps": 12, "rank": 4, "lr": 2e-3, "seed": 0, **options}
    links = {"model": ["model", 0], "image": [f"face {name}", 0], "positive": [f"prompt {name}", 0], "vae": ["model", 2]}
    return node("HSpaceFitImageLora", **{**links, **inputs})


def inverted(name: str, model: str, method: str = "ddim B", suffix: str = "") -> dict:
    links = {"model": [model, 0], "image": [f"face {name}", 0], "sigmas": ["sigmas", 0], "vae": ["model", 2]}
    more = {"method": method, "iterations": 1, "positive": [f"prompt {name}", 0]}
    return {f"invert {name}{suffix}": node("HSpaceInvertImage", **links, **more)}


def frames(loras: bool = True, suffix: str = "", **options) -> dict:
    inputs = {"frames": 3, "alphas": "", "attention": 0.6, "adain": True, "lora_mode": "delta", "batch": 4, **options}
    links = {"model": ["model", 0], "first": [f"invert first{suffix}", 0], "second": [f"invert second{suffix}", 0], "vae": ["model", 2]}
    if loras:
        links |= {"lora_first": ["fit first", 0], "lora_second": ["fit second", 0]}
    return node("HSpaceMorphFrames", **{**links, **inputs})


def rendered(name: str, model: str, suffix: str = "") -> dict:
    inputs = {"asymmetric": False, "eta": 0.0, "seed": 0, "protect": 0.0, "vae": ["model", 2]}
    key = f"render {name}{suffix}"
    return {
        key: node("HSpaceRenderTrajectory", model=[model, 0], trajectory=[f"invert {name}{suffix}", 0], **inputs),
        f"keep {key}": save([key, 0]),
    }


def kept(prompt: dict, name: str) -> dict:
    return {name: prompt, f"keep {name}": save([name, 0]), f"text {name}": node("PreviewAny", source=[name, 3])}


def shown(server, result, name: str) -> np.ndarray:
    return np.stack(pictures(server, result, f"keep {name}")).astype(int)


def test_the_ends_come_back_and_batches_do_not_matter(server):
    prompt = ends()
    for name in SEEDS:
        prompt |= rendered(name, f"tuned {name}") | inverted(name, "model", suffix=" bare") | rendered(name, "model", " bare")
    prompt |= (
        kept(frames(), "all") | kept(frames(lora_mode="factors", batch=1), "factors") | kept(frames(attention=0.0, batch=2), "no keys")
    )
    prompt |= kept(frames(batch=1), "one by one") | kept(frames(loras=False, suffix=" bare", adain=False), "bare")
    prompt |= kept(frames(alphas="0.5"), "alone")
    result = server.queue(prompt, timeout=600)
    for name in ("all", "factors", "no keys", "one by one"):
        found = shown(server, result, name)
        for i, end in ((0, "first"), (2, "second")):
            assert np.abs(found[i] - shown(server, result, f"render {end}")[0]).max() <= 1, f"{name}, {end}"
    bare = shown(server, result, "bare")
    for i, end in ((0, "first"), (2, "second")):
        assert np.abs(bare[i] - shown(server, result, f"render {end} bare")[0]).max() <= 1
    middles = {name: shown(server, result, name)[1] for name in ("all", "factors", "no keys", "one by one", "bare")}
    assert np.abs(middles["all"] - middles["one by one"]).max() <= 1
    assert np.abs(middles["all"] - shown(server, result, "alone")[0]).max() <= 1, "a frame alone brings its ends along"
    for a, b in (("all", "factors"), ("all", "no keys"), ("all", "bare")):
        assert np.abs(middles[a] - middles[b]).mean() > 0.05, f"{a} and {b} do the same"
    assert "in 4 of 6 steps, in 6 layers; 2 LoRAs, delta" in result.outputs["text all"]["text"][0]


def test_the_lora_is_a_stock_lora(server):
    """Load LoRA Model, Save LoRA Weights and Load LoRA take it, all of it, and do the same."""
    prompt = {
        **text_model(),
        "face first": face(SEEDS["first"]),
        "prompt first": node("CLIPTextEncode", clip=["model", 1], text="a person"),
    }
    prompt |= {"fit first": fitted("first", steps=60), "text": node("PreviewAny", source=["fit first", 2])}
    prompt |= {"tuned": node("LoraModelLoader", model=["model", 0], lora=["fit first", 0], strength_model=1.0, bypass=False)}
    prompt |= {"bypass": node("LoraModelLoader", model=["model", 0], lora=["fit first", 0], strength_model=1.0, bypass=True)}
    prompt |= {"file": node("SaveLoRA", lora=["fit first", 0], prefix="loras/hspace_fit", steps=12)}
    for name in ("model", "tuned", "bypass"):
        prompt |= sampled(name, [name, 0], cfg=1.0)
    result = server.queue(prompt, timeout=600)
    plain, tuned, bypass = (shown(server, result, name) for name in ("model", "tuned", "bypass"))
    assert np.abs(plain - tuned).mean() > 0.3 and np.abs(tuned - bypass).max() <= 1
    text = result.outputs["text"]["text"][0]
    before, after = map(float, re.search(r"loss ([\d.]+) > ([\d.]+)", text).groups())
    assert f"{LAYERS} layers" in text and "same clean state" in text and after < before
    assert result.outputs["fit first"]["images"], "no curve is shown"
    (file,) = server.process.output.rglob("hspace_fit*.safetensors")
    tensors = load_file(file)
    assert len(tensors) == 2 * LAYERS and all(re.search(r"attn[12]\.to_(q|k|v|out\.0)\.lora_(up|down)\.weight$", k) for k in tensors)
    folder = server.process.models / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder / "hspace_fit.safetensors")
    again = {
        **text_model(),
        "tuned": node("LoraLoaderModelOnly", model=["model", 0], lora_name="hspace_fit.safetensors", strength_model=1.0),
    }
    second = server.queue({**again, **sampled("tuned", ["tuned", 0], cfg=1.0)}, timeout=600)
    assert np.array_equal(shown(server, second, "tuned"), tuned)
    log = server.process.log.read_text(encoding="utf-8", errors="replace")
    assert "lora key not loaded" not in log and "NOT LOADED" not in log


def test_one_seed_one_lora(server):
    prompt = {**text_model(), "face first": face(3), "prompt first": node("CLIPTextEncode", clip=["model", 1], text="a person")}
    prompt |= {"fit first": fitted("first", steps=4), "again": fitted("first", steps=4), "other": fitted("first", steps=4, seed=1)}
    prompt["again"]["inputs"]["image"] = ["copy", 0]  # the same picture, another link: not from the cache
    prompt["copy"] = node("ImageFromBatch", image=["face first", 0], batch_index=0, length=1)
    for name in ("fit first", "again", "other"):
        prompt[f"file {name}"] = node("SaveLoRA", lora=[name, 0], prefix=f"loras/seed {name}")
    server.queue(prompt, timeout=600)
    one, two, three = (
        load_file(next(server.process.output.rglob(f"seed {name}*.safetensors"))) for name in ("fit first", "again", "other")
    )
    assert all(one[k].equal(two[k]) for k in one) and not any(one[k].equal(three[k]) for k in one)


@pytest.mark.parametrize("family", ["sd15", "sd2 v", "sdxl", "sd15 fp16"])
def test_every_family_with_its_posterior(server, family):
    """Non-square latents, guidance with prompts of different length, and the posterior of a KL autoencoder."""
    network, _, dtype = family.partition(" fp")
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype=f"fp{dtype}" if dtype else "fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="kl"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=0.6),
        "prompt first": node("ConditioningZeroOut", conditioning=["model", 1]),
    }
    for i, name in enumerate(SEEDS):
        positive = ["model", 1 + i]
        prompt |= {
            f"face {name}": node("HSpaceTestPicture", case="noise", width=96, height=64),
            f"fit {name}": node(
                "HSpaceFitImageLora", model=["model", 0], image=[f"face {name}", 0], positive=positive, vae=["vae", 0], steps=3, rank=2, lr=1e-3, seed=0
            ),
            f"tuned {name}": node("LoraModelLoader", model=["model", 0], lora=[f"fit {name}", 0], strength_model=1.0, bypass=False),
            f"invert {name}": node(
                "HSpaceInvertImage", model=[f"tuned {name}", 0], image=[f"face {name}", 0], sigmas=["sigmas", 0], vae=["vae", 0], method="ddim B",
                iterations=1, positive=positive, negative=["prompt first", 0], cfg=1.5,
            ),
        }  # fmt: skip
        prompt |= rendered(name, f"tuned {name}")
        prompt[f"render {name}"]["inputs"]["vae"] = ["vae", 0]
    prompt |= kept(frames(vae=["vae", 0]), "all")
    prompt["said"] = node("PreviewAny", source=["fit first", 2])
    result = server.queue(prompt, timeout=600)
    assert "posterior is drawn" in result.outputs["said"]["text"][0]
    found = shown(server, result, "all")
    assert found.shape == (3, 64, 96, 3)
    for i, end in ((0, "first"), (2, "second")):
        difference = np.abs(found[i] - shown(server, result, f"render {end}")[0])
        assert difference.max() <= (1 if not dtype else 12) and difference.mean() < 1


def test_reschedule_reads_what_morph_writes(server):
    prompt = ends(lora_steps=2) | kept(frames(frames=5), "all")
    prompt |= {
        "curve": node("HSpacePerceptualReschedule", frames=["all", 0], alphas=["all", 1]),
        "said": node("PreviewAny", source=["curve", 2]), "numbers": node("PreviewAny", source=["curve", 0]),
        "first numbers": node("PreviewAny", source=["all", 1]),
    }  # fmt: skip
    prompt |= kept(frames(alphas=["curve", 0]), "even")
    result = server.queue(prompt, timeout=600)
    numbers = [float(v) for v in result.outputs["numbers"]["text"][0].split(",")]
    assert numbers[0] == 0 and numbers[-1] == 1 and len(numbers) == 5 and all(b > a for a, b in itertools.pairwise(numbers))
    assert [float(v) for v in result.outputs["first numbers"]["text"][0].split(",")] == [0, 0.25, 0.5, 0.75, 1]
    said = result.outputs["said"]["text"][0]
    assert "LPIPS" in said and result.outputs["curve"]["images"]
    before, after = shown(server, result, "all"), shown(server, result, "even")
    assert np.abs(before[[0, -1]] - after[[0, -1]]).max() <= 1 and np.abs(before[1:-1] - after[1:-1]).max() > 1


def test_pixel_models_morph_without_attention_and_say_so(server):
    prompt = {"model": node("HSpaceLoadFaceModel")}
    prompt["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=4, denoise=1.0)
    for name, seed in SEEDS.items():
        prompt |= {f"face {name}": face(seed), f"invert {name}": node(
            "HSpaceInvertImage", model=["model", 0], image=[f"face {name}", 0], sigmas=["sigmas", 0], method="ddim B", iterations=1
        )} | rendered(name, "model")  # fmt: skip
        prompt[f"render {name}"]["inputs"]["vae"] = ["model", 1]
    result = server.queue(prompt | kept(frames(loras=False, vae=["model", 1]), "all"), timeout=600)
    assert "nowhere" in result.outputs["text all"]["text"][0]
    for i, end in ((0, "first"), (2, "second")):
        assert np.abs(shown(server, result, "all")[i] - shown(server, result, f"render {end}")[0]).max() <= 1


def test_what_does_not_fit_is_refused(server):
    prompt = ends(lora_steps=1)
    refused(server, prompt | kept(frames(loras=False), "all"), "first trajectory was made with model", "with this MODEL")
    refused(server, prompt | kept(frames(lora_first=["fit second", 0]), "all"), "first trajectory", "Load LoRA Model")
    refused(server, prompt | kept(frames(alphas="0, two"), "all"), "numbers separated by commas")
    refused(server, prompt | kept(frames(alphas="0, 2"), "all"), "from 0 (first picture) to 1")
    other = {**prompt, "few": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=1.0)}
    other["invert second"] = inverted("second", "tuned second")["invert second"]
    other["invert second"]["inputs"]["sigmas"] = ["few", 0]
    refused(server, other | kept(frames(), "all"), "same SIGMAS")
    two = {**prompt, "two": node("ImageBatch", image1=["face first", 0], image2=["face second", 0])}
    two["fit first"] = fitted("first", image=["two", 0])
    refused(server, two | kept(frames(), "all"), "one picture", "batch of 2")
    plain = {"model": node("HSpaceLoadFaceModel"), "face first": face(3)}
    plain["fit"] = node(
        "HSpaceFitImageLora", model=["model", 0], image=["face first", 0], positive=["model", 2], steps=1, rank=2, lr=1e-3, seed=0
    )
    refused(server, plain | {"keep": save(["fit", 1])}, "no transformer blocks")


def test_a_cancelled_fit_keeps_its_best_and_goes_on(server):
    folder = server.process.models / "hspace_edits" / "training"
    prompt = {**text_model(), "face first": face(5), "prompt first": node("CLIPTextEncode", clip=["model", 1], text="a person")}
    prompt |= {"fit first": fitted("first", steps=100), "text": node("PreviewAny", source=["fit first", 2])}
    raised = []

    def run():
        try:
            server.queue(prompt, timeout=600)
        except Interrupted as error:
            raised.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    time.sleep(6)
    server.interrupt()
    worker.join(timeout=120)
    assert raised, "the run was over before it was cancelled"
    (file,) = folder.glob("image LoRA*.safetensors")
    with safe_open(file, "pt") as f:
        assert json.loads(f.metadata()["hspace"])["i"] > 0
    (best,) = (server.process.models / "loras" / "hspace").glob("image LoRA*unfinished.safetensors")
    assert len(load_file(best)) == 2 * LAYERS
    result = server.queue({**prompt, "more": node("PreviewAny", source=["fit first", 2])}, timeout=600)
    assert "resumed at" in result.outputs["text"]["text"][0] and not list(folder.glob("image LoRA*.safetensors"))


def test_a_lora_of_convolutions_is_refused(server):
    prompt = {
        "model": node("HSpaceLoadFaceModel"),
        "tuned": node("HSpaceLoadFineTuned", file=TUNED),
        "face first": face(3),
        "face second": face(4),
    }
    prompt["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=1.0)
    prompt["with"] = node("LoraModelLoader", model=["model", 0], lora=["tuned", 0], strength_model=1.0, bypass=False)
    for name in SEEDS:
        prompt |= inverted(name, "with" if name == "first" else "model")
        del prompt[f"invert {name}"]["inputs"]["positive"]
        prompt[f"invert {name}"]["inputs"]["vae"] = ["model", 1]
    morph = frames(loras=False, lora_first=["tuned", 0], vae=["model", 1])
    refused(server, prompt | kept(morph, "all"), "first LoRA", "not a plain low-rank difference")


def test_split_batches_of_guidance(server):
    """With little memory free the host runs positive and negative prompts one after the other: the frames are the same."""
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=0.6),
    }
    for i, name in enumerate(SEEDS):
        prompt |= {
            f"face {name}": node("HSpaceTestPicture", case="noise", width=64, height=64),
            f"invert {name}": node(
                "HSpaceInvertImage", model=["model", 0], image=[f"face {name}", 0], sigmas=["sigmas", 0], vae=["vae", 0], method="ddim B",
                iterations=1, positive=["model", 1 + i], negative=["model", 2 - i], cfg=2.0,
            ),
        }  # fmt: skip
    result = server.queue(prompt | kept(frames(loras=False, vae=["vae", 0]), "plenty"), timeout=600)
    try:
        tight = dict(prompt)
        for name in SEEDS:
            tight[f"free {name}"] = node("HSpaceTestFreeMemory", image=[f"face {name}", 0], megabytes=0)
            tight[f"invert {name}"] = {
                **prompt[f"invert {name}"],
                "inputs": {**prompt[f"invert {name}"]["inputs"], "image": [f"free {name}", 0]},
            }
        little = server.queue(tight | kept(frames(loras=False, vae=["vae", 0]), "little"), timeout=600)
    finally:
        reset = {"face": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
        reset["free"] = node("HSpaceTestFreeMemory", image=["face", 0], megabytes=-1)
        server.queue({**reset, "keep": save(["free", 0])})
    a, b = shown(server, result, "plenty"), shown(server, little, "little")
    assert np.abs(a - b).max() <= 1 and np.abs(a[0] - a[2]).max() > 1
