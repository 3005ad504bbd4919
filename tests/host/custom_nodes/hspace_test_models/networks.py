"""Small instances of the host's own networks with random weights."""

import json

import comfy.ldm.models.autoencoder
import comfy.ldm.wan.vae
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import torch
from comfy.quant_ops import QuantizedTensor
from comfy_api.latest import io

from .packed import OpaqueOps, PackedOps, opaque_state, packed_state, unpacked

KINDS = ("sd15", "sd15 inpaint", "sd2 v", "sdxl", "sdxl deep")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
QUANTISED = {
    "scaled fp8": ("float8_e4m3fn", "TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, {}),
    "scaled fp8 e5m2": ("float8_e5m2", "TensorCoreFP8E5M2Layout", {"scale": "recalculate"}, {}),
    "int8": ("int8_tensorwise", "TensorWiseINT8Layout", {}, {}),
    "int8 rotated": (
        "int8_tensorwise",
        "TensorWiseINT8Layout",
        {"per_channel": True, "convrot": True, "convrot_groupsize": 64},
        {"convrot": True, "convrot_groupsize": 64},
    ),
    "int4": ("convrot_w4a4", "TensorCoreConvRotW4A4Layout", {"convrot_groupsize": 64}, {"convrot_groupsize": 64}),
    "nvfp4": ("nvfp4", "TensorCoreNVFP4Layout", {}, {}),
    "mxfp8": ("mxfp8", "TensorCoreMXFP8Layout", {}, {}),
}
"""The host's own: name in a checkpoint, layout, what it is quantised with, and what the checkpoint says of that."""
PACKED = {"gguf Q8_0": "Q8_0", "gguf Q4_0": "Q4_0"}
UNTOLD = (64, False)
"""The side that these networks work at, guessed: without it they would take pictures of their families' full size."""
_CONTEXT = {"sd15": 64, "sd2": 96, "sdxl": 128}


def fill(module: torch.nn.Module, seed: int) -> None:
    """Weights of a sensible size; the host's own layers leave them as they are in memory."""
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        value = (
            torch.randn(p.shape, generator=g) * p[0].numel() ** -0.5
            if p.ndim > 1
            else torch.full(p.shape, float(name.endswith(("weight", "scale"))))
        )
        p.data.copy_(value.to(p.dtype))


def quantised_state(state: dict, kind: str) -> dict:
    """Weights of linear layers quantised as in the checkpoints that the host reads."""
    name, layout, options, said = QUANTISED[kind]
    weights = {}
    for key, value in state.items():
        if not key.endswith(".weight") or value.ndim != 2 or value.shape[1] % 64:
            weights[key] = value
            continue
        layer = key.removesuffix(".weight")
        parts = QuantizedTensor.from_float(value, layout, **options).state_dict(key)
        weights |= parts
        note = json.dumps({"format": name, **said}).encode()
        weights[f"{layer}.comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
    return weights


def unet(
    kind: str, dtype: torch.dtype, seed: int = 0, channels: int = 64, quantised: dict | None = None, operations=None
):
    """A U-Net of the host with the layout of ``kind``, as its ModelPatcher.

    ``quantised`` are the weights of one, for the host's own layers or ``operations``.
    """
    family = kind.split(maxsplit=1)[0]
    config = dict(
        image_size=32,
        in_channels=9 if "inpaint" in kind else 4,
        out_channels=4,
        model_channels=channels,
        num_res_blocks=[1, 1, 1],
        channel_mult=(1, 2, 2),
        transformer_depth=[1, 1, 0],
        transformer_depth_output=[3, 2, 1, 1, 0, 0] if "deep" in kind else [1, 1, 1, 1, 0, 0],
        transformer_depth_middle=1,
        use_linear_in_transformer=family != "sd15",
        context_dim=_CONTEXT[family],
        use_spatial_transformer=True,
        legacy=False,
        adm_in_channels=2816 if family == "sdxl" else None,
        num_classes="sequential" if family == "sdxl" else None,
        use_temporal_attention=False,
        use_temporal_resblock=False,
    )
    kinds = {
        "sd15": comfy.supported_models.SD15,
        "sd2": comfy.supported_models.SD20,
        "sdxl": comfy.supported_models.SDXL,
    }
    settings = kinds[family](config)
    cast = dtype if quantised else None if dtype in (torch.float32, torch.bfloat16) else torch.float32
    settings.set_inference_dtype(dtype, cast)
    settings.quant_config = {"mixed_ops": True} if quantised and not operations else None
    settings.custom_operations = operations
    offload = comfy.model_management.unet_offload_device()
    types = comfy.model_base.ModelType
    make = comfy.model_base.SDXL if family == "sdxl" else comfy.model_base.BaseModel
    model = make(settings, model_type=types.V_PREDICTION if family == "sd2" else types.EPS, device=offload)
    if "inpaint" in kind:
        model.set_inpaint()
    model.diffusion_model.trained_at = UNTOLD
    if quantised:
        model.diffusion_model.load_state_dict(quantised)
    else:
        fill(model.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload
    )


def quantised_unet(network: str, kind: str, seed: int, compute: torch.dtype = torch.bfloat16):
    """The U-Net of a seed with its linear layers quantised."""
    state = unet(network, compute, seed).model.diffusion_model.state_dict()
    if kind in PACKED:
        return unet(network, compute, quantised=packed_state(state, PACKED[kind]), operations=PackedOps)
    if kind == "opaque":
        return unet(network, compute, quantised=opaque_state(state), operations=OpaqueOps)
    return unet(network, compute, quantised=quantised_state(state, kind))


def float32_copy(network: str, kind: str, seed: int):
    """The same network with the numbers that the quantised weights stand for."""
    net = quantised_unet(network, kind, seed, torch.float32).model.diffusion_model
    values = {
        name: unpacked(p, torch.float32) if kind in PACKED else getattr(p, "dequantize", p.detach)()
        for name, p in net.named_parameters()
    }
    copy = unet(network, torch.float32)
    copy.model.diffusion_model.load_state_dict({name: v.as_subclass(torch.Tensor) for name, v in values.items()})
    return copy


def conditioning(kind: str, seed: int) -> list:
    """A random prompt of the right size."""
    family, g = kind.split(maxsplit=1)[0], torch.Generator().manual_seed(seed)
    pooled = {"pooled_output": torch.randn(1, 1280, generator=g)} if family == "sdxl" else {}
    return [[torch.randn(1, 77, _CONTEXT[family], generator=g), pooled]]


class TestUNet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestUNet",
            category="tests",
            inputs=[
                io.Combo.Input("network", options=list(KINDS)),
                io.Combo.Input("dtype", options=[*DTYPES, *QUANTISED, *PACKED, "opaque"]),
                io.Int.Input("seed", default=0),
            ],
            outputs=[io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, network, dtype, seed):
        if dtype not in DTYPES:
            prompts = conditioning(network, seed + 1), conditioning(network, seed + 2)
            return io.NodeOutput(quantised_unet(network, dtype, seed), *prompts)
        return io.NodeOutput(
            unet(network, DTYPES[dtype], seed), conditioning(network, seed + 1), conditioning(network, seed + 2)
        )


class TestVAE(io.ComfyNode):
    """Autoencoders of the host with random weights: 8 pixels a latent, four channels. ``kl`` is Stable Diffusion's at
    full size, ``frames`` a narrow one of Wan, which counts frames and has 16 channels."""

    @classmethod
    def define_schema(cls):
        kinds = ["tiny", "kl", "wide", "frames"]
        return io.Schema(
            node_id="HSpaceTestVAE",
            category="tests",
            inputs=[io.Combo.Input("network", options=kinds, optional=True)],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, network="tiny"):
        if network == "kl":
            config = {
                "double_z": True,
                "z_channels": 4,
                "resolution": 256,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "dropout": 0.0,
            }
            network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=config, embed_dim=4)
            fill(network, 7)
            return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))
        if network == "frames":
            network = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])
            fill(network, 7)
            return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict(), dtype=torch.float32))
        if network == "wide":
            network = comfy.taesd.taesd.TAESD(latent_channels=16)
            fill(network, 7)
            return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))
        network = comfy.taesd.taesd.TAESD(latent_channels=4)
        fill(network, 7)
        network.vae_scale.data.fill_(0.05)  # latents of the size that Stable Diffusion's have
        return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))


class TestDiT(io.ComfyNode):
    """A tiny Flux."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestDiT",
            category="tests",
            inputs=[io.Boolean.Input("guided", default=False, optional=True)],
            outputs=[io.Model.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, guided=False):
        config = comfy.supported_models.Flux(
            dict(
                image_model="flux",
                in_channels=16,
                out_channels=16,
                vec_in_dim=32,
                context_in_dim=48,
                hidden_size=64,
                mlp_ratio=4.0,
                num_heads=2,
                depth=1,
                depth_single_blocks=1,
                axes_dim=[8, 12, 12],
                theta=10000,
                patch_size=2,
                qkv_bias=True,
                guidance_embed=guided,
                txt_ids_dims=[],
            )
        )
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device="cpu")
        fill(model.diffusion_model, 0)
        model.diffusion_model.trained_at = UNTOLD
        cpu = torch.device("cpu")
        return io.NodeOutput(
            comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu),
            [[torch.zeros(1, 7, 48), {"pooled_output": torch.zeros(1, 32)}]],
        )
