"""Edit: the noises of an edit-friendly inversion, spent by a sampler or painted into."""

from ....core.edit.noise.edit_friendly import recolour
from ....core.payload import trajectory_from_payload, trajectory_to_payload
from ...dials import count_input, share_input, signed_input, vae_input
from ...host.api import Node, Trajectory, io
from ...host.model.images import encode, one_mask
from ...host.samplers.edit_friendly import edit_friendly_sampler


def _trajectory():
    return Trajectory.Input("trajectory", tooltip="The trajectory comes from Edit-Friendly Inversion.")


def _shift(name: str, tooltip: str):
    return io.Int.Input(name, default=0, min=-4096, max=4096, advanced=True, optional=True, tooltip=tooltip)


class HSpaceSampleEditFriendly(Node):
    """Gives stored noises (edit-friendly DDPM) as SAMPLER and SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSampleEditFriendly",
            display_name="Sample Edit-Friendly",
            category="HSpace/edit/noise",
            description=(
                "Samples with the noises of Edit-Friendly Inversion in the stock SamplerCustomAdvanced. Give its guider the prompt that the picture "
                "is to follow (any GUIDER). The noise that comes in does not matter; a noise mask on the latent limits the edit."
            ),
            search_aliases=["ddpm inversion", "edit friendly", "ledits", "turboedit", "sampler", "shift image"],
            inputs=[
                _trajectory(),
                count_input(
                    "skip",
                    4,
                    "The number of steps left out at the noisy end. More stays closer to the picture. 0 to 40 percent of the steps is usual (paper: 36 of 100).",
                    least=0,
                    most=999,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    advanced=True,
                    optional=True,
                    tooltip="The strength of the stored noises. Below 1 the picture's hold on the result loosens.",
                ),
                _shift(
                    "shift_x",
                    "Moves the picture to the right, around the edge. The unit is a pixel, or a cell of the latent (8 pixels) for Stable Diffusion.",
                ),
                _shift("shift_y", "Moves the picture down, as shift_x does to the right."),
                io.Float.Input(
                    "clip_last",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    round=0.0001,
                    advanced=True,
                    optional=True,
                    tooltip="The largest root mean square of the last noise, in the unit of the picture. 0 is no limit. TurboEdit limits it in runs of 3 or 4 steps.",
                ),
                io.Boolean.Input(
                    "source_row",
                    default=False,
                    advanced=True,
                    optional=True,
                    tooltip="The first picture of the batch (with Pair Conditioning, of every pair) stays the source, whatever the guider's cfg. This is for edits that read the source's attention.",
                ),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler"),
                io.Sigmas.Output(display_name="sigmas", tooltip="The sigmas come without the skipped steps."),
            ],
        )

    @classmethod
    def execute(
        cls, trajectory, skip, strength=1.0, shift_x=0, shift_y=0, clip_last=0.0, source_row=False
    ) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory)
        return io.NodeOutput(
            *edit_friendly_sampler(trajectory, skip, strength, (shift_y, shift_x), clip_last, source_row)
        )


class HSpaceRecolourEditFriendly(Node):
    """Paints colours into stored noises."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceRecolourEditFriendly",
            display_name="Recolour Edit-Friendly",
            category="HSpace/edit/noise",
            description="Paints a colour into the stored noises of Edit-Friendly Inversion, inside the mask. Sample Edit-Friendly then draws it into the picture, shading and texture kept; no prompt is needed.",
            search_aliases=["color edit", "change color", "ddpm inversion", "edit friendly", "tint"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that the picture was inverted with."),
                _trajectory(),
                io.Image.Input(
                    "colour",
                    tooltip="The colours, in the size of the picture: Empty Image with a colour, or a painted picture.",
                ),
                signed_input(
                    "strength",
                    0.05,
                    2.0,
                    "How strongly each step is painted. 0 changes nothing, bit for bit. Below 0 it goes away from the colour. The paper has 0.05 in 50 steps, and fewer steps need more.",
                    step=0.01,
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="The region that is painted. Without a mask everything is."
                ),
                vae_input(),
                share_input(
                    "start",
                    0.3,
                    "The share of the steps before colours are painted. Earlier steps draw shapes.",
                    advanced=True,
                ),
                share_input(
                    "end",
                    0.8,
                    "The share of the steps after which none are painted, so that fine texture stays.",
                    advanced=True,
                ),
            ],
            outputs=[
                Trajectory.Output(
                    display_name="trajectory",
                    tooltip="It goes into Sample Edit-Friendly, with the prompt and cfg of the inversion.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, trajectory, colour, strength, mask=None, vae=None, start=0.3, end=0.8) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory)
        wanted = encode(model, vae, colour, "colour").to(trajectory.states.device)
        region = one_mask(mask, *colour.shape[1:3], picture="colour")
        return io.NodeOutput(trajectory_to_payload(recolour(trajectory, wanted, region, strength, (start, end))))


NODES = [HSpaceSampleEditFriendly, HSpaceRecolourEditFriendly]
