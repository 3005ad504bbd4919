"""Nodes for the tests alone: prompts stacked into the rows of one batch, and prompts that the host runs one by one."""

import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import ComfyExtension, io


class TestRows(io.ComfyNode):
    """One CONDITIONING whose rows are the prompts of two."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestRows",
            category="tests",
            inputs=[io.Conditioning.Input("a"), io.Conditioning.Input("b")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, a, b):
        return io.NodeOutput(
            [[torch.cat([a[0][0], b[0][0]]), {k: v for k, v in a[0][1].items() if k != "pooled_output"}]]
        )


class TestOneByOne(io.ComfyNode):
    """A MODEL whose prompts go through the network in calls of their own, as with little memory."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestOneByOne",
            category="tests",
            inputs=[io.Model.Input("model")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model):
        def wrapper(executor, network, conds, *args, **kwargs):
            one = [
                executor(network, [c if i == k else None for i, c in enumerate(conds)], *args, **kwargs)[k]
                for k in range(len(conds))
            ]
            return one

        clone = model.clone()
        clone.add_wrapper(WrappersMP.CALC_COND_BATCH, wrapper)
        return io.NodeOutput(clone)


class TestWeightPatch(io.ComfyNode):
    """A MODEL with a patch on its first weight, as a LoRA puts it there."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestWeightPatch",
            category="tests",
            inputs=[io.Model.Input("model"), io.Float.Input("amount")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, amount):
        clone = model.clone()
        key, weight = next(
            (k, v) for k, v in model.model.state_dict().items() if k.startswith("diffusion_model.") and v.dim() > 1
        )
        clone.add_patches({key: ("diff", (amount * weight.abs().mean() * torch.ones_like(weight, device="cpu"),))})
        return io.NodeOutput(clone)


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [TestRows, TestOneByOne, TestWeightPatch]


async def comfy_entrypoint():
    return TestExtension()
