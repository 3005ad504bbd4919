"""Nodes for the tests alone: small instances of the host's own networks, and pictures that no loader would give.

The test server finds this folder through an extra search path; it is never part of the pack.
"""

import comfy.controlnet
import comfy.model_management
import torch
from comfy_api.latest import ComfyExtension, io

from .checkpoints import TestCheckpoint
from .clips import TestClip
from .copies import TestCopies
from .networks import TestDiT, TestUNet, TestVAE
from .splits import TestSplit
from .transformers import TestTransformer


class TestPicture(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestPicture",
            category="tests",
            inputs=[
                io.Combo.Input("case", options=["nan", "bright", "noise"]),
                io.Int.Input("width", default=64),
                io.Int.Input("height", default=64),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, case, width, height):
        g = torch.Generator().manual_seed(0)
        picture = torch.nn.functional.interpolate(
            torch.rand(1, 3, 5, 7, generator=g), (height, width), mode="bilinear"
        ).movedim(1, -1)
        if case == "nan":
            picture[0, 3, 4] = float("nan")
        return io.NodeOutput(picture * 255 if case == "bright" else picture)


class TestFreeMemory(io.ComfyNode):
    """Lets the host think that so many MB are free; negative: as they are."""

    free = comfy.model_management.get_free_memory

    @classmethod
    def define_schema(cls):
        inputs = [io.Image.Input("image"), io.Int.Input("megabytes", min=-1)]
        return io.Schema(node_id="HSpaceTestFreeMemory", category="tests", inputs=inputs, outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, image, megabytes):
        def known(dev=None, torch_free_too=False):
            return (megabytes * 2**20,) * 2 if torch_free_too else megabytes * 2**20

        comfy.model_management.get_free_memory = cls.free if megabytes < 0 else known
        return io.NodeOutput(image)


class TestControl(io.ComfyNode):
    """A ControlNet whose answer is known: something on the middle and on every skip."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestControl",
            category="tests",
            inputs=[io.Conditioning.Input("conditioning"), io.Float.Input("strength", default=0.3)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning, strength):
        class Control(comfy.controlnet.ControlBase):
            def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
                g = torch.Generator().manual_seed(3)
                one = strength * torch.randn(1, 1, 1, 1, generator=g).to(x_noisy)
                return {"input": [], "middle": [one], "output": [one * (1 + i) for i in range(6)]}

            def copy(self):
                return self

            def get_models(self):
                return []

            def inference_memory_requirements(self, dtype):
                return 0

        control = Control()
        return io.NodeOutput(
            [[c, {**extra, "control": control, "control_apply_to_uncond": False}] for c, extra in conditioning]
        )


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            TestUNet,
            TestVAE,
            TestCheckpoint,
            TestDiT,
            TestTransformer,
            TestPicture,
            TestClip,
            TestFreeMemory,
            TestControl,
            TestSplit,
            TestCopies,
        ]


async def comfy_entrypoint():
    return TestExtension()
