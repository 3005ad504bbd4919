"""Attention written out with maps, and owners of attn2."""

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_api.latest import io

from .pack import TOKENS, pack_module


def attention_maps(q, k, heads):
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2).double() for t in (q, k))
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


def apply_maps(maps, v, heads):
    return (maps @ v.unflatten(-1, (heads, -1)).transpose(1, 2).double()).transpose(1, 2).flatten(2).to(v.dtype)


class TestDense(io.ComfyNode):
    """Prompt-to-Prompt with probability maps, column by column, as owners of both attentions."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestDense",
            category="tests",
            inputs=[
                io.Model.Input("model"),
                TOKENS.Input("tokens"),
                io.String.Input("mode"),
                io.Float.Input("cross_end"),
                io.Float.Input("self_end"),
                io.String.Input("word", default=""),
                io.Float.Input("weight", default=1.0),
                io.Int.Input("largest", default=10**6),
                io.Float.Input("word_end", default=1.0, optional=True),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, tokens, mode, cross_end, self_end, word, weight, largest, word_end=1.0):
        core = pack_module("core.edit.attention.tokens")
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
            maps, (at, n), heads = attention_maps(q, k, extra["n_heads"]), step(extra), extra["n_heads"]
            if at < int(cross_end * (n + 1)):
                for source, target in rows(q, extra):
                    shares, alpha = core.token_map(prompts[0], prompts[(target - source) % size], mode)
                    edited = maps[source] @ shares.to(maps) * alpha.to(maps) + maps[target] * (1 - alpha.to(maps))
                    columns = prompts[(target - source) % size].find(word) if word else []
                    edited[..., columns] *= weight
                    if at >= int(word_end * (n + 1)):
                        edited[..., columns] = maps[target][..., columns]
                    maps[target] = edited
            return apply_maps(maps, v, heads)

        def owner(q, k, v, extra):
            maps, (at, n) = attention_maps(q, k, extra["n_heads"]), step(extra)
            if at < int(self_end * n) and q.shape[1] <= largest:
                for source, target in rows(q, extra):
                    maps[target] = maps[source]
            return apply_maps(maps, v, extra["n_heads"])

        clone = model.clone()
        for name, count in (("input", 12), ("middle", 1), ("output", 12)):
            for i in range(count):
                clone.set_model_attn2_replace(_Owner(cross), name, i, 0)
                clone.set_model_attn1_replace(owner, name, i)
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
    """A picture prompt as IP-Adapter gives it: further keys and values whose attention is added. Joins an owner that it
    finds."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestOwner",
            category="tests",
            inputs=[
                io.Model.Input("model"),
                io.Float.Input("scale", default=0.5),
                io.Boolean.Input("late", default=False, optional=True),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, scale, late=False):
        def more(out, q, k, v, extra, scale):
            g = torch.Generator().manual_seed(q.shape[-1])
            keys, values = torch.randn(2, 1, 4, q.shape[-1], generator=g).to(q)
            return scale * optimized_attention(
                q, keys.expand(len(q), -1, -1), values.expand(len(q), -1, -1), extra["n_heads"]
            )

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
