"""Edit: how strongly an instruct-edit model edits (VeloEdit, arXiv 2603.13388)."""

from ....core.edit.noise.edit_dial import DECIDED_PER
from ...dials import sigma_input
from ...host.api import Node, io
from ...host.patches.edit_dial import add_edit_dial
from ...unused import refuse_unused


class HSpaceEditDial(Node):
    """Scales what an instruct-edit model changes, and holds the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEditDial",
            display_name="Edit Dial",
            category="HSpace/edit/noise",
            description="Sets how strongly an instruct-edit model (Flux Kontext, Qwen-Image-Edit, Flux 2) edits: 0 keeps the source, 1 is its own edit. What the edit hardly touches stays as it was. It asks the model nothing more and runs with any sampler, also on quantised and four-step models.",
            search_aliases=[
                "veloedit",
                "edit strength",
                "kontext strength",
                "qwen edit strength",
                "slider",
                "keep background",
                "preserve image",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The edit model, behind all other nodes that change its guidance."),
                io.Latent.Input(
                    "source",
                    tooltip="The latent that also goes into Reference Latent, from VAE Encode behind the scaling. The sampler must draw pictures of its size.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 gives back the source, 1 the model's own edit, except for what 'keep' holds.",
                ),
                io.Float.Input(
                    "keep",
                    default=0.25,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="A place stays the source where the prediction is nearer to it than this share of the present distance. 0 holds nothing; with strength 1 the result is then the plain edit, bit for bit. 0.25 is the paper's (similarity 0.8).",
                ),
                io.Combo.Input(
                    "decided_per",
                    options=list(DECIDED_PER),
                    optional=True,
                    advanced=True,
                    tooltip="element decides for every number of the latent alone (the paper). cell decides for all channels of a place. 3x3 decides for nine cells together, against speckles.",
                ),
                sigma_input(
                    "sigma_end",
                    0.0,
                    "The dial acts only at or above this noise level. 0 is in all steps; above it strength 0 no longer gives back the source.",
                    advanced=True,
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, source, strength, keep, decided_per=DECIDED_PER[0], sigma_end=0.0) -> io.NodeOutput:
        if not keep:
            refuse_unused(cls, "decides what is kept, and keep 0 keeps nothing", decided_per=decided_per)
        return io.NodeOutput(add_edit_dial(model, source["samples"], strength, keep, decided_per, sigma_end))


NODES = [HSpaceEditDial]
