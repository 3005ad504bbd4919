"""Invert: the way back of the exact inversions, for stock samplers."""

from ..core.edit.exact import is_exact
from ..core.payload import trajectory_from_payload
from .host.api import Trajectory, io
from .host.exact_sampler import exact_sampler


class HSpaceSampleExactInversion(io.ComfyNode):
    """A coupled trajectory as SAMPLER and SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSampleExactInversion",
            display_name="Sample Exact Inversion",
            category="HSpace/invert",
            description="Samples back from an image inverted by EDICT or BDIA, in the stock SamplerCustomAdvanced: the same prompt and cfg give the picture itself, another prompt or an edited MODEL gives an edit.",
            search_aliases=["edict", "bdia", "exact inversion", "resume", "sampler"],
            inputs=[Trajectory.Input("trajectory", tooltip="From Invert Image with method edict or bdia, made with the same MODEL.")],
            outputs=[io.Sampler.Output(display_name="sampler"), io.Sigmas.Output(display_name="sigmas")],
        )  # fmt: skip

    @classmethod
    def execute(cls, trajectory) -> io.NodeOutput:
        """Wrap."""
        path = trajectory_from_payload(trajectory)
        if not is_exact(path):
            raise ValueError(
                f"this trajectory was inverted by {path.method}, which has no exact way back; use Resume Trajectory, or method edict or bdia"
            )
        return io.NodeOutput(exact_sampler(path), path.sigmas.float())


NODES = [HSpaceSampleExactInversion]
