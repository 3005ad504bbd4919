"""DINO vision transformers (arXiv 2104.14294) from their released files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..measure.structure import DinoKeys
from ..stored import same_shapes
from ..text import cleaned
from .checkpoint import read_tensors


def load_dino(path: str | Path, scale: float = 255.0) -> DinoKeys:
    """Load DINO from its release (``dino_vitbase8_pretrain.pth``), or the same weights as safetensors.

    Raises:
        ValueError: the file cannot be read or is no vision transformer of DINO.
    """
    state = read_tensors(path, lambda content: _outline(path, content, scale))
    net = _outline(path, state, scale)
    # Copied, as what was read is mapped: the file may change while the network is in use.
    net.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in _used(state).items()}, assign=True)
    return net.eval().requires_grad_(False)


def _used(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(("norm.", "head."))}


def _outline(path: str | Path, state: Any, scale: float) -> DinoKeys:
    """Build the network without weights, if ``state`` has its names and shapes."""
    try:
        dim, _, patch, _ = state["patch_embed.proj.weight"].shape
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
        if dim % 64 or not 0 < depth <= 48 or not 0 < grid <= 256 or dim > 2048:
            raise ValueError(f"width {dim}, depth {depth} and grid {grid} are none of DINO's")
        with torch.device("meta"):
            net = DinoKeys(dim, patch, depth, grid, scale)
        same_shapes(net.state_dict(), _used(state))
        return net
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"{cleaned(Path(path).name, 120)} is no vision transformer of DINO ({cleaned(error, 200)}); get "
            "dino_vitbase8_pretrain.pth of its release"
        ) from error
