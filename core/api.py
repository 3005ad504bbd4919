"""The five calls of the library: load, invert, discover, steer and measure, with defaults that suit a first edit.

Each of them wraps functions of this package whose other options it leaves at their defaults. Who needs those calls the
functions themselves: every docstring names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .directions import Directions
from .discover import find
from .edit.directions.shift import Edit
from .edit.directions.steer import SteerOptions, steer_trajectory
from .edit_schedule import EditSchedule
from .files.diffae import Autoencoder
from .files.model import load_model
from .invert.fixed_point import invert_fixed_point
from .measure.image import leak_ratio, psnr, region_change, ssim
from .networks.diffae import Coded
from .networks.vp import VPDenoiser
from .schedule import grid_sigmas, rescale_sigma
from .train.pictures import fitted
from .trajectory import Trajectory
from .weights_folder import weights_folder

Model = VPDenoiser | Autoencoder

EMBEDDED = ("face_model", "face_diffae", "face_hdae")
"""Models that come with the package, by name."""
_RBE_SIGMA, _RBE_SIZE = 3.4, 256  # the level at which the paper discovers (t = 500), and the side of its pictures
_ABOVE = 4.0  # an edit starts so many times above the level of its directions; noisier steps settle the whole picture


@dataclass(frozen=True)
class Change:
    """What differs between pictures before and after an edit, one value a picture.

    Attributes:
        psnr: peak signal to noise ratio in dB, `[b]`; 120 for equal pictures.
        ssim: structural similarity, `[b]`; 1 for equal pictures.
        inside: mean absolute change inside the mask, `[b]`, on the -1..1 scale; None without a mask.
        outside: the same outside of it, `[b]`; NaN if the mask covers everything.
        leak: ``outside / inside``, `[b]`; 0 is a perfectly local edit.
    """

    psnr: Tensor
    ssim: Tensor
    inside: Tensor | None = None
    outside: Tensor | None = None
    leak: Tensor | None = None


def load(model: str | Path = "face_model", device: torch.device | str = "cpu") -> Model:
    """Load a model: an embedded one by name, or a pixel diffusion network or diffusion autoencoder from a file.

    Args:
        model: one of :data:`EMBEDDED`, or the path of a DDPM or guided-diffusion checkpoint, DiffAE or HDAE.
        device: where it goes.

    Returns:
        A denoiser, or an autoencoder; the other calls take both. See :func:`core.files.model.load_model`.

    Raises:
        ValueError: the file cannot be used; the message says why.
    """
    path = weights_folder() / f"{model}.safetensors" if model in EMBEDDED else Path(model)
    return load_model(path, device)


def invert(model: Model, image: Tensor | str | Path, steps: int = 20, iterations: int = 1) -> Trajectory:
    """Invert an image: find the states from which sampling returns it.

    Args:
        model: from :func:`load`.
        image: `[b 3 h w]` in -1..1, or the path of a picture, whose middle square is scaled to the model's size.
        steps: of the model's own noise schedule.
        iterations: refinements of each step, 0 or more; each costs one model call.

    Returns:
        The trajectory, states `[steps+1 b 3 h w]`. See :func:`core.invert.fixed_point.invert_fixed_point`.

    Raises:
        ValueError: the image has values outside -1..1 or a size that the model does not take.
    """
    pixels = image if isinstance(image, Tensor) else _read_picture(model, Path(image))
    pixels = pixels.to(_device(model))
    return invert_fixed_point(_denoiser(model, pixels), pixels, grid_sigmas(model.schedule, steps), iterations)


def discover(
    model: Model,
    trajectory: Trajectory,
    mask: Tensor | None = None,
    k: int = 5,
    sigma: float | None = None,
) -> Directions:
    """Discover the directions of h that change one region of an image and leave the rest as it is.

    Args:
        model: the one that was inverted.
        trajectory: of one image; ``trajectory.image(i)`` picks one of several.
        mask: the region, `[h w]` in 0..1; None for the whole picture.
        k: how many directions, 1..64, the strongest first.
        sigma: the noise level to look at; None is the paper's, scaled to the image's size.

    Returns:
        ``k`` directions, vectors `[1 k c h w]`. See :func:`core.discover.find.discover`.

    Raises:
        ValueError: another model, several images, or a mask that is empty or of another aspect.
    """
    paper = rescale_sigma(_RBE_SIGMA, _RBE_SIZE, trajectory.states.shape[-1])
    step = trajectory.nearest(paper if sigma is None else sigma)
    denoiser = _denoiser(model, trajectory.x0)
    trajectory.check_model(denoiser.fingerprint)
    directions, _ = find.discover(denoiser, trajectory.states[step], float(trajectory.sigmas[step]), mask, k=k)
    return directions


def steer(
    model: Model,
    trajectory: Trajectory,
    directions: Directions,
    strength: float = 15.0,
    direction: int = 0,
    protect: float = 0.0,
) -> Tensor:
    """Sample an edited image: h is moved along one of the directions on the way back from noise.

    Args:
        model: the one that was inverted.
        trajectory: from :func:`invert`.
        directions: from :func:`discover`.
        strength: how far, a length in h; 0 is the unedited image, a negative one goes the other way.
        direction: which one, counted from 0.
        protect: 0..1, how firmly everything outside of the directions' mask is held.

    Returns:
        The edited image `[b 3 h w]`. See :func:`core.edit.directions.steer.steer_trajectory`.

    Raises:
        ValueError: model, trajectory and directions do not belong together.
    """
    start = _ABOVE * float(directions.sigmas.max())
    edit = Edit(directions.select([direction]), EditSchedule(strength, sigma_start=start))
    denoiser = _denoiser(model, trajectory.x0)
    return steer_trajectory(denoiser, trajectory, [edit], SteerOptions(protect=protect, mask=directions.mask))


def measure(before: Tensor, after: Tensor, mask: Tensor | None = None) -> Change:
    """Measure how much an edit changed, inside and outside of the region it was meant for.

    Args:
        before: `[b 3 h w]` in -1..1.
        after: the same shape.
        mask: `[h w]` or `[b h w]` in 0..1 at the pictures' size.

    Returns:
        The figures. See :mod:`core.measure.image`.

    Raises:
        ValueError: different shapes, pictures below 11 pixels, or an empty mask.
    """
    if mask is None:
        return Change(psnr(before, after), ssim(before, after))
    inside, outside = region_change(before, after, mask)
    return Change(psnr(before, after), ssim(before, after), inside, outside, leak_ratio(inside, outside))


def _denoiser(model: Model, pictures: Tensor) -> VPDenoiser:
    """Take the model itself; of an autoencoder, its decoder under the codes of these pictures `[b 3 h w]`."""
    if isinstance(model, VPDenoiser):
        return model
    with torch.no_grad():
        code = model.net.encoder(pictures)
    return VPDenoiser(Coded(model.net, code), model.schedule, model.prediction, model.fingerprint, model.trained_at)


def _device(model: Model) -> torch.device:
    return next(model.net.parameters()).device


def _read_picture(model: Model, path: Path) -> Tensor:
    """Read the middle square of a picture at the side the model was trained at, `[1 3 h w]` in -1..1."""
    side, _ = model.trained_at or (256, False)
    return fitted(path, side)[None].float() / 127.5 - 1
