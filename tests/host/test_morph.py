"""Fit Image LoRA, Morph Frames and Perceptual Reschedule in a real host, on the face text model."""

import itertools
import json
import re
import shutil

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file

from .graphs import cancelled, face, node, refused, save
from .morph_graphs import LAYERS, SEEDS, ends, fitted, frames, inverted, rendered, saved, shown
from .text_graphs import sampled, text_model


def test_the_ends_come_back_and_batches_do_not_matter(server):
    prompt = ends()
    for name in SEEDS:
        prompt |= (
            rendered(name, f"tuned {name}") | inverted(name, "model", suffix=" bare") | rendered(name, "model", " bare")
        )
    prompt |= (
        saved(frames(), "all")
        | saved(frames(lora_mode="factors", batch=1), "factors")
        | saved(frames(attention=0.0, batch=2), "no keys")
    )
    prompt |= saved(frames(batch=1), "one by one") | saved(frames(loras=False, suffix=" bare", adain=False), "bare")
    prompt |= saved(frames(alphas="0.5"), "alone")
    result = server.queue(prompt, timeout=600)
    for name in ("all", "factors", "no keys", "one by one"):
        morphed = shown(server, result, name)
        for i, end in ((0, "first"), (2, "second")):
            assert np.abs(morphed[i] - shown(server, result, f"render {end}")[0]).max() <= 1, f"{name}, {end}"
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
    prompt |= {
        "tuned": node("LoraModelLoader", model=["model", 0], lora=["fit first", 0], strength_model=1.0, bypass=False)
    }
    prompt |= {
        "bypass": node("LoraModelLoader", model=["model", 0], lora=["fit first", 0], strength_model=1.0, bypass=True)
    }
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
    assert len(tensors) == 2 * LAYERS and all(
        re.search(r"attn[12]\.to_(q|k|v|out\.0)\.lora_(up|down)\.weight$", k) for k in tensors
    )
    folder = server.process.models / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder / "hspace_fit.safetensors")
    again = {
        **text_model(),
        "tuned": node(
            "LoraLoaderModelOnly", model=["model", 0], lora_name="hspace_fit.safetensors", strength_model=1.0
        ),
    }
    second = server.queue({**again, **sampled("tuned", ["tuned", 0], cfg=1.0)}, timeout=600)
    assert np.array_equal(shown(server, second, "tuned"), tuned)
    log = server.process.log.read_text(encoding="utf-8", errors="replace")
    assert "lora key not loaded" not in log and "NOT LOADED" not in log


def test_one_seed_one_lora(server):
    prompt = {
        **text_model(),
        "face first": face(3),
        "prompt first": node("CLIPTextEncode", clip=["model", 1], text="a person"),
    }
    prompt |= {
        "fit first": fitted("first", steps=4),
        "again": fitted("first", steps=4),
        "other": fitted("first", steps=4, seed=1),
    }
    prompt["again"]["inputs"]["image"] = ["copy", 0]  # the same picture, another link: not from the cache
    prompt["copy"] = node("ImageFromBatch", image=["face first", 0], batch_index=0, length=1)
    for name in ("fit first", "again", "other"):
        prompt[f"file {name}"] = node("SaveLoRA", lora=[name, 0], prefix=f"loras/seed {name}")
    server.queue(prompt, timeout=600)
    one, two, three = (
        load_file(next(server.process.output.rglob(f"seed {name}*.safetensors")))
        for name in ("fit first", "again", "other")
    )
    assert all(one[k].equal(two[k]) for k in one) and not any(one[k].equal(three[k]) for k in one)


def test_reschedule_reads_what_morph_writes(server):
    prompt = ends(lora_steps=2) | saved(frames(frames=5), "all")
    prompt |= {
        "curve": node("HSpacePerceptualReschedule", frames=["all", 0], alphas=["all", 1]),
        "said": node("PreviewAny", source=["curve", 2]),
        "numbers": node("PreviewAny", source=["curve", 0]),
        "first numbers": node("PreviewAny", source=["all", 1]),
    }
    prompt |= saved(frames(alphas=["curve", 0]), "even")
    result = server.queue(prompt, timeout=600)
    numbers = [float(v) for v in result.outputs["numbers"]["text"][0].split(",")]
    assert (
        numbers[0] == 0
        and numbers[-1] == 1
        and len(numbers) == 5
        and all(b > a for a, b in itertools.pairwise(numbers))
    )
    assert [float(v) for v in result.outputs["first numbers"]["text"][0].split(",")] == [0, 0.25, 0.5, 0.75, 1]
    said = result.outputs["said"]["text"][0]
    assert "LPIPS" in said and result.outputs["curve"]["images"]
    before, after = shown(server, result, "all"), shown(server, result, "even")
    assert np.abs(before[[0, -1]] - after[[0, -1]]).max() <= 1 and np.abs(before[1:-1] - after[1:-1]).max() > 1


def test_what_does_not_fit_is_refused(server):
    prompt = ends(lora_steps=1)
    refused(
        server, prompt | saved(frames(loras=False), "all"), "first trajectory was made with model", "with this MODEL"
    )
    refused(server, prompt | saved(frames(lora_first=["fit second", 0]), "all"), "first trajectory", "Load LoRA Model")
    refused(server, prompt | saved(frames(alphas="0, two"), "all"), "numbers separated by commas")
    refused(server, prompt | saved(frames(alphas="0, 2"), "all"), "from 0 (first picture) to 1")
    other = {**prompt, "few": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=1.0)}
    other["invert second"] = inverted("second", "tuned second")["invert second"]
    other["invert second"]["inputs"]["sigmas"] = ["few", 0]
    refused(server, other | saved(frames(), "all"), "same SIGMAS")
    two = {**prompt, "two": node("ImageBatch", image1=["face first", 0], image2=["face second", 0])}
    two["fit first"] = fitted("first", image=["two", 0])
    refused(server, two | saved(frames(), "all"), "one picture", "got 2 as image")
    plain = {"model": node("HSpaceLoadFaceModel"), "face first": face(3)}
    plain["fit"] = node(
        "HSpaceFitImageLora",
        model=["model", 0],
        image=["face first", 0],
        positive=["model", 2],
        steps=1,
        rank=2,
        lr=1e-3,
        seed=0,
    )
    refused(server, plain | {"keep": save(["fit", 1])}, "no transformer blocks")


def test_a_cancelled_fit_keeps_its_best_and_goes_on(server):
    folder = server.process.models / "hspace_edits" / "training"
    prompt = {
        **text_model(),
        "face first": face(5),
        "prompt first": node("CLIPTextEncode", clip=["model", 1], text="a person"),
    }
    prompt |= {"fit first": fitted("first", steps=12), "text": node("PreviewAny", source=["fit first", 2])}
    cancelled(server, prompt, "fit first")
    (file,) = folder.glob("image LoRA*.safetensors")
    with safe_open(file, "pt") as f:
        assert json.loads(f.metadata()["hspace"])["i"] > 0
    (best,) = (server.process.models / "loras" / "hspace").glob("image LoRA*unfinished.safetensors")
    assert len(load_file(best)) == 2 * LAYERS
    result = server.queue({**prompt, "more": node("PreviewAny", source=["fit first", 2])}, timeout=600)
    assert "resumed at" in result.outputs["text"]["text"][0] and not list(folder.glob("image LoRA*.safetensors"))
