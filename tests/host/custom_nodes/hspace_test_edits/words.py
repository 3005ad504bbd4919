"""Prompts as rows, words and tokens."""

import json

import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.text_encoders.sd2_clip
import torch
from comfy_api.latest import io

from .pack import TOKENS, pack_module

_WIDTH = {"sd15": 64, "sd2 v": 96, "sdxl": 128}


class TestPair(io.ComfyNode):
    """Random rows for the small U-Nets, with a map between made-up words: 'a cat sat' becomes 'a longdog sat', the last
    row 'a big cat sat'."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestPair",
            category="tests",
            inputs=[io.Combo.Input("network", options=list(_WIDTH)), io.Int.Input("targets", default=1)],
            outputs=[io.Conditioning.Output(), TOKENS.Output()],
        )

    @classmethod
    def execute(cls, network, targets):
        core = pack_module("core.edit.attention.tokens")
        texts = [
            [("a", [1]), ("cat", [2, 3]), ("sat", [4])],
            [("a", [1]), ("dog", [5, 6, 7]), ("sat", [4])],
            [("a", [1]), ("big", [8]), ("cat", [2, 3]), ("sat", [4])],
        ]
        prompts = []
        for words in [texts[0], texts[1], *texts[2:] * (targets - 1)]:
            ids, groups = [90], []
            for text, tokens in words:
                groups.append((text, tuple(range(len(ids), len(ids) + len(tokens)))))
                ids += tokens
            prompts.append(core.Prompt((*ids, *[91] * (77 - len(ids))), tuple(groups), 77))
        g = torch.Generator().manual_seed(11)
        rows = torch.randn(len(prompts), 77, _WIDTH[network], generator=g)
        pooled = {"pooled_output": torch.randn(len(prompts), 1280, generator=g)} if network == "sdxl" else {}
        return io.NodeOutput([[rows, pooled]], core.tokens_to_payload(prompts))


class TestWords(io.ComfyNode):
    """What the pack makes of texts with the stock tokenizers: words, tokens, chunks of each tower."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestWords",
            category="tests",
            is_output_node=True,
            inputs=[io.Combo.Input("family", options=["sd1", "sd2", "sdxl"]), io.String.Input("texts", multiline=True)],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, family, texts):
        class Clip:
            tokenizer = {
                "sd1": comfy.sd1_clip.SD1Tokenizer,
                "sd2": comfy.text_encoders.sd2_clip.SD2Tokenizer,
                "sdxl": comfy.sdxl_clip.SDXLTokenizer,
            }[family]()
            tokenize = tokenizer.tokenize_with_weights

        tokens, prompts = pack_module("nodes.host.patches.pairs").tokenised(Clip(), texts.splitlines())
        figures = {
            "words": [[text for text, _ in p.words] for p in prompts],
            "tokens": [len(p.ids) for p in prompts],
            "content": [p.content for p in prompts],
            "ids": [list(p.ids) for p in prompts],
            "weights": [[w for chunk in t[min(t)] for _, w in chunk] for t in tokens],
            "towers": {name: [[i for chunk in t[name] for i, _ in chunk] for t in tokens] for name in tokens[0]},
        }
        text = json.dumps(figures)
        return io.NodeOutput(text, ui={"text": (text,)})
