"""Photo: the edit of a part, back in the photograph at full size."""

from __future__ import annotations

from ...core.photo.paste import paste_difference
from ...core.photo.placement import placement_from_payload
from ..dials import share_input
from ..host.api import Node, Placed, io
from ..host.ui import show_picture


class HSpacePasteBack(Node):
    """Adds what an edit changed to the photograph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePasteBack",
            display_name="Paste Back",
            category="HSpace/photo",
            description=(
                "Adds what the edit changed to the photograph at its full size. Everything that the model cannot draw, such as pores "
                "and grain, stays as it is; an edit of strength 0 gives the photograph back bit for bit."
            ),
            search_aliases=["stitch", "uncrop", "full size", "photograph", "composite", "blend back"],
            inputs=[
                io.Image.Input("original", tooltip="The photograph that went into Fit Photo."),
                io.Image.Input(
                    "reconstruction", tooltip="It comes from Render Trajectory: the cut part without the edit."
                ),
                io.Image.Input("edited", tooltip="It comes from Render Trajectory: the cut part with the edit."),
                Placed.Input("placement", tooltip="It comes from Fit Photo."),
                share_input(
                    "feather",
                    0.06,
                    "The width of the smooth edge around the region, as a share of the side of the cut square. 0 is a hard edge.",
                    step=0.01,
                ),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, original, reconstruction, edited, placement, feather=0.06) -> io.NodeOutput:
        place = placement_from_payload(placement)
        photographs, after, before = (
            one[..., :3].movedim(-1, 1).float().cpu() for one in (original, edited, reconstruction)
        )
        pasted = paste_difference(photographs, after, before, place, feather)
        whole = pasted.movedim(1, -1)
        return io.NodeOutput(whole, ui=show_picture(whole, cls))


NODES = [HSpacePasteBack]
