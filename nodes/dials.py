"""Inputs that several nodes share."""

from typing import Any

from ..core.directions import Directions
from ..core.discover.find import MODES
from ..core.discover.search import RegionSearch
from ..core.edit_schedule import EditSchedule
from .host.api import Directions as DirectionsSocket
from .host.api import Node, Rectifier, Trajectory, io
from .host.model.coded_model import CodedUNet
from .host.model.pixel_model import PixelUNet
from .host.model.prompts import Prompts
from .host.model.size import ANY, CROP, PAD, REFUSE
from .host.patches.model_edits import model_edits_of
from .host.patches.sampler_only import refuse_sampler_only
from .host.patches.steering import edits_of
from .unused import only_with, refuse_unused

WINDOW_START = "The edit acts only at or below this noise level. 0 takes four times the level at which the directions were found. Noisier steps settle the whole picture."


WINDOW_END = (
    "The edit acts only at or above this noise level. The steps below clean up. Lower it if fine edits are washed out."
)


MODEL = "The model needs a bottleneck: Stable Diffusion 1.x, 2.x, SDXL, Load Face Model, Load Pixel Diffusion Model, or any of them after Steer."
CUT_MODEL = "The model is a U-Net or a known transformer: Stable Diffusion 1.x, 2.x, SDXL, Flux, Z-Image, Qwen-Image and others (see help), Load Face Model, Load Pixel Diffusion Model, or any of them after Steer."


VAE = "Models that work in latents (Stable Diffusion) need it. Pixel models ignore it."


AUTOMATIC = "0 takes t = 500 of the paper, rescaled to the picture's size, or t = 700 for Stable Diffusion."


MAX_SIGMA = 1000.0
"""Noise levels end here, far above those of every model."""
TRAINED_SIGMA = 200.0
"""Noise levels of trainings end here; saved workflows hold that limit."""


_ADVANCED: dict[str, Any] = {"optional": True, "advanced": True}


def sigma_input(name: str, default: float, tooltip: str, *, most: float = MAX_SIGMA, advanced: bool = False):
    """Declare a noise level; ``advanced`` ones are optional too."""
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=most,
        step=0.01,
        round=0.001,
        tooltip=tooltip,
        **(_ADVANCED if advanced else {}),
    )


def share_input(name: str, default: float, tooltip: str, *, step: float = 0.05, advanced: bool = False):
    """Declare a number from 0 to 1."""
    return io.Float.Input(
        name, default=default, min=0.0, max=1.0, step=step, tooltip=tooltip, **(_ADVANCED if advanced else {})
    )


def signed_input(name: str, default: float, most: float, tooltip: str, *, step: float = 0.05, advanced: bool = False):
    """Declare a number that goes as far below 0 as above."""
    return io.Float.Input(
        name, default=default, min=-most, max=most, step=step, tooltip=tooltip, **(_ADVANCED if advanced else {})
    )


def weight_input(name: str, default: float, tooltip: str):
    """Declare the weight of a loss."""
    return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.1, tooltip=tooltip, **_ADVANCED)


def rate_input(
    default: float, tooltip: str, *, least: float = 1e-7, most: float = 1.0, step: float = 1e-4, advanced: bool = False
):
    """Declare a learning rate, a multiple of ``least``."""
    return io.Float.Input(
        "lr",
        default=default,
        min=least,
        max=most,
        step=step,
        round=least,
        tooltip=tooltip,
        **(_ADVANCED if advanced else {}),
    )


def count_input(name: str, default: int, tooltip: str, *, least: int = 1, most: int = 64, advanced: bool = False):
    """Declare a number of things, or the number of one of them."""
    return io.Int.Input(name, default=default, min=least, max=most, tooltip=tooltip, **(_ADVANCED if advanced else {}))


def text_input(name: str, tooltip: str):
    """Declare a text that most leave empty."""
    return io.String.Input(name, default="", tooltip=tooltip, **_ADVANCED)


def seed_input(tooltip: str, *, default: int = 0, advanced: bool = False):
    """Declare a seed that stays as it is from run to run; ``advanced`` ones are optional too."""
    return io.Int.Input(
        "seed",
        default=default,
        min=0,
        max=2**31 - 1,
        control_after_generate=False,
        tooltip=tooltip,
        **(_ADVANCED if advanced else {}),
    )


def model_input():
    """Declare a MODEL with a bottleneck."""
    return io.Model.Input("model", tooltip=MODEL)


def cut_model_input():
    """Declare a MODEL whose network can be cut: a U-Net, or a transformer of a known class."""
    return io.Model.Input("model", tooltip=CUT_MODEL)


def trajectory_input():
    """Declare the trajectory of a picture, inverted with the MODEL of the node."""
    return Trajectory.Input("trajectory", tooltip="The trajectory comes from Invert Image with the same MODEL.")


def directions_input():
    """Declare directions of h."""
    return DirectionsSocket.Input(
        "directions", tooltip="The directions come from Discover Region Directions or Load Directions."
    )


def direction_input(tooltip: str):
    """Declare the number of one direction of a set."""
    return count_input("direction", 1, tooltip)


def vae_input():
    """Declare the VAE that only some models need."""
    return io.Vae.Input("vae", optional=True, tooltip=VAE)


def fit_input():
    """Declare what is done with a picture that has not the size that the model works at."""
    return io.Combo.Input(
        "fit",
        options=[CROP, PAD, REFUSE, ANY],
        tooltip="What is done if the picture is more than 1.5 times as large or as small as the model's own. crop takes the middle, pad fills up, both at the model's size, and the node says so. refuse stops. any size takes it as it is.",
        **_ADVANCED,
    )


def sigmas_input(advice: str):
    """Declare the noise levels of an inversion; ``advice`` says how many."""
    return io.Sigmas.Input(
        "sigmas", tooltip=f"The sigmas come from BasicScheduler, as for sampling. Do not flip them. {advice}"
    )


def negative_input():
    """Declare the negative prompt of an inversion."""
    return io.Conditioning.Input("negative", optional=True, tooltip="It is only used if cfg is not 1.")


def cfg_input(tooltip: str, *, advanced: bool = False):
    """Declare the guidance of an inversion."""
    return io.Float.Input(
        "cfg", default=1.0, min=0.0, max=30.0, step=0.1, tooltip=tooltip, **(_ADVANCED if advanced else {})
    )


def rectifier_input():
    """Declare a rectifier that rebuilds."""
    return Rectifier.Input("rectifier", tooltip="The rectifier comes from Train Rectifier or Load Rectifier.")


IMAGE_INDEX = count_input(
    "image_index", 0, "The number of the image in a batch, counted from 0.", least=0, most=4095, advanced=True
)
_ABOVE = 4.0


def edit_schedule(
    directions: Directions, strength: float, start: float, end: float, normalise: str = "none"
) -> EditSchedule:
    """The dials of a node as a schedule; ``start`` 0 is taken from the directions.

    Raises:
        ValueError: the window is empty.
    """
    level = float(directions.sigmas.max())
    automatic = _ABOVE * level
    if not start and end > automatic:
        raise ValueError(
            f"the window is empty: sigma_start 0 means {automatic:.4g} (four times {level:.4g}, where these directions were found), and sigma_end "
            f"{end:g} lies above it; sigma_start is the noisy end: set it to {end:g} or more, or lower sigma_end"
        )
    return EditSchedule(strength=strength, sigma_start=start or automatic, sigma_end=end, normalise=normalise)


def refuse_unused_mode(node: type[Node], search: RegionSearch, masked: bool) -> None:
    """Refuse ``tau`` and ``rank`` in modes that have no use for them, and all three without a region.

    Raises:
        ValueError: one of them is away from its default.
    """
    mode, tau, rank = search.mode, search.tau, search.rank
    if not masked:
        why = "protects what lies outside of a mask, and without a mask there is no outside"
        refuse_unused(node, why, instead="connect 'mask'", tau=tau, rank=rank, mode=None if mode == "none" else mode)
    if mode != "generalized":
        refuse_unused(node, f"acts in mode generalized only, and mode is {mode}", tau=tau)
    if mode not in ("post", "constrained"):
        refuse_unused(node, f"acts in the modes post and constrained only, and mode is {mode}", rank=rank)


def prompts_given(node: type[Node], model, positive, negative, cfg: float) -> Prompts:
    """See :meth:`Prompts.given`; prompts that could not act are refused.

    Raises:
        ValueError: a prompt that the model or the guidance needs is missing, or one is connected that it has no use
            for.
    """
    if cfg == 1 and not model.model_options.get("disable_cfg1_optimization"):
        refuse_unused(node, "acts only if cfg is not 1, and cfg is 1", negative=negative)
    net = model.model.diffusion_model
    if isinstance(net, PixelUNet) and not isinstance(net, CodedUNet):
        for name, given in (("positive", positive), ("negative", negative)):
            if given is not None and any(bool(part[0].any()) for part in given):
                raise ValueError(
                    f"'{name}' is a prompt, but this model draws without prompts and would not see it; disconnect it, or connect the "
                    "'unconditional' of its loader"
                )
    return Prompts.given(model, positive, negative, cfg)


def refuse_edits(model, why: str) -> None:
    """Refuse a MODEL whose edits a node would leave out.

    Raises:
        ValueError: it carries edits of h, fine-tuned weights, a rectifier, or edits of attention or guidance.
    """
    refuse_sampler_only(model, f"{why}; connect the MODEL from before them")
    if edits_of(model) or model_edits_of(model.model_options):
        raise ValueError(
            f"'model' carries edits (Steer, fine-tuned weights or a rectifier), and {why}; connect the MODEL from before them"
        )


_MOST_BLOCKS = 64  # of the transformers that the host loads


LOOK = (
    cut_model_input(),
    trajectory_input(),
    io.Mask.Input("mask", optional=True, tooltip="The region to change. Without a mask it is the whole picture."),
)


THROUGH = io.Vae.Input(
    "vae",
    optional=True,
    tooltip="This is for Stable Diffusion, if the mask is finer than one cell of the latent (8 pixels). The derivative then goes through the decoder of this VAE into pixels, which is several times as slow. Without it the mask is averaged to those cells. Pixel models ignore it.",
)


SIGMA = sigma_input(
    "sigma",
    0.0,
    "The noise level at which to look. 0 chooses it: t = 500 of the paper, rescaled to the picture's size (0.85 at 64 pixels), or t = 700 for Stable Diffusion. The nearest level that the trajectory has stored is taken. Lower levels hold finer details.",
)


LAYER = io.Combo.Input(
    "layer",
    options=["middle", *(f"up.{k}" for k in range(12)), *(f"block.{k}" for k in range(_MOST_BLOCKS))],
    tooltip="middle is the h-space of a U-Net, and the block at a third of the depth of a transformer. up.n is the output of the n-th decoder block of a U-Net, block.n that of the n-th block of a transformer.",
    **_ADVANCED,
)


HOW = (
    LAYER,
    IMAGE_INDEX,
    count_input(
        "iterations",
        8,
        "The largest number of Krylov blocks. The node stops earlier when they converge.",
        advanced=True,
    ),
    seed_input("The seed of the iteration's start. It hardly matters.", advanced=True),
)


MODE = (
    count_input("k", 5, "The number of directions. 5 is a good start."),
    io.Combo.Input(
        "mode",
        options=list(MODES),
        default="generalized",
        tooltip="generalized finds the most change inside for the least outside; try it first. constrained and post project outside directions away. none only maximises the change inside the mask. single removes one outside direction from each, as the released RBE code does.",
    ),
    only_with(
        io.Float.Input(
            "tau",
            default=0.01,
            min=0.0001,
            max=10.0,
            step=0.001,
            round=0.0001,
            tooltip="It acts in generalized only. Lower is more local, higher is stronger.",
        ),
        mode=["generalized"],
    ),
    only_with(
        count_input(
            "rank",
            20,
            "It acts in post and constrained only. This many outside directions are projected away.",
            least=0,
            most=256,
        ),
        mode=["post", "constrained"],
    ),
)


SPECTRUM = io.Image.Output(display_name="spectrum", tooltip="Gain inside and leak outside the mask of every direction.")


REPORT = io.String.Output(
    display_name="report",
    tooltip="The report tells the number of products with the Jacobian, the time and the convergence.",
)
