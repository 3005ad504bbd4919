"""Faces: pictures of the embedded world with known factors and exact region masks."""

import torch

from ...core.faces.captions import caption
from ...core.faces.factors import BY_NAME, EYE_COLORS, FACTORS, HAIR_COLORS, neutral, sample
from ...core.faces.regions import REGIONS, region_mask
from ...core.faces.render import render
from ..dials import count_input, seed_input
from ..host.api import Node, io
from ..host.model.images import to_image
from ..host.ui import show_picture
from ..seeds import ONE_BY_ONE
from ..unused import only_with, refuse_unused

_DIALS = [f for f in FACTORS if not f.classes]
_MEANING = {
    "smile": "How far the mouth smiles; below 0 it frowns.",
    "mouth_open": "How far the mouth is open.",
    "eye_open": "How far both eyes are open.",
    "gaze": "The side that the eyes look to.",
    "brow_height": "How high the brows are.",
    "brow_tilt": "The tilt of the brows.",
    "nose_size": "The size of the nose.",
    "face_width": "The width of the face.",
    "yaw": "How far the head is turned to a side.",
    "light": "The side that the light comes from.",
    "skin": "The tone of the skin, from light to dark.",
    "hair_length": "The length of the hair.",
    "hair_shade": "How light the hair is.",
    "bg_hue": "The hue of the background.",
    "shirt_hue": "The hue of the shirt.",
}
_RANDOM = "With source random, the face of the seed keeps its own value unless this is moved from its default."


class HSpaceDemoFace(Node):
    """Draws a procedural face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        dials = [
            io.Float.Input(
                f.name,
                default=f.neutral,
                min=f.low,
                max=f.high,
                step=0.05,
                advanced=f.name not in ("smile", "mouth_open", "eye_open"),
                optional=True,
                tooltip=f"{_MEANING[f.name]} {_RANDOM}",
            )
            for f in _DIALS
        ]
        return io.Schema(
            node_id="HSpaceDemoFace",
            display_name="Demo Face",
            category="HSpace/faces",
            description="Draws a face whose factors are known, with the exact mask of each region: something to edit and to measure on.",
            search_aliases=["face generator", "test face", "procedural"],
            inputs=[
                io.Combo.Input(
                    "source",
                    options=["random", "dials"],
                    tooltip="random draws the face of the seed, with every value below that is moved from its default set on it. dials takes the values below, all of them.",
                ),
                only_with(
                    seed_input(
                        f"The seed of the random faces, for source random only. These faces were never seen in training. {ONE_BY_ONE}",
                        default=35,
                    ),
                    source=["random"],
                ),
                only_with(
                    count_input(
                        "count",
                        1,
                        "The number of random faces, all with the same values set. It is for source random only, as dials give one face.",
                    ),
                    source=["random"],
                ),
                *dials,
                io.Boolean.Input(
                    "glasses",
                    default=False,
                    advanced=True,
                    optional=True,
                    tooltip=f"Whether the face wears glasses. {_RANDOM}",
                ),
                io.Combo.Input(
                    "hair_color",
                    options=list(HAIR_COLORS),
                    default="brown",
                    advanced=True,
                    optional=True,
                    tooltip=f"The colour of the hair. {_RANDOM}",
                ),
                io.Combo.Input(
                    "eye_color",
                    options=list(EYE_COLORS),
                    advanced=True,
                    optional=True,
                    tooltip=f"The colour of the eyes. {_RANDOM}",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                *(
                    io.Mask.Output(
                        display_name=r, tooltip=f"Every pixel that the factors of the {r} can reach on this face."
                    )
                    for r in REGIONS
                ),
                io.String.Output(display_name="caption"),
            ],
        )

    @classmethod
    def execute(cls, source: str, seed: int, count: int, **values) -> io.NodeOutput:
        if source == "random":
            faces = sample(count, torch.Generator().manual_seed(seed), held_out=True)
            faces |= {
                name: torch.full_like(faces[name], value)
                for name, value in _numbers(values).items()
                if value != BY_NAME[name].neutral
            }
        else:
            refuse_unused(cls, "belongs to source random, and source is dials", seed=seed, count=count)
            faces = neutral(1, **_numbers(values))
        image, _ = render(faces, 64)
        masks = [region_mask(faces, r, 64) for r in REGIONS]
        captions = "\n".join(caption(faces, i) for i in range(len(image)))
        picture = to_image(image * 2 - 1)
        return io.NodeOutput(picture, *masks, captions, ui=show_picture(picture, cls))


def _numbers(values: dict) -> dict[str, float]:
    """Every factor as the widgets have it."""
    numbers = {f.name: values.get(f.name, f.neutral) for f in _DIALS}
    numbers["glasses"] = float(values.get("glasses", False))
    numbers["hair_color"] = float(HAIR_COLORS.index(values.get("hair_color", "brown")))
    numbers["eye_color"] = float(EYE_COLORS.index(values.get("eye_color", "brown")))
    return numbers


NODES = [HSpaceDemoFace]
