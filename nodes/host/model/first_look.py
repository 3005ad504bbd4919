"""What a MODEL is by its parts, for a look at it at first contact."""

from __future__ import annotations

import platform
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_sampling
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....core.discover.check_lines import OWN_CACHE
from ....core.discover.look import Parts
from ....core.discover.quantised import is_quantised
from ....core.measure.fitness import ModelTraits
from ..patches.bystanders import bystanders
from ..patches.caches import KEYS, foreign_cache
from ..types import Model
from .coded_model import CodedUNet
from .fingerprint import model_fingerprint
from .pixel_model import PixelUNet, unet_of
from .size import size_unit, working_size
from .traits import check_weights, is_flow, is_latent
from .unet import layers_of

_PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
_LATENT = 8  # pixels
_PREDICTIONS = (
    (comfy.model_sampling.CONST, "flow"),
    (comfy.model_sampling.V_PREDICTION, "v"),
    (comfy.model_sampling.X0, "the picture"),
    (comfy.model_sampling.EPS, "noise"),
)


def parts_of(model: Model) -> Parts:
    """Look at a MODEL without asking its network."""
    net: Any = model.model.diffusion_model
    sampling: Any = model.get_model_object("model_sampling")
    levels = (float(sampling.sigma_min), float(sampling.sigma_max))
    kinds = (name for kind, name in _PREDICTIONS if isinstance(sampling, kind))
    inside = model.model_options.get("transformer_options", {})
    own = any(key in KEYS for kind in model.wrappers.values() for key in kind) or "easycache" in inside
    return Parts(
        family=_family(model),
        prediction=next(kinds, type(sampling).__name__),
        levels=levels,
        side=working_size(model),
        layers=layers_of(net) or (),
        others=bystanders(model),
        cache=foreign_cache(model) or (OWN_CACHE if own else ""),
        traits=traits_of(model),
        fingerprint=model_fingerprint(model),
        megabytes=model.model_size() / 1e6,
        dtype=str(model.model.get_dtype_inference()).removeprefix("torch."),
        device=_device(model),
        shape=state_shape(model),
    )


def traits_of(model: Model) -> ModelTraits:
    """What decides what of the pack works with a MODEL."""
    net = model.model.diffusion_model
    return ModelTraits(
        network=type(unet_of(model)).__name__,
        cut=layers_of(net) is not None,
        unet=isinstance(net, (UNetModel, PixelUNet)) and layers_of(net) is not None,
        flow=is_flow(model),
        latent=is_latent(model),
        attention=isinstance(net, UNetModel) and layers_of(net) is not None,
        coded=isinstance(net, CodedUNet),
        promptless=isinstance(net, PixelUNet),
        quantised=is_quantised(net),
        differentiable=_is_differentiable(model),
    )


def _family(model: Model) -> str:
    net = model.model.diffusion_model
    network = type(unet_of(model)).__name__
    if isinstance(net, CodedUNet):
        return f"diffusion autoencoder ({network})"
    if isinstance(net, PixelUNet):
        return f"pixel diffusion ({network})"
    if not is_latent(model):
        return f"pixel diffusion with prompts ({network})"
    return f"{type(model.model.model_config).__name__} ({network}, latents)"


def _is_differentiable(model: Model) -> bool:
    try:
        check_weights(model)
    except ValueError:
        return False
    return True


def _device(model: Model) -> str:
    name = str(comfy.model_management.get_torch_device_name(model.load_device))
    return "cpu" if model.load_device.type == "cpu" else name


def state_shape(model: Model) -> tuple[int, int, int]:
    """Channels, height and width of a state at the size that a MODEL works at, or at a guess of it."""
    told = working_size(model) or (getattr(model.model.diffusion_model, "trained_at", None) or (0, False))[0]
    unit = size_unit(model)
    side = max(unit, (told or 64) // unit * unit)
    if not is_latent(model):
        return int(model.model.latent_format.latent_channels), side, side
    ratio = int(getattr(model.model.latent_format, "spacial_downscale_ratio", _LATENT) or _LATENT)
    return int(model.model.latent_format.latent_channels), side // ratio, side // ratio


def versions() -> list[tuple[str, str]]:
    """What a bug report needs of the machine: no paths, no names of people."""
    try:
        host = str(import_module("comfyui_version").__version__)
    except (ImportError, AttributeError):
        host = "unknown"
    found = re.search(r'^version = "([^"]+)"', _PROJECT.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        ("ComfyUI-HSpace", found[1] if found else "unknown"),
        ("ComfyUI", host),
        ("torch", torch.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
