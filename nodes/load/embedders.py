"""Load: image-text embedders."""

import torch

from ...core.faces.embedder import load_embedder
from ..host import paths
from ..host.api import Embedder, Node, io
from ..host.model.clip import HostEmbedder


class HSpaceLoadFaceEmbedder(Node):
    """The embedder of the face world."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadFaceEmbedder",
            display_name="Load Face Embedder",
            category="HSpace/load",
            description="Loads the small image-text embedder that comes with the pack. It is to the faces of the embedded world what CLIP is to photographs.",
            search_aliases=["clip", "tiny clip", "text image embedding"],
            inputs=[],
            outputs=[Embedder.Output(display_name="embedder")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(load_embedder(paths.WEIGHTS / paths.EMBEDDER))


class HSpaceClipEmbedder(Node):
    """The host's CLIP as an embedder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceClipEmbedder",
            display_name="CLIP Embedder",
            category="HSpace/load",
            description="Joins the text and the picture tower of CLIP ViT-L/14 into one embedder, for training that is guided by prompts.",
            search_aliases=["clip", "vit-l/14", "directional loss"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="It comes from Load CLIP with clip_l.safetensors. The CLIP inside a Stable Diffusion checkpoint lacks the projection that compares texts with pictures.",
                ),
                io.ClipVision.Input(
                    "clip_vision", tooltip="It comes from Load CLIP Vision with clip-vit-large-patch14."
                ),
            ],
            outputs=[Embedder.Output(display_name="embedder")],
        )

    @classmethod
    def execute(cls, clip, clip_vision) -> io.NodeOutput:
        return io.NodeOutput(HostEmbedder(clip, clip_vision))


NODES = [HSpaceLoadFaceEmbedder, HSpaceClipEmbedder]
