"""Edit: sets of directions, chosen from and put together."""

from ....core.edit.directions.combine import combine, select
from ....core.payload import directions_from_payload, directions_to_payload
from ...dials import count_input, directions_input, signed_input
from ...host.api import Directions, Node, io
from ...unused import only_with, refuse_unused


class HSpaceSelectDirections(Node):
    """Selects directions out of a set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSelectDirections",
            display_name="Select Directions",
            category="HSpace/edit/directions",
            description="Keeps one or several directions of a set, turns them round if wanted, and names them.",
            search_aliases=["pick direction", "name direction", "flip direction"],
            inputs=[
                directions_input(),
                count_input("first", 1, "The number of the first one, counted from 1 as on the atlas.", most=256),
                count_input("count", 1, "The number of directions, from 'first' on.", most=256),
                io.Boolean.Input(
                    "flip",
                    default=False,
                    tooltip="Turns them round, so that a positive strength does what a negative one did.",
                ),
                io.String.Input(
                    "label",
                    default="",
                    tooltip="A name for the direction, such as smile. It is shown on the atlas and stored in the file.",
                ),
            ],
            outputs=[Directions.Output(display_name="directions")],
        )

    @classmethod
    def execute(cls, directions, first, count, flip, label) -> io.NodeOutput:
        directions = directions_from_payload(directions)
        return io.NodeOutput(directions_to_payload(select(directions, first - 1, count, flip=flip, label=label)))


class HSpaceCombineDirections(Node):
    """Combines several sets of directions into one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceCombineDirections",
            display_name="Combine Directions",
            category="HSpace/edit/directions",
            description="Puts sets of directions of one model and layer behind each other, or adds them up to a single one.",
            search_aliases=["merge directions", "add directions", "stack"],
            inputs=[
                Directions.Input("a", tooltip="The first set."),
                Directions.Input("b", tooltip="The second set, of the same model and layer."),
                io.Combo.Input(
                    "how",
                    options=["append", "add"],
                    tooltip="append puts one set after the other. add makes the weighted sum of the first of each, at unit length.",
                ),
                only_with(signed_input("weight_a", 1.0, 10.0, "The weight of a, for add only."), how=["add"]),
                only_with(signed_input("weight_b", 1.0, 10.0, "The weight of b, for add only."), how=["add"]),
            ],
            outputs=[Directions.Output(display_name="directions")],
        )

    @classmethod
    def execute(cls, a, b, how, weight_a, weight_b) -> io.NodeOutput:
        if how == "append":
            refuse_unused(cls, "acts with how add only, and how is append", weight_a=weight_a, weight_b=weight_b)
        sets = [directions_from_payload(a), directions_from_payload(b)]
        return io.NodeOutput(directions_to_payload(combine(sets, how=how, weights=[weight_a, weight_b])))


NODES = [HSpaceSelectDirections, HSpaceCombineDirections]
