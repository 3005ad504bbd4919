"""Edit: source and target as rows of one batch, for Prompt-to-Prompt (arXiv 2208.01626) and everything that compares two prompts."""

from ..core.edit.tokens import tokens_to_payload
from .host.api import TokenMap, io
from .host.pairs import encoded, first_row, paired, split_rows, stacked, tokenised

_ROWS = io.Int.Input("rows", default=2, min=2, max=64, tooltip="The source and its targets: 1 more than there are target prompts.")


class HSpacePairConditioning(io.ComfyNode):
    """Prompts as rows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpacePairConditioning",
            display_name="Pair Conditioning",
            category="HSpace/edit",
            description="A source prompt and one or more target prompts as one CONDITIONING with a row for each, and the map between their words.",
            search_aliases=["prompt to prompt", "p2p", "source prompt", "target prompt", "batch prompts"],
            inputs=[
                io.Clip.Input("clip", optional=True, tooltip="Of Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model. Not needed if both encoded prompts are connected."),
                io.String.Input("source", default="a smiling person with red hair", multiline=True, dynamic_prompts=True, tooltip="What the source picture shows. Weights such as (red:1.2) work."),
                io.String.Input("targets", default="a smiling person with blond hair", multiline=True, dynamic_prompts=True, tooltip="What it should become; one prompt a line, each gives a row. Change only the words that matter."),
                io.Conditioning.Input("source_encoded", optional=True, tooltip="Used instead of encoding 'source'. With CLIP connected the texts still make the map between words."),
                io.Conditioning.Input("targets_encoded", optional=True, tooltip="Used instead of encoding 'targets'."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For 'positive' of any sampler, with a latent from Pair Latent."),
                TokenMap.Output(display_name="tokens", tooltip="For Prompt-to-Prompt and P2P Local Blend."),
                io.Int.Output(display_name="rows", tooltip="For Pair Latent and Split Pair."),
                io.Conditioning.Output(display_name="source", tooltip="The source prompt alone: for Invert Image, Null-Text Optimise, or as negative (negative-prompt inversion)."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, source, targets, clip=None, source_encoded=None, targets_encoded=None) -> io.NodeOutput:
        """Tokenise, encode, stack."""
        texts = [source.strip().replace("\n", " "), *(line.strip() for line in targets.splitlines() if line.strip())]
        given = [c for c in (source_encoded, targets_encoded) if c is not None]
        if len(given) == 1:
            raise ValueError("connect both encoded prompts or none; texts need only CLIP")
        if clip is None:
            if not given:
                raise ValueError("connect CLIP, which cuts and encodes the texts, or both encoded prompts")
            rows = stacked(given)
            return io.NodeOutput(rows, None, len(rows[0][0]), first_row(rows))
        if len(texts) < 2:
            raise ValueError("'targets' is empty; write at least one target prompt, one a line")
        tokens, prompts = tokenised(clip, texts)
        rows = stacked(given) if given else encoded(clip, tokens)
        if rows[0][0].shape[:2] != (len(texts), len(prompts[0].ids)):
            raise ValueError(
                f"the texts are {len(texts)} prompts of {len(prompts[0].ids)} tokens, but the encoded ones are {rows[0][0].shape[0]} of "
                f"{rows[0][0].shape[1]}; write the same texts, or disconnect the encoded prompts"
            )
        return io.NodeOutput(rows, tokens_to_payload(prompts), len(texts), first_row(rows))


class HSpacePairLatent(io.ComfyNode):
    """Every picture for every prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpacePairLatent",
            display_name="Pair Latent",
            category="HSpace/edit",
            description="Repeats every picture of a latent for the source and each target, so that all rows of a pair begin with the same noise.",
            search_aliases=["repeat latent", "same noise", "prompt to prompt"],
            inputs=[io.Latent.Input("latent", tooltip="Empty, encoded, or 'noise latent' of Invert Image."), _ROWS],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, latent, rows) -> io.NodeOutput:
        """Repeat."""
        return io.NodeOutput(paired(latent, rows))


class HSpaceSplitPair(io.ComfyNode):
    """Rows apart again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSplitPair",
            display_name="Split Pair",
            category="HSpace/edit",
            description="Takes the source and the targets of a pair apart again, as pictures or latents.",
            search_aliases=["unpair", "from batch", "prompt to prompt"],
            inputs=[
                _ROWS,
                io.Image.Input("image", optional=True, tooltip="Decoded pictures of a pair."),
                io.Latent.Input("latent", optional=True, tooltip="What the sampler gave."),
            ],
            outputs=[
                io.Image.Output(display_name="source image"),
                io.Image.Output(display_name="target images"),
                io.Latent.Output(display_name="source latent"),
                io.Latent.Output(display_name="target latents"),
            ],
        )

    @classmethod
    def execute(cls, rows, image=None, latent=None) -> io.NodeOutput:
        """Pick rows."""
        if image is None and latent is None:
            raise ValueError("connect 'image' or 'latent': the pair that is to be taken apart")
        images = [None, None] if image is None else [image[part] for part in split_rows(len(image), rows)]
        samples = None if latent is None else latent["samples"]
        latents = [None, None] if samples is None else [{"samples": samples[part]} for part in split_rows(len(samples), rows)]
        return io.NodeOutput(*images, *latents)


NODES = [HSpacePairConditioning, HSpacePairLatent, HSpaceSplitPair]
