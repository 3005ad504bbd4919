"""CLIP from a local folder as an embedder (Radford et al. 2021, arXiv 2103.00020).

It serves training outside of the host and needs transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipEmbedder(nn.Module):
    """See :class:`core.embedder.Embedder`.

    Args:
        folder: with ``config.json``, weights and tokenizer, as ``save_pretrained`` writes them.

    Raises:
        ValueError: transformers is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        try:
            from transformers import AutoTokenizer, CLIPModel
        except ImportError as error:
            raise ValueError(
                "CLIP outside of ComfyUI needs the package transformers; install it with: pip install transformers"
            ) from error
        if not Path(folder).is_dir():
            raise ValueError(
                f"{str(folder)!r} is not a folder; give one that holds config.json and weights of a CLIP model"
            )
        try:
            self.clip: Any = CLIPModel.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(folder)!r} holds no CLIP model: {str(error)[:200]}") from error
        self.space = f"clip {Path(folder).name}"
        self.side = int(self.clip.config.vision_config.image_size)

    def embed_image(self, images: Tensor) -> Tensor:
        """See :class:`core.embedder.Embedder`; the smaller side is fitted, the middle is seen."""
        height, width = images.shape[-2:]
        scale = self.side / min(height, width)
        size = (round(scale * height), round(scale * width))
        x = images
        if size != (height, width):
            x = F.interpolate(images, size, mode="bicubic", antialias=True)
        top = (size[0] - self.side) // 2
        left = (size[1] - self.side) // 2
        x = x[..., top : top + self.side, left : left + self.side]
        mean = x.new_tensor(_MEAN)[:, None, None]
        std = x.new_tensor(_STD)[:, None, None]
        pixels = ((x + 1) / 2 - mean) / std
        features = self.clip.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.clip.visual_projection(features), dim=-1)

    @torch.no_grad()
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """See :class:`core.embedder.Embedder`."""
        if not prompts:
            raise ValueError("there is no prompt to embed")
        rows = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt").to(self.clip.device)
        features = self.clip.text_model(
            input_ids=rows["input_ids"],
            attention_mask=rows["attention_mask"],
        ).pooler_output
        return F.normalize(self.clip.text_projection(features), dim=-1)
