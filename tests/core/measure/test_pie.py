"""The metrics of PIE-Bench against the libraries its code calls, and against hand-made cases."""

import json
import math
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from core.faces.embedder import load_embedder
from core.faces.factors import sample
from core.faces.regressor import load_regressor
from core.faces.render import render
from core.faces.structure import FaceFeatures
from core.files.dino import load_dino
from core.files.lpips import load_lpips
from core.measure.image import PSNR_CAP, ssim_map
from core.measure.lpips import LPIPS
from core.measure.pie import Instruments, Prompts, clip_similarity, means, measure_pie, table, to_json
from core.measure.structure import DinoKeys, _scaled, structure_distance

REGRESSOR, EMBEDDER = "weights/face_regressor.safetensors", "weights/face_embedder.safetensors"


def pair(b=3, h=40, w=52, noise=0.15):
    a = torch.nn.functional.interpolate(torch.rand(b, 3, 8, 9), (h, w), mode="bilinear") * 2 - 1
    return a, (a + noise * torch.randn(b, 3, h, w)).clamp(-1, 1)


def blob(b=3, h=40, w=52):
    mask = torch.zeros(b, h, w)
    for i in range(b):
        mask[i, 5 + i : 25, 10 : 30 + 2 * i] = 1
    return mask


def test_background_is_what_the_benchmarks_code_gets_from_torchmetrics(device):
    a, b = pair()
    mask = blob()
    scores = measure_pie(a.to(device), b.to(device), mask.to(device))
    for i in range(len(a)):
        x, y = ((v[i : i + 1].double() + 1) / 2 * (1 - mask[i]) for v in (a, b))
        assert math.isclose(
            float(scores["psnr_unedit_part"][i]), float(peak_signal_noise_ratio(y, x, data_range=1.0)), abs_tol=1e-4
        )
        assert math.isclose(float(scores["mse_unedit_part"][i]), float((x - y).square().mean()), rel_tol=1e-5)
        # The library of the benchmark's time left out the border that it had padded; newer ones count it.
        _, full = structural_similarity_index_measure(y, x, data_range=1.0, return_full_image=True)
        assert math.isclose(float(scores["ssim_unedit_part"][i]), float(full[..., 5:-5, 5:-5].mean()), abs_tol=1e-5)


def test_the_sane_variants_count_only_what_lies_outside(device):
    a, b = pair()
    mask = blob()
    inside = mask[:, None].bool()
    painted = torch.where(inside, torch.rand_like(b) * 2 - 1, b)
    changed_source = torch.where(inside, torch.rand_like(b) * 2 - 1, a)
    one, other = measure_pie(a, b, mask), measure_pie(changed_source, painted, mask)
    for name in ("psnr_outside", "mse_outside", "ssim_outside"):
        assert torch.allclose(one[name], other[name], atol=1e-6), name
    outside = (1 - mask)[:, None].expand_as(a).bool()
    for i in range(3):
        by_hand = float(((a - b)[i][outside[i]] / 2).square().mean())
        assert math.isclose(float(one["mse_outside"][i]), by_hand, rel_tol=1e-5)
        assert math.isclose(float(one["psnr_outside"][i]), -10 * math.log10(by_hand), abs_tol=1e-4)
    # The benchmark's own figures flatter a large mask; these do not.
    assert bool((one["psnr_unedit_part"] > one["psnr_outside"] + 0.5).all())


def test_without_a_mask_both_variants_measure_the_whole_picture():
    a, b = pair()
    scores = measure_pie(a, b)
    for name in ("psnr", "mse", "ssim"):
        assert torch.allclose(scores[f"{name}_outside"], scores[f"{name}_unedit_part"], atol=1e-6)
    same = measure_pie(a, a, blob())
    assert float(same["psnr_outside"].min()) == PSNR_CAP and torch.allclose(same["ssim_outside"], torch.ones(3))
    assert "ssim_outside" not in measure_pie(a[..., :8, :8], b[..., :8, :8])


def test_weighted_ssim_against_a_literal_sum():
    a, b = pair(1, 13, 12)
    weight = torch.rand(1, 13, 12)
    found = ssim_map((a + 1) / 2, (b + 1) / 2, span=1.0, weight=weight)
    offset = torch.arange(11.0, dtype=torch.float64) - 5
    g = torch.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / 4.5)
    x, y = ((v[0, 1, 2:13, 1:12].double() + 1) / 2 for v in (a, b))
    w = g * weight[0, 2:13, 1:12].double()
    w = w / w.sum()
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
    wanted = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert found.shape == (1, 3, 3, 2) and math.isclose(float(found[0, 1, 2, 1]), float(wanted), abs_tol=1e-6)


def test_a_mask_over_everything_has_no_background_and_leaves_the_means():
    a, b = pair()
    mask = blob()
    mask[1] = 1
    scores = measure_pie(a, b, mask)
    for name, values in scores.items():
        assert torch.isfinite(values).tolist() == [True, False, True], name
        assert math.isclose(means(scores)[name], float(values[[0, 2]].double().mean()), rel_tol=1e-6)
    assert means(measure_pie(a, b, torch.ones(40, 52)))["psnr_outside"] is None
    assert json.loads(to_json(scores))["each"]["psnr_outside"][1] is None
    assert "| psnr_outside dB |" in table(scores) and "| 2 |" in table(scores)


def test_clip_similarity_and_the_edited_region():
    embedder = load_embedder(EMBEDDER)
    faces = sample(2, torch.Generator().manual_seed(1), held_out=True)
    smiling, frowning = ({**faces, "smile": torch.full((2,), v)} for v in (0.9, -0.9))
    x, y = (render(f)[0] * 2 - 1 for f in (frowning, smiling))
    mask = torch.zeros(2, 64, 64)
    mask[0, 20:50, 16:48] = 1
    scores = measure_pie(
        x, y, mask, Instruments(embedder=embedder), Prompts(["a frowning person"], ["a smiling person"] * 2)
    )
    assert bool((scores["clip_similarity_target_image"] > clip_similarity(embedder, x, ["a smiling person"]) + 5).all())
    literal = (y[:1] / 2 + 0.5) * mask[0] * 2 - 1
    wanted = 100 * float((embedder.embed_image(literal) * embedder.embed_text(["a smiling person"])).sum())
    part = scores["clip_similarity_target_image_edit_part"]
    assert math.isclose(float(part[0]), max(wanted, 0), abs_tol=1e-3) and math.isnan(float(part[1]))
    with pytest.raises(ValueError, match="one prompt"):
        clip_similarity(embedder, y, ["a smiling person"] * 3)


def test_the_stand_in_sees_how_far_the_structure_changed():
    features = FaceFeatures(load_regressor(REGRESSOR))
    faces = sample(16, torch.Generator().manual_seed(2), held_out=True)
    before = render(faces)[0]

    def moved(**by):
        after = {n: (faces[n] + d).clamp(-1, 1) for n, d in by.items()}
        return float(structure_distance(features, before, render({**faces, **after})[0]).mean())

    assert moved(yaw=0.0) == 0 < 2 * moved(yaw=0.2) < moved(yaw=0.5) and 4 * moved(smile=1.0) < moved(yaw=1.0)
    large = torch.nn.functional.interpolate(before, (128, 128), mode="bilinear")
    assert features(large).shape == features(before).shape == (16, 256, 48)


def tiny_dino(tmp_path) -> tuple[DinoKeys, Path]:
    net = DinoKeys(128, 8, 3, 28)
    torch.manual_seed(3)
    state = {k: torch.randn_like(v) * 0.05 for k, v in net.state_dict().items()}
    path = tmp_path / "dino.pth"
    torch.save({**state, "norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}, path)
    return load_dino(path), path


def test_dino_keys_are_those_of_another_implementation(tmp_path):
    transformers = pytest.importorskip("transformers")
    net, path = tiny_dino(tmp_path)
    config = transformers.ViTConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=512,
        image_size=224,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    other = transformers.ViTModel(config, add_pooling_layer=False).eval()
    state, named = torch.load(path), {}
    for k, v in state.items():
        named[
            k.replace("patch_embed.proj", "patch_embeddings.projection").replace("pos_embed", "position_embeddings")
        ] = v
    parameters = dict(other.named_parameters())

    def put(wanted, value):
        (name,) = [n for n in parameters if n.endswith(wanted)]
        parameters[name].data.copy_(value)

    for k in (
        "patch_embeddings.projection.weight",
        "patch_embeddings.projection.bias",
        "cls_token",
        "position_embeddings",
    ):
        put(k, named[k])
    names = list(parameters)
    for i in range(3):
        own = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items() if k.startswith(f"blocks.{i}.")}
        for kind in ("weight", "bias"):
            theirs = [n for n in names if f".{i}." in n and n.endswith(kind)]
            q, k_, v = own[f"attn.qkv.{kind}"].chunk(3)
            values = {
                "query": q,
                "q_proj": q,
                "key": k_,
                "k_proj": k_,
                "value": v,
                "v_proj": v,
                "attention.output.dense": own[f"attn.proj.{kind}"],
                "o_proj": own[f"attn.proj.{kind}"],
                "intermediate.dense": own[f"mlp.fc1.{kind}"],
                "fc1": own[f"mlp.fc1.{kind}"],
                "output.dense": own[f"mlp.fc2.{kind}"],
                "fc2": own[f"mlp.fc2.{kind}"],
                "layernorm_before": own[f"norm1.{kind}"],
                "layernorm_after": own[f"norm2.{kind}"],
            }
            for n in theirs:
                match = next(k for k in values if n.removesuffix(f".{kind}").endswith(k))
                parameters[n].data.copy_(values[match])
    keys = {}
    last = next(m for n, m in other.named_modules() if ".2." in n and n.endswith(("key", "k_proj")))
    last.register_forward_hook(lambda _m, _a, out: keys.update(found=out))
    x = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        other((x * 255 - mean) / std)
        assert torch.allclose(net(x), keys["found"], atol=1e-3, rtol=1e-4)
        assert net(torch.rand(1, 3, 64, 100)).shape == (1, 1 + 28 * (350 // 8), 128)
        assert float(structure_distance(net, x, x)) == 0 < float(structure_distance(net, x, 1 - x))


def test_scaled_sides():
    assert _scaled(512, 512) == (224, 224) and _scaled(64, 100) == (224, 350) and _scaled(100, 300)[1] == 480


def test_lpips_is_that_of_the_library(tmp_path):
    lpips = pytest.importorskip("lpips")
    theirs = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        for i, line in enumerate(theirs.lins):
            line.model[1].weight.copy_(torch.rand_like(line.model[1].weight) * (i + 1))
        torch.save(theirs.state_dict(), tmp_path / "lpips.pth")
        ours = load_lpips(tmp_path / "lpips.pth")
        a, b = pair(2, 64, 48)
        assert torch.allclose(ours(a, b), theirs(a, b).flatten(), rtol=1e-4, atol=1e-7)
        scores = measure_pie(a, b, instruments=Instruments(lpips=ours))
        assert torch.allclose(scores["lpips_outside"], ours(a, b), rtol=1e-4)
        half = torch.zeros(64, 48)
        half[:, :24] = 1
        inside = torch.where(half.bool(), -b, b)
        assert torch.allclose(
            measure_pie(a, b, half, Instruments(lpips=ours))["lpips_outside"],
            measure_pie(a, inside, half, Instruments(lpips=ours))["lpips_outside"],
        )


@pytest.mark.parametrize(("load", "said"), [(load_dino, "DINO"), (load_lpips, "LPIPS")])
def test_files_of_other_networks(load, said, tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"other.pth is no.*{said}"):
        load(tmp_path / "other.pth")
    assert isinstance(LPIPS(), torch.nn.Module)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: measure_pie(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)), "one size"),
        (lambda: measure_pie(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8)), "mask must be"),
        (lambda: measure_pie(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.full((8, 8), 2.0)), "0..1"),
        (lambda: measure_pie(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.full((8, 8), math.nan)), "0..1"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
