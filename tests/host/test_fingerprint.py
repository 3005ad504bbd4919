"""What is another model and what is not: every stock node that replaces the sampling, LoRAs merged and bypassed."""

import copy
import itertools
import re

import pytest
import torch

from .graphs import FACE, SCHEDULE, base, discover, edit_friendly, invert, node
from .morph_graphs import SEEDS, ends, frames

EDM = [
    ("v_prediction", 120.0),
    ("edm", 120.0),
    ("edm_playground_v2.5", 120.0),
    ("eps", 120.0),
    ("eps", 80.0),
    ("cosmos_rflow", 120.0),
]
SAMPLINGS = [
    *(
        ("ModelSamplingDiscrete", {"sampling": s, "zsnr": z})
        for s, z in itertools.product(
            ["eps", "v_prediction", "lcm", "x0", "img_to_img", "img_to_img_flow"], [False, True]
        )
    ),
    *(("ModelSamplingContinuousEDM", {"sampling": s, "sigma_max": m, "sigma_min": 0.002}) for s, m in EDM),
    ("ModelSamplingContinuousV", {"sampling": "v_prediction", "sigma_max": 500.0, "sigma_min": 0.03}),
    ("ModelSamplingSD3", {"shift": 3.0}),
    ("ModelSamplingSD3", {"shift": 1.0}),
    ("ModelSamplingAuraFlow", {"shift": 1.73}),
    ("ModelSamplingFlux", {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024}),
    ("ModelSamplingStableCascade", {"shift": 2.0}),
]
OTHERS = [  # stock nodes that change no prediction of the network itself
    ("RescaleCFG", {"multiplier": 0.7}),
    ("FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    ("HyperTile", {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False}),
    ("DifferentialDiffusion", {}),
    ("EasyCache", {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}),
    ("PerturbedAttentionGuidance", {"scale": 3.0}),
    ("ModelComputeDtype", {"dtype": "fp32"}),
]


def unet(executor, network: str = "sd15", seed: int = 0):
    """A small random network."""
    ((model, *_),) = executor.run({"model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=seed)}, "model")
    return model


def named(executor, model) -> str:
    return executor.module("nodes.host.model.fingerprint").model_fingerprint(model)


def test_every_sampling_is_another_model_unless_it_changes_nothing(executor):
    digests: dict[str, tuple] = {}
    for network, same in (("sd15", ("eps", False)), ("sd2 v", ("v_prediction", False))):
        model = unet(executor, network)
        plain = named(executor, model)
        assert re.fullmatch("[0-9a-f]{12}", plain)
        for kind, options in SAMPLINGS:
            (changed,) = executor.call(kind, model=model, **options)
            fingerprint = named(executor, changed)
            nothing = kind == "ModelSamplingDiscrete" and (options["sampling"], options["zsnr"]) == same
            assert (fingerprint == plain) == nothing, (network, kind, options, fingerprint)
            assert fingerprint == plain or digests.setdefault(fingerprint, (network, kind, options)) == (
                network,
                kind,
                options,
            )
            assert named(executor, model) == plain  # nothing stays on the model


def test_flow_models(executor):
    ((model, _),) = executor.run({"model": node("HSpaceTestDiT")}, "model")
    plain, original = named(executor, model), model.get_model_object("model_sampling")
    for kind, options, same in [
        (
            "ModelSamplingFlux",
            {"max_shift": original.shift, "base_shift": original.shift, "width": 512, "height": 512},
            True,
        ),
        ("ModelSamplingFlux", {"max_shift": 1.3, "base_shift": 0.5, "width": 1024, "height": 1024}, False),
        ("ModelSamplingSD3", {"shift": 3.0}, False),
    ]:
        (changed,) = executor.call(kind, model=model, **options)
        assert (named(executor, changed) == plain) == same, kind
    (a,), (b,) = (executor.call("ModelSamplingSD3", model=model, shift=s) for s in (3.0, 5.0))
    differences = executor.module("core.fingerprint").differences
    assert "shift (3 before, 5 now)" in differences(named(executor, a), named(executor, b))
    (scaled,) = executor.call("ModelNoiseScale", model=a, noise_scale=8.0)
    assert "scale of the noise" in differences(named(executor, a), named(executor, scaled))


def test_guidance_caches_and_attention_patches_are_the_same_model(executor):
    model = unet(executor)
    for kind, options in OTHERS:
        (changed,) = executor.call(kind, model=model, **options)
        assert named(executor, changed) == named(executor, model), kind
    ((compiled,),) = (executor.call("TorchCompileModel", model=model, backend="inductor"),)
    assert named(executor, compiled) == named(executor, model)


def test_a_replaced_part_of_the_network(executor):
    model = unet(executor)
    net, plain = model.model.diffusion_model, named(executor, model)
    same, other = model.clone(), model.clone()
    same.add_object_patch("diffusion_model.time_embed", torch.nn.Sequential(*net.time_embed))
    other.add_object_patch(
        "diffusion_model.time_embed", torch.nn.Sequential(*net.time_embed, torch.nn.SiLU(), torch.nn.Linear(2, 2))
    )
    assert named(executor, same) == plain
    assert "+network." in named(executor, other)


def lora(model, seed: int = 0, dtype=torch.float32) -> dict:
    """A LoRA file for two layers."""
    g, tensors = torch.Generator().manual_seed(seed), {}
    keys = [k for k, v in model.model.state_dict().items() if k.endswith("attn1.to_q.weight") and v.dim() == 2][:2]
    for key in keys:
        out, inside = model.model.state_dict()[key].shape
        name = key.removesuffix(".weight")
        tensors[f"{name}.lora_up.weight"] = (torch.randn(out, 2, generator=g) * 0.3).to(dtype)
        tensors[f"{name}.lora_down.weight"] = (torch.randn(2, inside, generator=g) * 0.3).to(dtype)
    return tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_bypassed_lora_is_the_merged_one(executor, dtype):
    model = unet(executor)
    merged, bypassed = (
        executor.call("LoraModelLoader", model=model, lora=lora(model, dtype=dtype), strength_model=0.8, bypass=b)[0]
        for b in (False, True)
    )
    other = executor.call(
        "LoraModelLoader", model=model, lora=lora(model, dtype=dtype), strength_model=0.7, bypass=True
    )[0]
    plain, one, two = (named(executor, m) for m in (model, merged, bypassed))
    assert plain != one == two and re.fullmatch("[0-9a-f]{12}[+][0-9a-f]{8}", one)
    assert named(executor, other) not in (plain, one)
    bypassed.inject_model()
    try:
        assert named(executor, bypassed) == two  # as in a run
    finally:
        bypassed.eject_model()
    assert named(executor, bypassed) == two


def test_foreign_injections_are_another_model(executor):
    from comfy.patcher_extension import PatcherInjection

    model = unet(executor).clone()
    model.set_injections("motion", [PatcherInjection(inject=lambda patcher: None, eject=lambda patcher: None)])
    assert "+injection." in named(executor, model)


@pytest.fixture
def inverted(executor):
    """A face, its MODEL, and its trajectories."""
    prompt = base(steps=4, iterations=1) | {"discover": discover()}
    prompt["edict"] = invert(FACE, SCHEDULE, "edict")
    prompt["noises"] = edit_friendly(seed=1)
    names = ("model", FACE, "invert", "edict", "noises", "discover")
    return dict(zip(names, executor.run(prompt, *names), strict=True))


def refusals(executor, inverted, model) -> dict[str, str]:
    """What every kind of use of a trajectory and of directions says to another MODEL."""
    messages = {}
    latent = {"samples": torch.zeros(1, 3, 64, 64)}
    (noise,) = executor.call("DisableNoise")
    (guider,) = executor.call("BasicGuider", model=model, conditioning=inverted["model"][2])

    def sampled(kind, path, **options):
        sampler, sigmas = executor.call(kind, trajectory=inverted[path][0], **options)
        executor.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )

    uses = {
        "Render": lambda: executor.call(
            "HSpaceRenderTrajectory",
            model=model,
            trajectory=inverted["invert"][0],
            asymmetric=False,
            eta=0.0,
            seed=0,
            protect=0.0,
        ),
        "Resume": lambda: sampled("HSpaceResumeTrajectory", "invert", asymmetric=False),
        "Exact": lambda: sampled("HSpaceSampleExactInversion", "edict"),
        "Edit-Friendly": lambda: sampled("HSpaceSampleEditFriendly", "noises", skip=0),
        "Discover": lambda: executor.call(
            "HSpaceDiscoverRegion",
            model=model,
            trajectory=inverted["invert"][0],
            mask=inverted[FACE][1],
            k=2,
            mode="generalized",
            tau=0.01,
            rank=20,
            sigma=0.0,
            layer="middle",
            image_index=0,
            iterations=2,
            seed=0,
        ),
        "Steer": lambda: executor.call(
            "HSpaceSteer",
            model=model,
            directions=inverted["discover"][0],
            strength=5.0,
            direction=1,
            sigma_start=0.0,
            sigma_end=0.1,
            normalise="none",
        ),
    }
    for name, use in uses.items():
        try:
            use()
        except ValueError as error:
            messages[name] = str(error)
    return messages


USES = {"Render", "Resume", "Exact", "Edit-Friendly", "Discover", "Steer"}


SAID = {"lcm": ("prediction type", "sigma table"), "v_prediction": ("sigma table",), "x0": ("prediction type",)}


@pytest.mark.parametrize("sampling", SAID)
def test_another_sampling_is_refused_and_named(executor, inverted, sampling):
    (changed,) = executor.call("ModelSamplingDiscrete", model=inverted["model"][0], sampling=sampling, zsnr=False)
    messages = refusals(executor, inverted, changed)
    assert set(messages) == USES
    assert all("LoRA" not in text and all(words in text for words in SAID[sampling]) for text in messages.values()), (
        messages
    )


@pytest.mark.parametrize("bypass", [False, True])
def test_a_lora_is_refused_and_named_where_it_is_no_edit(executor, inverted, bypass):
    model = inverted["model"][0]
    key = next(k for k, v in model.model.state_dict().items() if v.dim() == 2 and k.endswith(".weight")).removesuffix(
        ".weight"
    )
    out, inside = model.model.state_dict()[f"{key}.weight"].shape
    thin = {f"{key}.lora_up.weight": torch.ones(out, 1) * 0.1, f"{key}.lora_down.weight": torch.ones(1, inside) * 0.1}
    (changed,) = executor.call("LoraModelLoader", model=model, lora=thin, strength_model=1.0, bypass=bypass)
    messages = refusals(executor, inverted, changed)
    assert set(messages) == USES - {"Edit-Friendly", "Steer"}
    assert all("LoRA" in text for text in messages.values()), messages


def test_the_same_model_passes_and_old_ones_do(executor, inverted):
    model = inverted["model"][0]
    assert not refusals(executor, inverted, model)
    clone = model.clone()
    clone.add_object_patch("model_sampling", copy.deepcopy(model.get_model_object("model_sampling")))
    assert not refusals(executor, inverted, clone)
    assert inverted["discover"][0]["fingerprint"] == named(executor, model)


def test_morph_frames_takes_pictures_inverted_under_bypassed_loras(executor):
    """As it takes those of merged ones, with the same result."""
    morphs = {}
    for bypass in (False, True):
        prompt = ends(steps=3, lora_steps=1)
        for name in SEEDS:
            prompt[f"tuned {name}"]["inputs"]["bypass"] = bypass
        ((morphs[bypass], *_),) = executor.run(prompt | {"frames": frames(frames=3)}, "frames")
    assert morphs[False].shape[0] == 3
    assert float((morphs[False] - morphs[True]).abs().max()) < 1e-3


def test_thin_fine_tuned_weights_by_the_stock_loader_are_an_edit(executor, inverted):
    """LORA_MODEL is a stock type: bypassed or merged, Sample Edit-Friendly takes it as the edit that it is."""
    model = inverted["model"][0]
    key = next(k for k, v in model.model.state_dict().items() if v.dim() == 2 and k.endswith(".weight")).removesuffix(
        ".weight"
    )
    out, inside = model.model.state_dict()[f"{key}.weight"].shape
    thin = {f"{key}.lora_up.weight": torch.ones(out, 1) * 0.1, f"{key}.lora_down.weight": torch.ones(1, inside) * 0.1}
    (noise,) = executor.call("DisableNoise")
    sampler, sigmas = executor.call("HSpaceSampleEditFriendly", trajectory=inverted["noises"][0], skip=0)
    results = []
    for bypass in (False, True):
        (tuned,) = executor.call("LoraModelLoader", model=model, lora=thin, strength_model=1.0, bypass=bypass)
        (guider,) = executor.call("BasicGuider", model=tuned, conditioning=inverted["model"][2])
        latent = {"samples": torch.zeros(1, 3, 64, 64)}
        sampled, _ = executor.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )
        results.append(sampled["samples"])
    assert float((results[0] - results[1]).abs().max()) < 1e-3
    assert float((results[0] - inverted["noises"][0]["states"][-1]).abs().max()) > 1e-2
