"""What training and its files are given: towers, foreign checkpoints, bad pictures, too little memory, a full disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from devtools.console import ROOT

from .graphs import FACE, cancelled, face, node, refused, render, save
from .trained_graphs import apart, asyrp, faces, rectifier, rectifier_edit, tuned

WEIGHTS = ROOT / "weights"


def test_clip_guides_training(server):
    """Both towers of ViT-L/14 at their size; random weights, with a projection that makes three colours agree."""
    # Each step goes through both, forwards and backwards.
    prompt = {**faces(1, 3), "clip": node("HSpaceTestClip", case="joint")}
    prompt["embedder"] = node("HSpaceClipEmbedder", clip=["clip", 0], clip_vision=["clip", 1])
    prompt["train"] = asyrp(batch=1, source="a red picture", target="a blue picture")
    prompt |= {"steer": node("HSpaceSteerTrained", model=["model", 0], trained=["train", 0], strength=1.0)}
    for name in ("model", "steer"):
        prompt |= {f"render {name}": render(name), f"keep {name}": save([f"render {name}", 0])}
    assert apart(server, server.queue(prompt, timeout=600), "model", "steer") > 0


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("apart", ("do not share a space", "clip-vit-large-patch14")),
        ("no projection", ("no text projection", "clip_l.safetensors")),
        ("other text tower", ("clip must hold the text tower of CLIP ViT-L/14",)),
        ("other picture tower", ("hidden size 1280", "clip-vit-large-patch14")),
    ],
)
def test_towers_that_do_not_fit(server, case, words):
    prompt = {**faces(1, 4), "clip": node("HSpaceTestClip", case=case), "train": asyrp(batch=1)}
    prompt["embedder"] = node("HSpaceClipEmbedder", clip=["clip", 0], clip_vision=["clip", 1])
    refused(server, {**prompt, "keep": node("HSpaceSaveTrained", trained=["train", 0], name="never")}, *words)


@pytest.fixture
def released(server):
    """Writes a file of the layout of released code into models/hspace."""
    files = []

    def write(name: str, content: object):
        files.append(server.process.models / "hspace" / name)
        files[-1].parent.mkdir(exist_ok=True)
        torch.save(content, files[-1])

    yield write
    for file in files:
        file.unlink()


def block() -> dict[str, torch.Tensor]:
    """Asyrp's trained block of a shipped edit, as the released code saves it."""
    state = load_file(WEIGHTS / "edits" / "asyrp" / "smile.safetensors")
    return {k.removeprefix("delta.block."): v.float() for k, v in state.items() if k.startswith("delta.block.")}


def test_released_asyrp_checkpoint(server, released):
    optimiser = {"state": {}, "param_groups": [{"lr": 0.5, "params": [0]}]}
    name = "smiling_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"
    released(name, {"0": block(), "optimizer": optimiser, "scheduler": {"step_size": 20}})
    prompt = {
        **faces(1, 8),
        "load": node("HSpaceLoadAsyrp", model=["model", 0], checkpoint=name, index=1, sigma_edit=0.5, steps=8),
    }
    prompt |= {"label": node("PreviewAny", source=["load", 1])}
    prompt |= {"steer": node("HSpaceSteerTrained", model=["model", 0], trained=["load", 0], strength=1.0)}
    prompt |= {"shipped": node("HSpaceLoadTrained", file="hspace/smile.safetensors")}
    for name_of in ("model", "steer"):
        prompt |= {
            f"render {name_of}": render(name_of, asymmetric=name_of != "model"),
            f"keep {name_of}": save([f"render {name_of}", 0]),
        }
    result = server.queue(prompt, timeout=300)
    assert result.outputs["label"]["text"] == ["smiling"] and apart(server, result, "model", "steer") > 0.3
    prompt["load"]["inputs"]["index"] = 2
    refused(server, prompt, "holds 1 edits", "got index 2")
    prompt["load"]["inputs"] |= {"index": 1, "model": ["unet", 0]}
    refused(
        server,
        {**prompt, "unet": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0)},
        "belong to pixel models",
    )
    wide = "wide_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"
    released(wide, {"0": {k: torch.zeros([n * 2 if n == 160 else n for n in v.shape]) for k, v in block().items()}})
    other = {**faces(1, 8), "load": node("HSpaceLoadAsyrp", model=["model", 0], checkpoint=wide, index=1)}
    refused(
        server, {**other, "label": node("PreviewAny", source=["load", 1])}, "320 channels", "h of this model has 160"
    )


def test_released_diffusionclip_checkpoint(server, released, tmp_path):
    g, state = torch.Generator().manual_seed(0), small_ddpm(tmp_path)
    released("small.pth", state)
    released("curly_hair_t401.pth", {k: v + 0.05 * torch.randn(v.shape, generator=g) for k, v in state.items()})
    prompt = {"model": node("HSpaceLoadPixelModel", checkpoint="small.pth"), FACE: face()}
    prompt["load"] = node("HSpaceLoadDiffusionCLIP", model=["model", 0], checkpoint="curly_hair_t401.pth")
    prompt |= {"sigma": node("PreviewAny", source=["load", 1]), "report": node("PreviewAny", source=["load", 2])}
    prompt["tuned"] = node("HSpaceSteerFineTuned", model=["model", 0], lora=["load", 0], degree=1.0)
    prompt["whole"] = node("HSpaceLoadPixelModel", checkpoint="curly_hair_t401.pth")
    for name in ("model", "tuned", "whole"):
        inputs = {"seed": 3, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
        prompt[f"sample {name}"] = node(
            "KSampler",
            model=[name, 0],
            positive=["model", 2],
            negative=["model", 2],
            latent_image=["latent", 0],
            **inputs,
        )
        prompt |= {f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 1])}
        prompt[f"keep {name}"] = save([f"decode {name}", 0])
    prompt["latent"] = node("VAEEncode", pixels=[FACE, 0], vae=["model", 1])
    result = server.queue(prompt, timeout=300)
    assert apart(server, result, "tuned", "whole") < 1 < apart(server, result, "tuned", "model")
    assert float(result.outputs["sigma"]["text"][0]) > 0 and "curly hair" in result.outputs["report"]["text"][0]
    prompt["load"]["inputs"]["model"] = ["faces", 0]
    refused(server, {**prompt, "faces": node("HSpaceLoadFaceModel")}, "curly hair", "fine-tuned from")


def small_ddpm(folder: Path) -> dict[str, torch.Tensor]:
    """A small network of the DDPM family with the names of celeba_hq.ckpt; made outside, where `core` can be
    imported."""
    code = (
        "import sys, torch; from core.networks.ddpm import DDPMConfig, DDPMUNet; torch.manual_seed(0); "
        "torch.save(DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True))).state_dict(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "made.pth")], cwd=ROOT, check=True)
    return torch.load(folder / "made.pth", weights_only=True)


@pytest.mark.parametrize("kind", ["asyrp", "tuned", "rectifier"])
def test_a_batch_with_one_bad_picture(server, kind):
    prompt = faces(2)
    prompt["bad"] = node("HSpaceTestPicture", case="nan", width=64, height=64)
    prompt["batch"] = node("ImageBatch", image1=[FACE, 0], image2=["bad", 0])
    prompt["invert"]["inputs"]["image"] = ["batch", 0]
    prompt["train"] = {"asyrp": asyrp, "tuned": tuned, "rectifier": rectifier}[kind]()
    refused(server, {**prompt, "keep": node("HSpaceSaveTrained", trained=["train", 0], name="never")}, "NaN", "image")


@pytest.mark.parametrize("kind", ["asyrp", "tuned", "rectifier", "rectifier edit"])
def test_too_little_memory_is_said_before_training(server, kind):
    prompt = {**faces(2), "rectifier": rectifier()}
    prompt["free"] = node("HSpaceTestFreeMemory", image=[FACE, 0], megabytes=-1)
    prompt["keep"] = save(["free", 0])
    server.queue(prompt, timeout=300)  # the rectifier of the last case needs memory
    try:
        prompt["free"]["inputs"]["megabytes"] = 1
        server.queue({k: prompt[k] for k in (FACE, "free", "keep")}, timeout=60)
        name = {"asyrp": "train", "tuned": "train", "rectifier": "other", "rectifier edit": "train"}[kind]
        prompt[name] = {
            "asyrp": asyrp,
            "tuned": tuned,
            "rectifier": lambda: rectifier(batch=1),
            "rectifier edit": rectifier_edit,
        }[kind]()
        prompt["save"] = node("HSpaceSaveTrained", trained=[name, 0], name="never")
        refused(server, prompt, "training needs about", "lower the batch")
    finally:
        prompt["free"]["inputs"]["megabytes"] = -1
        server.queue({k: prompt[k] for k in (FACE, "free", "keep")}, timeout=60)


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux can limit the files of a running server (prlimit); tests/core/test_own_file.py is everywhere",
)
def test_a_full_disk_while_saving_loses_nothing(server):
    import resource  # not on Windows

    prompt = {**faces(2), "train": asyrp()}
    prompt["file"] = node("HSpaceSaveTrained", trained=["train", 0], name="full disk")
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        refused(server, prompt, "cannot write 'full disk.safetensors'", "make room", "what was made is still there")
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    folder = server.process.models / "hspace_edits" / "asyrp"
    assert not list(folder.glob("full disk*")) and not list(folder.glob(".*")), "a part of a file is left"
    result = server.queue(prompt, timeout=300)
    assert (folder / "full disk.safetensors").is_file()
    assert "train" in result.cached, "it was trained again"


def test_rectifiers_that_do_not_fit(server, released, tmp_path):
    """Of another network, and a truncated file."""
    released("small.pth", small_ddpm(tmp_path))
    prompt = {**faces(1), "rectifier": node("HSpaceLoadRectifier", file="hspace/reconstruction.safetensors")}
    prompt["other"] = node("HSpaceLoadPixelModel", checkpoint="small.pth")
    prompt["invert"]["inputs"]["model"] = ["other", 0]
    links = {"trajectory": ["invert", 0], "rectifier": ["rectifier", 0]}
    prompt |= {
        "apply": node("HSpaceApplyRectifier", model=["other", 0], **links, strength=1.0),
        "render": render("apply"),
    }
    prompt["keep"] = save(["render", 0])
    refused(server, prompt, "this rectifier was trained on model", "connect that model")
    folder = server.process.models / "hspace_edits" / "rectifier"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "short.safetensors"
    file.write_bytes((WEIGHTS / "edits" / "rectifier" / "smile.safetensors").read_bytes()[:-1000])
    try:
        prompt["rectifier"]["inputs"]["file"] = file.name
        refused(server, prompt, file.name, "not a usable")
    finally:
        file.unlink()


def test_a_damaged_state_does_not_block_its_node(server):
    """Such as one that a power cut left empty."""
    folder = server.process.models / "hspace_edits" / "training"
    train = {**faces(2), "train": asyrp(epochs=40, seed=77)}
    prompt = {**train, "report": node("PreviewAny", source=["train", 2])}
    cancelled(server, prompt, "train")
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(b"")
    result = server.queue(prompt, timeout=300)
    assert "resumed" not in result.outputs["report"]["text"][0]
    assert not file.exists() and file.with_suffix(".damaged").is_file()
    file.with_suffix(".damaged").unlink()
