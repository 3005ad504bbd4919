"""Concept edits written out with maps."""

import math

import comfy.samplers
import torch
from comfy_api.latest import io

from .maps import apply_maps, attention_maps


class _Concepts(comfy.samplers.CFGGuider):
    """LEDITS++'s loop over concepts in eps, with maps of half the state's size and both masks, each prompt in a call of
    its own."""

    def prepare(self, negative, concepts, tokens):
        self.concepts, self.tokens = concepts, tokens
        self.inner_set_conds({"negative": negative, **{f"c{k}": c["conditioning"] for k, c in enumerate(concepts)}})

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006 (the host's own form)
        height, width, sigma, maps = *x.shape[-2:], timestep[0], []

        def look(q, k, v, extra):
            scores = attention_maps(q, k, extra["n_heads"])
            if 4 * q.shape[1] == height * width:
                maps.append(scores[..., self.tokens].sum(-1).mean(1))
            return apply_maps(scores, v, extra["n_heads"])

        keys = {(name, i, 0): look for name in ("input", "middle", "output") for i in range(12)}
        options = model_options.get("transformer_options", {})
        watched = {**model_options, "transformer_options": {**options, "patches_replace": {"attn2": keys}}}

        def eps(name):
            (denoised,) = comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, watched)
            return ((x - denoised) / sigma).double()

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
    # GaussianSmoothing of the released code: exp(-((x - mean) / (2 sigma))^2) in each direction, sigma 0.5, mean 1.
    weights = [
        [math.exp(-(((i - 1) / (2 * 0.5)) ** 2) - ((j - 1) / (2 * 0.5)) ** 2) for j in range(3)] for i in range(3)
    ]
    summed = sum(weights[i][j] * wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return summed / sum(map(sum, weights))


class TestConcepts(io.ComfyNode):
    """Concepts of two words and the attention to them, written out."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestConcepts",
            category="tests",
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("negative"),
                io.Custom("HSPACE_CONCEPTS").Input("concepts"),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(cls, model, negative, concepts):
        guider = _Concepts(model)
        guider.prepare(negative, concepts["concepts"], [1, 2])
        return io.NodeOutput(guider)
