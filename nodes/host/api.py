"""ComfyUI's node API and the sockets of this pack; every node file imports them from here."""

from comfy_api.latest import ComfyExtension, io, ui

Trajectory = io.Custom("HSPACE_TRAJECTORY")
Directions = io.Custom("HSPACE_DIRECTIONS")
Basis = io.Custom("HSPACE_BASIS")
Embedder = io.Custom("HSPACE_EMBEDDER")
Delta = io.Custom("HSPACE_DELTA")
Rectifier = io.Custom("HSPACE_RECTIFIER")
LoraModel = io.Custom("LORA_MODEL")
Concepts = io.Custom("HSPACE_CONCEPTS")
Heads = io.Custom("HSPACE_HEADS")
TokenMap = io.Custom("HSPACE_TOKENMAP")
DeltaMapper = io.Custom("HSPACE_DELTAMAPPER")
Pada = io.Custom("HSPACE_PADA")

__all__ = [
    "Basis", "ComfyExtension", "Concepts", "Delta", "DeltaMapper", "Directions", "Embedder", "Heads", "LoraModel", "Pada", "Rectifier", "TokenMap", "Trajectory", "io", "ui",
]  # fmt: skip
