"""Measure: before and after become numbers and a picture."""

import json

from ..core.faces.regressor import load_regressor
from ..core.measure.faces import measure_edit
from ..core.measure.heatmap import heatmap
from ..core.plots import strip
from .host import paths
from .host.api import io, ui
from .host.images import from_image, one_mask, to_image


class HSpaceMeasureEdit(io.ComfyNode):
    """What an edit changed, where, and what leaked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMeasureEdit",
            display_name="Measure Edit",
            category="HSpace/measure",
            description="Compares an edited picture with the unedited one: change inside and outside the mask, PSNR, SSIM and, for faces of the embedded world, how far every factor moved.",
            is_output_node=True,
            search_aliases=["psnr", "ssim", "locality", "leak", "difference", "heat map", "metrics"],
            inputs=[
                io.Image.Input("before", tooltip="The unedited reconstruction, not the original: then the inversion's own error does not count."),
                io.Image.Input("after", tooltip="The edited picture, of the same size and batch."),
                io.Mask.Input("mask", optional=True, tooltip="The region that was meant to change."),
                io.Combo.Input("factors", options=["face world", "off"], tooltip="face world: also read all 18 factors with the embedded regressor, if the pictures are 64x64 (faces of this pack only)."),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="For Preview as Text."),
                io.String.Output(display_name="json"),
                io.Image.Output(display_name="heat_map"),
                io.Float.Output(display_name="leak_ratio", tooltip="Mean change outside the mask divided by that inside; 0 without a mask."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, before, after, factors, mask=None) -> io.NodeOutput:
        """Measure."""
        a, b = from_image(before, "before"), from_image(after, "after")
        if a.shape != b.shape:
            raise ValueError(f"'before' and 'after' must have one size and batch, got {list(before.shape)} and {list(after.shape)}")
        region = one_mask(mask, *a.shape[-2:])
        regressor = load_regressor(paths.WEIGHTS / paths.REGRESSOR) if factors == "face world" and a.shape[-2:] == (64, 64) else None
        report = measure_edit(a, b, region, regressor)
        heat = heatmap(a, b)
        picture = strip([("", [a[0], b[0], heat[0]])], ["before", "after", "difference"])
        facts = report.to_dict()
        return io.NodeOutput(
            report.table(),
            json.dumps(facts, indent=1),
            to_image(heat),
            float(facts["leak_ratio"] or 0.0),
            ui=ui.PreviewImage(picture, cls=cls),
        )


NODES = [HSpaceMeasureEdit]
