"""Discover, for more than one picture or step: directions followed down the noise, averaged over pictures, carried to
another.
"""

from ...core.discover.average import WAYS, agreement_text, average
from ...core.discover.payload import basis_from_payload
from ...core.discover.search import RegionSearch
from ...core.discover.track import levels_down, track_text
from ...core.discover.transport import transport, transport_text
from ...core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload
from ..dials import (
    HOW,
    LOOK,
    MODE,
    REPORT,
    SIGMA,
    SPECTRUM,
    THROUGH,
    count_input,
    cut_model_input,
    refuse_unused_mode,
    sigma_input,
)
from ..host.api import Basis, Directions, Node, Trajectory, io, ui
from ..host.model.fingerprint import model_fingerprint
from ..host.model.prompts import Prompts
from ..host.model.run import with_denoiser
from ..host.progress import reporter
from ..looking import default_sigma, directions_output, layer_in, place_in, region_of, stored_levels
from ..unused import refuse_unused

_LEVELS = 4.0  # how far above and below the automatic level the steps reach, as a factor


class HSpaceTrackDirections(Node):
    """Follows a direction through every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrackDirections",
            display_name="Track Directions",
            category="HSpace/discover",
            description="Finds region directions at several noise levels and follows them from one to the next. Each step is then edited along its own direction.",
            search_aliases=["per step directions", "timestep", "warm start", "haas"],
            inputs=[
                *LOOK,
                *MODE,
                sigma_input(
                    "sigma_start",
                    0.0,
                    "The noisiest level. 0 takes four times the automatic level of Discover Region Directions.",
                ),
                sigma_input("sigma_end", 0.0, "The last level. 0 takes a quarter of the automatic level."),
                count_input(
                    "levels", 4, "The number of levels between the two. Each costs about as much as one discovery."
                ),
                THROUGH,
                *HOW,
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(
        cls, model, trajectory, sigma_start, sigma_end, levels, image_index=0, mask=None, vae=None, **dials
    ) -> io.NodeOutput:
        search = RegionSearch(**{**dials, "layer": layer_in(model, dials.get("layer", "middle"))})
        refuse_unused_mode(cls, search, mask is not None)
        if levels == 1:
            refuse_unused(cls, "is the last of several levels, and 'levels' is 1", sigma_end=sigma_end)
        trajectory = trajectory_from_payload(trajectory)
        trajectory.check_model(model_fingerprint(model))
        trajectory = trajectory.image(image_index).to(model.load_device)
        middle = default_sigma(model, max(trajectory.states.shape[-2:]))
        wanted = levels_down(sigma_start or middle * _LEVELS, sigma_end or middle / _LEVELS, levels)
        steps, note = stored_levels(trajectory, wanted)
        region, report = region_of(model, trajectory, mask, search.k, vae), reporter(model, None, preview=False)

        def work(denoiser):
            return search.along(denoiser, trajectory, steps, region, callback=report)

        prompts = Prompts.of(trajectory)
        directions, facts = with_denoiser(model, trajectory.x0.shape, prompts, work, gradients=True, vae=vae)
        text = f"{directions.method}; {note}\n{track_text(directions, facts)}"
        return directions_output(cls, directions, text)


class HSpaceGlobalDirections(Node):
    """Discovers one set of directions for many pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceGlobalDirections",
            display_name="Global Directions",
            category="HSpace/discover",
            description="Finds region directions of every picture of a batch or a list, brings them into one order and sign, and averages them. They say what a region can do in general.",
            search_aliases=["average directions", "frechet mean", "procrustes", "batch", "folder"],
            is_input_list=True,
            inputs=[
                cut_model_input(),
                Trajectory.Input(
                    "trajectory", tooltip="A batch of pictures from Invert Image, or a list of trajectories."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="One region for all pictures, or one mask for each picture in the same order.",
                ),
                *MODE,
                io.Combo.Input(
                    "how",
                    options=list(WAYS),
                    tooltip="match pairs the directions of the pictures and averages each. subspace averages what they span together.",
                ),
                SIGMA,
                THROUGH,
                *(i for i in HOW if i.id != "image_index"),
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(cls, model, trajectory, how, sigma, mask=None, vae=(None,), **dials) -> io.NodeOutput:
        model, how = model[0], how[0]
        mask = [part for part in mask or () if part is not None]
        chosen = {name: values[0] for name, values in dials.items()}
        search = RegionSearch(**{**chosen, "layer": layer_in(model, chosen.get("layer", "middle"))})
        refuse_unused_mode(cls, search, bool(mask))
        trajectories = [
            one.image(i) for one in map(trajectory_from_payload, trajectory) for i in range(one.states.shape[1])
        ]
        if len(trajectories) == 1:
            refuse_unused(cls, "brings the directions of several pictures together, and there is one", how=how)
        masks = _one_each(mask, len(trajectories))
        _check_all(model, trajectories, masks, search.k, vae[0])  # all before the first is looked at
        sets, notes = [], []
        for one, part in zip(trajectories, masks, strict=True):
            place = place_in(model, one, part, sigma[0], search.k, vae[0])
            notes += [place.note] * (bool(place.note) and place.note not in notes)
            sets.append(place.look(search.at, vae[0])[0])
        directions, agreement = average(sets, how)
        text = "\n".join([f"{directions.method}, {sets[0].method}", *notes, agreement_text(agreement)])
        return directions_output(cls, directions, text)


def _one_each(masks: list, count: int) -> list:
    """Spread MASKs over the pictures: none, one for all, or one a picture.

    Raises:
        ValueError: another number.
    """
    singles = [m[None] for part in masks for m in part.reshape(-1, *part.shape[-2:])]
    if len(singles) not in (0, 1, count):
        raise ValueError(f"mask must be one for all, or one a picture: {count} pictures, {len(singles)} masks")
    return singles * count if len(singles) == 1 else singles or [None] * count


def _check_all(model, trajectories: list, masks: list, k: int, vae) -> None:
    """Refuse pictures that cannot be brought together.

    Raises:
        ValueError: states of several sizes, another model, or a mask that does not fit or holds fewer than k numbers.
    """
    sizes = sorted({tuple(one.states.shape[-2:]) for one in trajectories})
    if len(sizes) > 1:
        raise ValueError(
            f"all trajectories must be of one picture size, got states of {sizes[:4]}; scale the pictures to one size first"
        )
    for one, part in zip(trajectories, masks, strict=True):
        one.check_model(model_fingerprint(model))
        region_of(model, one, part, k, vae)


class HSpaceTransportDirections(Node):
    """Carries directions of one picture over to another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTransportDirections",
            display_name="Transport Directions",
            category="HSpace/discover",
            description="Carries directions found on one picture over to another. It keeps the part that the other picture's region answers to.",
            search_aliases=["parallel transport", "transfer direction", "other image"],
            inputs=[
                Directions.Input("directions", tooltip="Directions that were found on the first picture, or loaded."),
                Basis.Input("basis", tooltip="The basis comes from Region Basis of the other picture."),
            ],
            outputs=[Directions.Output(display_name="directions"), REPORT],
        )

    @classmethod
    def execute(cls, directions, basis) -> io.NodeOutput:
        moved, shares = transport(directions_from_payload(directions), basis_from_payload(basis))
        text = transport_text(moved, shares)
        return io.NodeOutput(directions_to_payload(moved), text, ui=ui.PreviewText(text))


NODES = [HSpaceTrackDirections, HSpaceGlobalDirections, HSpaceTransportDirections]
