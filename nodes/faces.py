"""Faces: pictures of the embedded world with known factors and exact region masks."""

import torch

from ..core.faces.captions import caption
from ..core.faces.factors import EYE_COLORS, FACTORS, HAIR_COLORS, Factors, neutral, sample
from ..core.faces.regions import REGIONS, region_mask
from ..core.faces.render import render
from .host.api import io
from .host.images import to_image

_DIALS = [f for f in FACTORS if not f.classes]


class HSpaceDemoFace(io.ComfyNode):
    """A procedural face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        dials = [
            io.Float.Input(
                f.name, default=f.neutral, min=f.low, max=f.high, step=0.05, advanced=f.name not in ("smile", "mouth_open", "eye_open"), optional=True,
                tooltip=f"{f.name.replace('_', ' ')}, used when 'source' is dials.",
            )
            for f in _DIALS
        ]  # fmt: skip
        return io.Schema(
            node_id="HSpaceDemoFace",
            display_name="Demo Face",
            category="HSpace/faces",
            description="Draws a face whose factors are known, with the exact mask of each region: something to edit and to measure on.",
            search_aliases=["face generator", "test face", "procedural"],
            inputs=[
                io.Combo.Input("source", options=["random", "dials"], tooltip="random: a face by seed. dials: the values below."),
                io.Int.Input(
                    "seed", default=35, min=0, max=2**31 - 1, control_after_generate=False,
                    tooltip="Which random face. These faces were never seen in training.",
                ),
                io.Int.Input("count", default=1, min=1, max=64, tooltip="How many random faces (dials always give one)."),
                *dials,
                io.Boolean.Input("glasses", default=False, advanced=True, optional=True, tooltip="Used when 'source' is dials."),
                io.Combo.Input("hair_color", options=list(HAIR_COLORS), default="brown", advanced=True, optional=True, tooltip="Used when 'source' is dials."),
                io.Combo.Input("eye_color", options=list(EYE_COLORS), advanced=True, optional=True, tooltip="Used when 'source' is dials."),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                *(io.Mask.Output(display_name=r, tooltip=f"Every pixel that the factors of the {r} can reach on this face.") for r in REGIONS),
                io.String.Output(display_name="caption"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, source: str, seed: int, count: int, **values) -> io.NodeOutput:
        """Draw."""
        faces = sample(count, torch.Generator().manual_seed(seed), held_out=True) if source == "random" else _from_dials(values)
        image, _ = render(faces, 64)
        masks = [region_mask(faces, r, 64) for r in REGIONS]
        captions = "\n".join(caption(faces, i) for i in range(len(image)))
        return io.NodeOutput(to_image(image * 2 - 1), *masks, captions)


def _from_dials(values: dict) -> Factors:
    numbers = {f.name: values.get(f.name, f.neutral) for f in _DIALS}
    numbers["glasses"] = float(values.get("glasses", False))
    numbers["hair_color"] = float(HAIR_COLORS.index(values.get("hair_color", "brown")))
    numbers["eye_color"] = float(EYE_COLORS.index(values.get("eye_color", "brown")))
    return neutral(1, **numbers)


NODES = [HSpaceDemoFace]
