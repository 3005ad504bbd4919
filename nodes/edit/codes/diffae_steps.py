"""Edit: the step grid of the released DiffAE code."""

from ....core.schedule import stride_sigmas
from ...dials import count_input
from ...host.api import Node, io, ui


class HSpaceDiffAESteps(Node):
    """Makes the step grid of the released DiffAE code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDiffAESteps",
            display_name="DiffAE Steps",
            category="HSpace/edit/codes",
            description="Gives the noise levels of the released DiffAE code: every s-th step of 1000. Not every number of steps exists there; the nearest that does is taken, and shown. Take 250 to invert, 100 to edit and 20 to preview.",
            search_aliases=["diffae scheduler", "sigmas", "ddim timesteps"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model comes from Load Face DiffAE or Load DiffAE, or is any other model of 1000 steps.",
                ),
                count_input(
                    "steps",
                    100,
                    "The number of model calls. Invert Image and the sampler must get the same sigmas.",
                    least=2,
                    most=1000,
                ),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas"),
                io.Int.Output(display_name="steps", tooltip="The number of steps that is taken."),
            ],
        )

    @classmethod
    def execute(cls, model, steps) -> io.NodeOutput:
        levels = model.get_model_object("model_sampling").sigmas.float().cpu()
        sigmas, taken = stride_sigmas(levels, steps)
        text = f"{taken} steps" + ("" if taken == steps else f" ({steps} do not exist)")
        return io.NodeOutput(sigmas, taken, ui=ui.PreviewText(text))


NODES = [HSpaceDiffAESteps]
