"""Edit: source and target as rows of one batch, for Prompt-to-Prompt (arXiv 2208.01626) and everything that compares
two prompts.
"""

from ....core.edit.attention.tokens import tokens_to_payload
from ....core.foreign import named
from ...dials import count_input
from ...host.api import Node, TokenMap, io
from ...host.patches.pairs import encoded, first_row, paired, split_rows, stacked, tokenised
from ...unused import refuse_unused

_ROWS = count_input("rows", 2, "The source and its targets: 1 more than there are target prompts.", least=2)


def _text(name: str, default: str, tooltip: str):
    return io.String.Input(name, default=default, multiline=True, dynamic_prompts=True, tooltip=tooltip)


class HSpacePairConditioning(Node):
    """Stacks prompts into the rows of one batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePairConditioning",
            display_name="Pair Conditioning",
            category="HSpace/edit/attention",
            description="Puts a source prompt and one or more target prompts into one CONDITIONING with a row for each, and maps their words to each other.",
            search_aliases=["prompt to prompt", "p2p", "source prompt", "target prompt", "batch prompts"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model. It is not needed if both encoded prompts are connected.",
                ),
                _text(
                    "source",
                    "a smiling person with red hair",
                    "What the source picture shows. Weights such as (red:1.2) work.",
                ),
                _text(
                    "targets",
                    "a smiling person with blond hair",
                    "What the picture should become. Each line is a prompt and gives a row. Change only the words that matter.",
                ),
                io.Conditioning.Input(
                    "source_encoded",
                    optional=True,
                    tooltip="An encoded prompt that takes the place of 'source'. With CLIP connected the texts still make the map between words.",
                ),
                io.Conditioning.Input(
                    "targets_encoded", optional=True, tooltip="Encoded prompts that take the place of 'targets'."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="It goes into 'positive' of any sampler, with a latent from Pair Latent.",
                ),
                TokenMap.Output(display_name="tokens", tooltip="They go into Prompt-to-Prompt and P2P Local Blend."),
                io.Int.Output(
                    display_name="rows", tooltip="The number of rows. It goes into Pair Latent and Split Pair."
                ),
                io.Conditioning.Output(
                    display_name="source",
                    tooltip="The source prompt alone. It goes into Invert Image, Null-Text Optimise, or a negative (negative-prompt inversion).",
                ),
            ],
        )

    @classmethod
    def execute(cls, source, targets, clip=None, source_encoded=None, targets_encoded=None) -> io.NodeOutput:
        texts = [source.strip().replace("\n", " "), *(line.strip() for line in targets.splitlines() if line.strip())]
        given = [c for c in (source_encoded, targets_encoded) if c is not None]
        if len(given) == 1:
            raise ValueError(
                "source_encoded and targets_encoded belong together: connect both encoded prompts or none; texts need only CLIP"
            )
        if clip is None:
            if not given:
                raise ValueError("connect CLIP, which cuts and encodes the texts, or both encoded prompts")
            why = "is replaced by the encoded prompts, and without CLIP it makes no map between words either"
            refuse_unused(cls, why, instead="connect CLIP", source=source, targets=targets)
            with named("source_encoded, targets_encoded"):
                rows = stacked(given)
            return io.NodeOutput(rows, None, len(rows[0][0]), first_row(rows))
        if len(texts) < 2:
            raise ValueError("'targets' is empty; write at least one target prompt, one a line")
        tokens, prompts = tokenised(clip, texts)
        with named("source_encoded, targets_encoded" if given else "source, targets"):
            rows = stacked(given) if given else encoded(clip, tokens)
        if rows[0][0].shape[:2] != (len(texts), len(prompts[0].ids)):
            raise ValueError(
                f"the texts are {len(texts)} prompts of {len(prompts[0].ids)} tokens, but the encoded ones are {rows[0][0].shape[0]} of "
                f"{rows[0][0].shape[1]}; write the same texts, or disconnect the encoded prompts"
            )
        return io.NodeOutput(rows, tokens_to_payload(prompts), len(texts), first_row(rows))


class HSpacePairLatent(Node):
    """Repeats every picture of a batch for every prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePairLatent",
            display_name="Pair Latent",
            category="HSpace/edit/attention",
            description="Repeats every picture of a latent for the source and each target, so that all rows of a pair begin with the same noise.",
            search_aliases=["repeat latent", "same noise", "prompt to prompt"],
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="The latent is empty, encoded, or the 'noise latent' of Invert Image."
                ),
                _ROWS,
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, latent, rows) -> io.NodeOutput:
        return io.NodeOutput(paired(latent, rows))


class HSpaceSplitPair(Node):
    """Picks the rows of one prompt out of a batch of pairs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSplitPair",
            display_name="Split Pair",
            category="HSpace/edit/attention",
            description="Takes the source and the targets of a pair apart again, as pictures or latents.",
            search_aliases=["unpair", "from batch", "prompt to prompt"],
            inputs=[
                _ROWS,
                io.Image.Input("image", optional=True, tooltip="The decoded pictures of a pair."),
                io.Latent.Input("latent", optional=True, tooltip="The latent that the sampler gave."),
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
        if image is None and latent is None:
            raise ValueError("connect 'image' or 'latent': the pair that is to be taken apart")
        images = [None, None] if image is None else [image[part] for part in split_rows(len(image), rows, "image")]
        samples = None if latent is None else latent["samples"]
        latents = (
            [None, None]
            if samples is None
            else [{"samples": samples[part]} for part in split_rows(len(samples), rows, "latent")]
        )
        return io.NodeOutput(*images, *latents)


NODES = [HSpacePairConditioning, HSpacePairLatent, HSpaceSplitPair]
