"""Edit: a semantic code aged in several ways (PADA)."""

from ....core.edit.codes.pada import ageing_text, pada_edit
from ....core.files.kinds import PADA
from ....core.train.directional import averaged
from ...dials import count_input, seed_input, signed_input
from ...host.api import Node, Pada, io, ui
from ...host.model.codes import codes_from_conditioning, codes_to_conditioning
from ...host.model.embeddings import embedded
from ...seeds import ONE_BY_ONE
from ...unused import refuse_unused
from .inputs import code_input, embedder_input, read_trained


class HSpacePadaAge(Node):
    """Ages a code in several ways."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePadaAge",
            display_name="PADA Age",
            category="HSpace/edit/codes",
            description="Ages a semantic code as a text or a reference picture says, in several ways (PADA). The face model's sign of age is grey hair. The node gives a batch: for the latent, connect Vary Noise with the same number of variants.",
            search_aliases=["pada", "aging", "ageing", "older", "younger", "diverse"],
            inputs=[
                code_input(),
                Pada.Input("pada", tooltip="PADA for the code's autoencoder, from Load PADA or Train PADA."),
                embedder_input(),
                io.String.Input(
                    "text",
                    default="face with grey hair",
                    tooltip="How the person is to look. It is not used if a reference is connected.",
                ),
                signed_input("strength", 1.0, 3.0, "0 is the code bit for bit, and 1 is the age that is asked for."),
                io.Float.Input(
                    "tau",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How far the variants differ; at 0 they are equal.",
                ),
                count_input("variants", 4, "The number of variants of every picture."),
                seed_input(
                    f"The seed of the variants, which are the same draws for every picture of a batch. {ONE_BY_ONE}"
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="A picture of that age in place of a text, or one for every picture.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="codes"), io.String.Output(display_name="report")],
        )

    @classmethod
    def execute(cls, code, pada, embedder, text, strength, tau, variants, seed, reference=None) -> io.NodeOutput:
        if reference is not None:
            refuse_unused(cls, "is replaced by the reference picture, which is connected", text=text)
        values, space = codes_from_conditioning(code, "code")
        trained = read_trained(pada, PADA, embedder, "pada")
        if reference is None and not text.strip():
            raise ValueError(
                "text is empty and no reference is connected; say how it is to look, such as 'face with grey hair'"
            )
        guide = (
            embedded(embedder, reference, "reference")
            if reference is not None
            else averaged(embedder, text.strip(), "text").cpu()
        )
        edited = pada_edit(trained, values, space, guide, strength=strength, tau=tau, variants=variants, seed=seed)
        report = ageing_text(trained, values, edited, variants)
        return io.NodeOutput(codes_to_conditioning(edited, space), report, ui=ui.PreviewText(report))


NODES = [HSpacePadaAge]
