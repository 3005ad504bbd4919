"""Measure: the metrics of PIE-Bench for any edit."""

import torch

from ...core.foreign import named
from ...core.measure.pair import crop_alike, lines_for, masks_for
from ...core.measure.pie import Instruments, Prompts, means, measure_pie, table, to_json
from ..host import paths
from ..host.api import Embedder, Node, io
from ..host.model.images import from_image
from ..host.model.metrics import FACE, OFF, perceptual, structure_features
from ..host.progress import say
from ..unused import refuse_unused

_UNKNOWN = -1.0


def _prompt(name: str, what: str):
    tooltip = f"{what}, one line for all pictures or one line for each."
    return io.String.Input(name, multiline=True, optional=True, default="", tooltip=tooltip)


class HSpaceEditMetrics(Node):
    """Measures structure, background and prompt as PIE-Bench does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEditMetrics",
            display_name="Edit Metrics",
            category="HSpace/measure",
            description=(
                "Computes the figures that papers on text-guided editing report (PIE-Bench): structure distance, "
                "PSNR, MSE, SSIM and LPIPS of what lies outside the mask, and CLIP similarity. Each background "
                "figure comes twice: as the benchmark codes it, and counting only the pixels outside."
            ),
            is_output_node=True,
            search_aliases=[
                "pie-bench",
                "psnr",
                "ssim",
                "lpips",
                "structure distance",
                "clip score",
                "background preservation",
                "benchmark",
            ],
            inputs=[
                io.Image.Input("source", tooltip="The original picture, or a batch."),
                io.Image.Input("edited", tooltip="The edited picture, of the same size and number."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region that was meant to change: one mask, or one for each picture. Without one everything counts as background.",
                ),
                Embedder.Input(
                    "embedder",
                    optional=True,
                    tooltip="It is for CLIP similarity: CLIP Embedder for photographs (ViT-L/14, as the papers), Load Face Embedder for the face world. CLIP similarity needs target_prompt too.",
                ),
                _prompt("source_prompt", "What the source shows"),
                _prompt("target_prompt", "What the edited picture should show"),
                io.Combo.Input(
                    "structure",
                    options=[FACE, OFF, *paths.metric_choices()],
                    advanced=True,
                    optional=True,
                    tooltip="The network that sees the structure. For figures like those of papers take dino_vitbase8_pretrain.pth in models/hspace_metrics. face world is the pack's own small network.",
                ),
                io.Combo.Input(
                    "lpips",
                    options=[OFF, *paths.metric_choices()],
                    advanced=True,
                    optional=True,
                    tooltip="A file with LPIPS on SqueezeNet in models/hspace_metrics (see help). off measures none.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="It goes into Preview as Text."),
                io.String.Output(display_name="json", tooltip="The means and the figures of every picture, unscaled."),
                io.Float.Output(
                    display_name="structure_distance",
                    tooltip="The unscaled figure (papers print it times 1000). -1 means not measured.",
                ),
                io.Float.Output(
                    display_name="psnr_outside",
                    tooltip="The PSNR in dB of the pixels outside the mask, at most 120. -1 means that nothing is outside.",
                ),
                io.Float.Output(
                    display_name="ssim_outside",
                    tooltip="The SSIM outside the mask. -1 means that nothing is outside, or that the picture is below 11x11.",
                ),
                io.Float.Output(
                    display_name="clip_similarity",
                    tooltip="The similarity of the edited picture and target_prompt, 0 to 100. -1 means no embedder or no prompt.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, structure=FACE, lpips=OFF, **_) -> str | float:
        """Runs again when one of the files changes."""
        return paths.file_stamp(paths.metric_path, *(name for name in (structure, lpips) if name not in (FACE, OFF)))

    @classmethod
    def execute(
        cls, source, edited, mask=None, embedder=None, source_prompt="", target_prompt="", structure=FACE, lpips=OFF
    ) -> io.NodeOutput:
        a, b = from_image(source, "source"), from_image(edited, "edited")
        if embedder is None:
            why = "is compared with pictures by an embedder, and none is connected"
            refuse_unused(cls, why, source_prompt=source_prompt, target_prompt=target_prompt)
        elif not source_prompt.strip() and not target_prompt.strip():
            refuse_unused(
                cls,
                "compares pictures with prompts, and neither source_prompt nor target_prompt is written",
                embedder=embedder,
            )
        a, region, note = crop_alike(a, b, masks_for(mask, a), ("source", "edited"))
        if note:
            say(note)
        prompts = [
            lines_for(text, len(a), name)
            for name, text in (("source_prompt", source_prompt), ("target_prompt", target_prompt))
        ]
        features, distance = structure_features(structure), perceptual(lpips)
        if embedder is not None and hasattr(embedder, "load"):
            embedder.load()
        if embedder is not None:
            _check_words(embedder, prompts)
        with torch.no_grad():
            scores = measure_pie(a.cpu(), b.cpu(), region, Instruments(features, distance, embedder), Prompts(*prompts))
        facts = {"structure seen by": features.name if features else None, "images": len(a), "mask": mask is not None}
        note = "; ".join(filter(None, (f"structure seen by: {features.name}" if features else "", note)))
        text, mean = table(scores, note), means(scores)
        names = ("structure_distance", "psnr_outside", "ssim_outside", "clip_similarity_target_image")
        numbers = [_UNKNOWN if mean.get(name) is None else mean[name] for name in names]
        return io.NodeOutput(text, to_json(scores, facts), *numbers, ui={"text": (text,)})


def _check_words(embedder, prompts: list[list[str]]) -> None:
    for name, lines in zip(("source_prompt", "target_prompt"), prompts, strict=True):
        with named(name):
            embedder.embed_text(lines) if lines else None


NODES = [HSpaceEditMetrics]
