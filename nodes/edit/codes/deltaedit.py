"""Edit: a semantic code changed by text (DeltaEdit)."""

from ....core.edit.codes.deltaedit import change_text, delta_edit
from ....core.files.kinds import DELTAEDIT
from ....core.train.directional import text_direction
from ...dials import share_input
from ...host.api import DeltaMapper, Node, io, ui
from ...host.model.codes import codes_from_conditioning, codes_to_conditioning
from ...host.model.embeddings import embedded
from .inputs import code_input, embedder_input, read_trained


class HSpaceDeltaEdit(Node):
    """Changes a code as a text says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDeltaEdit",
            display_name="Delta Edit by Text",
            category="HSpace/edit/codes",
            description="Changes a semantic code as a text says (DeltaEdit). Any text will do. Sample with the result as CONDITIONING, from the picture's own noise latent.",
            search_aliases=[
                "deltaedit",
                "deltaspace",
                "text guided",
                "delta mapper",
                "clip",
                "text edit",
                "disentangle",
            ],
            inputs=[
                code_input(),
                DeltaMapper.Input(
                    "mapper",
                    tooltip="The mapper of the code's autoencoder, from Load Delta Mapper or Train Delta Mapper.",
                ),
                embedder_input(),
                io.String.Input("target", default="face with glasses", tooltip="What the picture is to show."),
                io.String.Input(
                    "neutral",
                    default="face",
                    tooltip="The same text without what is to change. The edit is the difference of the two texts.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.7,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip="How far to go, in typical distances between two pictures. A change of one thing needs 0.4 to 0.8. 0 is the code bit for bit.",
                ),
                share_input(
                    "relevance",
                    0.5,
                    "The share of the code's coordinates that are left alone, those that matter least to the text. At 0 every one moves. Raise it, and the strength, if more changes than is asked for.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture of the code. Without it, what the embedder would see is guessed from the code.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="code"), io.String.Output(display_name="report")],
        )

    @classmethod
    def execute(cls, code, mapper, embedder, target, neutral, strength, relevance, image=None) -> io.NodeOutput:
        values, space = codes_from_conditioning(code, "code")
        trained = read_trained(mapper, DELTAEDIT, embedder, "mapper")
        change, cosine = text_direction(embedder, neutral, target, names=("neutral", "target"))
        embedding = embedded(embedder, image) if image is not None else None
        edited = delta_edit(trained, values, space, change.cpu(), embedding, strength=strength, quantile=relevance)
        moved = change_text(trained, values, edited)
        text = f"{neutral.strip()} > {target.strip()}: {moved}, cosine of the texts {cosine:.2f}"
        return io.NodeOutput(codes_to_conditioning(edited, space), text, ui=ui.PreviewText(text))


NODES = [HSpaceDeltaEdit]
