"""FlowEdit and the Edit Dial on small random transformers of the host's own classes: Z-Image, and Qwen-Image with its
frame axis."""

from importlib import import_module

import pytest
import torch

SHAPES = {"Z-Image": (1, 16, 8, 12), "Qwen-Image": (1, 16, 1, 8, 12)}
CONFIGS = {
    "Z-Image": (
        "ZImage",
        {
            "image_model": "lumina2",
            "patch_size": 2,
            "in_channels": 16,
            "dim": 256,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "multiple_of": 32,
            "norm_eps": 1e-5,
            "qk_norm": True,
            "cap_feat_dim": 48,
            "axes_dims": [32, 48, 48],
            "axes_lens": [64, 64, 64],
            "rope_theta": 256.0,
            "time_scale": 1000.0,
            "z_image_modulation": True,
            "pad_tokens_multiple": 32,
        },
    ),
    "Qwen-Image": (
        "QwenImage",
        {
            "image_model": "qwen_image",
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 2,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 48,
            "pooled_projection_dim": 32,
            "axes_dims_rope": (8, 12, 12),
        },
    ),
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def world(request, executor):
    """A MODEL, two prompts of different length, and a latent."""
    name, options = CONFIGS[request.param]
    config = getattr(import_module("comfy.supported_models"), name)(options)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    g = torch.Generator().manual_seed(0)
    for part, weight in model.diffusion_model.named_parameters():
        ones = torch.full(weight.shape, float(part.endswith(("weight", "scale"))))
        drawn = torch.randn(weight.shape, generator=g)
        weight.data.copy_(drawn * weight[0].numel() ** -0.5 if weight.dim() > 1 else ones)
    model.diffusion_model.requires_grad_(False)
    cpu = torch.device("cpu")
    patcher = import_module("comfy.model_patcher").CoreModelPatcher(model, load_device=cpu, offload_device=cpu)
    prompts = [[[torch.randn(1, n, 48, generator=g), {}]] for n in (7, 11)]
    return executor.call, patcher, prompts, {"samples": torch.randn(SHAPES[request.param], generator=g)}


def sampled(call, model, prompt, latent, sampler, sigmas):
    links = {
        "noise": call("RandomNoise", noise_seed=7)[0],
        "guider": call("BasicGuider", model=model, conditioning=prompt)[0],
    }
    return call("SamplerCustomAdvanced", **links, sampler=sampler, sigmas=sigmas, latent_image=latent)[0]["samples"]


def schedule(call, model):
    return call("BasicScheduler", model=model, scheduler="simple", steps=6, denoise=1.0)[0]


def test_flowedit(world):
    call, model, (source, target), latent = world

    def edited(strength, prompt=target, batch=latent):
        dials = {"strength": strength, "sigma_start": 0.0, "source_cfg": 1.0, "source": source}
        return sampled(call, model, prompt, batch, *call("HSpaceFlowEdit", sigmas=schedule(call, model), **dials))

    x = latent["samples"]
    assert float((edited(0.0) - x).abs().max()) < 1e-6  # the host scales latents there and back
    moved = {strength: float((edited(strength) - x).norm()) for strength in (0.5, 1.0)}
    assert 0.01 < moved[0.5] < moved[1.0]
    assert float((edited(1.0, source) - x).abs().max()) < 1e-4
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    two = edited(0.5, batch={"samples": torch.cat([other, x])})
    assert float((two[1:] - edited(0.5)).abs().max()) < 1e-4


def test_edit_dial_with_a_reference(world):
    call, model, (_, target), latent = world
    (prompt,) = call("ReferenceLatent", conditioning=target, latent=latent)
    (euler,) = call("KSamplerSelect", sampler_name="euler")
    nothing = {"samples": torch.zeros_like(latent["samples"])}

    def drawn(**dials):
        dialled = call("HSpaceEditDial", model=model, source=latent, **dials)[0] if dials else model
        return sampled(call, dialled, prompt, nothing, euler, schedule(call, model))

    plain = drawn()
    assert float((drawn(strength=0.0, keep=0.25) - latent["samples"]).abs().max()) < 1e-5
    assert torch.equal(drawn(strength=1.0, keep=0.0), plain)
    half = float((drawn(strength=0.5, keep=0.25) - latent["samples"]).norm())
    assert 0 < half < float((plain - latent["samples"]).norm())
