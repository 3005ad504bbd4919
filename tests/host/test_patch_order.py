"""Attention edits beside every stock node that patches attention, in both orders: the source row stays, the order does
not matter."""

import pytest
import torch

from .feature_graphs import inject
from .feature_graphs import small as inverted
from .graphs import FACE, SCHEDULE, base, custom_sampler, discover, node, steer
from .pair_graphs import local_blend, p2p, sample, small

PATCHES = {
    "HyperTile": ("HyperTile", {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False}),
    "ToMe": ("TomePatchModel", {"ratio": 0.5}),
    "FreeU": ("FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    "PAG": ("PerturbedAttentionGuidance", {"scale": 3.0}),
    "SAG": ("SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0}),
    "NAG": ("NAGuidance", {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}),
    "multiply": ("UNetSelfAttentionMultiply", {"q": 1.1, "k": 0.9, "v": 1.0, "out": 1.0}),
    "Deep Shrink": (
        "PatchModelAddDownscale",
        {
            "block_number": 3,
            "downscale_factor": 2.0,
            "start_percent": 0.0,
            "end_percent": 0.35,
            "downscale_after_skip": True,
            "downscale_method": "bicubic",
            "upscale_method": "bicubic",
        },
    ),
}


def ordered(kind: str, edit: dict, prompt: dict) -> dict:
    """The MODEL with the patch alone, with the edit before it, and after it."""
    name, options = PATCHES[kind]
    before = {**edit, "inputs": {**edit["inputs"], "model": ["model", 0]}}
    after = {**edit, "inputs": {**edit["inputs"], "model": ["patched", 0]}}
    return prompt | {
        "patched": node(name, model=["model", 0], **options),
        "edited": before,
        "edit last": after,
        "edit first": node(name, model=["edited", 0], **options),
    }


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", PATCHES)
def test_prompt_to_prompt(executor, kind):
    prompt = ordered(kind, p2p(mode="replace", self_end=0.5, self_resolution="all"), small())
    for name in ("patched", "edit first", "edit last"):
        prompt[f"out {name}"] = sample((name, 0), negative=("model", 2), steps=4)
    alone, first, last = (
        o[0]["samples"] for o in executor.run(prompt, "out patched", "out edit first", "out edit last")
    )
    size = float(alone.abs().max())
    for edited in (first, last):
        assert float((edited[0] - alone[0]).abs().max()) < 1e-5 * size  # the source row
        assert float((edited[1] - alone[1]).abs().max()) > 1e-3 * size  # the edit acts
    assert float((first - last).abs().max()) < 1e-5 * size


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    "kind", [name for name in PATCHES if name != "multiply"]
)  # which is another model, and refused as such
@pytest.mark.parametrize("preset", ["PnP", "MasaCtrl"])
def test_inject_features(executor, kind, preset):
    prompt = ordered(kind, inject(preset), inverted("sd15"))
    for name in ("edit first", "edit last", "patched"):
        prompt[f"guider {name}"] = node(
            "CFGGuider", model=[name, 0], positive=["target", 0], negative=["negative", 0], cfg=3.0
        )
        prompt[f"out {name}"] = custom_sampler("noise", f"guider {name}", "resume", ["resume", 1], ["invert", 1])
    executor.run(prompt, "resume", *(f"guider {name}" for name in ("edit first", "edit last", "patched")))
    latents = []
    for name in ("edit first", "edit last", "patched"):
        torch.manual_seed(0)  # HyperTile and ToMe draw random numbers in every call
        latents.append(executor.run(prompt, f"out {name}")[0][0])
    first, last, alone = latents
    first, last, alone = (v["samples"] for v in (first, last, alone))
    size = float(alone.abs().max())
    assert float((first - last).abs().max()) < 1e-5 * size
    assert float((first - alone).abs().max()) > 1e-3 * size


def _doubles(n, context, value, extra):
    return (torch.cat([v, v]) for v in (n, context, value))


def _halves(n, extra):
    return n[: len(n) // 2]


def test_rows_that_were_split_before_are_refused_by_name(executor):
    """A pack that patches within the call, inside of ours."""
    ((model, *_), (pair, tokens), (rows,)) = executor.run(small(), "model", "pair", "rows")

    def inside(run, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        patches = transformer_options.get("patches", {})
        mine = {**patches, "attn1_patch": [_doubles, *patches.get("attn1_patch", ())], "attn1_output_patch": [_halves]}
        return run(x, timesteps, context, y, control, {**transformer_options, "patches": mine}, **kwargs)

    (edited,) = executor.call(
        "HSpacePromptToPrompt", model=model, tokens=tokens, mode="replace", cross_end=0.0, self_end=1.0
    )
    edited.add_wrapper_with_key("diffusion_model", "inner", inside)
    with pytest.raises(ValueError, match="rows of the batch, but another node has made 8"):
        sample_twice(executor, edited, pair, [[pair[0][0][:1] * 0.5, {}]], rows, cfg=3.0)


def sample_twice(executor, model, positive, negative, latent, cfg: float) -> None:
    """Two steps of the stock KSampler."""
    dials = {"seed": 1, "steps": 2, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    links = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    executor.call("KSampler", **links, **dials, cfg=cfg)


def test_keys_and_values_of_a_morph_come_before_other_patches(executor):
    ((model, *_),) = executor.run(small(), "model")
    module = executor.module("nodes.host.patches.diffmorpher")
    (tiled,) = executor.call("HyperTile", model=model, **PATCHES["HyperTile"][1])
    patch = module.KeyValues(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), 0.0)
    ours = module.first_patch(tiled, patch)
    assert ours.model_options["transformer_options"]["patches"]["attn1_patch"][0] is patch
    assert len(tiled.model_options["transformer_options"]["patches"]["attn1_patch"]) == 1
    n = torch.zeros(6, 4, 8)
    extra = {"block": ("output", 1), "sigmas": torch.ones(1), "cond_or_uncond": [0]}
    with pytest.raises(ValueError, match="3 rows of a batch, but another node has made 6"):
        patch(n, n, n, extra)


def test_what_changes_the_size_of_h_is_named(executor):
    """Deep Shrink and context windows make h of another size than the directions; the picture has the right one."""
    prompt = base(steps=3, iterations=1) | {"discover": discover(), "steered": steer(5.0, sigma_end=0.0)}
    ((steered,),) = executor.run(prompt, "steered")
    shrunk = steered.clone()

    def shrink(h, options):
        return torch.nn.functional.avg_pool2d(h, 2) if options["block"][1] == 1 else h

    shrink.__qualname__ = "PatchModelAddDownscale.execute.<locals>.input_block_patch"
    options = {"patches": {"input_block_patch": [shrink]}, "context_window": object(), "wrappers": {}}
    steering = executor.module("nodes.host.patches.steering")
    edits = shrunk.model_options["transformer_options"][steering.EDITS]
    h = torch.zeros(1, edits[0].directions.vectors.shape[2], 2, 2)
    with pytest.raises(ValueError, match=r"PatchModelAddDownscale, Context Windows on this MODEL"):
        steering._shifted("middle", h, {**options, steering.EDITS: edits, "sigmas": torch.tensor([1.0])})


def test_context_windows_with_an_attention_edit_are_refused_by_name(executor):
    ((model, *_), (pair, tokens), (rows,)) = executor.run(small(), "model", "pair", "rows")
    (edited,) = executor.call(
        "HSpacePromptToPrompt", model=model, tokens=tokens, mode="replace", cross_end=0.8, self_end=0.4
    )
    windows = {
        "context_overlap": 2,
        "context_schedule": "standard_static",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "freenoise": False,
        "dim": 2,
    }

    def run(length):
        (cut,) = executor.call("ContextWindowsManual", model=edited, context_length=length, **windows)
        sample_twice(executor, cut, pair, pair, rows, cfg=1.0)

    with pytest.raises(ValueError, match="Context Windows node on this MODEL cuts the picture"):
        run(8)
    run(16)


def test_maps_of_a_picture_that_shrinks_inside_are_refused_by_name(executor):
    """Deep Shrink under P2P Local Blend."""
    blend = local_blend("p2p", words="cat", threshold=0.85)
    name, options = PATCHES["Deep Shrink"]
    prompt = small() | {
        "p2p": p2p(mode="replace"),
        "blended": blend,
        "shrunk": node(name, model=["blended", 0], **{**options, "block_number": 1}),
    }
    prompt["out"] = sample(("shrunk", 0), negative=("model", 2), steps=2)
    with pytest.raises(Exception, match=r"another node shrinks the picture.*PatchModelAddDownscale"):
        executor.run(prompt, "out")


def test_context_windows_with_inversions_and_their_samplers_are_refused_by_name(executor):
    prompt = base(steps=3, iterations=1)
    ((model, _, conditioning, *_), (picture, *_), (sigmas,), (path, latent, *_)) = executor.run(
        prompt, "model", FACE, SCHEDULE, "invert"
    )
    (cut,) = executor.call(
        "ContextWindowsManual",
        model=model,
        context_length=32,
        context_overlap=2,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        freenoise=False,
        dim=2,
    )
    with pytest.raises(ValueError, match=r"Context Windows node on this MODEL cuts the picture.*this node"):
        executor.call("HSpaceInvertImage", model=cut, image=picture, sigmas=sigmas, method="ddim B")
    sampler, levels = executor.call("HSpaceResumeTrajectory", trajectory=path, asymmetric=False)
    (noise,), (guider,) = (
        executor.call("DisableNoise"),
        executor.call("BasicGuider", model=cut, conditioning=conditioning),
    )
    with pytest.raises(ValueError, match=r"Context Windows node on this MODEL cuts the picture.*Resume Trajectory"):
        executor.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=levels, latent_image=latent
        )
