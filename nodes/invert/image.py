"""Invert: an image becomes a trajectory of states through noise."""

from dataclasses import replace

import torch

from ...core.edit.noise.exact import is_exact, reconstruct_exact
from ...core.inputs import IMAGE_LIMIT
from ...core.invert.bdia import invert_bdia
from ...core.invert.ddim import invert_ddim
from ...core.invert.edict import invert_edict
from ...core.invert.fixed_point import FixedPointOptions, count_calls, damping_for, invert_fixed_point
from ...core.invert.second_order import invert_second_order
from ...core.measure.domain import NOISES
from ...core.sample import reconstruct
from ..dials import cfg_input, count_input, fit_input, negative_input, prompts_given, sigmas_input, vae_input
from ..host.api import Node, io
from ..host.model.images import encode
from ..host.model.latents import latents_out
from ..host.model.run import with_denoiser
from ..host.model.size import CROP, fit_to_model
from ..host.model.traits import is_latent
from ..host.model.world import known_world, look_at_world
from ..host.progress import reporter
from ..unused import only_with, refuse_unused
from .reconstruction import PREVIEW, SHOWN, InvertedPicture, inversion_output, inversion_outputs

FIXED_POINT, DDIM_B, DDIM_A, EDICT, BDIA = "fixed point", "ddim B", "ddim A", "edict", "bdia"
_SECOND_ORDER = ("midpoint", "fireflow")
_ANY = "The model is any diffusion or flow model of pictures: Stable Diffusion 1.x, 2.x, SDXL, 3, Flux, Qwen-Image, Wan with one frame, or the pack's own. A network that cannot be cut can be inverted and resumed, but not steered."

_GUIDANCE = (
    io.Conditioning.Input(
        "positive",
        optional=True,
        tooltip="What the picture shows, for models with prompts. It travels with the trajectory. For no prompt, connect CLIP Text Encode with an empty text.",
    ),
    negative_input(),
    cfg_input(
        "The guidance while inverting and rendering. 1 inverts best. Above 3 the picture does not come back except by edict and bdia. SimInversion uses 0.5.",
        advanced=True,
    ),
)
"""What the model is told while inverting."""

_COUPLED = (
    only_with(
        io.Float.Input(
            "mixing",
            default=0.93,
            min=0.85,
            max=1.0,
            step=0.01,
            advanced=True,
            optional=True,
            tooltip="For edict, how much of itself each of the two states keeps at a step.",
        ),
        method=[EDICT],
    ),
    only_with(
        io.Float.Input(
            "gamma",
            default=1.0,
            min=0.95,
            max=1.0,
            step=0.005,
            round=0.001,
            advanced=True,
            optional=True,
            tooltip="For bdia, 1 is best for inverting. Lower multiplies errors by 1/gamma a step.",
        ),
        method=[BDIA],
    ),
)
"""Dials of the inversions with coupled states."""

_TOLERANCE = only_with(
    io.Float.Input(
        "tol",
        default=0.0,
        min=0.0,
        max=0.1,
        step=0.0001,
        round=0.000001,
        advanced=True,
        optional=True,
        tooltip="The residual at which the fixed point goes on to the next step before all iterations are done. 0 does them all; 0.001 saves calls where a step is easy.",
    ),
    method=[FIXED_POINT],
)
_FORMER = {"iterations": 3}
"""Defaults of version 0.2.0."""


class HSpaceInvertImage(Node):
    """Inverts a picture by DDIM, a fixed point or coupled states."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceInvertImage",
            display_name="Invert Image",
            category="HSpace/invert",
            description=(
                "Walks an image up the noise levels so that sampling back returns it. The node shows the "
                "reconstruction and its PSNR. Below 30 dB, use more steps or the fixed point."
            ),
            search_aliases=[
                "ddim inversion",
                "unsample",
                "noise",
                "fixed point",
                "renoise",
                "edict",
                "bdia",
                "exact inversion",
                "flux inversion",
                "real image",
                "reverse",
                "reverse sampling",
            ],
            inputs=[
                io.Model.Input("model", tooltip=_ANY),
                io.Image.Input(
                    "image",
                    tooltip="The picture to invert. One that is far from the model's size (64x64 for the face model) is fitted first: see 'fit'.",
                ),
                sigmas_input("Set denoise below 1 to stop at less noise."),
                io.Combo.Input(
                    "method",
                    options=[FIXED_POINT, DDIM_B, DDIM_A, EDICT, BDIA, *_SECOND_ORDER],
                    tooltip="fixed point is nearly exact and costs 'iterations' more model calls a step. ddim B takes the noise "
                    "estimate of the next level (null-text, Plug-and-Play). ddim A takes that of the "
                    "current level (original DDIM; use it for autoencoders). edict (best to edit with) and "
                    "bdia are exact, also with cfg, but they come back through Sample Exact Inversion only. midpoint "
                    "(RF-Solver, two calls a step) and fireflow (one) find the noise that the model itself means, "
                    "which is better under another prompt; the way back takes the same steps.",
                ),
                only_with(
                    count_input(
                        "iterations",
                        1,
                        "How often the fixed point refines a step. Each costs one model call a step: 0 gives about 55 dB in 25 steps, 1 about 73, 3 about 87. Take 2 or more with cfg above 1.",
                        least=0,
                        most=50,
                    ),
                    method=[FIXED_POINT],
                ),
                only_with(
                    io.Float.Input(
                        "damping",
                        default=0.0,
                        min=0.0,
                        max=0.9,
                        step=0.05,
                        advanced=True,
                        optional=True,
                        tooltip="The part of the previous iterate that is kept. 0 keeps none, or 0.3 if cfg is above 3, because a step oscillates there otherwise.",
                    ),
                    method=[FIXED_POINT],
                ),
                vae_input(),
                *_GUIDANCE,
                *_COUPLED,
                _TOLERANCE,
                PREVIEW,
                fit_input(),
            ],
            outputs=inversion_outputs(
                "noise latent",
                "The picture as noise: its state at the first of the sigmas, for stock samplers with added noise off. For flow models use Resume Trajectory, because the host multiplies this latent by 0.",
            ),
        )

    @classmethod
    def execute(
        cls,
        model,
        image,
        sigmas,
        method,
        iterations=1,
        damping=0.0,
        vae=None,
        positive=None,
        negative=None,
        cfg=1.0,
        mixing=0.93,
        gamma=1.0,
        tol=0.0,
        preview=SHOWN,
        fit=CROP,
    ) -> io.NodeOutput:
        if method != FIXED_POINT:
            refuse_unused(
                cls,
                f"belongs to method fixed point, and method is {method}",
                former=_FORMER,
                iterations=iterations,
                damping=damping,
                tol=tol,
            )
        elif iterations == 0:
            refuse_unused(cls, "acts between iterations, and iterations is 0", damping=damping, tol=tol)
        if method != EDICT:
            refuse_unused(cls, f"belongs to method edict, and method is {method}", mixing=mixing)
        if method != BDIA:
            refuse_unused(cls, f"belongs to method bdia, and method is {method}", gamma=gamma)
        prompts = prompts_given(cls, model, positive, negative, cfg)
        image, fitted = fit_to_model(model, image, fit)
        x0 = encode(model, vae, image)
        steps = max(len(sigmas) - 1, 1)
        how = FixedPointOptions(damping=damping or damping_for(cfg), tol=tol)
        calls = count_calls(steps, iterations, how) if method == FIXED_POINT else steps
        world = known_world(model)
        looks = NOISES if world else 0
        report = reporter(model, looks + calls + steps * (preview == SHOWN), preview=False)
        options = {"callback": report, "limit": None if is_latent(model) else IMAGE_LIMIT}

        def work(denoiser):
            fact = look_at_world(denoiser, x0, world, cfg, report)
            if method == FIXED_POINT:
                trajectory = invert_fixed_point(denoiser, x0, sigmas, iterations, options=how, **options)
            elif method == EDICT:
                trajectory = invert_edict(denoiser, x0, sigmas, mixing, **options)
            elif method == BDIA:
                trajectory = invert_bdia(denoiser, x0, sigmas, gamma, **options)
            elif method in _SECOND_ORDER:
                trajectory = invert_second_order(denoiser, x0, sigmas, method, **options)
            else:
                trajectory = invert_ddim(denoiser, x0, sigmas, convention=method[-1], **options)
            trajectory = replace(trajectory, world=fact)
            if preview != SHOWN:
                return trajectory
            return (reconstruct_exact if is_exact(trajectory) else reconstruct)(denoiser, trajectory, callback=report)

        trajectory = with_denoiser(model, x0.shape, prompts, work)
        noisiest = {"samples": latents_out(model, trajectory.noisiest.to("cpu", torch.float32))}
        source = InvertedPicture(model, vae, image, x0, prompts, fitted)
        return inversion_output(cls, source, trajectory, noisiest)


NODES = [HSpaceInvertImage]
