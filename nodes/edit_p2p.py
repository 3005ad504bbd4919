"""Edit: Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626) in any sampler, on rows made by Pair Conditioning and Pair Latent."""

import torch
from torch.nn import functional as F

from ..core.edit.prompt_to_prompt import word_control
from ..core.edit.tokens import MODES, Prompt, parse_weights, parse_windows, tokens_from_payload
from .host.api import TokenMap, io
from .host.attention import KEY, add_attention
from .host.images import one_mask
from .host.p2p import LocalBlend, PromptToPrompt, add_local_blend, blend_of

_LEVELS = {"quarter": 2, "half": 1, "all": 0}
_TOKENS = "From Pair Conditioning, whose 'positive' goes into the sampler."


def _prompts(tokens) -> list[Prompt]:
    if tokens is None:
        raise ValueError(
            "Pair Conditioning made no map between words, because no CLIP is connected to it; connect CLIP and write the texts"
        )
    return tokens_from_payload(tokens)


def _check_words(phrases, prompts: list[Prompt], name: str) -> None:
    for phrase in phrases:
        if not any(p.find(phrase) for p in prompts):
            known = ", ".join(dict.fromkeys(text for p in prompts for text, _ in p.words))
            raise ValueError(f"{name}: {phrase!r} is not among the words of the prompts ({known:.200})")


def _once(model, kind: type, what: str) -> None:
    if any(isinstance(e, kind) for e in model.model_options.get("transformer_options", {}).get(KEY, ())):
        raise ValueError(f"this MODEL already carries {what}; connect the MODEL from before that node, or set all up in one node")


class HSpacePromptToPrompt(io.ComfyNode):
    """Attention control."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpacePromptToPrompt",
            display_name="Prompt-to-Prompt",
            category="HSpace/edit",
            description=(
                "Draws the target prompts with the source's attention, so that the layout stays and only the changed words act. Works in every "
                "sampler that draws no fresh noise, on rows of Pair Conditioning and Pair Latent. For models with CLIP cross-attention: SD 1.x, 2.x, SDXL."
            ),
            search_aliases=["p2p", "attention control", "word swap", "attention reweighting", "prompt editing"],
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.x, 2.x or SDXL checkpoint, or Load Face Text Model; after LoRA, IP-Adapter or before, as you like."),
                TokenMap.Input("tokens", tooltip=_TOKENS),
                io.Combo.Input("mode", options=list(MODES), tooltip="replace: a changed word acts where the old one was. refine: changed and new words find their own place. auto: replace if the prompts have equally many words."),
                io.Float.Input("cross_end", default=0.8, min=0.0, max=1.0, step=0.05, tooltip="Share of the steps in which words act where the source's do. Lower: more freedom. 0 switches it off, and the reweights with it."),
                io.Float.Input("self_end", default=0.4, min=0.0, max=1.0, step=0.05, tooltip="Share of the steps in which the shapes of the source are kept (self-attention). Lower: more freedom for new shapes."),
                io.String.Input("reweights", default="", multiline=True, tooltip="Words of the target made stronger or weaker: 'red: 2, hair: 0.5'. 0 takes a word out, negative turns it round."),
                io.String.Input("windows", default="", multiline=True, advanced=True, optional=True, tooltip="Windows of single words of the target instead of cross_start and cross_end: 'blond: 0-0.5, hair: 0.8'."),
                io.Combo.Input("self_resolution", options=list(_LEVELS), advanced=True, optional=True, tooltip="Finest self-attention that is the source's, as share of the latent: quarter (the paper; 16x16 at 512 pixels), half (null-text and PIE-Bench), all."),
                io.Float.Input("cross_start", default=0.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="Where the window of the words begins, as share of the steps."),
                io.Float.Input("self_start", default=0.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="Where the window of the self-attention begins."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, tokens, mode, cross_end, self_end, reweights="", windows="", self_resolution="quarter", cross_start=0.0, self_start=0.0
    ) -> io.NodeOutput:
        """Patch a clone."""
        prompts = _prompts(tokens)
        weights, edges = parse_weights(reweights), parse_windows(windows)
        _check_words([*weights, *edges], prompts[1:], "reweights and windows speak of the targets")
        for name, start, end in (("cross", cross_start, cross_end), ("self", self_start, self_end)):
            if start > end > 0:
                raise ValueError(f"{name}_start {start:g} lies behind {name}_end {end:g}; the window would be empty")
        window, held = (min(cross_start, cross_end), cross_end), (min(self_start, self_end), self_end)
        controls = tuple(word_control(prompts[0], target, mode, window, weights, edges) for target in prompts[1:])
        _once(model, PromptToPrompt, "Prompt-to-Prompt")
        return io.NodeOutput(add_attention(model, PromptToPrompt(controls, held, _LEVELS[self_resolution])))


class HSpaceP2PLocalBlend(io.ComfyNode):
    """Changes inside a mask only."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceP2PLocalBlend",
            display_name="P2P Local Blend",
            category="HSpace/edit",
            description="Keeps the targets of a pair exactly at the source outside of the place that some words attend to, or outside of a painted mask.",
            search_aliases=["local edit", "attention mask", "prompt to prompt", "keep background"],
            inputs=[
                io.Model.Input("model", tooltip="With or without Prompt-to-Prompt before it."),
                TokenMap.Input("tokens", tooltip=_TOKENS),
                io.String.Input("words", default="hair", tooltip="Words whose place may change, of the source or the targets: 'hair, blond'. Empty: the mask alone."),
                io.Float.Input("threshold", default=0.3, min=0.0, max=1.0, step=0.05, tooltip="How strong the attention must be, as share of its highest value. Higher: smaller place."),
                io.Float.Input("start", default=0.2, min=0.0, max=1.0, step=0.05, tooltip="Share of the steps before anything is held."),
                io.Mask.Input("mask", optional=True, tooltip="What may change; with words, only where both agree."),
                io.String.Input("without", default="", advanced=True, optional=True, tooltip="Words whose place is taken out again."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, tokens, words, threshold, start, mask=None, without="") -> io.NodeOutput:
        """Patch a clone."""
        prompts = _prompts(tokens)
        wanted, unwanted = ([w.strip() for w in text.split(",") if w.strip()] for text in (words, without))
        if not wanted and mask is None:
            raise ValueError("name words whose place may change, or connect a mask")
        _check_words(wanted, prompts, "words")
        _check_words(unwanted, prompts, "without")
        _once(model, LocalBlend, "P2P Local Blend")
        if mask is not None:
            mask = one_mask(mask, *mask.shape[-2:])
        edit = LocalBlend(len(prompts), _selected(prompts, wanted), _selected(prompts, unwanted), mask, threshold, start)
        return io.NodeOutput(add_local_blend(model, edit))


def _selected(prompts: list[Prompt], phrases: list[str]) -> torch.Tensor | None:
    """1 for the tokens of the phrases, `[r T]`."""
    if not phrases:
        return None
    out = torch.zeros(len(prompts), len(prompts[0].ids))
    for row, prompt in enumerate(prompts):
        out[row, [i for phrase in phrases for i in prompt.find(phrase)]] = 1
    return out


class HSpaceP2PBlendMask(io.ComfyNode):
    """The mask that was used."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceP2PBlendMask",
            display_name="P2P Blend Mask",
            category="HSpace/edit",
            description="The mask with which P2P Local Blend ended, one for each target. Reads it after sampling.",
            search_aliases=["attention mask", "local blend mask"],
            inputs=[
                io.Model.Input("model", tooltip="That went into the sampler, with P2P Local Blend."),
                io.Latent.Input("latent", tooltip="The sampler's output as it is, from its last run with this MODEL."),
            ],
            outputs=[io.Mask.Output(display_name="mask")],
        )

    @classmethod
    def execute(cls, model, latent) -> io.NodeOutput:
        """Read."""
        edit = blend_of(model.model_options.get("transformer_options", {}))
        if edit is None:
            raise ValueError("this MODEL has no P2P Local Blend; connect the one that went into the sampler")
        mask = edit.mask_of(latent["samples"])
        targets = [i for i in range(len(mask)) if i % edit.size]
        return io.NodeOutput(F.interpolate(mask[targets][:, None], scale_factor=_unit(model))[:, 0])


def _unit(model) -> int:
    return getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", 8)  # the host's spelling


NODES = [HSpacePromptToPrompt, HSpaceP2PLocalBlend, HSpaceP2PBlendMask]
