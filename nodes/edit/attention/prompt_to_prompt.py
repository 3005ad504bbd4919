"""Edit: Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626) in any sampler, on rows made by Pair Conditioning and
Pair Latent.
"""

from ....core.edit.attention.local_blend import target_masks
from ....core.edit.attention.prompt_to_prompt import word_control
from ....core.edit.attention.tokens import (
    MODES,
    check_words,
    mark_words,
    parse_weights,
    parse_windows,
    tokens_from_payload,
    window_of,
)
from ...dials import share_input, text_input
from ...host.api import Node, TokenMap, io
from ...host.model.images import one_mask
from ...host.patches.attention import ATTENTION_KEY, add_attention
from ...host.patches.local_blend import LocalBlend, add_local_blend, blend_of
from ...host.patches.prompt_to_prompt import PromptToPrompt
from ...unused import refuse_unused

_LEVELS = {"quarter": 2, "half": 1, "all": 0}
_TOKENS = "They come from the Pair Conditioning whose 'positive' goes into the sampler."


def _once(model, kind: type, what: str) -> None:
    if any(isinstance(e, kind) for e in model.model_options.get("transformer_options", {}).get(ATTENTION_KEY, ())):
        raise ValueError(
            f"this MODEL already carries {what}; connect the MODEL from before that node, or set all up in one node"
        )


class HSpacePromptToPrompt(Node):
    """Edits a picture by controlling how it attends to its prompt (Prompt-to-Prompt)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePromptToPrompt",
            display_name="Prompt-to-Prompt",
            category="HSpace/edit/attention",
            description=(
                "Draws the target prompts with the source's attention, so that the layout stays and only the "
                "changed words act. It works in every sampler that draws no fresh noise, on rows of Pair "
                "Conditioning and Pair Latent. It needs a model with CLIP cross-attention: SD 1.x, 2.x, SDXL."
            ),
            search_aliases=["p2p", "attention control", "word swap", "attention reweighting", "prompt editing"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model is Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model. LoRA and IP-Adapter may stand before or behind this node.",
                ),
                TokenMap.Input("tokens", tooltip=_TOKENS),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    tooltip="With replace, a changed word acts where the old one was. With refine, changed and new words find their own place. auto is replace if the prompts have equally many words.",
                ),
                share_input(
                    "cross_end",
                    0.8,
                    "The share of the steps in which words act where the source's do. Lower gives more freedom. 0 switches it off, and the reweights with it.",
                ),
                share_input(
                    "self_end",
                    0.4,
                    "The share of the steps in which the shapes of the source are kept (self-attention). Lower gives new shapes more freedom.",
                ),
                io.String.Input(
                    "reweights",
                    default="",
                    multiline=True,
                    tooltip="Words of the target that become stronger or weaker, such as 'red: 2, hair: 0.5'. 0 takes a word out, a negative weight turns it round.",
                ),
                io.String.Input(
                    "windows",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="Single words of the target get their own window in place of cross_start and cross_end, such as 'blond: 0-0.5, hair: 0.8'.",
                ),
                io.Combo.Input(
                    "self_resolution",
                    options=list(_LEVELS),
                    advanced=True,
                    optional=True,
                    tooltip="The finest self-attention that is the source's, as a share of the latent. quarter is the paper's (16x16 at 512 pixels), half that of null-text and PIE-Bench.",
                ),
                share_input(
                    "cross_start", 0.0, "The share of the steps at which the window of the words begins.", advanced=True
                ),
                share_input(
                    "self_start",
                    0.0,
                    "The share of the steps at which the window of the self-attention begins.",
                    advanced=True,
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(
        cls,
        model,
        tokens,
        mode,
        cross_end,
        self_end,
        reweights="",
        windows="",
        self_resolution="quarter",
        cross_start=0.0,
        self_start=0.0,
    ) -> io.NodeOutput:
        prompts = tokens_from_payload(tokens)
        weights, edges = parse_weights(reweights), parse_windows(windows)
        check_words([*weights, *edges], prompts[1:], "reweights and windows speak of the targets")
        if not cross_end and not edges:
            refuse_unused(
                cls, "acts while words do, and cross_end is 0", instead="raise cross_end", reweights=reweights
            )
        cross_window, self_window = (
            window_of("cross", cross_start, cross_end),
            window_of("self", self_start, self_end),
        )
        controls = tuple(word_control(prompts[0], target, mode, cross_window, weights, edges) for target in prompts[1:])
        _once(model, PromptToPrompt, "Prompt-to-Prompt")
        return io.NodeOutput(add_attention(model, PromptToPrompt(controls, self_window, _LEVELS[self_resolution])))


class HSpaceP2PLocalBlend(Node):
    """Restricts a Prompt-to-Prompt edit to where its words draw (local blend)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceP2PLocalBlend",
            display_name="P2P Local Blend",
            category="HSpace/edit/attention",
            description="Keeps the targets of a pair exactly at the source outside of the place that some words attend to, or outside of a painted mask.",
            search_aliases=["local edit", "attention mask", "prompt to prompt", "keep background"],
            inputs=[
                io.Model.Input("model", tooltip="The model may have Prompt-to-Prompt before it or not."),
                TokenMap.Input("tokens", tooltip=_TOKENS),
                io.String.Input(
                    "words",
                    default="hair",
                    tooltip="Words of the source or the targets whose place may change, such as 'hair, blond'. Without words the mask alone decides.",
                ),
                share_input(
                    "threshold",
                    0.3,
                    "How strong the attention must be, as a share of its highest value. Higher makes the place smaller.",
                ),
                share_input("start", 0.2, "The share of the steps before anything is held."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region that may change. With words, only the place where both agree may change.",
                ),
                text_input("without", "Words whose place is taken out again."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, tokens, words, threshold, start, mask=None, without="") -> io.NodeOutput:
        prompts = tokens_from_payload(tokens)
        wanted, unwanted = ([w.strip() for w in text.split(",") if w.strip()] for text in (words, without))
        if not wanted:
            refuse_unused(
                cls,
                "belongs to the attention of 'words', and there are none",
                threshold=threshold if not unwanted else None,
            )
        if not wanted and mask is None:
            raise ValueError("name words whose place may change, or connect a mask")
        check_words(wanted, prompts, "words")
        check_words(unwanted, prompts, "without")
        _once(model, LocalBlend, "P2P Local Blend")
        if mask is not None:
            mask = one_mask(mask, *mask.shape[-2:])
        edit = LocalBlend(
            len(prompts), mark_words(prompts, wanted), mark_words(prompts, unwanted), mask, threshold, start
        )
        return io.NodeOutput(add_local_blend(model, edit))


class HSpaceP2PBlendMask(Node):
    """Shows the mask that a local blend used."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceP2PBlendMask",
            display_name="P2P Blend Mask",
            category="HSpace/edit/attention",
            description="Gives the mask with which P2P Local Blend ended, one for each target. The node reads it after sampling.",
            search_aliases=["attention mask", "local blend mask"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL with P2P Local Blend that went into the sampler."),
                io.Latent.Input("latent", tooltip="The sampler's output as it is, from its last run with this MODEL."),
            ],
            outputs=[io.Mask.Output(display_name="mask")],
        )

    @classmethod
    def execute(cls, model, latent) -> io.NodeOutput:
        edit = blend_of(model.model_options.get("transformer_options", {}))
        if edit is None:
            raise ValueError("this MODEL has no P2P Local Blend; connect the one that went into the sampler")
        mask = edit.mask_of(latent["samples"])
        return io.NodeOutput(target_masks(mask, edit.size, _unit(model)))


def _unit(model) -> int:
    return getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", 8)  # the host's spelling


NODES = [HSpacePromptToPrompt, HSpaceP2PLocalBlend, HSpaceP2PBlendMask]
