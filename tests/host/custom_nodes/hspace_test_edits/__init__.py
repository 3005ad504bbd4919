"""Nodes for the tests of attention edits: the edits written out with maps, an owner of attn2, figures."""

import json
import math

import torch
from comfy_api.latest import ComfyExtension, io

from .concepts import TestConcepts
from .maps import TestDense, TestOwner
from .words import TestPair, TestWords


class TestDifference(io.ComfyNode):
    """How far latents are apart, row by row, over the size of the first; whether they are finite; calls of the network
    of a MODEL."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestDifference",
            category="tests",
            is_output_node=True,
            inputs=[io.Latent.Input("a"), io.Latent.Input("b")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, a, b):
        a, b = a["samples"].double(), b["samples"].double()
        rows = ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).tolist()
        text = json.dumps(
            {"rows": rows, "same": bool(torch.equal(a, b)), "finite": math.isfinite(sum(rows)), "count": len(b)}
        )
        return io.NodeOutput(text, ui={"text": (text,)})


class TestOutside(io.ComfyNode):
    """Largest difference of every target row to the source row, outside and inside of a mask, and its area."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestOutside",
            category="tests",
            is_output_node=True,
            inputs=[io.Latent.Input("latent"), io.Mask.Input("mask")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, latent, mask):
        rows = latent["samples"]
        unit = mask.shape[-1] // rows.shape[-1]
        inside = mask[:, ::unit, ::unit] > 0.5
        apart = (rows[1:] - rows[:1]).abs().amax(1)
        figures = {
            "area": inside.float().mean((1, 2)).tolist(),
            "outside": (apart * ~inside).amax().item(),
            "inside": (apart * inside).amax((1, 2)).tolist(),
        }
        text = json.dumps(figures)
        return io.NodeOutput(text, ui={"text": (text,)})


class TestAlone(io.ComfyNode):
    """A MODEL whose calls carry one prompt each, whatever memory there is."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestAlone", category="tests", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model):
        def one_by_one(executor, net, conds, x, timestep, options):
            def part(i, cond):
                return executor(net, [cond if i == j else None for j in range(len(conds))], x, timestep, options)[i]

            return [
                torch.stack([part(i, [one]) for one in c]).mean(0) if c else torch.zeros_like(x)
                for i, c in enumerate(conds)
            ]

        clone = model.clone()
        clone.add_wrapper_with_key("calc_cond_batch", "tests", one_by_one)
        return io.NodeOutput(clone)


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [TestPair, TestDense, TestOwner, TestConcepts, TestDifference, TestOutside, TestAlone, TestWords]


async def comfy_entrypoint():
    return TestExtension()
