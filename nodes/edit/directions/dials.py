"""Edit: calibrated dials on a picture, with the edited picture on the node."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ....core.directions import Directions as DirectionSet
from ....core.edit.directions.combine import combine, united_mask
from ....core.edit.directions.dials import REACH, Dials, check_layers, strip_values
from ....core.edit.directions.steer import Edit, SteerOptions
from ....core.edit.noise.exact import check_plain
from ....core.edit_schedule import EditSchedule
from ....core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload
from ...dials import (
    WINDOW_END,
    WINDOW_START,
    directions_input,
    edit_schedule,
    model_input,
    share_input,
    sigma_input,
    trajectory_input,
    vae_input,
)
from ...host.api import Directions, ExecutionBlocker, Node, io, ui
from ...host.dial_pictures import enlarged, for_preview, if_possible, save_picture
from ...host.kept import content_key
from ...host.model.copies import directions_for
from ...host.model.fingerprint import model_fingerprint
from ...host.model.images import check_vae
from ...host.model.traits import check_network
from ...host.patches.model_edits import schedules_of
from ...host.patches.sampler_only import refuse_sampler_only
from ...host.patches.steering import add_steering, edits_of
from ...host.progress import say
from ...looking import mask_of
from ...turning import Turning
from ...unused import refuse_unused

_DIALS = tuple(f"dial_{i + 1}" for i in range(8))
_FRAMES = 9
_FEWEST = 3
_MORE = "directions_2", "directions_3"


def _dial(name: str):
    number = name.rpartition("_")[2]
    return io.Float.Input(
        name,
        default=0.0,
        min=-REACH,
        max=REACH,
        step=0.05,
        round=0.001,
        display_mode=io.NumberDisplay.slider,
        optional=True,
        tooltip=f"How far the picture goes along direction {number}. 1 is a clearly visible change of the region, on any model. Negative goes the other way; 0 changes nothing.",
    )


def _further(name: str):
    return Directions.Input(name, optional=True, tooltip="More directions of the same model. Their dials come after.")


class HSpaceDials(Node):
    """Edits a picture by calibrated dials, one a direction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDials",
            display_name="Edit Image by Dials (expression, age, hair)",
            category="HSpace/edit/directions",
            description="Turns what was discovered into sliders and shows the edited picture on the node. Drag a slider, or the picture itself: it follows at once, and the exact picture is rendered when you let go.",
            search_aliases=[
                "expression",
                "face expression",
                "expression dials",
                "emotion",
                "smile",
                "make smile",
                "make someone smile",
                "age",
                "age slider",
                "glasses",
                "hair",
                "slider",
                "concept slider",
                "dial",
                "edit photo",
                "semantic edit",
                "face edit",
                "edit region",
                "change one region",
            ],
            is_output_node=True,
            inputs=[
                model_input(),
                trajectory_input(),
                directions_input(),
                *map(_further, _MORE),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region that 'protect' lets change. Without it, it is the region of the directions.",
                ),
                vae_input(),
                *map(_dial, _DIALS),
                share_input(
                    "protect",
                    0.0,
                    "How firmly everything outside the region is held at the original. 0 is off, 1 is exactly.",
                    advanced=True,
                ),
                io.Int.Input(
                    "frames",
                    default=_FRAMES,
                    min=0,
                    max=17,
                    optional=True,
                    advanced=True,
                    tooltip="The number of pictures between the ends of a dial that are rendered ahead, once, so that dragging shows the edit at once. It is an odd number from 3 on. 0 renders none.",
                ),
                sigma_input("sigma_start", 0.0, WINDOW_START, advanced=True),
                sigma_input("sigma_end", 0.1, WINDOW_END, advanced=True),
            ],
            outputs=[
                io.Image.Output(display_name="edited"),
                io.Image.Output(
                    display_name="reconstruction", tooltip="The same picture without an edit. Compare with this one."
                ),
                io.Model.Output(
                    display_name="model", tooltip="The MODEL with this setting of the dials on it, for any sampler."
                ),
                Directions.Output(
                    display_name="directions",
                    tooltip="The directions with what 1 is for each. Save Directions keeps it in the file.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        directions,
        directions_2=None,
        directions_3=None,
        mask=None,
        vae=None,
        protect=0.0,
        frames=_FRAMES,
        sigma_start=0.0,
        sigma_end=0.1,
        **dials,
    ) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory).to(model.load_device)
        trajectory.check_model(model_fingerprint(model))
        check_plain(trajectory)
        refuse_sampler_only(model, "connect the MODEL from before them")
        check_vae(model, vae)
        found = [directions_from_payload(one) for one in (directions, directions_2, directions_3) if one is not None]
        sets = _with_dials([directions_for(model, one, check_network(model)) for one in found])
        windows = [(one, edit_schedule(one, 1.0, sigma_start, sigma_end)) for one in sets]
        values = _values(cls, dials, sum(map(len, sets)))
        _check_edits(model, trajectory, windows)
        region = _region(cls, protect, mask_of(model, trajectory, mask), sets)
        if frames and (frames < _FEWEST or frames % 2 == 0):
            raise ValueError(f"'frames' must be 0 or an odd number from {_FEWEST} on, got {frames}; take {frames + 1}")
        options = SteerOptions(protect=protect, mask=region, start="auto")
        turning = Turning(model, vae, trajectory, windows, options)

        calibrated = turning.calibrated()
        rest, plain = turning.rest()
        states = turning.exact(calibrated, values)
        reconstruction = turning.seen(plain)
        edited = reconstruction if states is plain else turning.seen(states)
        before = reconstruction if rest is plain else turning.seen(rest)
        films = turning.films(calibrated, frames) if frames else []
        shown = _message(
            calibrated, values, frames, {"final": edited, "rest": before, "original": reconstruction}, films
        )
        picture = ui.PreviewImage(enlarged(edited[:1]), cls=cls).as_dict()
        return io.NodeOutput(
            edited,
            reconstruction,
            _steered(model, calibrated, values),
            _joined(calibrated.sets),
            ui={**picture, "hspace_dials": [shown]},
        )


def _with_dials(sets: Sequence[DirectionSet]) -> list[DirectionSet]:
    """The first eight directions of all sets; what is left out is said on the node."""
    kept: list[DirectionSet] = []
    for directions in sets:
        free = len(_DIALS) - sum(map(len, kept))
        if free:
            kept.append(
                directions.select(list(range(min(free, len(directions))))) if free < len(directions) else directions
            )
    total = sum(map(len, sets))
    if total > len(_DIALS):
        say(f"{len(_DIALS)} of {total} directions have a dial; choose others with Select Directions")
    return kept


def _values(node: type[Node], dials: Mapping[str, float], count: int) -> list[float]:
    """The values of the dials that have a direction; the others must stand at 0."""
    beyond: dict[str, Any] = {name: dials[name] for name in _DIALS[count:] if name in dials}
    many = f"{count} direction{'s are' if count > 1 else ' is'}"
    refuse_unused(node, f"has no direction, as {many} connected", instead="connect more directions", **beyond)
    return [float(dials.get(name, 0.0)) for name in _DIALS[:count]]


def _check_edits(model, trajectory, windows: Sequence[tuple[DirectionSet, EditSchedule]]) -> None:
    """Refuse what could not act on the way back.

    Raises:
        ValueError: a window without a step, or two layers at one noise level.
    """
    levels = trajectory.sigmas.tolist()
    for schedule in schedules_of(model.model_options):
        schedule.check_levels(levels)
    every = [Edit(one, schedule, (1.0,) * len(one)) for one, schedule in windows]
    check_layers([*edits_of(model), *every], trajectory)


def _region(node: type[Node], protect: float, mask: Tensor | None, sets: Sequence[DirectionSet]) -> Tensor | None:
    """The region that may change, `[h w]`; None without protection.

    Raises:
        ValueError: a mask without protection, or protection without a region.
    """
    if not protect:
        refuse_unused(node, "acts with 'protect' above 0 only, and protect is 0", mask=mask)
        return None
    region = united_mask([one.mask for one in sets]) if mask is None else mask
    if region is None:
        raise ValueError(
            "'protect' holds everything outside a region, but these directions have no common one; connect 'mask', or"
            " set protect to 0"
        )
    return region


def _steered(model, dials: Dials, values: Sequence[float]):
    """The MODEL with the setting on it. Dials at 0 are an edit of strength 0, as in Steer: no noise is drawn for it."""
    for edit in dials.edits([values]):
        off = edit if any(edit.weights) else replace(edit, schedule=replace(edit.schedule, strength=0.0))
        model = add_steering(model, off)
    return model


def _joined(sets: Sequence[DirectionSet]):
    """All sets as one, with their calibration; a message for whoever asks if they do not go together."""
    try:
        return directions_to_payload(combine(sets) if len(sets) > 1 else sets[0])
    except ValueError as error:
        return ExecutionBlocker(f"the directions of several inputs cannot be one set: {error}")


def _message(
    dials: Dials, values: Sequence[float], frames: int, pictures: Mapping[str, Tensor], films: Sequence[Tensor]
) -> dict:
    """What the editor is told: names, the setting, and files of the pictures and strips."""

    def save() -> dict:
        files = {name: _saved(for_preview(picture[:1])[0], name) for name, picture in pictures.items()}
        return {"pictures": files, "strips": [_saved(film, "strip") for film in films]}

    height, width = for_preview(pictures["final"][:1]).shape[1:3]
    return {
        "version": 1,
        "names": dials.labels,
        "values": list(values),
        "grid": strip_values(frames) if frames else [],
        "size": [width, height],
        **(if_possible(save) or {"pictures": {}, "strips": []}),
    }


def _saved(picture: Tensor, name: str) -> dict[str, str]:
    return save_picture(picture, f"{name}_{(content_key(picture) or '')[:24]}")


NODES = [HSpaceDials]
