"""Nodes for the tests of attention edits: the same edits written out with maps, another pack's owner of attn2, figures."""

import json
import math
import sys

import comfy.samplers
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.text_encoders.sd2_clip
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_api.latest import ComfyExtension, io

_WIDTH = {"sd15": 64, "sd2 v": 96, "sdxl": 128}
TOKENS = io.Custom("HSPACE_TOKENMAP")


def _pack(name: str):
    return next(module for key, module in sys.modules.items() if "HSpace" in key and key.endswith(f".{name}"))


class TestPair(io.ComfyNode):
    """Random rows for the small U-Nets, with a map between made-up words: 'a cat sat' becomes 'a longdog sat', the last row 'a big cat sat'."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestPair", category="tests", inputs=[io.Combo.Input("network", options=list(_WIDTH)), io.Int.Input("targets", default=1)],
            outputs=[io.Conditioning.Output(), TOKENS.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, network, targets):
        core = _pack("core.edit.tokens")
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


def _maps(q, k, heads):
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2).double() for t in (q, k))
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


def _apply(maps, v, heads):
    return (maps @ v.unflatten(-1, (heads, -1)).transpose(1, 2).double()).transpose(1, 2).flatten(2).to(v.dtype)


class TestDense(io.ComfyNode):
    """Prompt-to-Prompt with probability maps, column by column, as owners of both attentions."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestDense", category="tests",
            inputs=[
                io.Model.Input("model"), TOKENS.Input("tokens"), io.String.Input("mode"), io.Float.Input("cross_end"), io.Float.Input("self_end"),
                io.String.Input("word", default=""), io.Float.Input("weight", default=1.0), io.Int.Input("largest", default=10**6),
                io.Float.Input("word_end", default=1.0, optional=True),
            ],
            outputs=[io.Model.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, tokens, mode, cross_end, self_end, word, weight, largest, word_end=1.0):
        core = _pack("core.edit.tokens")
        prompts = core.tokens_from_payload(tokens)
        size = len(prompts)

        def step(extra):
            grid = extra["sample_sigmas"]
            return int((grid[:-1].cpu() - float(extra["sigmas"].max())).abs().argmin()), len(grid) - 1

        def rows(q, extra):
            kinds = extra["cond_or_uncond"]
            each = len(q) // len(kinds)
            return [
                (i * each + g, i * each + g + t)
                for i, k in enumerate(kinds)
                if k == 0
                for g in range(0, each, size)
                for t in range(1, size)
            ]

        def cross(q, k, v, extra):
            maps, (at, n), heads = _maps(q, k, extra["n_heads"]), step(extra), extra["n_heads"]
            if at < int(cross_end * (n + 1)):
                for source, target in rows(q, extra):
                    shares, alpha = core.token_map(prompts[0], prompts[(target - source) % size], mode)
                    edited = maps[source] @ shares.to(maps) * alpha.to(maps) + maps[target] * (1 - alpha.to(maps))
                    columns = prompts[(target - source) % size].find(word) if word else []
                    edited[..., columns] *= weight
                    if at >= int(word_end * (n + 1)):
                        edited[..., columns] = maps[target][..., columns]
                    maps[target] = edited
            return _apply(maps, v, heads)

        def own(q, k, v, extra):
            maps, (at, n) = _maps(q, k, extra["n_heads"]), step(extra)
            if at < int(self_end * n) and q.shape[1] <= largest:
                for source, target in rows(q, extra):
                    maps[target] = maps[source]
            return _apply(maps, v, extra["n_heads"])

        clone = model.clone()
        for name, count in (("input", 12), ("middle", 1), ("output", 12)):
            for i in range(count):
                clone.set_model_attn2_replace(_Owner(cross), name, i, 0)
                clone.set_model_attn1_replace(own, name, i)
        return io.NodeOutput(clone)


class _Owner:
    """The interface that the IP-Adapter pack gives its owner of attn2."""

    def __init__(self, attend=None):
        self.attend, self.calls = attend, []

    def add(self, callback, **kwargs):
        self.calls.append((callback, kwargs))

    def __call__(self, q, k, v, extra):
        out = self.attend(q, k, v, extra) if self.attend else optimized_attention(q, k, v, extra["n_heads"])
        for callback, kwargs in self.calls:
            out = out + callback(out, q, k, v, extra, **kwargs)
        return out


class TestOwner(io.ComfyNode):
    """A picture prompt as IP-Adapter gives it: further keys and values whose attention is added. Joins an owner that it finds."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestOwner", category="tests", inputs=[io.Model.Input("model"), io.Float.Input("scale", default=0.5), io.Boolean.Input("late", default=False, optional=True)],
            outputs=[io.Model.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, scale, late=False):
        def more(out, q, k, v, extra, scale):
            g = torch.Generator().manual_seed(q.shape[-1])
            keys, values = torch.randn(2, 1, 4, q.shape[-1], generator=g).to(q)
            return scale * optimized_attention(q, keys.expand(len(q), -1, -1), values.expand(len(q), -1, -1), extra["n_heads"])

        def join(options):
            options = {**options, "patches_replace": {**options.get("patches_replace", {})}}
            owned = options["patches_replace"]["attn2"] = {**options["patches_replace"].get("attn2", {})}
            for key in [(name, i, 0) for name in ("input", "middle", "output") for i in range(12)]:
                owned.setdefault(key, _Owner()).add(more, scale=scale)
            return options

        def inside(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
            return executor(x, timesteps, context, y, control, join(transformer_options), **kwargs)

        clone = model.clone()
        if late:
            clone.add_wrapper_with_key("diffusion_model", "tests", inside)
        else:
            clone.model_options["transformer_options"] = join(clone.model_options["transformer_options"])
        return io.NodeOutput(clone)


class _Concepts(comfy.samplers.CFGGuider):
    """LEDITS++'s loop over concepts in eps, with maps of half the state's size and both masks, each prompt in a call of its own."""

    def prepare(self, negative, concepts, tokens):
        self.concepts, self.tokens = concepts, tokens
        self.inner_set_conds({"negative": negative, **{f"c{k}": c["conditioning"] for k, c in enumerate(concepts)}})

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006 (the host's own form)
        height, width, sigma, maps = *x.shape[-2:], timestep[0], []

        def look(q, k, v, extra):
            found = _maps(q, k, extra["n_heads"])
            if 4 * q.shape[1] == height * width:
                maps.append(found[..., self.tokens].sum(-1).mean(1))
            return _apply(found, v, extra["n_heads"])

        keys = {(name, i, 0): look for name in ("input", "middle", "output") for i in range(12)}
        options = model_options.get("transformer_options", {})
        watched = {**model_options, "transformer_options": {**options, "patches_replace": {"attn2": keys}}}

        def eps(name):
            (found,) = comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, watched)
            return ((x - found) / sigma).double()

        base = total = eps("negative")
        for k, concept in enumerate(self.concepts):
            maps.clear()
            delta = eps(f"c{k}") - base
            blurred = _blurred(torch.stack(maps).mean(0).unflatten(1, (height // 2, width // 2)))
            for values, times in ((blurred.unsqueeze(1), 2), (delta.abs().sum(1, keepdim=True), 1)):
                limit = values.flatten(1).float().quantile(concept["threshold"], dim=1)
                inside = values.float() >= limit[:, None, None, None]
                delta = torch.where(inside.repeat_interleave(times, -1).repeat_interleave(times, -2), delta, 0)
            total = total + concept["scale"] * (-1 if concept["reverse"] else 1) * delta
        return x - (sigma * total).to(x)


def _blurred(maps):
    wide = torch.nn.functional.pad(maps.unsqueeze(1), (1, 1, 1, 1), "reflect").squeeze(1)
    height, width = maps.shape[-2:]
    weights = [[math.exp(-((i - 1) ** 2 + (j - 1) ** 2) / 0.5) for j in range(3)] for i in range(3)]
    summed = sum(weights[i][j] * wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return summed / sum(map(sum, weights))


class TestConcepts(io.ComfyNode):
    """Concepts of two words and the attention to them, written out."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestConcepts", category="tests",
            inputs=[io.Model.Input("model"), io.Conditioning.Input("negative"), io.Custom("HSPACE_CONCEPTS").Input("concepts")], outputs=[io.Guider.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, negative, concepts):
        guider = _Concepts(model)
        guider.prepare(negative, concepts["concepts"], [1, 2])
        return io.NodeOutput(guider)


class TestDifference(io.ComfyNode):
    """How far latents are apart, row by row, over the size of the first; whether they are finite; calls of the network of a MODEL."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestDifference", category="tests", is_output_node=True, inputs=[io.Latent.Input("a"), io.Latent.Input("b")],
            outputs=[io.String.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, a, b):
        a, b = a["samples"].double(), b["samples"].double()
        rows = ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).tolist()
        text = json.dumps({"rows": rows, "same": bool(torch.equal(a, b)), "finite": math.isfinite(sum(rows)), "count": len(b)})
        return io.NodeOutput(text, ui={"text": (text,)})


class TestOutside(io.ComfyNode):
    """Largest difference of every target row to the source row, outside and inside of a mask, and its area."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestOutside", category="tests", is_output_node=True, inputs=[io.Latent.Input("latent"), io.Mask.Input("mask")],
            outputs=[io.String.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, mask):
        rows = latent["samples"]
        unit = mask.shape[-1] // rows.shape[-1]
        inside = mask[:, ::unit, ::unit] > 0.5
        apart = (rows[1:] - rows[:1]).abs().amax(1)
        found = {
            "area": inside.float().mean((1, 2)).tolist(),
            "outside": (apart * ~inside).amax().item(),
            "inside": (apart * inside).amax((1, 2)).tolist(),
        }
        text = json.dumps(found)
        return io.NodeOutput(text, ui={"text": (text,)})


class TestAlone(io.ComfyNode):
    """A MODEL whose calls carry one prompt each, whatever memory there is."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="HSpaceTestAlone", category="tests", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, model):
        def one_by_one(executor, net, conds, x, timestep, options):
            def part(i, cond):
                return executor(net, [cond if i == j else None for j in range(len(conds))], x, timestep, options)[i]

            return [torch.stack([part(i, [one]) for one in c]).mean(0) if c else torch.zeros_like(x) for i, c in enumerate(conds)]

        clone = model.clone()
        clone.add_wrapper_with_key("calc_cond_batch", "tests", one_by_one)
        return io.NodeOutput(clone)


class TestWords(io.ComfyNode):
    """What the pack makes of texts with the stock tokenizers: words, tokens, chunks of each tower."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestWords", category="tests", is_output_node=True,
            inputs=[io.Combo.Input("family", options=["sd1", "sd2", "sdxl"]), io.String.Input("texts", multiline=True)], outputs=[io.String.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, family, texts):
        class Clip:
            tokenizer = {
                "sd1": comfy.sd1_clip.SD1Tokenizer,
                "sd2": comfy.text_encoders.sd2_clip.SD2Tokenizer,
                "sdxl": comfy.sdxl_clip.SDXLTokenizer,
            }[family]()
            tokenize = tokenizer.tokenize_with_weights

        tokens, prompts = _pack("nodes.host.pairs").tokenised(Clip(), texts.splitlines())
        found = {
            "words": [[text for text, _ in p.words] for p in prompts], "tokens": [len(p.ids) for p in prompts], "content": [p.content for p in prompts],
            "ids": [list(p.ids) for p in prompts], "weights": [[w for chunk in t[min(t)] for _, w in chunk] for t in tokens],
            "towers": {name: [[i for chunk in t[name] for i, _ in chunk] for t in tokens] for name in tokens[0]},
        }  # fmt: skip
        text = json.dumps(found)
        return io.NodeOutput(text, ui={"text": (text,)})


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [TestPair, TestDense, TestOwner, TestConcepts, TestDifference, TestOutside, TestAlone, TestWords]


async def comfy_entrypoint():
    return TestExtension()
