"""Measure: the metrics of PIE-Bench for any edit."""

import torch
from torch.nn import functional as F

from ..core.measure.pie import means, measure_pie, table, to_json
from .host import paths
from .host.api import Embedder, io
from .host.images import from_image
from .host.metrics import FACE, OFF, perceptual, structure_features

_UNKNOWN = -1.0


class HSpaceEditMetrics(io.ComfyNode):
    """Structure, background and prompt, as PIE-Bench measures them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceEditMetrics",
            display_name="Edit Metrics",
            category="HSpace/measure",
            description=(
                "The figures that papers on text-guided editing report (PIE-Bench): structure distance, PSNR, MSE, SSIM and LPIPS of what lies "
                "outside the mask, and CLIP similarity. Each background figure twice: as the benchmark codes it, and counting only the pixels outside."
            ),
            is_output_node=True,
            search_aliases=["pie-bench", "psnr", "ssim", "lpips", "structure distance", "clip score", "background preservation", "benchmark"],
            inputs=[
                io.Image.Input("source", tooltip="The original picture, or a batch."),
                io.Image.Input("edited", tooltip="The edited picture, of the same size and batch."),
                io.Mask.Input("mask", optional=True, tooltip="The region that was meant to change: one, or one a picture. Without one everything counts as background."),
                Embedder.Input("embedder", optional=True, tooltip="For CLIP similarity: CLIP Embedder for photographs (ViT-L/14, as the papers), Load Face Embedder for the face world. Needs target_prompt."),
                io.String.Input("source_prompt", multiline=True, optional=True, default="", tooltip="What the source shows. One line for all pictures, or a line each."),
                io.String.Input("target_prompt", multiline=True, optional=True, default="", tooltip="What the edited picture should show. One line for all pictures, or a line each."),
                io.Combo.Input(
                    "structure", options=[FACE, OFF, *paths.metric_choices()], advanced=True, optional=True,
                    tooltip="What sees the structure. For figures like those of papers: dino_vitbase8_pretrain.pth in models/hspace_metrics. face world: the pack's own small network.",
                ),
                io.Combo.Input(
                    "lpips", options=[OFF, *paths.metric_choices()], advanced=True, optional=True,
                    tooltip="A file with LPIPS on SqueezeNet in models/hspace_metrics (see the help page). off: not measured.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="For Preview as Text."),
                io.String.Output(display_name="json", tooltip="Means and the figures of every picture, unscaled."),
                io.Float.Output(display_name="structure_distance", tooltip="Not scaled (papers print it times 1000). -1: not measured."),
                io.Float.Output(display_name="psnr_outside", tooltip="In dB, pixels outside the mask only; at most 120. -1: nothing is outside."),
                io.Float.Output(display_name="ssim_outside", tooltip="-1: nothing is outside, or a picture below 11x11."),
                io.Float.Output(display_name="clip_similarity", tooltip="Of the edited picture and target_prompt, 0 to 100. -1: no embedder or no prompt."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, source, edited, mask=None, embedder=None, source_prompt="", target_prompt="", structure=FACE, lpips=OFF
    ) -> io.NodeOutput:
        """Measure."""
        a, b = from_image(source, "source"), from_image(edited, "edited")
        if a.shape != b.shape:
            raise ValueError(
                f"'source' and 'edited' must have one size and batch, got {_size(a)} and {_size(b)}; scale one with Upscale Image, or repeat "
                "the source with RepeatImageBatch"
            )
        prompts = [_lines(text, len(a), name) for name, text in (("source_prompt", source_prompt), ("target_prompt", target_prompt))]
        features, seen = structure_features(structure), perceptual(lpips)
        if embedder is not None and hasattr(embedder, "load"):
            embedder.load()
        with torch.no_grad():
            scores = measure_pie(a.cpu(), b.cpu(), _masks(mask, a), features, seen, embedder, *prompts)
        facts = {"structure seen by": features.name if features else None, "images": len(a), "mask": mask is not None}
        note = f"structure seen by: {features.name}" if features else ""
        text, mean = table(scores, note), means(scores)
        names = ("structure_distance", "psnr_outside", "ssim_outside", "clip_similarity_target_image")
        numbers = [_UNKNOWN if mean.get(name) is None else mean[name] for name in names]
        return io.NodeOutput(text, to_json(scores, facts), *numbers, ui={"text": (text,)})


def _lines(text: str, count: int, name: str) -> list[str]:
    """One prompt for all, or one a picture."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) not in (0, 1, count):
        raise ValueError(f"'{name}' must have one line, or one for each of the {count} pictures, got {len(lines)}")
    return lines


def _masks(mask, images) -> torch.Tensor | None:
    """MASK as `[b h w]` or `[1 h w]` at the size of the pictures."""
    if mask is None:
        return None
    mask = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    (b, _, h, w), (n, high, wide) = images.shape, mask.shape
    if n not in (1, b):
        raise ValueError(f"'mask' must be one mask, or one for each of the {b} pictures, got {n}")
    if abs(high * w - wide * h) > max(high * h, wide * w) * 0.02:
        raise ValueError(f"'mask' must have the aspect of the pictures ({w}x{h}), got {wide}x{high}; make the mask from the same picture")
    return mask if (high, wide) == (h, w) else F.interpolate(mask[:, None], (h, w), mode="nearest-exact")[:, 0]


def _size(images: torch.Tensor) -> str:
    return f"{len(images)} of {images.shape[-1]}x{images.shape[-2]}"


NODES = [HSpaceEditMetrics]
