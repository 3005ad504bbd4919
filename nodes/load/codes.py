"""Load: diffusion autoencoders become a MODEL whose CONDITIONING is a semantic code."""

from ...core.files.diffae import load_autoencoder
from ...core.files.heads import heads_to_payload, load_heads
from ..host import paths
from ..host.api import Heads, Node, io
from ..host.model.coded_model import make_autoencoder, space_of
from ..host.model.pixel_model import pixel_vae
from .files import pixel_vae_output

DIFFAE, HDAE = "DiffAE (one code)", "HDAE (a code a level)"
FILES = {DIFFAE: "face_diffae.safetensors", HDAE: "face_hdae.safetensors"}
NONE = "none"
_MODEL = "The model draws what a semantic code says, in any sampler. Connect a code to positive and negative, at cfg 1. Invert with method ddim A."


def _outputs() -> list:
    return [io.Model.Output(display_name="model", tooltip=_MODEL), pixel_vae_output()]


class HSpaceLoadFaceDiffAE(Node):
    """The embedded autoencoders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadFaceDiffAE",
            display_name="Load Face DiffAE",
            category="HSpace/load",
            description="Loads the small diffusion autoencoders of faces that come with the pack (64x64 pixels, no download), with the attributes that their codes can be moved along.",
            search_aliases=["diffusion autoencoder", "diffae", "hdae", "semantic code", "demo model"],
            inputs=[
                io.Combo.Input(
                    "variant",
                    options=list(FILES),
                    tooltip="DiffAE has one code for everything. HDAE has one for each level, from fine (0) to coarse, which can be mixed.",
                )
            ],
            outputs=[
                *_outputs(),
                Heads.Output(display_name="attributes", tooltip="They go into Manipulate Code."),
            ],
        )

    @classmethod
    def execute(cls, variant) -> io.NodeOutput:
        name = FILES[variant]
        heads = load_heads(paths.edit_path(paths.HEADS, f"hspace/{name}"))
        return io.NodeOutput(
            make_autoencoder(load_autoencoder(paths.WEIGHTS / name)), pixel_vae(), heads_to_payload(heads)
        )


class HSpaceLoadDiffAE(Node):
    """A released or converted DiffAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadDiffAE",
            display_name="Load DiffAE",
            category="HSpace/load",
            description="Reads a diffusion autoencoder: last.ckpt of the released DiffAE code (ffhq256, ffhq128, horse128, bedroom128, and those with a latent network), or a .safetensors of this pack's converter. Size and variant are read from the file, and nothing in it is run.",
            search_aliases=["diffusion autoencoder", "diffae", "hdae", "ffhq256_autoenc", "semantic code"],
            is_experimental=True,  # no released file was at hand yet, only its layout with random weights
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=paths.checkpoints(),
                    tooltip="A file in models/hspace, such as ffhq256_autoenc.ckpt (rename the released last.ckpt).",
                ),
                io.Combo.Input(
                    "statistics",
                    options=[NONE, *paths.checkpoints()],
                    optional=True,
                    tooltip="Mean and deviation of its codes, if the checkpoint has none. Manipulate Code needs them. Take the classifier's last.ckpt, or latent.pkl renamed to .pt.",
                ),
            ],
            outputs=[
                *_outputs(),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint, statistics=NONE) -> str | float:
        """Runs again when one of the files changes."""
        return paths.file_stamp(paths.checkpoint_path, *(name for name in (checkpoint, statistics) if name != NONE))

    @classmethod
    def execute(cls, checkpoint, statistics=NONE) -> io.NodeOutput:
        beside = None if statistics == NONE else paths.checkpoint_path(statistics)
        source = load_autoencoder(paths.checkpoint_path(checkpoint), beside)
        shape, known = source.space.shape, source.space.mean is not None
        text = (
            f"{f'HDAE, {shape[0]} levels' if len(shape) == 2 else 'DiffAE'}, {source.image_size} pixels, code of {shape[-1]}; "
            f"statistics of codes: {'known' if known else 'missing, connect them for Manipulate Code'}; "
            f"latent network: {'yes' if source.latent else 'none, so Sample Codes does not work'}"
        )
        return io.NodeOutput(make_autoencoder(source), pixel_vae(), text)


class HSpaceLoadHeads(Node):
    """Directions of attributes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadHeads",
            display_name="Load Attribute Heads",
            category="HSpace/load/trained",
            description="Reads attributes that a code can be moved along: those saved by Save Trained Edit, those of the pack, or the classifier of the released DiffAE code (40 attributes of CelebA).",
            search_aliases=["diffae classifier", "ffhq256_autoenc_cls", "attributes", "hyperplane"],
            inputs=[
                io.Model.Input("model", tooltip="The autoencoder whose codes they belong to."),
                io.Combo.Input(
                    "file",
                    options=[*paths.edit_choices(paths.HEADS), *paths.checkpoints()],
                    tooltip="A file in models/hspace_edits/attributes, or a classifier's last.ckpt in models/hspace.",
                ),
            ],
            outputs=[Heads.Output(display_name="attributes"), io.String.Output(display_name="names")],
        )

    @classmethod
    def fingerprint_inputs(cls, file, **_) -> str | float:
        """Runs again when the file changes."""
        return paths.file_stamp(_attributes_path, file)

    @classmethod
    def execute(cls, model, file) -> io.NodeOutput:
        heads = load_heads(_attributes_path(file), space_of(model))
        return io.NodeOutput(heads_to_payload(heads), ", ".join(heads.names))


def _attributes_path(name: str):
    return (
        paths.edit_path(paths.HEADS, name) if name in paths.edit_choices(paths.HEADS) else paths.checkpoint_path(name)
    )


NODES = [HSpaceLoadFaceDiffAE, HSpaceLoadDiffAE, HSpaceLoadHeads]
