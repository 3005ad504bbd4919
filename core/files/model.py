"""A model from a file of any kind that can be read here: a pixel diffusion network, or a diffusion autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch

from ..networks.vp import VPDenoiser
from .checkpoint import load_denoiser
from .diffae import Autoencoder, load_autoencoder
from .layouts import FileError


def load_model(path: str | Path, device: torch.device | str = "cpu") -> VPDenoiser | Autoencoder:
    """Read a file as a pixel diffusion network, and if it is none, as a diffusion autoencoder.

    Args:
        path: ``.safetensors``, or a checkpoint that holds nothing but tensors.
        device: where the network goes.

    Raises:
        ValueError: it is neither; both reasons are given.
    """
    try:
        return load_denoiser(path, device)
    except FileError as error:
        reason = error
    try:
        autoencoder = load_autoencoder(path)
    except FileError as error:
        raise FileError(f"{reason}. Read as a diffusion autoencoder: {error}") from error
    autoencoder.net.to(device)
    return autoencoder
