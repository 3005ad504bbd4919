"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) from files of this machine; nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..measure.image import Distance
from ..measure.lpips import LPIPS
from ..stored import all_finite, same_shapes
from ..text import cleaned
from .checkpoint import read_tensors

_ALEXNET = "alexnet-owt-7be5be79.pth"


def lpips_missing() -> str:
    """Name what LPIPS would need here: the package, or a file; empty if it is there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    if importlib.util.find_spec("lpips") is None:
        return "the package lpips is not installed"
    return "" if file.is_file() else f"torchvision's {file.name} is not in {file.parent}"


def lpips_distance(device: torch.device | str = "cpu") -> Distance | None:
    """Load LPIPS (Zhang et al. 2018, arXiv 1801.03924) on AlexNet.

    None where the package or the weights of AlexNet are not on this machine.

    Nothing is downloaded: the weights are looked for where torchvision keeps them.
    """
    if lpips_missing():
        return None
    import lpips

    file = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    wanted = {f"features.{k.partition('.')[2]}": k for k in net.net.state_dict()}

    def fits(content: Any) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{file.name} is not torchvision's AlexNet; let torchvision download it again")
        same_shapes(
            {k: net.net.state_dict()[name] for k, name in wanted.items()},
            {k: content[k] for k in wanted if k in content},
        )

    state = read_tensors(file, fits)
    net.net.load_state_dict({name: state[k] for k, name in wanted.items()})
    net.to(device).eval().requires_grad_(False)
    return lambda a, b: net(a, b).flatten()


def load_lpips(path: str | Path) -> LPIPS:
    """Load LPIPS from one file with backbone and linear layers.

    Such a file is what ``lpips.LPIPS(net="squeeze").state_dict()`` saved.

    Raises:
        ValueError: the file cannot be read or is another network.
    """
    net = LPIPS()

    def fits(content: Any) -> None:
        try:
            same_shapes(net.state_dict(), _renamed(content))
        except Exception as error:  # a file may hold anything
            raise ValueError(
                f"{cleaned(Path(path).name, 120)} is not LPIPS on SqueezeNet ({cleaned(error, 200)}); save "
                "lpips.LPIPS(net='squeeze').state_dict()"
            ) from error

    net.load_state_dict({k: v.float() for k, v in _renamed(read_tensors(path, fits)).items()})
    if not all(all_finite(v) for v in net.state_dict().values()):
        raise ValueError(f"{cleaned(Path(path).name, 120)} holds NaN or infinite values; get another copy")
    return net.eval().requires_grad_(False)


def _renamed(content: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for name, value in content.items():
        if deep := re.fullmatch(r"net\.slices?\.?\d+\.(\d+\..+)", name):
            state[f"net.{deep[1]}"] = value
        elif line := re.fullmatch(r"lin(\d)\.model\.1\.weight", name):
            state[f"lin.{line[1]}"] = value
    return state
