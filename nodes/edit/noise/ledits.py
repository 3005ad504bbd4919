"""Edit: several concepts at once, each in its own region (LEDITS++)."""

from ....core.edit.noise.ledits import Concept, concepts_from_payload, concepts_to_payload
from ...dials import share_input, text_input
from ...host.api import Concepts, Node, io
from ...host.patches.pairs import tokenised
from ...host.samplers.ledits import ConceptGuider
from ...unused import refuse_unused


class HSpaceEditConcept(Node):
    """Adds a concept to those of a LEDITS++ edit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEditConcept",
            display_name="Edit Concept",
            category="HSpace/edit/noise",
            description="Names something to add to a picture or to take out of it, with its own strength and region. Chain several, and connect the last to Concept Edit Guider.",
            search_aliases=["ledits", "ledits++", "sega", "semantic guidance", "add concept", "remove concept"],
            inputs=[
                io.Conditioning.Input(
                    "conditioning", tooltip="The concept alone, from CLIP Text Encode, for example glasses."
                ),
                io.Float.Input(
                    "scale",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How strongly the concept acts. 5 to 10 is usual, 0 is off.",
                ),
                share_input(
                    "threshold",
                    0.9,
                    "The share of the picture that stays, where the concept changes least; every step chooses it anew. Take 0.9 for small things and 0 for the whole picture.",
                    step=0.01,
                ),
                io.Boolean.Input("reverse", default=False, tooltip="Goes away from the concept and takes it out."),
                share_input("warm_up", 0.0, "The share of the steps before it sets in.", step=0.01, advanced=True),
                share_input(
                    "cool_down", 1.0, "The share of the steps after which it no longer acts.", step=0.01, advanced=True
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The CLIP that encoded 'conditioning'. It cuts 'words' into tokens."
                ),
                text_input(
                    "words",
                    "The text of 'conditioning' once more. The concept then acts only where the picture also attends to it (for models with CLIP and a U-Net). Without words it acts wherever the prediction changes.",
                ),
                Concepts.Input(
                    "previous", optional=True, tooltip="Concepts that act besides this one, from another Edit Concept."
                ),
            ],
            outputs=[Concepts.Output(display_name="concepts")],
        )

    @classmethod
    def execute(
        cls, conditioning, scale, threshold, reverse, warm_up=0.0, cool_down=1.0, clip=None, words="", previous=None
    ) -> io.NodeOutput:
        if not words.strip():
            refuse_unused(cls, "cuts 'words' into tokens, and they are empty", clip=clip)
        before = [] if previous is None else concepts_from_payload(previous)
        tokens = _tokens(clip, words.strip(), conditioning) if words.strip() else ()
        concept = Concept(scale, threshold, warm_up, cool_down, reverse, tokens)
        return io.NodeOutput(concepts_to_payload([*before, (conditioning, concept)]))


def _tokens(clip, words: str, conditioning) -> tuple[int, ...]:
    if clip is None:
        raise ValueError(
            "'words' say where the concept is; connect the CLIP that encoded 'conditioning', or leave them empty"
        )
    (prompt,) = tokenised(clip, [words])[1]
    if len(conditioning) != 1 or conditioning[0][0].shape[1] != len(prompt.ids):
        lengths = " + ".join(str(c.shape[1]) for c, _ in conditioning)
        raise ValueError(
            f"'words' are {len(prompt.ids)} tokens, but 'conditioning' has {lengths}; connect CLIP Text Encode with these very words, nothing "
            "combined or joined to them"
        )
    return tuple(prompt.content)


class HSpaceConceptEditGuider(Node):
    """Makes a GUIDER that moves a picture along concepts (LEDITS++)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceConceptEditGuider",
            display_name="Concept Edit Guider",
            category="HSpace/edit/noise",
            description="Guides a sampler by several concepts at once, each only where it changes the picture most. With Sample Edit-Friendly this edits a real picture, with any other sampler a generated one.",
            search_aliases=["ledits", "ledits++", "sega", "guider", "semantic guidance"],
            inputs=[
                io.Model.Input("model", tooltip="A model that takes prompts."),
                io.Conditioning.Input(
                    "negative",
                    tooltip="What the picture is without any concept: the prompt of the inversion (mostly an empty text).",
                ),
                Concepts.Input(
                    "concepts",
                    optional=True,
                    tooltip="The concepts come from Edit Concept. Without any, nothing is edited.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region where concepts may act at all. The threshold of a concept is counted over the whole picture, with no change outside the region: at 0.9, a region of a tenth of the picture passes whole.",
                ),
            ],
            outputs=[io.Guider.Output(display_name="guider")],
        )

    @classmethod
    def execute(cls, model, negative, concepts=None, mask=None) -> io.NodeOutput:
        if concepts is None:
            refuse_unused(cls, "limits where concepts act, and none is connected", mask=mask)
        return io.NodeOutput(
            ConceptGuider(model, negative, [] if concepts is None else concepts_from_payload(concepts), mask)
        )


NODES = [HSpaceEditConcept, HSpaceConceptEditGuider]
