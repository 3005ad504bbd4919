"""Edit: frames from one semantic code to another."""

from ....core.edit.codes.manipulate import interpolated_frames, noise_frames
from ....core.edit.weights.interpolate import alphas_text, even_alphas, parse_alphas
from ...dials import count_input, text_input
from ...host.api import Node, io
from ...host.model.codes import codes_from_conditioning, codes_to_conditioning
from ...unused import refuse_unused
from .inputs import check_same, code_input, parse_levels


class HSpaceInterpolateCodes(Node):
    """Interpolates codes and noises of two pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceInterpolateCodes",
            display_name="Interpolate Codes",
            category="HSpace/edit/codes",
            description="Makes frames from one picture to another: codes move on a line, noises on an arc. Sample the batch with added noise off.",
            search_aliases=["diffae interpolate", "morph", "slerp", "semantic interpolation"],
            inputs=[
                code_input("first"),
                io.Conditioning.Input("second", tooltip="The code of the other picture, from the same model."),
                io.Latent.Input("first_noise", tooltip="The noise latent of Invert Image for the first picture."),
                io.Latent.Input(
                    "second_noise",
                    tooltip="The noise latent for the second picture. With the same one twice, only the code moves.",
                ),
                count_input("frames", 8, "The number of frames, ends included.", least=2, most=256),
                text_input(
                    "levels",
                    "The levels of an HDAE's code that move, such as '2'. The others stay at the first picture's. An empty text moves all.",
                ),
                text_input(
                    "alphas",
                    "Places on the way in place of even ones, such as '0, 0.1, 0.5, 1', or the output of Perceptual Reschedule.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="codes", tooltip="They go into positive and negative of the sampler."
                ),
                io.Latent.Output(
                    display_name="noises", tooltip="They go into the sampler's latent, with added noise off."
                ),
                io.String.Output(display_name="alphas"),
            ],
        )

    @classmethod
    def execute(cls, first, second, first_noise, second_noise, frames, levels="", alphas="") -> io.NodeOutput:
        if alphas.strip():
            refuse_unused(cls, "gives even places on the way, and 'alphas' names them", frames=frames)
        (a, space), (b, other) = codes_from_conditioning(first, "first"), codes_from_conditioning(second, "second")
        check_same(space, other)
        one, two = first_noise["samples"], second_noise["samples"]
        for name, value in (("first", a), ("second", b), ("first_noise", one), ("second_noise", two)):
            if len(value) != 1:
                raise ValueError(
                    f"{name} must be one picture's, got a batch of {len(value)}; interpolate pictures pair by pair"
                )
        places = parse_alphas(alphas) if alphas.strip() else even_alphas(frames)
        noises = noise_frames(one, two, places)
        codes = interpolated_frames(a, b, space, places, parse_levels(levels))
        return io.NodeOutput(codes_to_conditioning(codes, space), {"samples": noises}, alphas_text(places))


NODES = [HSpaceInterpolateCodes]
