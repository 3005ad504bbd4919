"""Load: checkpoints and the embedded model become a MODEL."""

from pathlib import Path

from ...core.files.checkpoint import load_denoiser
from ..host import paths
from ..host.api import Node, io
from ..host.model.face_text import load_face_text
from ..host.model.pixel_model import make_model, no_conditioning, pixel_vae
from .files import CheckpointFile, pixel_vae_output

FACE_MODEL, FACE_TEXT = "face_model.safetensors", "face_text.safetensors"


def _model_output(more: str = "") -> io.Model.Output:
    tooltip = f"The model works in any sampler. It works on pixels: three channels, no compression. {more}".strip()
    return io.Model.Output(display_name="model", tooltip=tooltip)


def _outputs() -> list:
    return [
        _model_output(),
        pixel_vae_output(),
        io.Conditioning.Output(
            display_name="unconditional",
            tooltip="This model takes no prompt. Plug this into positive and negative of a stock sampler, with cfg 1.",
        ),
    ]


def _loaded(path: Path) -> io.NodeOutput:
    return io.NodeOutput(make_model(load_denoiser(path)), pixel_vae(), no_conditioning())


class HSpaceLoadFaceModel(Node):
    """The embedded 64x64 face model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadFaceModel",
            display_name="Load Face Model",
            category="HSpace/load",
            description="Loads the small face model that comes with the pack (64x64 pixels, no download). Everything can be tried on it.",
            search_aliases=["demo model", "face diffusion", "h-space"],
            inputs=[],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return _loaded(paths.WEIGHTS / FACE_MODEL)


class HSpaceLoadFaceTextModel(Node):
    """The embedded face model that takes prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadFaceTextModel",
            display_name="Load Face Text Model",
            category="HSpace/load",
            description=(
                "Loads the small face model with prompts that comes with the pack (64x64 pixels, no download). Its "
                "U-Net and its CLIP are the host's own classes, so what works on Stable Diffusion works on it."
            ),
            search_aliases=["demo model", "text to image", "tiny stable diffusion"],
            inputs=[],
            outputs=[
                _model_output("cfg 3 is a good start."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="It goes into CLIP Text Encode, for example with 'a smiling person with long red hair and glasses'.",
                ),
                pixel_vae_output(),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_face_text(paths.WEIGHTS / FACE_TEXT), pixel_vae())


class HSpaceLoadPixelModel(CheckpointFile):
    """A pixel DDPM or guided-diffusion checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadPixelModel",
            display_name="Load Pixel Diffusion Model",
            category="HSpace/load",
            description=(
                "Reads a pixel diffusion checkpoint without prompts: DDPM (celeba_hq.ckpt, google/ddpm-*) or "
                "guided-diffusion (P2, ILVR, OpenAI). The family and its configuration are read from the file."
            ),
            search_aliases=["ddpm", "celeba", "guided diffusion", "p2", "ilvr", "unconditional"],
            is_experimental=True,  # no released file was at hand yet, only its layout with random weights
            inputs=[
                cls.choice(
                    "A file in models/hspace or models/diffusion_models. Prefer .safetensors. The other formats are read too, and nothing in them is run."
                )
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        """Read the file and wrap the network."""
        return _loaded(paths.checkpoint_path(checkpoint))


NODES = [HSpaceLoadFaceModel, HSpaceLoadFaceTextModel, HSpaceLoadPixelModel]
