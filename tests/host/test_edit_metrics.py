"""Edit Metrics in a real server."""

import json
import math

import pytest
import torch

from .graphs import FACE, face, node, refused

SMILE, FROWN = "a smiling person", "a frowning person"


def metrics(source: list, edited: list, **options) -> dict[str, dict]:
    """The node with its table and JSON shown."""
    inputs = {"source_prompt": "", "target_prompt": "", "structure": "face world", "lpips": "off", **options}
    return {
        "metrics": node("HSpaceEditMetrics", source=source, edited=edited, **inputs),
        "table": node("PreviewAny", source=["metrics", 0]),
        "json": node("PreviewAny", source=["metrics", 1]),
        **{f"float {i}": node("PreviewAny", source=["metrics", i]) for i in range(2, 6)},
    }


def measured(server, prompt) -> tuple[str, dict, list[float]]:
    """Table, JSON and floats."""
    shown = server.queue(prompt, timeout=300).outputs

    def text(name):
        return shown[name]["text"][0]

    return text("table"), json.loads(text("json")), [float(text(f"float {i}")) for i in range(2, 6)]


def two(count: int = 1) -> dict[str, dict]:
    """A frowning face and the same smiling; with a count, batches of random faces and of others."""
    first, second = face(origin="dials", smile=-0.8), face(origin="dials", smile=0.8)
    if count > 1:
        first, second = face(3), face(4)
    for one in (first, second):
        one["inputs"]["count"] = count
    return {FACE: first, "other": second}


def test_an_edit_of_the_mouth(server):
    prompt = {**two(), "embedder": node("HSpaceLoadFaceEmbedder")}
    prompt |= metrics(
        [FACE, 0], ["other", 0], mask=[FACE, 1], embedder=["embedder", 0], source_prompt=FROWN, target_prompt=SMILE
    )
    table, facts, floats = measured(server, prompt)
    mean = facts["mean"]
    assert facts["images"] == 1 and "face regressor" in facts["structure seen by"] and "face regressor" in table
    assert mean["psnr_unedit_part"] > mean["psnr_outside"] > 40 and mean["ssim_outside"] > 0.99
    assert mean["clip_similarity_target_image"] > 20 and "clip_similarity_target_image_edit_part" in mean
    assert floats == pytest.approx(
        [mean[n] for n in ("structure_distance", "psnr_outside", "ssim_outside", "clip_similarity_target_image")]
    )
    backwards = {**prompt, **metrics([FACE, 0], [FACE, 0], embedder=["embedder", 0], target_prompt=SMILE)}
    _, same, numbers = measured(server, backwards)
    assert same["mean"]["structure_distance"] == 0 and numbers[1] == 120 and numbers[3] < floats[3]


def test_batches_masks_and_a_whole_mask(server):
    prompt = {**two(3), "whole": node("SolidMask", value=1.0, width=64, height=64)}
    table, facts, _ = measured(server, {**prompt, **metrics([FACE, 0], ["other", 0], mask=["other", 3])})
    assert facts["images"] == 3 and len(facts["each"]["psnr_outside"]) == 3 and "| 3 |" in table
    assert math.isclose(facts["mean"]["mse_outside"], sum(facts["each"]["mse_outside"]) / 3, rel_tol=1e-5)
    _, facts, floats = measured(
        server, {**prompt, **metrics([FACE, 0], ["other", 0], mask=["whole", 0], structure="off")}
    )
    assert (
        facts["mean"]["psnr_outside"] is None
        and facts["each"]["psnr_unedit_part"] == [None] * 3
        and floats[:3] == [-1, -1, -1]
    )


def test_local_files_of_dino_and_lpips(server):
    lpips = pytest.importorskip("lpips")
    folder = server.process.models / "hspace_metrics"
    folder.mkdir(parents=True, exist_ok=True)
    dim = 64
    block = {
        "norm1.weight": (dim,),
        "norm1.bias": (dim,),
        "norm2.weight": (dim,),
        "norm2.bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim),
        "attn.qkv.bias": (3 * dim,),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
    }
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 785, dim),
        "patch_embed.proj.weight": (dim, 3, 8, 8),
        "patch_embed.proj.bias": (dim,),
    }
    shapes |= {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    torch.save({name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}, folder / "dino_tiny.pth")
    net = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, verbose=False)
    torch.save({k: v.abs() if k.startswith("lin") else v for k, v in net.state_dict().items()}, folder / "lpips.pth")
    prompt = {**two(), **metrics([FACE, 0], ["other", 0], mask=[FACE, 1], structure="dino_tiny.pth", lpips="lpips.pth")}
    _, facts, _ = measured(server, prompt)
    assert "DINO ViT 64/8" in facts["structure seen by"] and facts["mean"]["structure_distance"] > 0
    assert facts["mean"]["lpips_unedit_part"] >= 0 and facts["mean"]["lpips_outside"] >= 0
    refused(
        server,
        {**two(), **metrics([FACE, 0], ["other", 0], structure="lpips.pth")},
        "lpips.pth is no vision transformer of DINO",
    )
    refused(server, {**two(), **metrics([FACE, 0], ["other", 0], lpips="dino_tiny.pth")}, "dino_tiny.pth is not LPIPS")


def test_what_does_not_fit(server):
    prompt = {
        **two(),
        "scaled": node("ImageScale", image=["other", 0], upscale_method="area", width=32, height=64, crop="disabled"),
    }
    prompt |= {"wide": node("SolidMask", value=1.0, width=64, height=32)}
    refused(
        server, {**prompt, **metrics([FACE, 0], ["scaled", 0])}, "'source' is 64x64", "'edited' 32x64", "Upscale Image"
    )
    refused(
        server, {**prompt, **metrics([FACE, 0], ["other", 0], mask=["wide", 0])}, "aspect of source (64x64)", "64x32"
    )
    prompt = {**two(3), "embedder": node("HSpaceLoadFaceEmbedder")}
    prompt |= metrics([FACE, 0], ["other", 0], embedder=["embedder", 0], target_prompt="a\nb")
    refused(server, prompt, "one for each of the 3 pictures, got 2")
    three = {**two(), "more": two(3)["other"]}
    refused(server, {**three, **metrics([FACE, 0], ["more", 0])}, "'source' holds 1 pictures", "'edited' 3")
    refused(
        server, {**three, **metrics([FACE, 0], ["other", 0], mask=["more", 1])}, "one for each of the 1 pictures, got 3"
    )
