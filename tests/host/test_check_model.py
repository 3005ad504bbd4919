"""Check Model on every family of the tests, and what it says of each."""

import pytest
import torch

from .graphs import FACE, base, node


def checked(executor, model, **given) -> tuple[str, torch.Tensor]:
    """Report and card."""
    report, card = executor.call("HSpaceCheckModel", model=model, **{"depth": "quick", **given})
    assert card.shape[0] == 1 and card.shape[2:] == (960, 3) and float(card.min()) < 0.5
    return report, card


def rows(report: str) -> dict[str, tuple[str, str]]:
    """Mark and value of every line."""
    cells = [
        line.split(" | ") for line in report.split("| nodes |", maxsplit=1)[0].splitlines() if line.startswith("| ")
    ]
    return {c[0].removeprefix("| "): (c[1], c[2]) for c in cells if len(c) > 2}


def suits(report: str) -> dict[str, bool]:
    """Whether nodes work, by the first of them."""
    part = report.split("| nodes |")[1].split("For a bug report", maxsplit=1)[0]
    cells = [line.split(" | ") for line in part.splitlines() if line.startswith("| ") and "---" not in line]
    return {c[0].removeprefix("| ").split(",")[0]: c[1] == "yes" for c in cells if len(c) > 1}


def test_the_embedded_face_model(executor):
    prompt = base()
    model = executor.run(prompt, "model")[0][0]
    report, _ = checked(executor, model, image=executor.run(prompt, FACE)[0][0])
    found = rows(report)
    assert report.startswith("**Works. Next: Invert Image at 64x64 (about ")
    assert "64x64 pixels" in found["size"][1] and "middle 160x8x8" in found["layers"][1]
    assert found["your picture"][1].startswith("typical") and "0.0847 at sigma 0.85" in found["its world"][1]
    assert found["inversion, 20 steps"][0] == "ok" and "forward mode" in found["derivatives"][1]
    assert "0.85 to discover; window 3.4 to 0.1" in found["sigma"][1]
    block = report.split("```")[1]
    fingerprint = executor.module("nodes.host.model.fingerprint").model_fingerprint(model)
    assert fingerprint in block and "ComfyUI-HSpace: 0." in block and "/" not in block.replace("s/", "")


@pytest.mark.sweep("")
@pytest.mark.parametrize("network", ["sd15", "sd15 inpaint", "sd2 v", "sdxl", "sdxl deep"])
def test_every_unet(executor, network):
    prompt = {"model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0)}
    model, positive, _ = (executor.run(prompt, "model")[0][i] for i in range(3))
    report, _ = checked(executor, model, positive=positive)
    found, works = rows(report), suits(report)
    assert "failed" not in report, report
    vae = executor.run({"vae": node("HSpaceTestVAE")}, "vae")[0][0]
    assert "autoencoder" not in rows(report)
    if network == "sd15":
        assert "dB through the VAE" in rows(checked(executor, model, positive=positive, vae=vae)[0])["autoencoder"][1]
    assert "middle 128x" in found["layers"][1] and found["layers"][0] == "ok"
    assert works["Prompt-to-Prompt"] and works["Discover Region Directions"] and not works["Encode"]
    assert ("predicts v" in found["family"][1]) == (network == "sd2 v")


@pytest.mark.sweep("")
@pytest.mark.parametrize("dtype", ["fp16", "scaled fp8", "gguf Q8_0", "opaque"])
def test_narrow_weights(executor, dtype):
    prompt = {"model": node("HSpaceTestUNet", network="sd15", dtype=dtype, seed=0)}
    model, positive, _ = (executor.run(prompt, "model")[0][i] for i in range(3))
    report, _ = checked(executor, model, positive=positive)
    assert "inversion, 20 steps" in rows(report)
    assert ("cannot be unpacked" in report) == (dtype == "opaque")
    assert suits(report)["Train Asyrp"] == (dtype == "fp16") and suits(report)["Steer"]
    assert suits(report)["Discover Region Directions"] == (dtype != "opaque")


def test_a_flow_transformer(executor):
    model, positive = executor.run({"model": node("HSpaceTestDiT")}, "model")[0]
    report, _ = checked(executor, model, positive=positive, depth="full")
    assert report.startswith("**Works") and "block.0" in rows(report)["layers"][1]
    assert [name for name, does in suits(report).items() if does] == [
        "Invert Image",
        "Discover Region Directions",
        "Steer",
        "FlowEdit",
    ]
    assert "16 pictures that the model drew" in rows(report)["its world"][1]


def test_an_autoencoder_and_the_text_model(executor):
    prompt = {
        **base(),
        "coded": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)"),
        "text": node("HSpaceLoadFaceTextModel"),
    }
    face = executor.run(prompt, FACE)[0][0]
    coded = executor.run(prompt, "coded")[0][0]
    report, _ = checked(executor, coded, image=face)
    assert "Works" in report and suits(report)["Encode"] and rows(report)["your picture"][1].startswith("typical")
    report, _ = checked(executor, coded)
    assert report.startswith("**Not measured. Next: connect a picture to 'image'")
    text, clip = _text_model(executor, prompt)
    report, _ = checked(executor, text, clip=clip, image=face)
    assert suits(report)["Prompt-to-Prompt"] and rows(report)["your picture"][1].startswith("typical")
    report, _ = checked(executor, text)
    assert report.startswith("**Not measured. Next: connect the checkpoint's CLIP")


def _text_model(executor, prompt) -> tuple:
    """MODEL and CLIP of the text model's loader."""
    outputs = executor.run(prompt, "text")[0]
    return outputs[0], next(o for o in outputs if hasattr(o, "tokenize"))


def test_what_it_learns_is_told_by_invert_image(executor, monkeypatch):
    """A model without a stored reference: silent until it drew one."""
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=3),
        "vae": node("HSpaceTestVAE"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=2, denoise=1.0),
    }
    model, positive, _ = (executor.run(prompt, "model")[0][i] for i in range(3))
    vae, sigmas = (executor.run(prompt, name)[0][0] for name in ("vae", "sigmas"))
    links = {"model": model, "vae": vae, "positive": positive, "image": torch.rand(1, 64, 64, 3)}
    before = executor.call("HSpaceInvertImage", method="ddim B", sigmas=sigmas, **links)[0]
    assert before["world"] is None
    report, _ = checked(executor, depth="full", **links)
    assert "16 pictures that the model drew" in rows(report)["its world"][1] and "autoencoder" in rows(report)
    after = executor.call("HSpaceInvertImage", method="ddim B", sigmas=sigmas, **links)[0]
    assert after["world"]["ratios"] and after["world"]["limit"] >= 1.7
    guided = executor.call("HSpaceInvertImage", method="ddim B", sigmas=sigmas, cfg=4.0, negative=positive, **links)[0]
    assert guided["world"]["ratios"] == pytest.approx(after["world"]["ratios"], rel=1e-3)  # without guidance


def test_others_on_the_model_are_named(executor):
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2),
        "pag": node("PerturbedAttentionGuidance", model=["model", 0], scale=3.0),
        "easy": node(
            "EasyCache", model=["model", 0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False
        ),
    }
    positive = executor.run(prompt, "model")[0][1]
    named = {name: executor.run(prompt, name)[0][0] for name in ("freeu", "pag", "easy")}
    report, _ = checked(executor, named["freeu"], positive=positive)
    assert "FreeU" in rows(report)["other packs"][1] and "FreeU" in report.split("```")[1]
    report, _ = checked(executor, named["pag"], positive=positive)
    assert report.startswith("**Does not work as it is: layer middle") and "inversion, 20 steps" in rows(report)
    assert "both halves" not in rows(report)["layers"][1] and "bypass the nodes of other packs" in report
    report, _ = checked(executor, named["easy"], positive=positive)
    assert "other packs" not in rows(report)
    assert "EasyCache is on this MODEL" in rows(report)["step cache"][1] and "Works" in report
    cached = named["freeu"].clone()
    cached.model_options["transformer_options"]["rel_l1_thresh"] = 0.2
    report, _ = checked(executor, cached, positive=positive)
    assert report.startswith("**Not measured. Next: connect the MODEL from before TeaCache")


def test_a_prompt_that_is_not_asked_is_refused(executor):
    prompt = {**base(), "text": node("HSpaceLoadFaceTextModel")}
    model = executor.run(prompt, "model")[0][0]
    _, clip = _text_model(executor, prompt)
    with pytest.raises(ValueError, match="'clip' is connected"):
        checked(executor, model, clip=clip)
