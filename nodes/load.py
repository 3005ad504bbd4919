"""Load: checkpoints and the embedded model become a MODEL."""

from ..core.networks.read import load_denoiser
from .host import paths
from .host.api import io
from .host.model import make_model, no_conditioning, pixel_vae

FACE_MODEL = "face_model.safetensors"


def _outputs() -> list:
    return [
        io.Model.Output(display_name="model", tooltip="Works in any sampler, in pixels: three channels, no compression."),
        io.Vae.Output(display_name="vae", tooltip="Pixels in, pixels out: lets stock VAE Encode and Decode run on this model."),
        io.Conditioning.Output(
            display_name="unconditional",
            tooltip="This model takes no prompt; plug this into positive and negative of a stock sampler, with cfg 1.",
        ),
    ]


class HSpaceLoadFaceModel(io.ComfyNode):
    """The embedded 64x64 face model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadFaceModel",
            display_name="Load Face Model",
            category="HSpace/load",
            description="The small face model that comes with the pack (64x64 pixels, no download). For trying everything out.",
            search_aliases=["demo model", "face diffusion", "h-space"],
            inputs=[],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load it."""
        return io.NodeOutput(make_model(load_denoiser(paths.WEIGHTS / FACE_MODEL)), pixel_vae(), no_conditioning())


class HSpaceLoadPixelModel(io.ComfyNode):
    """A pixel DDPM or guided-diffusion checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadPixelModel",
            display_name="Load Pixel Diffusion Model",
            category="HSpace/load",
            description=(
                "An unconditional pixel diffusion checkpoint: DDPM (celeba_hq.ckpt, google/ddpm-*) or guided-diffusion "
                "(P2, ILVR, OpenAI). The family and its configuration are read from the file."
            ),
            search_aliases=["ddpm", "celeba", "guided diffusion", "p2", "ilvr", "unconditional"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=paths.checkpoints(),
                    tooltip="A file in models/hspace or models/diffusion_models. Prefer .safetensors; others are read without running code.",
                )
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        """Read the file and wrap the network."""
        return io.NodeOutput(make_model(load_denoiser(paths.checkpoint_path(checkpoint))), pixel_vae(), no_conditioning())


NODES = [HSpaceLoadFaceModel, HSpaceLoadPixelModel]
