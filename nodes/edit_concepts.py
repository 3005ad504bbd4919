"""Edit: several concepts at once, each in its own region (LEDITS++)."""

from ..core.edit.concepts import Concept, concepts_from_payload, concepts_to_payload
from .host.api import Concepts, io
from .host.concept_guider import ConceptGuider
from .host.pairs import tokenised


class HSpaceEditConcept(io.ComfyNode):
    """One concept more."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceEditConcept",
            display_name="Edit Concept",
            category="HSpace/edit",
            description="Something to add to a picture or to take out of it, with its own strength and region. Chain several, then Concept Edit Guider.",
            search_aliases=["ledits", "ledits++", "sega", "semantic guidance", "add concept", "remove concept"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The concept alone, from CLIP Text Encode: glasses."),
                io.Float.Input("scale", default=5.0, min=0.0, max=100.0, step=0.1, tooltip="How strongly. 5 to 10; 0 is off."),
                io.Float.Input("threshold", default=0.9, min=0.0, max=1.0, step=0.01, tooltip="Share of the picture that stays, chosen anew in every step where the concept changes least. 0.9 for small things, 0 for the whole picture."),
                io.Boolean.Input("reverse", default=False, tooltip="Away from the concept: takes it out."),
                io.Float.Input("warm_up", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True, optional=True, tooltip="Share of the steps before it sets in."),
                io.Float.Input("cool_down", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True, optional=True, tooltip="Share of the steps after which it no longer acts."),
                io.Clip.Input("clip", optional=True, tooltip="Cuts 'words' into tokens; the CLIP that encoded 'conditioning'."),
                io.String.Input("words", default="", advanced=True, optional=True, tooltip="The text of 'conditioning' once more: the concept then acts only where the picture also attends to it (for models with CLIP and a U-Net). Empty: wherever the prediction changes."),
                Concepts.Input("previous", optional=True, tooltip="Concepts that act besides this one, from another Edit Concept."),
            ],
            outputs=[Concepts.Output(display_name="concepts")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, conditioning, scale, threshold, reverse, warm_up=0.0, cool_down=1.0, clip=None, words="", previous=None
    ) -> io.NodeOutput:
        """Append."""
        before = [] if previous is None else concepts_from_payload(previous)
        tokens = _tokens(clip, words.strip(), conditioning) if words.strip() else ()
        concept = Concept(scale, threshold, warm_up, cool_down, reverse, tokens)
        return io.NodeOutput(concepts_to_payload([*before, (conditioning, concept)]))


def _tokens(clip, words: str, conditioning) -> tuple[int, ...]:
    if clip is None:
        raise ValueError("'words' say where the concept is; connect the CLIP that encoded 'conditioning', or leave them empty")
    (prompt,) = tokenised(clip, [words])[1]
    if len(conditioning) != 1 or conditioning[0][0].shape[1] != len(prompt.ids):
        held = " + ".join(str(c.shape[1]) for c, _ in conditioning)
        raise ValueError(
            f"'words' are {len(prompt.ids)} tokens, but 'conditioning' has {held}; connect CLIP Text Encode with these very words, nothing "
            "combined or joined to them"
        )
    return tuple(prompt.content)


class HSpaceConceptEditGuider(io.ComfyNode):
    """Concepts as a GUIDER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceConceptEditGuider",
            display_name="Concept Edit Guider",
            category="HSpace/edit",
            description="Guides a sampler by several concepts at once, each only where it changes the picture most. With Sample Edit-Friendly this edits a real picture; with any other sampler, a generated one.",
            search_aliases=["ledits", "ledits++", "sega", "guider", "semantic guidance"],
            inputs=[
                io.Model.Input("model", tooltip="A model that takes prompts."),
                io.Conditioning.Input("negative", tooltip="What the picture is without any concept: the prompt of the inversion (mostly an empty text)."),
                Concepts.Input("concepts", optional=True, tooltip="From Edit Concept. Without any, nothing is edited."),
                io.Mask.Input("mask", optional=True, tooltip="Where concepts may act at all."),
            ],
            outputs=[io.Guider.Output(display_name="guider")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, negative, concepts=None, mask=None) -> io.NodeOutput:
        """Wrap."""
        return io.NodeOutput(ConceptGuider(model, negative, [] if concepts is None else concepts_from_payload(concepts), mask))


NODES = [HSpaceEditConcept, HSpaceConceptEditGuider]
