"""Photo: the part of a photograph that a model works on, at its size."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.masks import fit_mask
from ...core.photo.crop import crop
from ...core.photo.placement import Placement, place_face, place_region, place_whole, placement_to_payload
from ...core.photo.points import points_of_dots, points_of_keypoints
from ..host.api import Node, Placed, io
from ..host.model.images import check_aspect
from ..host.model.size import size_unit, working_size
from ..host.ui import show_picture
from ..unused import only_with, refuse_unused

REGION, FACE, WHOLE = "region", "face", "whole picture"
_CONTEXT = 1.7
_MOST = 4096


class HSpaceFitPhoto(Node):
    """Crops a photograph of any size for a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceFitPhoto",
            display_name="Fit Photo",
            category="HSpace/photo",
            description=(
                "Cuts the part of a photograph that you want to edit and brings it to the size that the model works at. "
                "Paste Back puts the edit into the photograph again at full size."
            ),
            search_aliases=[
                "crop",
                "crop face",
                "photograph",
                "edit photo",
                "resize for model",
                "align face",
                "inpaint crop",
                "crop and stitch",
            ],
            inputs=[
                io.Image.Input("image", tooltip="The photograph. It may have any size, and several are taken at once."),
                io.Combo.Input(
                    "framing",
                    options=[REGION, FACE, WHOLE],
                    tooltip="region cuts a square around what is painted in 'frame', or in 'mask' without one. face cuts and turns the head as FFHQ and CelebA-HQ models expect it, by five dots painted in 'frame' or by 'keypoints'. whole picture takes all of it and fills up the shorter side.",
                ),
                only_with(
                    io.Float.Input(
                        "context",
                        default=_CONTEXT,
                        min=1.0,
                        max=4.0,
                        step=0.1,
                        tooltip="The side of the square as a multiple of the longer side of the painted region. More shows the model more of what is around. It acts with framing 'region'.",
                    ),
                    framing=[REGION],
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=_MOST,
                    step=8,
                    tooltip="The side of the result in pixels. 0 takes the size that 'model' works at.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region that may change. Right-click the picture and choose Open in MaskEditor to paint it. Without a mask it is all that is cut.",
                ),
                io.Mask.Input(
                    "frame",
                    optional=True,
                    tooltip="What to cut around, if that is more than the region: the whole head for a mouth. For framing 'face' it holds five dots: both eyes, the nose and both corners of the mouth.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that edits. It tells the size, and refuses a size that it cannot take.",
                ),
                io.Custom("POSE_KEYPOINT").Input(
                    "keypoints",
                    optional=True,
                    tooltip="The landmarks of a face, from a pose node. They are for framing 'face', in place of the dots.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.Mask.Output(display_name="mask", tooltip="The region in the cut picture."),
                Placed.Output(display_name="placement", tooltip="It goes into Paste Back."),
            ],
        )

    @classmethod
    def execute(
        cls, image, framing, context=_CONTEXT, size=0, mask=None, frame=None, model=None, keypoints=None
    ) -> io.NodeOutput:
        _refuse_idle(cls, framing, {"context": context, "frame": frame, "keypoints": keypoints})
        side = _side(size, model)
        photographs = image[..., :3].movedim(-1, 1).float()
        masks = _masks(mask, "mask", photographs)
        frames = _masks(frame, "frame", photographs)
        squares = _squares(framing, context, masks if frames is None else frames, frames, keypoints, photographs)
        placement = Placement(squares, _size(photographs), masks)
        pictures = [crop(one[None], placement, i, side) for i, one in enumerate(photographs)]
        regions = [_region(placement, i, side) for i in range(len(placement))]
        outputs = (
            torch.cat(pictures).movedim(1, -1),
            torch.cat(regions)[:, 0],
            placement_to_payload(placement),
        )
        return io.NodeOutput(*outputs, ui=show_picture(outputs[0], cls, _report(placement, side)))


def _refuse_idle(node: type[Node], framing: str, given: dict) -> None:
    """Refuse what the framing does not use."""
    idle = {REGION: ("keypoints",), FACE: ("context",), WHOLE: ("context", "frame", "keypoints")}[framing]
    belongs = {"context": REGION, "frame": f"{REGION}' or '{FACE}", "keypoints": FACE}
    for name in idle:
        why = f"acts with framing '{belongs[name]}', and framing is '{framing}'"
        refuse_unused(node, why, instead="choose that", **{name: given[name]})


def _size(photographs: Tensor) -> tuple[int, int]:
    """Height and width."""
    return photographs.shape[2], photographs.shape[3]


def _side(size: int, model) -> int:
    if not size and model is None:
        raise ValueError(
            "size 0 takes the size that the model works at, but no 'model' is connected; connect it, or set size"
        )
    side = size or working_size(model)
    if side is None:
        raise ValueError(
            "this model's file does not say what size it was trained at; set 'size' (for most DDPM files to 256)"
        )
    unit = 1 if model is None else size_unit(model)
    if side % unit:
        raise ValueError(f"size must be a multiple of {unit} for this model, got {side}")
    return side


def _masks(mask: Tensor | None, name: str, photographs: Tensor) -> Tensor | None:
    """Masks `[1 or b, h, w]` at the photographs' size; None where nothing is painted."""
    if mask is None:
        return None
    masks = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    height, width = _size(photographs)
    if float(masks.max()) == 0:
        if masks.shape[-2:] == (64, 64):
            return None  # what Load Image gives for a picture without one
        raise ValueError(
            f"nothing is painted in '{name}'; right-click the picture, choose Open in MaskEditor and paint, or"
            " disconnect it"
        )
    if len(masks) not in (1, len(photographs)):
        raise ValueError(f"'{name}' must be one mask or {len(photographs)}, one a photograph, got {len(masks)}")
    check_aspect(masks, height, width, f"'{name}'")
    return torch.stack([fit_mask(one.clamp(0, 1), height, width) for one in masks])


def _squares(
    framing: str, context: float, around: Tensor | None, frames: Tensor | None, keypoints, photographs: Tensor
) -> Tensor:
    """Square of each photograph, `[b 4]`."""
    size = _size(photographs)
    if framing == WHOLE:
        squares = [place_whole(size)]
    elif framing == REGION:
        if around is None:
            raise ValueError(
                "framing 'region' needs it painted in 'mask': right-click the picture and choose Open in MaskEditor, or"
                f" choose framing '{WHOLE}'"
            )
        squares = [place_region(one, size, context) for one in around]
    else:
        squares = [place_face(points) for points in _faces(frames, keypoints, photographs)]
    return torch.stack(squares).expand(len(photographs), 4)


def _faces(frames: Tensor | None, keypoints, photographs: Tensor) -> list[Tensor]:
    """Five points of one face, or of one in each photograph."""
    if (frames is None) == (keypoints is None):
        raise ValueError(
            "framing 'face' needs either five dots painted in 'frame' (both eyes, nose, both corners of the mouth) or"
            " 'keypoints' of a pose node"
        )
    if frames is not None:
        return [points_of_dots(one) for one in frames]
    found = keypoints if isinstance(keypoints, (list, tuple)) else [keypoints]
    if len(found) not in (1, len(photographs)):
        raise ValueError(
            f"'keypoints' holds {len(found)} frames for {len(photographs)} photographs; give it 1, or one a photograph"
        )
    return [points_of_keypoints(one, _size(photographs)) for one in found]


def _region(placement: Placement, i: int, side: int) -> Tensor:
    """The region in square ``i``, `[1 1 side side]`."""
    if placement.mask is None:
        return torch.ones(1, 1, side, side)
    return crop(placement.mask[i % len(placement.mask)][None, None], placement, i, side)


def _report(placement: Placement, side: int) -> str:
    """What was cut, for people."""
    lines = []
    for i in range(len(placement)):
        cut, (x, y, *_) = placement.side(i), placement.squares[i].tolist()
        turned = "" if placement.box(i) else ", turned"
        lines.append(
            f"{cut}x{cut} around ({x:.0f}, {y:.0f}) of {placement.size[1]}x{placement.size[0]}{turned}, scaled by"
            f" {side / cut:.2f} to {side}x{side}"
        )
    return "\n".join(lines)


NODES = [HSpaceFitPhoto]
