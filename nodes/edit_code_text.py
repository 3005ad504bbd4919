"""Edit: semantic codes by text (DeltaEdit) and by age (PADA), low-level variety, and the files of what was trained for it."""

from ..core.edit.code_edit_io import AGEING, MAPPER, code_edit_from_payload, code_edit_to_payload, load_code_edit
from ..core.edit.deltaedit import delta_edit
from ..core.edit.pada import pada_edit, varied_noise
from ..core.train.directional import averaged, text_direction
from .host import paths
from .host.api import DeltaMapper, Embedder, Pada, io, ui
from .host.codes import codes_from_conditioning, codes_to_conditioning
from .host.embeddings import embedded

CODE = "From Encode Semantic Code, or a node that changes codes."
EMBEDDER = "The one that it was trained with: Load Face Embedder, or CLIP Embedder for photographs."
_PRESS = "Press R after putting a file there. Those that come with the pack begin with 'hspace/'."


class HSpaceDeltaEdit(io.ComfyNode):
    """A text's change of a code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceDeltaEdit",
            display_name="Delta Edit",
            category="HSpace/edit",
            description="Changes a semantic code as a text says, any text (DeltaEdit). Sample with the result as CONDITIONING, from the picture's own noise latent.",
            search_aliases=["deltaedit", "deltaspace", "text guided", "delta mapper", "clip"],
            inputs=[
                io.Conditioning.Input("code", tooltip=CODE),
                DeltaMapper.Input("mapper", tooltip="From Load Delta Mapper or Train Delta Mapper, for the autoencoder of the code."),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("target", default="face with glasses", tooltip="What the picture is to show."),
                io.String.Input("neutral", default="face", tooltip="The same without what is to change. The edit is the difference of the two texts."),
                io.Float.Input("strength", default=0.7, min=0.0, max=3.0, step=0.05, tooltip="In typical distances between two pictures, for what changes in one thing only 0.4 to 0.8; 0 is the code bit for bit."),
                io.Float.Input("relevance", default=0.5, min=0.0, max=1.0, step=0.05, tooltip="Share of the code's coordinates, those that matter least to the text, that are left alone. 0: every one moves; raise it, and the strength, if more changes than is asked for."),
                io.Image.Input("image", optional=True, tooltip="The picture of the code. Without it, what the embedder would see is guessed from the code."),
            ],
            outputs=[io.Conditioning.Output(display_name="code"), io.String.Output(display_name="report")],
        )  # fmt: skip

    @classmethod
    def execute(cls, code, mapper, embedder, target, neutral, strength, relevance, image=None) -> io.NodeOutput:
        """Edit."""
        values, space = codes_from_conditioning(code)
        trained = code_edit_from_payload(mapper, MAPPER)
        trained.check_embedder(embedder.space)
        change, cosine = text_direction(embedder, neutral, target)
        seen = embedded(embedder, image) if image is not None else None
        made = delta_edit(trained, values, space, change.cpu(), seen, strength=strength, quantile=relevance)
        moved = float((trained.space.normalise(made) - trained.space.normalise(values)).norm(dim=1).mean())
        text = (
            f"{neutral.strip()} > {target.strip()}: the code moved by {moved:.2f} (two pictures are {float(trained.net.length):.2f} apart), "
            f"cosine of the texts {cosine:.2f}"
        )
        return io.NodeOutput(codes_to_conditioning(made, space), text, ui=ui.PreviewText(text))


class HSpacePadaAge(io.ComfyNode):
    """Diverse ageing of a code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpacePadaAge",
            display_name="PADA Age",
            category="HSpace/edit",
            description="Ages a semantic code as a text or a reference picture says, in several ways (PADA). The face model's sign of age is grey hair. Gives a batch: connect Vary Noise with as many variants as the latent.",
            search_aliases=["pada", "aging", "ageing", "older", "younger", "diverse"],
            inputs=[
                io.Conditioning.Input("code", tooltip=CODE),
                Pada.Input("pada", tooltip="From Load PADA or Train PADA, for the autoencoder of the code."),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("text", default="face with grey hair", tooltip="How it is to look. Not used if a reference is connected."),
                io.Float.Input("strength", default=1.0, min=-3.0, max=3.0, step=0.05, tooltip="0 is the code bit for bit, 1 the age that is asked for."),
                io.Float.Input("tau", default=1.0, min=0.0, max=10.0, step=0.05, tooltip="How far the variants differ; at 0 they are equal."),
                io.Int.Input("variants", default=4, min=1, max=64, tooltip="Of every picture."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Of the variants."),
                io.Image.Input("reference", optional=True, tooltip="A picture of that age instead of a text, or one for every picture."),
            ],
            outputs=[io.Conditioning.Output(display_name="codes"), io.String.Output(display_name="report")],
        )  # fmt: skip

    @classmethod
    def execute(cls, code, pada, embedder, text, strength, tau, variants, seed, reference=None) -> io.NodeOutput:
        """Age."""
        values, space = codes_from_conditioning(code)
        trained = code_edit_from_payload(pada, AGEING)
        trained.check_embedder(embedder.space)
        if reference is None and not text.strip():
            raise ValueError("text is empty and no reference is connected; say how it is to look, such as 'face with grey hair'")
        guide = embedded(embedder, reference, "reference") if reference is not None else averaged(embedder, text.strip()).cpu()
        made = pada_edit(trained, values, space, guide, strength=strength, tau=tau, variants=variants, seed=seed)
        normal = trained.space.normalise(made).unflatten(0, (len(values), variants))
        moved = float((normal - trained.space.normalise(values)[:, None]).norm(dim=2).mean())
        apart = float((normal - normal.roll(1, 1)).norm(dim=2).mean())
        said = f"{trained.label}; {len(made)} codes, moved by {moved:.2f}, variants {apart:.2f} apart"
        return io.NodeOutput(codes_to_conditioning(made, space), said, ui=ui.PreviewText(said))


class HSpaceVaryNoise(io.ComfyNode):
    """Variety in what the code does not hold."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceVaryNoise",
            display_name="Vary Noise",
            category="HSpace/edit",
            description="Mixes fresh noise into the noise latent of a picture: variety in fine detail, while the code keeps what the picture shows. Also repeats the latent for a batch of codes.",
            search_aliases=["low-level diversity", "x_T", "noise mix", "variation", "pada"],
            inputs=[
                io.Latent.Input("noise", tooltip="The noise latent of Invert Image."),
                io.Float.Input("amount", default=0.0, min=0.0, max=1.0, step=0.05, tooltip="Share of fresh noise, sqrt(1 - amount^2) x_T + amount xi. 0: the latent bit for bit; up to 0.6 keeps the picture's likeness."),
                io.Int.Input("variants", default=4, min=1, max=64, tooltip="Of every picture, in the order of PADA Age."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Of the fresh noise."),
            ],
            outputs=[io.Latent.Output(display_name="noise")],
        )  # fmt: skip

    @classmethod
    def execute(cls, noise, amount, variants, seed) -> io.NodeOutput:
        """Mix."""
        rest = {k: v for k, v in noise.items() if k not in ("samples", "batch_index", "noise_mask")}
        return io.NodeOutput({**rest, "samples": varied_noise(noise["samples"], amount, variants, seed)})


def _loader(kind: str) -> list:
    return [io.Combo.Input("file", options=paths.edit_choices(kind), tooltip=f"A file in {paths.edit_place(kind)}. {_PRESS}")]


class HSpaceLoadDeltaMapper(io.ComfyNode):
    """A delta mapper out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadDeltaMapper",
            display_name="Load Delta Mapper",
            category="HSpace/edit",
            description="A delta mapper that Train Delta Mapper made, for Delta Edit.",
            inputs=_loader(paths.MAPPER),
            outputs=[DeltaMapper.Output(display_name="mapper"), io.String.Output(display_name="label")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(paths.MAPPER, file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_code_edit(paths.edit_path(paths.MAPPER, file), MAPPER)
        return io.NodeOutput(code_edit_to_payload(found), found.label)


class HSpaceLoadPada(io.ComfyNode):
    """PADA out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadPada",
            display_name="Load PADA",
            category="HSpace/edit",
            description="What Train PADA made, for PADA Age.",
            inputs=_loader(paths.PADA),
            outputs=[Pada.Output(display_name="pada"), io.String.Output(display_name="label")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(paths.PADA, file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_code_edit(paths.edit_path(paths.PADA, file), AGEING)
        return io.NodeOutput(code_edit_to_payload(found), found.label)


NODES = [HSpaceDeltaEdit, HSpacePadaAge, HSpaceVaryNoise, HSpaceLoadDeltaMapper, HSpaceLoadPada]
