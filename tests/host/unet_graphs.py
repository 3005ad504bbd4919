"""Graphs around the small random U-Nets of the host, with and without an autoencoder."""

import io

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from .graphs import custom_sampler, discover, invert, node


def unet(network: str = "sd15", dtype: str = "fp32", seed: int = 0) -> dict:
    return {"model": node("HSpaceTestUNet", network=network, dtype=dtype, seed=seed)}


def lora(server, strength: float = 1.0) -> dict:
    """A LoRA on every attention output of the small U-Net."""
    folder = server.process.models / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(9)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
    state = {
        f"{name}.lora_up.weight": torch.randn(128, 4, generator=g),
        f"{name}.lora_down.weight": torch.randn(4, 128, generator=g) * 0.3,
    }
    save_file({**state, f"{name}.alpha": torch.tensor(4.0)}, folder / "hspace_test.safetensors")
    return {
        "lora": node(
            "LoraLoaderModelOnly", model=["model", 0], lora_name="hspace_test.safetensors", strength_model=strength
        )
    }


def latent_base(network: str = "sd15", **options) -> dict:
    """Model, VAE, picture, sigmas and inversion."""
    return {
        **unet(network),
        "vae": node("HSpaceTestVAE"),
        "picture": node("HSpaceTestPicture", case="noise", width=144, height=128),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=6, denoise=1.0),
        "invert": invert(
            "picture", "sigmas", "fixed point", iterations=4, **{"vae": ["vae", 0], "positive": ["model", 1], **options}
        ),
    }


def latent_discover(**options) -> dict:
    return {
        "mask": node("SolidMask", value=1.0, width=144, height=128),
        "half": node("CropMask", mask=["mask", 0], x=0, y=0, width=72, height=128),
        "empty": node("SolidMask", value=0.0, width=144, height=128),
        "region": node("MaskComposite", destination=["empty", 0], source=["half", 0], x=0, y=0, operation="add"),
        "discover": discover(("region", 0), **options),
    }


def resampled(model: str) -> dict:
    """The stock sampler along the trajectory, decoded."""
    return {
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False),
        "guider": node("BasicGuider", model=[model, 0], conditioning=["model", 1]),
        "no noise": node("DisableNoise"),
        "sampler": custom_sampler("no noise", "guider", "resume", ["resume", 1], ["invert", 1]),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
    }


def picture(server, outputs, name) -> torch.Tensor:
    data = server.view(outputs[name]["images"][0])
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).copy()).float() / 255
