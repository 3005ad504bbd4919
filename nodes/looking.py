"""Where a node looks: the noise level, the state of a trajectory and the region of its picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..core.directions import Directions
from ..core.discover.mask import output_weights
from ..core.discover.rows import refuse_few_rows
from ..core.measure.plots import spectrum_plot
from ..core.payload import directions_to_payload
from ..core.photo.whole import fit_region
from ..core.schedule import Schedule, rescale_sigma
from ..core.trajectory import Trajectory
from .host.api import Node, io, ui
from .host.model.blocks import usual_layer
from .host.model.fingerprint import model_fingerprint
from .host.model.images import has_aspect, one_mask
from .host.model.prompts import Prompts
from .host.model.run import with_denoiser
from .host.model.size import pixels_per_cell
from .host.model.traits import check_network, is_latent
from .host.progress import reporter, say

T = TypeVar("T")
_SAME = 0.01  # relative; a level that is shown with two digits is still the one that was typed
RBE_SIGMA = 3.4  # t0 = 500 of the paper's 256-pixel models
RBE_PIXELS = 256
_CHAIN = 1000
LATENT_T = 700
"""Of 1000: where Park et al. 2023 (arXiv 2307.12868) and LOCO Edit (arXiv 2409.02374) look at Stable Diffusion."""


def default_sigma(model, pixels: int) -> float:
    """The papers' noise level: rescaled to a picture of ``pixels`` pixels, or t = 700 for models that work in
    latents.
    """
    return sigma_at(model, LATENT_T, pixels) if is_latent(model) else rescale_sigma(RBE_SIGMA, RBE_PIXELS, pixels)


def sigma_at(model, t: float, pixels: int) -> float:
    """The noise level that a paper calls t (of 1000): the model's own in latents; otherwise that of its 256 pixels,
    rescaled.
    """
    if is_latent(model):
        sampling = model.get_model_object("model_sampling")
        level = float(sampling.sigma(torch.tensor([float(t)])))
        # Flow models count their steps up to 1 or to 1000, which the host does not tell.
        return level if level <= float(sampling.sigma_max) else float(sampling.percent_to_sigma(1 - t / _CHAIN))
    return rescale_sigma(float(Schedule("linear").sigma(t)), RBE_PIXELS, pixels)


def pixels(model, trajectory: Trajectory) -> tuple[int, int]:
    """Height and width of a trajectory's picture, which masks are held against."""
    unit = pixels_per_cell(model)
    height, width = trajectory.states.shape[-2:]
    return height * unit, width * unit


def mask_of(model, trajectory: Trajectory, mask) -> Tensor | None:
    """MASK as `[h w]` of a trajectory's picture; one of the picture as it was before it was fitted is cut as that was.

    Raises:
        ValueError: it has the aspect of neither, or is none.
    """
    size, fit = pixels(model, trajectory), trajectory.fit
    if mask is None or fit is None or has_aspect(mask, *size):
        return one_mask(mask, *size)
    if not has_aspect(mask, *fit.source):
        raise ValueError(
            f"mask must have the aspect of the image ({size[1]}x{size[0]}) or of the picture that it was cut from"
            f" ({fit.source[1]}x{fit.source[0]}), got {mask.shape[-1]}x{mask.shape[-2]}; make the mask from the same picture"
        )
    return fit_region(cast(Tensor, one_mask(mask, *fit.source)), fit)


def region_of(model, trajectory: Trajectory, mask, k: int = 0, vae=None) -> Tensor | None:
    """MASK as `[h w]`, of the aspect of a trajectory's picture and with something in it.

    Args:
        model: MODEL.
        trajectory: inverted with it.
        mask: MASK or None.
        k: directions that are to be found in it, seen through ``vae`` if there is one.
        vae: VAE or None.

    Raises:
        ValueError: another aspect, nothing is left of it at the size of the states, or fewer than k numbers.
    """
    region = mask_of(model, trajectory, mask)
    channels, height, width = trajectory.states.shape[2:]
    output_weights(region, (1, height, width))
    seen = (3, *pixels(model, trajectory)) if vae is not None and is_latent(model) else (channels, height, width)
    refuse_few_rows(output_weights(region, seen), k)
    return region


def layer_in(model, layer: str) -> str:
    """The layer of a MODEL that a choice means: ``middle`` is a block at a third of a transformer's depth.

    Raises:
        ValueError: the network cannot be cut, or not there.
    """
    layers = check_network(model)
    found = usual_layer(layers, layer)
    if found not in layers:
        raise ValueError(f"this model has no layer {layer!r}; choose one of {', '.join(layers)}")
    return found


def stored_level(trajectory: Trajectory, wanted: float) -> tuple[int, str]:
    """The step of a trajectory whose noise level is nearest, and what to tell if that is another level; the node shows
    it.
    """
    step = trajectory.nearest(wanted)
    level = float(trajectory.sigmas[step])
    if abs(level - wanted) <= _SAME * wanted:
        return step, ""
    note = (
        f"nearest stored level {level:.2f} for {wanted:.2f}"
        if level >= 0.1
        else f"nearest stored level {level:.2g} for {wanted:.2g}"
    )
    say(f"{note}; invert with more steps to come nearer")
    return step, note


def stored_levels(trajectory: Trajectory, wanted: list[float]) -> tuple[list[int], str]:
    """Find the steps of a trajectory that lie nearest to several noise levels, and say so on the node."""
    steps = sorted({trajectory.nearest(level) for level in wanted})
    used = ", ".join(f"{float(trajectory.sigmas[i]):.3g}" for i in steps)
    note = f"nearest stored levels {used} for {', '.join(f'{level:.3g}' for level in wanted)}"
    say(note)
    return steps, note


@dataclass(frozen=True)
class Place:
    """Where to look in the trajectory of one image.

    Attributes:
        model: MODEL.
        prompts: that the image was inverted under.
        x: the state, `[1 c h w]` on the device of the model.
        level: its noise level.
        region: the mask `[h w]`, or None.
        note: what to tell if the level is not that asked for, or empty.
    """

    model: Any
    prompts: Prompts
    x: Tensor
    level: float
    region: Tensor | None
    note: str

    def look(self, work: Callable[..., T], vae=None) -> T:
        """Call ``work`` with a denoiser that has derivatives, the state, its level and the region."""
        report = reporter(self.model, None, preview=False)

        def inside(denoiser):
            return work(denoiser, self.x, self.level, self.region, callback=report)

        return with_denoiser(self.model, self.x.shape, self.prompts, inside, gradients=True, vae=vae)


def place_in(model, trajectory: Trajectory, mask, sigma: float, k: int = 0, vae=None) -> Place:
    """Find the place in one image's trajectory; ``sigma`` 0 is automatic, ``k`` and ``vae`` as in :func:`region_of`.

    Raises:
        ValueError: another model made the trajectory, or the mask does not fit.
    """
    trajectory.check_model(model_fingerprint(model))
    height, width = trajectory.states.shape[-2:]
    step, note = stored_level(trajectory, sigma or default_sigma(model, max(height, width)))
    return Place(
        model,
        Prompts.of(trajectory),
        trajectory.states[step].to(model.load_device),
        float(trajectory.sigmas[step]),
        region_of(model, trajectory, mask, k, vae),
        note,
    )


def plotted(directions: Directions, note: str = ""):
    """Gain, leak and spectrum of a set as IMAGE; ``note`` joins the title."""
    title = f"{directions.method}, {note or f'sigma {float(directions.sigmas[0]):.2f}'}"
    return spectrum_plot(directions.spectrum, directions.gain[0], directions.leak[0], title)


def directions_output(node: type[Node], directions: Directions, *more, note: str = "") -> io.NodeOutput:
    """Give a set, its spectrum as IMAGE, and ``more``; ``note`` joins the title."""
    plot = plotted(directions, note)
    return io.NodeOutput(directions_to_payload(directions), plot, *more, ui=ui.PreviewImage(plot, cls=node))
