"""Invert: the way back of the exact inversions, for stock samplers."""

from ....core.edit.noise.exact import is_exact
from ....core.payload import trajectory_from_payload
from ...host.api import Node, Trajectory, io
from ...host.samplers.exact import exact_sampler


class HSpaceSampleExactInversion(Node):
    """Gives a coupled trajectory (EDICT, BDIA) as SAMPLER and SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSampleExactInversion",
            display_name="Sample Exact Inversion",
            category="HSpace/edit/noise",
            description="Samples back from an image inverted by EDICT or BDIA, in the stock SamplerCustomAdvanced. The same prompt and cfg give the picture itself. Another prompt or an edited MODEL gives an edit.",
            search_aliases=["edict", "bdia", "exact inversion", "resume", "sampler"],
            inputs=[
                Trajectory.Input(
                    "trajectory",
                    tooltip="The trajectory comes from Invert Image with method edict or bdia and the same MODEL.",
                )
            ],
            outputs=[io.Sampler.Output(display_name="sampler"), io.Sigmas.Output(display_name="sigmas")],
        )

    @classmethod
    def execute(cls, trajectory) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory)
        if not is_exact(trajectory):
            raise ValueError(
                f"this trajectory was inverted by {trajectory.method}, which has no exact way back; use Resume Trajectory, or method edict or bdia"
            )
        return io.NodeOutput(exact_sampler(trajectory), trajectory.sigmas.float())


NODES = [HSpaceSampleExactInversion]
