"""The host's own U-Nets in a benchmark's process, without its server."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor

from devtools.inprocess import host, pack

T = TypeVar("T")


def sd15(device: torch.device, side: int, work: Callable[[Any, Tensor], T]) -> list[T]:
    """Stable Diffusion 1.5's U-Net, 860 M parameters with random weights, behind the pack's adapter.

    Args:
        device: CPU or GPU.
        side: of the latent; a multiple of 8.
        work: called with the denoiser and a latent of noise `[1 4 side side]` at sigma 3.4.
    """
    host(device.type == "cpu")
    g = torch.Generator().manual_seed(0)
    model, prompt = sd15_model(device, g)
    run = pack("nodes.host.model.run")
    x = (3.5 * torch.randn(1, 4, side, side, generator=g)).to(device)
    return [run.with_denoiser(model, x.shape, run.Prompts(prompt), lambda net: work(net, x), True)]


def sd15_model(device: torch.device, g: torch.Generator) -> tuple[Any, list]:
    """Make that U-Net as the host's MODEL, with weights drawn from ``g``, and a CONDITIONING of noise.

    The host's modules must be importable.
    """
    base, patcher, supported = (
        import_module(f"comfy.{name}") for name in ("model_base", "model_patcher", "supported_models")
    )
    config = supported.SD15(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "num_res_blocks": [2, 2, 2, 2],
            "channel_mult": (1, 2, 4, 4),
            "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
            "transformer_depth_output": [1] * 9 + [0] * 3,
            "transformer_depth_middle": 1,
            "use_linear_in_transformer": False,
            "context_dim": 768,
            "num_heads": 8,
            "use_spatial_transformer": True,
            "legacy": False,
            "adm_in_channels": None,
            "use_temporal_attention": False,
            "use_temporal_resblock": False,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    model = base.BaseModel(config, model_type=base.ModelType.EPS, device=torch.device("cpu"))
    for name, p in model.diffusion_model.named_parameters():
        p.data.copy_(
            torch.randn(p.shape, generator=g) * p[0].numel() ** -0.5
            if p.ndim > 1
            else torch.full(p.shape, float(name.endswith("weight")))
        )
    whole = patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
    return whole, [[torch.randn(1, 77, 768, generator=g), {}]]
