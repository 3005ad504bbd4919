"""Load: checkpoints and the embedded model become a MODEL."""

import torch

from ..core.edit.delta_io import delta_to_payload, load_released
from ..core.edit.weights import difference, thinned
from ..core.edit.weights_io import released_name, to_lora
from ..core.faces.embedder import load_embedder
from ..core.networks.read import load_denoiser
from .dials import default_sigma
from .host import paths
from .host.api import Delta, Embedder, LoraModel, io
from .host.clip import HostEmbedder
from .host.denoiser import check_network
from .host.fingerprint import model_fingerprint
from .host.model import make_model, no_conditioning, pixel_vae
from .host.model_edits import check_pixels

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


class HSpaceLoadFaceEmbedder(io.ComfyNode):
    """The embedder of the face world."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadFaceEmbedder",
            display_name="Load Face Embedder",
            category="HSpace/load",
            description="The small image-text embedder that comes with the pack: what CLIP is to photographs, for the faces of the embedded world.",
            search_aliases=["clip", "tiny clip", "text image embedding"],
            inputs=[],
            outputs=[Embedder.Output(display_name="embedder")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load it."""
        with torch.inference_mode(False):
            return io.NodeOutput(load_embedder(paths.WEIGHTS / paths.EMBEDDER))


class HSpaceClipEmbedder(io.ComfyNode):
    """The host's CLIP as an embedder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceClipEmbedder",
            display_name="CLIP Embedder",
            category="HSpace/load",
            description="The text and the picture tower of CLIP ViT-L/14 as one embedder, for training that is guided by prompts.",
            search_aliases=["clip", "vit-l/14", "directional loss"],
            inputs=[
                io.Clip.Input("clip", tooltip="Load CLIP with clip_l.safetensors. The CLIP inside a Stable Diffusion checkpoint lacks the projection that compares texts with pictures."),
                io.ClipVision.Input("clip_vision", tooltip="Load CLIP Vision with clip-vit-large-patch14."),
            ],
            outputs=[Embedder.Output(display_name="embedder")],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip, clip_vision) -> io.NodeOutput:
        """Join the towers."""
        return io.NodeOutput(HostEmbedder(clip, clip_vision))


class HSpaceLoadAsyrp(io.ComfyNode):
    """A released Asyrp checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadAsyrp",
            display_name="Load Asyrp Checkpoint",
            category="HSpace/load",
            description="A checkpoint of the released Asyrp code (.pth) for the pixel model it was trained on. Files are read without running code.",
            search_aliases=["asyrp", "pretrained", "smiling_LC_CelebA_HQ"],
            inputs=[
                io.Model.Input("model", tooltip="Load Pixel Diffusion Model with the base that the checkpoint was trained on: SDEdit's celeba_hq.ckpt for its faces."),
                io.Combo.Input("checkpoint", options=paths.checkpoints(), tooltip="A file in models/hspace."),
                io.Int.Input("index", default=1, min=1, max=64, tooltip="Which edit of the file, counted from 1; most hold one."),
                io.Float.Input("sigma_edit", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="Lowest noise level that is edited; the file does not say. 0: t = 500, as for its faces."),
                io.Int.Input("steps", default=40, min=1, max=1000, advanced=True, optional=True, tooltip="Steps it was trained with, from 999 to 0 (ngen in its name)."),
                io.Float.Input("sigma_boost", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="Kept with it, from Asyrp Levels: from this level down the paper draws noise anew (t_boost; 0.7 at 256 pixels is t = 200)."),
            ],
            outputs=[Delta.Output(display_name="trained"), io.String.Output(display_name="label")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, checkpoint, index, sigma_edit=0.0, steps=40, sigma_boost=0.0) -> io.NodeOutput:
        """Read it for this model."""
        check_network(model)
        net = getattr(model.model.diffusion_model, "net", None)
        if net is None:
            raise ValueError("Asyrp's checkpoints belong to pixel models; connect Load Pixel Diffusion Model")
        channels, levels = net.config.channels[-1], model.get_model_object("model_sampling").sigmas
        level = sigma_edit or default_sigma(model, 256)
        edited = max(1, round(steps * float((levels >= level).sum()) / len(levels)))
        found = load_released(
            paths.checkpoint_path(checkpoint),
            net,
            levels,
            model_fingerprint(model),
            channels=channels,
            sigma_edit=level,
            steps=edited,
            sigma_boost=sigma_boost,
        )
        if index > len(found):
            raise ValueError(f"this checkpoint holds {len(found)} edits, got index {index}")
        return io.NodeOutput(delta_to_payload(found[index - 1]), found[index - 1].label)


class HSpaceLoadDiffusionCLIP(io.ComfyNode):
    """A released DiffusionCLIP checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadDiffusionCLIP",
            display_name="Load DiffusionCLIP Checkpoint",
            category="HSpace/load",
            description="A fine-tuned network of the released DiffusionCLIP code (such as curly_hair_t401.pth), as a difference to the model it was made from. Files are read without running code.",
            search_aliases=["diffusionclip", "pretrained", "curly_hair_t401"],
            inputs=[
                io.Model.Input("model", tooltip="Load Pixel Diffusion Model with the network it was fine-tuned from, such as celeba_hq.ckpt."),
                io.Combo.Input("checkpoint", options=paths.checkpoints(), tooltip="A file in models/hspace."),
                io.Int.Input("rank", default=0, min=0, max=512, advanced=True, optional=True, tooltip="Thin the difference to this rank, for a small file; 0 keeps all of it."),
            ],
            outputs=[
                LoraModel.Output(display_name="lora"),
                io.Float.Output(display_name="sigma", tooltip="Noise level of its t0, up to which pictures are to be inverted; 0 if the name does not tell."),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, checkpoint, rank=0) -> io.NodeOutput:
        """Read it and take the difference."""
        base = check_pixels(model, "DiffusionCLIP")
        if model.patches:
            raise ValueError("the difference is taken to the network itself; connect the MODEL without LoRA or other weight patches")
        tuned = load_denoiser(paths.checkpoint_path(checkpoint))
        label, t0 = released_name(checkpoint)
        found = difference(tuned.net.state_dict(), base.net.state_dict(), model_fingerprint(model).partition("+")[0], label)
        kept = 1.0
        if rank:
            found, kept = thinned(found, rank)
        sigma = float(base.schedule.sigma(t0)) if t0 else 0.0
        text = (
            f"{label}: {len(found.full) + len(found.thin)} weights differ; {f't0 {t0}, sigma {sigma:.3g}' if t0 else 'its name has no t0'}"
        )
        return io.NodeOutput(to_lora(found), sigma, text + (f"; rank {rank} keeps {kept:.0%}" if rank else ""))


NODES = [HSpaceLoadFaceModel, HSpaceLoadPixelModel, HSpaceLoadFaceEmbedder, HSpaceClipEmbedder, HSpaceLoadAsyrp, HSpaceLoadDiffusionCLIP]
