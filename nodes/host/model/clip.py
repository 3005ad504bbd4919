"""The host's CLIP and CLIP_VISION as one image-text embedder (ViT-L/14, Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management
import torch
from torch import Tensor
from torch.nn import functional as F

from ..memory import hold_in_place
from ..types import CLIP

DIM = 768
_COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0)}


@contextmanager
def _norms_on_copies(tower: torch.nn.Module) -> Iterator[None]:
    """Inside, every norm reads a copy: the host adds to its input in place afterwards, which a backward pass does not
    allow.
    """
    norms = [m for m in tower.modules() if isinstance(m, torch.nn.LayerNorm)]
    hooks = [m.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:])) for m in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _crop_square(x: Tensor, side: int) -> Tensor:
    """The middle of pictures `[b c h w]` whose shorter side is scaled to ``side``, as CLIP was trained."""
    height, width = x.shape[-2:]
    if (height, width) == (side, side):
        return x
    scale = side / min(height, width)
    x = F.interpolate(x, (round(scale * height), round(scale * width)), mode="bicubic", antialias=True)
    top = (x.shape[-2] - side) // 2
    left = (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


class HostEmbedder:
    """See :class:`core.embedder.Embedder`.

    Args:
        clip: CLIP with a text tower of ViT-L/14 and its projection.
        vision: CLIP_VISION of ViT-L/14.

    Raises:
        ValueError: another tower, or two that do not share a space.
    """

    space = "openai/clip-vit-large-patch14"

    def __init__(self, clip: CLIP, vision):
        kind = getattr(vision, "model_type", "")
        width = getattr(vision, "config", {}).get("projection_dim")
        hidden = getattr(vision, "config", {}).get("hidden_size")
        if kind != "clip_vision_model" or hidden != 1024 or width != DIM:
            raise ValueError(
                f"clip_vision must be CLIP ViT-L/14 (hidden size 1024, projection {DIM}), the one connected is a"
                f" {kind or 'model'} of hidden size {hidden} and projection {width}; load clip-vit-large-patch14 with"
                " Load CLIP Vision"
            )
        tower = getattr(getattr(clip, "cond_stage_model", None), "clip_l", None)
        projection = getattr(getattr(tower, "transformer", None), "text_projection", None)
        if tower is None or projection is None or tuple(projection.weight.shape) != (DIM, DIM):
            raise ValueError(
                "clip must hold the text tower of CLIP ViT-L/14 (clip_l), which this one does not; load"
                " clip_l.safetensors with Load CLIP"
            )
        self.clip = clip
        self.vision = vision
        self._tower = tower
        self._patcher = hold_in_place(vision.patcher)
        weight = projection.weight.detach().float()
        plain = torch.eye(DIM, device=weight.device)
        if not bool(torch.isfinite(weight).all()) or float(weight.abs().max()) == 0 or torch.equal(weight, plain):
            raise ValueError(
                "this CLIP has no text projection (Stable Diffusion checkpoints leave it out), so its texts cannot be"
                " compared with pictures; load clip_l.safetensors with Load CLIP"
            )
        self._check()

    @property
    def network(self) -> torch.nn.Module:
        """What a gradient runs through."""
        return self._patcher.model

    def load(self) -> None:
        """Bring the picture tower to its device."""
        comfy.model_management.load_model_gpu(self._patcher)

    def embed_image(self, images: Tensor) -> Tensor:
        """See :class:`core.embedder.Embedder`."""
        vision = self.vision
        unit = (images.to(vision.load_device).float() + 1) / 2
        x = _crop_square(unit, vision.image_size).clamp(0, 1)
        mean = x.new_tensor(vision.image_mean)[:, None, None]
        std = x.new_tensor(vision.image_std)[:, None, None]
        with _norms_on_copies(self.network):
            outputs = self.network(pixel_values=(x - mean) / std, intermediate_output=-2)
        return F.normalize(outputs[2].float(), dim=-1).to(images.device)

    @torch.no_grad()
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """See :class:`core.embedder.Embedder`."""
        if not prompts:
            raise ValueError("there is no prompt to embed")
        comfy.model_management.load_model_gpu(self.clip.patcher)
        rows = []
        try:
            self._tower.set_clip_options({"projected_pooled": True})
            for prompt in prompts:
                pooled = self._tower.encode_token_weights(self.clip.tokenize(prompt)["l"])[1]
                rows.append(pooled.reshape(1, -1)[:, :DIM].float())
        finally:
            self._tower.reset_clip_options()
        return F.normalize(torch.cat(rows), dim=-1).to(comfy.model_management.intermediate_device())

    def _check(self) -> None:
        """Plain colours must be nearer to their own names than to the others: only towers of one space pass."""
        self.load()
        pictures = torch.tensor(list(_COLOURS.values()))[:, :, None, None].expand(-1, -1, 224, 224)
        with torch.no_grad():
            images = self.embed_image(pictures).cpu()
            texts = self.embed_text([f"a plain {name} picture" for name in _COLOURS]).cpu()
        scores = images @ texts.T
        if not float(scores.diagonal().mean()) > float(scores.mean()) + 1e-3:
            raise ValueError(
                "the text and the picture tower do not share a space: red, green and blue pictures are no nearer to"
                " their names than to other colours. Load clip_l.safetensors and clip-vit-large-patch14 of OpenAI"
            )
