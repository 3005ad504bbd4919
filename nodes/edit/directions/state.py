"""Edit: the state itself is moved along directions of x (LOCO Edit, arXiv 2409.02374; pullback, arXiv 2307.12868)."""

from ....core.edit.directions.state import WAYS, edit_state
from ....core.payload import directions_from_payload, trajectory_from_payload, trajectory_to_payload
from ...dials import count_input, cut_model_input, direction_input, signed_input, trajectory_input
from ...host.api import Directions, Node, Trajectory, io
from ...host.model.copies import directions_for
from ...host.model.fingerprint import model_fingerprint
from ...host.model.prompts import Prompts
from ...host.model.run import with_denoiser
from ...looking import stored_level
from ...unused import only_with, refuse_unused


class HSpaceEditState(Node):
    """Moves states along directions of x."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEditState",
            display_name="Edit State",
            category="HSpace/edit/directions",
            description="Moves the noisy picture of a trajectory along a direction of x (LOCO Edit, pullback). Render Trajectory then gives the edited picture.",
            search_aliases=["loco edit", "pullback", "x-space guidance", "latent edit"],
            inputs=[
                cut_model_input(),
                trajectory_input(),
                Directions.Input(
                    "directions", tooltip="The directions come from Baseline Directions, with method LOCO or pullback."
                ),
                signed_input(
                    "strength",
                    8.0,
                    1000.0,
                    "In step it is the whole length (LOCO uses 8 on CelebA-HQ). In guidance it is the factor of each repeat (pullback uses 0.05 to 1.6).",
                    step=0.1,
                ),
                direction_input("The number of the direction, counted from 1."),
                io.Combo.Input(
                    "how",
                    options=list(WAYS),
                    tooltip="step goes one step along the direction (LOCO). guidance goes repeated small steps (pullback).",
                ),
                only_with(
                    count_input("repeats", 16, "The number of steps of the guidance.", most=128, advanced=True),
                    how=["guidance"],
                ),
            ],
            outputs=[Trajectory.Output(display_name="trajectory")],
        )

    @classmethod
    def execute(cls, model, trajectory, directions, strength, direction, how, repeats=16) -> io.NodeOutput:
        if how != "guidance":
            refuse_unused(cls, f"acts with how guidance only, and how is {how}", repeats=repeats)
        trajectory = trajectory_from_payload(trajectory).to(model.load_device)
        trajectory.check_model(model_fingerprint(model))
        directions = directions_from_payload(directions)
        directions = directions_for(model, directions, (directions.layer,))
        directions.select([direction - 1])  # refused before the network is loaded
        stored_level(trajectory, float(directions.sigmas[0]))

        def work(denoiser):
            return edit_state(denoiser, trajectory, directions, strength, index=direction - 1, how=how, repeats=repeats)

        return io.NodeOutput(
            trajectory_to_payload(with_denoiser(model, trajectory.x0.shape, Prompts.of(trajectory), work).to("cpu"))
        )


NODES = [HSpaceEditState]
