"""Edit: levels of two semantic codes in one (HDAE)."""

from ....core.edit.codes.manipulate import mix
from ...host.api import Node, io
from ...host.model.codes import codes_from_conditioning, codes_to_conditioning
from .inputs import check_same, code_input, parse_levels


class HSpaceMixCodeLevels(Node):
    """Mixes levels of two pictures' codes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMixCodeLevels",
            display_name="Mix Code Levels",
            category="HSpace/edit/codes",
            description="Takes some levels of a code from another picture's (HDAE style mixing). Sample the result with the noise latent of the first picture.",
            search_aliases=["hdae style mixing", "style mix", "hierarchical"],
            inputs=[
                code_input(),
                io.Conditioning.Input(
                    "style",
                    tooltip="The code of the picture that gives the levels. It is one, or as many as 'code' has.",
                ),
                io.String.Input(
                    "levels",
                    default="0",
                    tooltip="The levels taken from 'style', separated by commas. 0 is the finest, the last is the whole composition. An empty text takes none.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="code")],
        )

    @classmethod
    def execute(cls, code, style, levels) -> io.NodeOutput:
        (a, space), (b, other) = codes_from_conditioning(code, "code"), codes_from_conditioning(style, "style")
        check_same(space, other)
        if len(b) not in (1, len(a)):
            raise ValueError(f"style must be one code, or as many as 'code' has ({len(a)}), got {len(b)}")
        taken = parse_levels(levels) or ()
        return io.NodeOutput(codes_to_conditioning(mix(a, b.expand_as(a), space, taken), space))


NODES = [HSpaceMixCodeLevels]
