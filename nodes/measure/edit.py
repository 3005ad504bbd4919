"""Measure: before and after become numbers and a picture."""

import json

from ...core.faces.measure import measure_edit
from ...core.faces.regressor import SIZE, regressor_for
from ...core.masks import fit_mask
from ...core.measure.figures import add_figures
from ...core.measure.heatmap import change_sheet, heat_limit
from ...core.measure.pair import crop_alike
from ..host import paths
from ..host.api import Node, io, ui
from ..host.model.images import from_image, one_mask, to_image
from ..host.progress import say


class HSpaceMeasureEdit(Node):
    """Measures what an edit changed, where, and what leaked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMeasureEdit",
            display_name="Measure Edit",
            category="HSpace/measure",
            description="Compares an edited picture with the unedited one: change inside and outside the mask, PSNR, SSIM and, for faces of the embedded world, how far every factor moved.",
            is_output_node=True,
            search_aliases=[
                "psnr",
                "ssim",
                "lpips",
                "locality",
                "leak",
                "difference",
                "heat map",
                "metrics",
                "before after",
                "compare",
            ],
            inputs=[
                io.Image.Input(
                    "before",
                    tooltip="The unedited reconstruction. With the original the inversion's own error would count.",
                ),
                io.Image.Input("after", tooltip="The edited picture, of the same size and number."),
                io.Mask.Input("mask", optional=True, tooltip="The region that was meant to change."),
                io.Combo.Input(
                    "factors",
                    options=["face world", "off"],
                    tooltip="face world also reads all 18 factors with the embedded regressor, if the pictures are 64x64 faces of this pack.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="It goes into Preview as Text."),
                io.String.Output(display_name="json"),
                io.Image.Output(display_name="heat_map"),
                io.Float.Output(
                    display_name="leak_ratio",
                    tooltip="The mean change outside the mask, divided by that inside. It is 0 without a mask.",
                ),
            ],
        )

    @classmethod
    def execute(cls, before, after, factors, mask=None) -> io.NodeOutput:
        a, b = from_image(before, "before"), from_image(after, "after")
        region = one_mask(mask, *a.shape[-2:], picture="before")
        region = None if region is None else fit_mask(region, *a.shape[-2:])
        a, region, note = crop_alike(a, b, region)
        regressor, foreign = None, ""
        if factors == "face world":
            regressor, foreign = regressor_for(paths.WEIGHTS / paths.REGRESSOR, a)
        report = measure_edit(a, b, region, regressor)
        limit = heat_limit(a, b)
        heat, picture = change_sheet(a, b, limit)
        notes = [line for line in (note, foreign) if line]
        for line in notes:
            if line is note or a.shape[-2:] == (SIZE, SIZE):  # that photographs have no factors is no news
                say(line)
        notes.append(f"heat map: the brightest is a change of {limit:g} (scale -1..1)")
        facts = {**report.to_dict(), "heat_limit": limit, "notes": notes}
        return io.NodeOutput(
            "\n\n".join([report.table(), *notes]),
            json.dumps(facts, indent=1),
            to_image(heat),
            float(facts["leak_ratio"] or 0.0),
            ui=ui.PreviewImage(add_figures(picture, report.figures()), cls=cls),
        )


NODES = [HSpaceMeasureEdit]
