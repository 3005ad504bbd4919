"""Inputs that several nodes share."""

import torch

from ..core.directions import Directions
from ..core.discover.find import MODES
from ..core.edit.schedule import EditSchedule
from ..core.plots import spectrum_plot
from ..core.schedule import Schedule, rescale_sigma
from ..core.trajectory import Trajectory as Path
from .host.api import Trajectory, io
from .host.denoiser import Prompts, is_latent
from .host.fingerprint import model_fingerprint
from .host.images import one_mask

WINDOW_START = (
    "The edit acts only at or below this noise level. 0: automatic, four times the level at which the directions were found "
    "(noisier steps settle the whole picture)."
)
WINDOW_END = "The edit acts only at or above this noise level; the steps below clean up. Lower it if fine edits are washed out."
MODEL = (
    "A model with a bottleneck: Stable Diffusion 1.x, 2.x, SDXL, Load Face Model, Load Pixel Diffusion Model, or any of them after Steer."
)
VAE = "Needed by models that work in latents (Stable Diffusion); pixel models ignore it."
_ABOVE = 4.0


def edit_schedule(directions: Directions, strength: float, start: float, end: float, normalise: str = "none") -> EditSchedule:
    """The dials of a node as a schedule; ``start`` 0 is taken from the directions.

    Raises:
        ValueError: the window is empty.
    """
    start = start or max(_ABOVE * float(directions.sigmas.max()), end)
    return EditSchedule(strength=strength, sigma_start=start, sigma_end=end, normalise=normalise)


LAYERS = ["middle", *(f"up.{k}" for k in range(12))]
RBE_SIGMA, RBE_PIXELS = 3.4, 256  # t0 = 500 of the paper's 256-pixel models
LATENT_T = 700  # of 1000, where Park et al. 2023 (arXiv 2307.12868) and LOCO Edit (arXiv 2409.02374) look at Stable Diffusion


def default_sigma(model, pixels: int) -> float:
    """The papers' noise level: rescaled to a picture of ``pixels`` pixels, or t = 700 for models that work in latents."""
    return sigma_at(model, LATENT_T, pixels) if is_latent(model) else rescale_sigma(RBE_SIGMA, RBE_PIXELS, pixels)


def sigma_at(model, t: float, pixels: int) -> float:
    """The noise level that a paper calls t (of 1000): the model's own in latents; otherwise that of its 256 pixels, rescaled."""
    if is_latent(model):
        return float(model.get_model_object("model_sampling").sigma(torch.tensor([float(t)])))
    return rescale_sigma(float(Schedule("linear").sigma(t)), RBE_PIXELS, pixels)


LOOK = (
    io.Model.Input("model", tooltip=MODEL),
    Trajectory.Input("trajectory", tooltip="From Invert Image, made with the same MODEL."),
    io.Mask.Input("mask", optional=True, tooltip="The region to change. Without one, the whole picture."),
)
THROUGH = io.Vae.Input(
    "vae",
    optional=True,
    tooltip="Stable Diffusion only, and only if the mask is finer than a latent (8 pixels): the derivative then goes through the decoder of "
    "this VAE into pixels, several times as slow. Without it the mask is averaged to latents. Pixel models ignore it.",
)
SIGMA = io.Float.Input(
    "sigma", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001,
    tooltip="Noise level at which to look. 0: automatic (t = 500 of the paper, rescaled to the picture's size: 0.85 at 64 pixels; t = 700 for "
    "Stable Diffusion). Lower finds finer details.",
)  # fmt: skip
HOW = (
    io.Combo.Input(
        "layer",
        options=LAYERS,
        advanced=True,
        optional=True,
        tooltip="middle is the h-space; up.k, the output of the k-th decoder block, is finer.",
    ),
    io.Int.Input("image_index", default=0, min=0, max=4095, advanced=True, optional=True, tooltip="Which image of a batch."),
    io.Int.Input(
        "iterations",
        default=8,
        min=1,
        max=64,
        advanced=True,
        optional=True,
        tooltip="Upper limit of Krylov blocks; it stops earlier when converged.",
    ),
    io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**31 - 1,
        advanced=True,
        optional=True,
        control_after_generate=False,
        tooltip="Start of the iteration; hardly matters.",
    ),
)
MODE = (
    io.Int.Input("k", default=5, min=1, max=64, tooltip="How many directions. 5 is a good start."),
    io.Combo.Input(
        "mode", options=list(MODES), default="generalized",
        tooltip="generalized: most change inside for the least outside (try this first). constrained and post: outside directions "
        "projected away. none: the mask alone. single: as the released RBE code.",
    ),
    io.Float.Input("tau", default=0.01, min=0.0001, max=10.0, step=0.001, round=0.0001, tooltip="generalized: lower is more local, higher is stronger."),
    io.Int.Input("rank", default=20, min=0, max=256, tooltip="post and constrained: how many outside directions to project away."),
)  # fmt: skip
SPECTRUM = io.Image.Output(display_name="spectrum", tooltip="Gain inside and leak outside the mask of every direction.")
REPORT = io.String.Output(display_name="report", tooltip="Products of the Jacobian, time, convergence.")


def pixels(model, path: Path) -> tuple[int, int]:
    """Height and width of a trajectory's picture (eight pixels a latent), which masks are held against."""
    unit = 8 if is_latent(model) else 1
    height, width = path.states.shape[-2:]
    return height * unit, width * unit


def looked_at(model, path: Path, mask, sigma: float):
    """Prompts, state `[1 c h w]`, noise level and mask of the step of one image's trajectory at which to look."""
    path.check_model(model_fingerprint(model))
    height, width = path.states.shape[-2:]
    step = path.nearest(sigma or default_sigma(model, max(height, width)))
    return Prompts.of(path), path.states[step].to(model.load_device), float(path.sigmas[step]), one_mask(mask, *pixels(model, path))


def plotted(found: Directions):
    """Gain, leak and spectrum of a set as IMAGE."""
    return spectrum_plot(found.spectrum, found.gain[0], found.leak[0], f"{found.method}, sigma {float(found.sigmas[0]):.2f}")
