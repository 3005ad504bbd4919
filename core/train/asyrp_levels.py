"""Where Asyrp edits and where it draws noise anew, by distance: t_edit and t_boost (Kwon et al. 2023, arXiv 2210.10960, section 3.3)."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..measure.image import ssim
from ..networks.read import read_tensors
from ..trajectory import Trajectory

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures `[b 3 h w]` in -1..1 -> distance of each pair, `[b]`."""
EDIT, BOOST = 0.33, 1.2  # LPIPS (AlexNet), from the paper
STAND_IN_EDIT, STAND_IN_BOOST = 0.33, 0.6
_ALEXNET = "alexnet-owt-7be5be79.pth"


@dataclass(frozen=True)
class Levels:
    """What the rule found.

    Attributes:
        sigma_edit: lowest noise level that is edited.
        sigma_boost: from here down noise is drawn anew; 0 if no level is noisy enough.
        sigmas: `[n]`, the grid.
        predicted: `[n]`, mean distance of the prediction from the picture.
        noisy: `[n]`, mean distance of the noisy picture itself.
        lpips: measured with LPIPS rather than with the stand-in.
    """

    sigma_edit: float
    sigma_boost: float
    sigmas: Tensor
    predicted: Tensor
    noisy: Tensor
    lpips: bool


def lpips_missing() -> str:
    """What LPIPS would need here: the package, or a file; empty if it is there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    if importlib.util.find_spec("lpips") is None:
        return "the package lpips is not installed"
    return "" if file.is_file() else f"torchvision's {file.name} is not in {file.parent}"


def lpips_distance(device: torch.device | str = "cpu") -> Distance | None:
    """LPIPS (Zhang et al. 2018, arXiv 1801.03924) on AlexNet, where the package and the weights of AlexNet are on this machine; else None.

    Nothing is downloaded: the weights are looked for where torchvision keeps them.
    """
    if lpips_missing():
        return None
    import lpips

    file = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = read_tensors(file)
    net.net.load_state_dict({k: state[f"features.{k.partition('.')[2]}"] for k in net.net.state_dict()})
    net.to(device).eval().requires_grad_(False)
    return lambda a, b: net(a, b).flatten()


def structural_distance(a: Tensor, b: Tensor) -> Tensor:
    """The stand-in for LPIPS: 1 - SSIM, 0 for equal pictures; not on LPIPS' scale, so it has thresholds of its own."""
    return 1 - ssim(a, b)


@torch.no_grad()
def edit_levels(
    model: Denoiser, path: Trajectory, cosine: float, *, distance: Distance | None = None, edit: float | None = None,
    boost: float | None = None, decode: Callable[[Tensor], Tensor] | None = None, callback: Callback | None = None,
) -> Levels:  # fmt: skip
    """The paper's rule: edit while the prediction is further from the picture than ``0.33 cos``, boost while the state is nearer than 1.2.

    Args:
        model: frozen denoiser.
        path: of pictures of the model's domain (100 in the paper).
        cosine: between the two prompts' embeddings: the further apart they are, the longer is edited.
        distance: LPIPS, or None for :func:`structural_distance`, whose thresholds are not calibrated against LPIPS.
        edit, boost: thresholds; None for those of the distance.
        decode: for models of latents.
        callback: called after every step.

    Raises:
        ValueError: the trajectory belongs to another model, or no level is far enough.
    """
    path.check_model(model.fingerprint)
    decode = decode or (lambda x: x)
    measure = distance or structural_distance
    edit = (EDIT if distance else STAND_IN_EDIT) if edit is None else edit
    boost = (BOOST if distance else STAND_IN_BOOST) if boost is None else boost
    picture = decode(path.x0)
    grid = path.sigmas[:-1].tolist()
    predicted, noisy = [], []
    for i, sigma in enumerate(grid):
        x = path.states[i]
        shown = model(x, x.new_full((len(x),), sigma))
        predicted.append(measure(decode(shown), picture).mean())
        noisy.append(measure(decode(x / (1 + sigma * sigma) ** 0.5), picture).mean())  # as a VP model sees it
        if callback is not None:
            callback({"i": i, "n": len(grid), "x": x, "sigma": sigma, "denoised": shown})
    far, loud = torch.stack(predicted).cpu(), torch.stack(noisy).cpu()
    edited = [s for s, d in zip(grid, far.tolist(), strict=True) if d >= edit * cosine]
    if not edited:
        raise ValueError(
            f"no step's prediction is {edit * cosine:.2f} from the picture (the noisiest is {float(far[0]):.2f}); invert up to more noise, "
            "or set sigma_edit by hand"
        )
    boosted = [s for s, d in zip(grid, loud.tolist(), strict=True) if d >= boost]
    return Levels(min(edited), min(boosted) if boosted else 0.0, path.sigmas[:-1], far, loud, distance is not None)
