"""Invert: an image becomes a trajectory of states through noise."""

from dataclasses import replace

import torch
from torch import Tensor

from ..core.edit.exact import is_exact, reconstruct_exact
from ..core.edit.sample import reconstruct
from ..core.invert.bdia import invert_bdia
from ..core.invert.ddim import invert_ddim
from ..core.invert.edict import invert_edict
from ..core.invert.fixed_point import invert_fixed_point
from ..core.invert.inputs import IMAGE_LIMIT
from ..core.measure.image import psnr
from ..core.payload import trajectory_to_payload
from ..core.plots import strip
from .host.api import Trajectory, io, ui
from .host.denoiser import Prompts, is_latent, with_denoiser
from .host.images import decode, encode
from .host.progress import reporter

FIXED_POINT, DDIM_B, DDIM_A, EDICT, BDIA = "fixed point", "ddim B", "ddim A", "edict", "bdia"
_ANY = "Any diffusion or flow model with one-picture latents: Stable Diffusion 1.x, 2.x, SDXL, 3, Flux, or the pack's own. Without a bottleneck it can be inverted and resumed, not steered."


class HSpaceInvertImage(io.ComfyNode):
    """DDIM, fixed-point or coupled inversion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceInvertImage",
            display_name="Invert Image",
            category="HSpace/invert",
            description=(
                "Walks an image up the noise levels so that sampling back returns it. The node shows the reconstruction and its PSNR: "
                "below 30 dB, use more steps or the fixed point."
            ),
            search_aliases=["ddim inversion", "unsample", "noise", "fixed point", "renoise", "edict", "bdia", "exact inversion", "flux inversion"],
            inputs=[
                io.Model.Input("model", tooltip=_ANY),
                io.Image.Input("image", tooltip="The picture to invert. Scale it to the size the model was trained on first (64x64 for the face model)."),
                io.Sigmas.Input("sigmas", tooltip="From BasicScheduler, as for sampling: do not flip them. Set denoise below 1 to stop at less noise."),
                io.Combo.Input(
                    "method", options=[FIXED_POINT, DDIM_B, DDIM_A, EDICT, BDIA],
                    tooltip="fixed point: nearly exact, costs 'iterations' more. ddim B: the noise estimate of the next level "
                    "(null-text, Plug-and-Play). ddim A: of the current level (original DDIM). edict (best to edit with) and bdia: exact, also with cfg, but they come back "
                    "through Sample Exact Inversion only.",
                ),
                io.Int.Input("iterations", default=3, min=1, max=50, tooltip="Fixed-point iterations a step. Try 3; more only if the PSNR is low."),
                io.Float.Input("damping", default=0.0, min=0.0, max=0.9, step=0.05, advanced=True, optional=True, tooltip="Part of the previous iterate kept; try 0.3 if the residual grows."),
                io.Vae.Input("vae", optional=True, tooltip="Needed by models that work in latents (Stable Diffusion); pixel models ignore it."),
                io.Conditioning.Input("positive", optional=True, tooltip="What the picture shows, for models with prompts. It travels with the trajectory. Without one: an empty prompt is needed too, from CLIP Text Encode."),
                io.Conditioning.Input("negative", optional=True, tooltip="Only used if cfg is not 1."),
                io.Float.Input("cfg", default=1.0, min=0.0, max=30.0, step=0.1, advanced=True, optional=True, tooltip="Guidance while inverting and rendering. 1 inverts best; above 3 the picture does not come back except by edict and bdia. SimInversion uses 0.5."),
                io.Float.Input("mixing", default=0.93, min=0.85, max=1.0, step=0.01, advanced=True, optional=True, tooltip="edict: how much of itself each of the two states keeps at a step."),
                io.Float.Input("gamma", default=1.0, min=0.95, max=1.0, step=0.005, round=0.001, advanced=True, optional=True, tooltip="bdia: 1 is best for inverting; lower multiplies errors by 1/gamma a step."),
            ],
            outputs=[
                Trajectory.Output(display_name="trajectory"),
                io.Latent.Output(display_name="noise latent", tooltip="The picture as noise: its state at the first of the sigmas, for stock samplers with added noise off. Flow models: use Resume Trajectory, the host multiplies it by 0."),
                io.Image.Output(display_name="reconstruction"),
                io.Float.Output(display_name="psnr", tooltip="Of the reconstruction against the image, in dB."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, image, sigmas, method, iterations=3, damping=0.0, vae=None, positive=None, negative=None, cfg=1.0, mixing=0.93, gamma=1.0
    ) -> io.NodeOutput:  # fmt: skip
        """Invert and sample back."""
        prompts = Prompts.given(model, positive, negative, cfg)
        x0 = encode(model, vae, image)
        steps, calls = max(len(sigmas) - 1, 1), (1 + iterations) if method == FIXED_POINT else 1
        report = reporter(model, steps * (calls + 1), preview=False)
        options = {"callback": report, "limit": None if is_latent(model) else IMAGE_LIMIT}

        def work(denoiser):
            if method == FIXED_POINT:
                path = invert_fixed_point(denoiser, x0, sigmas, iterations=iterations, damping=damping, **options)
            elif method == EDICT:
                path = invert_edict(denoiser, x0, sigmas, mixing, **options)
            elif method == BDIA:
                path = invert_bdia(denoiser, x0, sigmas, gamma, **options)
            else:
                path = invert_ddim(denoiser, x0, sigmas, convention=method[-1], **options)
            return (reconstruct_exact if is_exact(path) else reconstruct)(denoiser, path, callback=report)

        trajectory = with_denoiser(model, x0.shape, prompts, work)
        trajectory = replace(trajectory, extra={**trajectory.extra, **prompts.stored()})
        rebuilt, quality, picture = beside_original(model, vae, image, x0, trajectory.rebuilt)
        noisiest = model.model.process_latent_out(trajectory.noisiest.to("cpu", torch.float32))
        return io.NodeOutput(
            trajectory_to_payload(trajectory.to("cpu")), {"samples": noisiest}, rebuilt, quality, ui=ui.PreviewImage(picture, cls=cls)
        )  # fmt: skip


def beside_original(model, vae, image: Tensor, x0: Tensor, rebuilt: Tensor) -> tuple[Tensor, float, Tensor]:
    """What came back of an inversion: IMAGE, its mean PSNR in dB, and a picture of both.

    In latents the comparison is with what the autoencoder itself gives back of ``x0``, so that the figure is the inversion's own.
    """
    best = decode(model, vae, x0) if is_latent(model) else image[..., :3].cpu()
    shown = decode(model, vae, rebuilt)
    quality = psnr(shown.movedim(-1, 1) * 2 - 1, best.movedim(-1, 1) * 2 - 1)
    low, high = float(quality.min()), float(quality.max())
    label = f"{low:.1f} dB" if len(quality) == 1 else f"{low:.1f} to {high:.1f} dB"
    pictures = [p.movedim(-1, 0) * 2 - 1 for p in (*best[:4], *shown[:4])]
    return shown, float(quality.mean()), strip([("", pictures)], ["original"] * len(best[:4]) + [label] * len(best[:4]))


NODES = [HSpaceInvertImage]
