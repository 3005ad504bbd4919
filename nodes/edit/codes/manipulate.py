"""Edit: a semantic code moved along an attribute."""

from ....core.edit.codes.manipulate import direction, manipulate
from ....core.files.heads import heads_from_payload
from ....core.foreign import named
from ...dials import signed_input, text_input
from ...host.api import Heads, Node, io, ui
from ...host.model.codes import codes_from_conditioning, codes_to_conditioning
from ...unused import refuse_unused
from .inputs import code_input, parse_levels


class HSpaceManipulateCode(Node):
    """Moves a code along an attribute."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceManipulateCode",
            display_name="Manipulate Code",
            category="HSpace/edit/codes",
            description="Moves a code along an attribute. Sampling with the noise latent of Invert Image and the moved code gives the same face with the attribute. Chain several nodes for several attributes.",
            search_aliases=["diffae manipulate", "attribute edit", "hdae truncated", "top-k"],
            inputs=[
                code_input(),
                Heads.Input(
                    "attributes",
                    tooltip="They come from Load Face DiffAE, Load Attribute Heads or Train Attribute Heads.",
                ),
                io.String.Input(
                    "attribute", default="glasses", tooltip="The name of an attribute. A wrong name shows them all."
                ),
                signed_input(
                    "strength",
                    0.3,
                    3.0,
                    "How far to go. 0.2 to 0.5 is the rule, and more brings artefacts. Negative goes the other way. 0 is the code itself.",
                ),
                io.Float.Input(
                    "top_k",
                    default=100.0,
                    min=0.1,
                    max=100.0,
                    step=0.5,
                    tooltip="The percentage of the most important coordinates that move (HDAE's paper takes 10). The strength is kept.",
                ),
                text_input(
                    "orthogonal_to",
                    "Attributes to leave alone, separated by commas. 'all' means all others. What the direction has in common with them is taken out.",
                ),
                text_input(
                    "levels",
                    "The levels of an HDAE that move, such as '0, 1'. 0 is the finest. An empty text moves all.",
                ),
                io.Boolean.Input(
                    "per_level",
                    default=False,
                    advanced=True,
                    optional=True,
                    tooltip="For an HDAE, takes the top_k of every level by itself and not over all.",
                ),
                io.Float.Input(
                    "limit",
                    default=6.0,
                    min=0.5,
                    max=100.0,
                    step=0.5,
                    advanced=True,
                    optional=True,
                    tooltip="No coordinate moves by more than this many standard deviations.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="code"),
                io.String.Output(
                    display_name="report", tooltip="The report tells the scores of the attribute before and after."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, code, attributes, attribute, strength, top_k, orthogonal_to="", levels="", per_level=False, limit=6.0
    ) -> io.NodeOutput:
        (values, space), heads = codes_from_conditioning(code, "code"), heads_from_payload(attributes)
        heads.check_space(space)
        if top_k == 100:
            refuse_unused(
                cls, "says how top_k chooses coordinates, and at 100 percent all of them move", per_level=per_level
            )
        if len(space.shape) < 2:
            refuse_unused(cls, "is for codes of several levels (HDAE), and this one has one", per_level=per_level)
        fixed = [n.strip() for n in orthogonal_to.split(",") if n.strip()]
        with named("orthogonal_to"):
            for name in fixed if fixed != ["all"] else ():
                heads.index(name)
        number = heads.index(attribute)
        if fixed == ["all"]:
            fixed = [n for n in heads.names if n != heads.names[number]]
        chosen = parse_levels(levels)
        unit = direction(heads, attribute, keep=top_k / 100, per_level=per_level, levels=chosen, against=fixed)
        moved = manipulate(values, heads.space, unit, strength, cap=limit)
        before, after = (heads.scores(v)[:, number].tolist() for v in (values, moved))
        text = f"{heads.names[number]}: " + ", ".join(
            f"{a:+.2f} > {b:+.2f}" for a, b in zip(before[:8], after[:8], strict=True)
        )
        return io.NodeOutput(codes_to_conditioning(moved, heads.space), text, ui=ui.PreviewText(text))


NODES = [HSpaceManipulateCode]
