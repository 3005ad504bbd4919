"""Invert: an image becomes a trajectory of states through noise."""

import torch

from ..core.edit.sample import reconstruct
from ..core.invert.ddim import invert_ddim
from ..core.invert.fixed_point import invert_fixed_point
from ..core.measure.image import psnr
from ..core.payload import trajectory_to_payload
from ..core.plots import strip
from .host.api import Trajectory, io, ui
from .host.denoiser import HostDenoiser, check_size, to_device
from .host.images import from_image, to_image
from .host.progress import reporter

FIXED_POINT, DDIM_B, DDIM_A = "fixed point", "ddim B", "ddim A"


class HSpaceInvertImage(io.ComfyNode):
    """DDIM or fixed-point inversion."""

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
            search_aliases=["ddim inversion", "unsample", "noise", "fixed point", "renoise"],
            inputs=[
                io.Model.Input("model", tooltip="A model with a bottleneck: Load Face Model, Load Pixel Diffusion Model, or either after Steer."),
                io.Image.Input("image", tooltip="The picture to invert. Scale it to the size the model was trained on first (64x64 for the face model)."),
                io.Sigmas.Input("sigmas", tooltip="From BasicScheduler, as for sampling: do not flip them. Set denoise below 1 to stop at less noise."),
                io.Combo.Input(
                    "method", options=[FIXED_POINT, DDIM_B, DDIM_A],
                    tooltip="fixed point: nearly exact, costs 'iterations' more. ddim B: the noise estimate of the next level "
                    "(null-text, Plug-and-Play). ddim A: of the current level (original DDIM).",
                ),
                io.Int.Input("iterations", default=3, min=1, max=50, tooltip="Fixed-point iterations a step. Try 3; more only if the PSNR is low."),
                io.Float.Input("damping", default=0.0, min=0.0, max=0.9, step=0.05, advanced=True, optional=True, tooltip="Part of the previous iterate kept; try 0.3 if the residual grows."),
            ],
            outputs=[
                Trajectory.Output(display_name="trajectory"),
                io.Latent.Output(display_name="noisiest", tooltip="The noisiest state, for stock samplers with added noise off."),
                io.Image.Output(display_name="reconstruction"),
                io.Float.Output(display_name="psnr", tooltip="Of the reconstruction against the image, in dB."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, image, sigmas, method, iterations=3, damping=0.0) -> io.NodeOutput:
        """Invert and sample back."""
        denoiser = HostDenoiser(model)
        x0 = to_device(from_image(image), denoiser)
        check_size(denoiser, x0)
        steps = max(len(sigmas) - 1, 1)
        report = reporter(model, steps * (1 + (iterations if method == FIXED_POINT else 1)), preview=False)
        if method == FIXED_POINT:
            trajectory = invert_fixed_point(denoiser, x0, sigmas, iterations=iterations, damping=damping, callback=report)
        else:
            trajectory = invert_ddim(denoiser, x0, sigmas, convention=method[-1], callback=report)
        trajectory = reconstruct(denoiser, trajectory, callback=report)
        quality = psnr(trajectory.rebuilt, x0)
        label = f"{float(quality.mean()):.1f} dB" if len(quality) == 1 else f"{float(quality.min()):.1f} to {float(quality.max()):.1f} dB"
        picture = strip([("", [*x0[:4], *trajectory.rebuilt[:4]])], ["original"] * len(x0[:4]) + [label] * len(x0[:4]))
        noisiest = trajectory.noisiest.to("cpu", torch.float32)
        return io.NodeOutput(
            trajectory_to_payload(trajectory.to("cpu")),
            {"samples": noisiest},
            to_image(trajectory.rebuilt),
            float(quality.mean()),
            ui=ui.PreviewImage(picture, cls=cls),
        )


NODES = [HSpaceInvertImage]
