"""Nodes for the tests alone: mechanisms of the host in the form in which a test can run them."""

import sys

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from comfy_api.latest import ComfyExtension, io
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict


class TestSmallUNet(io.ComfyNode):
    """As small as a U-Net of Stable Diffusion's kind gets with every kind of block in it, random weights: MODEL and two
    prompts."""

    @classmethod
    def define_schema(cls):
        outputs = [io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()]
        return io.Schema(
            node_id="HSpaceTestSmallUNet", category="tests", inputs=[io.Int.Input("seed", default=0)], outputs=outputs
        )

    @classmethod
    def execute(cls, seed):
        config = dict(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=32,
            num_res_blocks=[1, 1],
            channel_mult=(1, 2),
            transformer_depth=[1, 1],
            transformer_depth_output=[1, 1, 1, 1],
            transformer_depth_middle=1,
            use_linear_in_transformer=False,
            context_dim=64,
            num_classes=None,
            use_spatial_transformer=True,
            legacy=False,
            adm_in_channels=None,
            use_temporal_attention=False,
            use_temporal_resblock=False,
        )
        settings = comfy.supported_models.SD15(config)
        settings.set_inference_dtype(torch.float32, None)
        offload = comfy.model_management.unet_offload_device()
        model = comfy.model_base.BaseModel(settings, model_type=comfy.model_base.ModelType.EPS, device=offload)
        shared = next(module for name, module in sys.modules.items() if name.endswith("hspace_test_models.networks"))
        shared.fill(model.diffusion_model, seed)
        patcher = comfy.model_patcher.CoreModelPatcher(
            model, load_device=comfy.model_management.get_torch_device(), offload_device=offload
        )
        return io.NodeOutput(patcher, shared.conditioning("sd15", seed + 1), shared.conditioning("sd15", seed + 2))


class TestCompile(io.ComfyNode):
    """Stock TorchCompileModel with the back end that needs no compiler."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestCompile", category="tests", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model):
        from torch._dynamo import config

        config.recompile_limit = 2  # further shapes run as they are: compiling is slow
        clone = model.clone(disable_dynamic=True)
        set_torch_compile_wrapper(model=clone, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})
        return io.NodeOutput(clone)


class TestLora(io.ComfyNode):
    """A LORA_MODEL as a training node gives it, for the small U-Nets' middle block."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestLora",
            category="tests",
            inputs=[io.Float.Input("size", default=0.3)],
            outputs=[io.Custom("LORA_MODEL").Output()],
        )

    @classmethod
    def execute(cls, size):
        g = torch.Generator().manual_seed(9)
        name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
        up, down = torch.randn(64, 4, generator=g), torch.randn(4, 64, generator=g)
        return io.NodeOutput(
            {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": size * down, f"{name}.alpha": torch.tensor(4.0)}
        )


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [TestSmallUNet, TestCompile, TestLora]


async def comfy_entrypoint():
    return TestExtension()
