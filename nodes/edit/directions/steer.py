"""Edit: a model and directions become an edited MODEL, a SAMPLER or pictures."""

from ....core.edit.directions.steer import Edit
from ....core.edit_schedule import NORMALISATIONS
from ....core.payload import directions_from_payload
from ...dials import (
    WINDOW_END,
    WINDOW_START,
    cut_model_input,
    direction_input,
    directions_input,
    edit_schedule,
    sigma_input,
    signed_input,
)
from ...host.api import Node, io
from ...host.model.copies import directions_for
from ...host.model.traits import check_network
from ...host.patches.steering import add_steering

_STRENGTH = (
    "How far to go along the direction (unit length in h). Negative goes the other way; 0 changes nothing. Try 15."
)


class HSpaceSteer(Node):
    """Patches a MODEL with an edit of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSteer",
            display_name="Steer",
            category="HSpace/edit/directions",
            description="Adds a direction to the bottleneck of a U-Net, or to the tokens of a transformer, while sampling. The result is a stock MODEL: chain several, mix with LoRA, use any sampler.",
            search_aliases=["apply direction", "h-space edit", "semantic slider", "dial"],
            inputs=[
                cut_model_input(),
                directions_input(),
                signed_input("strength", 15.0, 1000.0, _STRENGTH, step=0.5),
                direction_input("The number of the direction, counted from 1 as on the atlas."),
                sigma_input("sigma_start", 0.0, WINDOW_START),
                sigma_input("sigma_end", 0.1, WINDOW_END),
                io.Combo.Input(
                    "normalise",
                    options=list(NORMALISATIONS),
                    advanced=True,
                    optional=True,
                    tooltip="With none, strength is a length in h. With h, it is a percentage of the length of h. With sigma, it is scaled by the noise level.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, directions, strength, direction, sigma_start, sigma_end, normalise="none") -> io.NodeOutput:
        layers = check_network(model)
        directions = directions_for(model, directions_from_payload(directions), layers)
        schedule = edit_schedule(directions, strength, sigma_start, sigma_end, normalise)
        return io.NodeOutput(add_steering(model, Edit(directions.select([direction - 1]), schedule)))


NODES = [HSpaceSteer]
