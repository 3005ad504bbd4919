"""Nodes for the tests alone: small instances of the host's own networks, and pictures that no loader would give.

The test server finds this folder through an extra search path; it is never part of the pack.
"""

import json
import sys
from functools import partial
from pathlib import Path

import comfy.clip_vision
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.ldm.models.autoencoder
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import torch
from comfy_api.latest import ComfyExtension, io

KINDS = ("sd15", "sd15 inpaint", "sd2 v", "sdxl")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
_CONTEXT = {"sd15": 64, "sd2": 96, "sdxl": 128}


def _fill(module: torch.nn.Module, seed: int) -> None:
    """Weights of a sensible size; the host's own layers leave them as they are in memory."""
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        value = (
            torch.randn(p.shape, generator=g) * p[0].numel() ** -0.5
            if p.ndim > 1
            else torch.full(p.shape, float(name.endswith(("weight", "scale"))))
        )
        p.data.copy_(value.to(p.dtype))


def scaled_fp8(state: dict) -> dict:
    """Weights of linear layers quantised as in the fp8 checkpoints that the host reads."""
    found = dict(state)
    for key, value in state.items():
        if key.endswith(".weight") and value.ndim == 2:
            layer, scale = key.removesuffix("weight"), value.abs().max().float() / 448
            found[key], found[f"{layer}weight_scale"] = (value.float() / scale).to(torch.float8_e4m3fn), scale
            found[f"{layer}comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    return found


def unet(kind: str, dtype: torch.dtype, seed: int = 0, channels: int = 64, quantised: dict | None = None):
    """A U-Net of the host with the layout of ``kind``, as its ModelPatcher."""
    family = kind.split(maxsplit=1)[0]
    config = dict(
        image_size=32, in_channels=9 if "inpaint" in kind else 4, out_channels=4, model_channels=channels, num_res_blocks=[1, 1, 1],
        channel_mult=(1, 2, 2), transformer_depth=[1, 1, 0], transformer_depth_output=[1, 1, 1, 1, 0, 0], transformer_depth_middle=1,
        use_linear_in_transformer=family != "sd15", context_dim=_CONTEXT[family], use_spatial_transformer=True, legacy=False,
        adm_in_channels=2816 if family == "sdxl" else None, num_classes="sequential" if family == "sdxl" else None,
        use_temporal_attention=False, use_temporal_resblock=False,
    )  # fmt: skip
    kinds = {"sd15": comfy.supported_models.SD15, "sd2": comfy.supported_models.SD20, "sdxl": comfy.supported_models.SDXL}
    settings = kinds[family](config)
    cast = dtype if quantised else None if dtype in (torch.float32, torch.bfloat16) else torch.float32
    settings.set_inference_dtype(dtype, cast)
    settings.quant_config = {"mixed_ops": True} if quantised else None
    offload = comfy.model_management.unet_offload_device()
    types = comfy.model_base.ModelType
    make = comfy.model_base.SDXL if family == "sdxl" else comfy.model_base.BaseModel
    model = make(settings, model_type=types.V_PREDICTION if family == "sd2" else types.EPS, device=offload)
    if "inpaint" in kind:
        model.set_inpaint()
    if quantised:
        model.diffusion_model.load_state_dict(quantised)
    else:
        _fill(model.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=comfy.model_management.get_torch_device(), offload_device=offload)


def conditioning(kind: str, seed: int) -> list:
    """A random prompt of the right size."""
    family, g = kind.split(maxsplit=1)[0], torch.Generator().manual_seed(seed)
    pooled = {"pooled_output": torch.randn(1, 1280, generator=g)} if family == "sdxl" else {}
    return [[torch.randn(1, 77, _CONTEXT[family], generator=g), pooled]]


class TestUNet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestUNet", category="tests",
            inputs=[io.Combo.Input("network", options=list(KINDS)), io.Combo.Input("dtype", options=[*DTYPES, "scaled fp8"]), io.Int.Input("seed", default=0)],
            outputs=[io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, network, dtype, seed):
        if dtype == "scaled fp8":
            state = scaled_fp8(unet(network, torch.bfloat16, seed).model.diffusion_model.state_dict())
            return io.NodeOutput(
                unet(network, torch.bfloat16, quantised=state), conditioning(network, seed + 1), conditioning(network, seed + 2)
            )
        return io.NodeOutput(unet(network, DTYPES[dtype], seed), conditioning(network, seed + 1), conditioning(network, seed + 2))


class TestVAE(io.ComfyNode):
    """Autoencoders of the host with random weights: 8 pixels a latent, four channels. ``kl`` is Stable Diffusion's at full size."""

    @classmethod
    def define_schema(cls):
        kinds = ["tiny", "kl", "wide"]
        return io.Schema(
            node_id="HSpaceTestVAE",
            category="tests",
            inputs=[io.Combo.Input("network", options=kinds, optional=True)],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, network="tiny"):
        if network == "kl":
            config = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
                      "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
            network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=config, embed_dim=4)
            _fill(network, 7)
            return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))
        if network == "wide":
            network = comfy.taesd.taesd.TAESD(latent_channels=16)
            _fill(network, 7)
            return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))
        network = comfy.taesd.taesd.TAESD(latent_channels=4)
        _fill(network, 7)
        network.vae_scale.data.fill_(0.05)  # latents of the size that Stable Diffusion's have
        return io.NodeOutput(comfy.sd.VAE(sd=network.state_dict()))


def _tower(width: int, heads: int, **options):
    config = dict(hidden_size=width, intermediate_size=2 * width, num_attention_heads=heads, num_hidden_layers=3, hidden_act="quick_gelu",
                  max_position_embeddings=77, eos_token_id=49407)  # fmt: skip
    return comfy.sd1_clip.SDClipModel(textmodel_json_config=config, dtype=torch.float32, **options)


class _SmallXL(comfy.sdxl_clip.SDXLClipModel):
    """Both towers of SDXL, narrow; the pooled vector as long as the network takes it."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        torch.nn.Module.__init__(self)
        self.clip_l = _tower(32, 2, layer="hidden", layer_idx=-2, layer_norm_hidden_state=False)
        special = {"start": 49406, "end": 49407, "pad": 0}
        self.clip_g = _tower(96, 4, layer="hidden", layer_idx=-2, layer_norm_hidden_state=False, special_tokens=special)
        self.dtypes = {dtype}

    def encode_token_weights(self, token_weight_pairs):
        rows, pooled = super().encode_token_weights(token_weight_pairs)
        return rows, torch.nn.functional.pad(pooled, (0, 1280 - pooled.shape[-1]))


class TestCheckpoint(io.ComfyNode):
    """What Load Checkpoint gives for Stable Diffusion 1.5 or SDXL, small and random, with the host's own tokenizers."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestCheckpoint", category="tests", inputs=[io.Combo.Input("family", options=["sd15", "sdxl"])],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, family):
        if family == "sd15":
            parts = comfy.sd1_clip.SD1Tokenizer, partial(comfy.sd1_clip.SD1ClipModel, clip_model=lambda **_: _tower(64, 4))
        else:
            parts = comfy.sdxl_clip.SDXLTokenizer, _SmallXL
        target = comfy.supported_models_base.ClipTarget(*parts)
        clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32}, disable_dynamic=True)
        _fill(clip.cond_stage_model, 1)
        return io.NodeOutput(unet(family, torch.float32), clip, TestVAE.execute().args[0])


class TestDiT(io.ComfyNode):
    """A tiny Flux."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="HSpaceTestDiT", category="tests", inputs=[], outputs=[io.Model.Output(), io.Conditioning.Output()])

    @classmethod
    def execute(cls):
        config = comfy.supported_models.Flux(
            dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=32, context_in_dim=48, hidden_size=64, mlp_ratio=4.0, num_heads=2,
                 depth=1, depth_single_blocks=1, axes_dim=[8, 12, 12], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=False, txt_ids_dims=[])
        )  # fmt: skip
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device="cpu")
        _fill(model.diffusion_model, 0)
        cpu = torch.device("cpu")
        return io.NodeOutput(
            comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu),
            [[torch.zeros(1, 7, 48), {"pooled_output": torch.zeros(1, 32)}]],
        )


class TestPicture(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestPicture", category="tests",
            inputs=[io.Combo.Input("case", options=["nan", "bright", "noise"]), io.Int.Input("width", default=64), io.Int.Input("height", default=64)],
            outputs=[io.Image.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, case, width, height):
        g = torch.Generator().manual_seed(0)
        picture = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 7, generator=g), (height, width), mode="bilinear").movedim(1, -1)
        if case == "nan":
            picture[0, 3, 4] = float("nan")
        return io.NodeOutput(picture * 255 if case == "bright" else picture)


_COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class TestClip(io.ComfyNode):
    """Both towers of CLIP ViT-L/14 at their size with random weights; the text projection is fitted so that three colours agree."""

    @classmethod
    def define_schema(cls):
        cases = ["joint", "apart", "no projection", "other text tower", "other picture tower"]
        return io.Schema(
            node_id="HSpaceTestClip", category="tests", inputs=[io.Combo.Input("case", options=cases)],
            outputs=[io.Clip.Output(), io.ClipVision.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, case):
        if case == "other text tower":
            return io.NodeOutput(cls.text(22, 4096, 1024), cls.vision())
        clip = cls.text()
        vision = cls.vision("clip_vision_config_h.json" if case == "other picture tower" else "clip_vision_config_vitl.json")
        projection = clip.cond_stage_model.clip_l.transformer.text_projection
        if case == "no projection":
            projection.weight.data.copy_(torch.eye(768))
        elif case == "joint":
            embedder = _pack("nodes.host.clip").HostEmbedder
            pictures = torch.tensor(list(_COLOURS.values()))[:, :, None, None].expand(-1, -1, 224, 224) * 2 - 1
            seen = embedder.embed_image(_Towers(vision), pictures).cpu()
            clip.cond_stage_model.clip_l.set_clip_options({"projected_pooled": False})
            said = [clip.cond_stage_model.clip_l.encode_token_weights(clip.tokenize(f"a plain {c} picture")["l"])[1] for c in _COLOURS]
            clip.cond_stage_model.clip_l.reset_clip_options()
            said = torch.cat(said).float().cpu()
            projection.weight.data.copy_((torch.linalg.pinv(said - said.mean(0)) @ (seen - seen.mean(0))).T)
        return io.NodeOutput(clip, vision)

    @classmethod
    def text(cls, layer=1, wide=3072, narrow=768):
        one = {f"text_model.encoder.layers.{layer}.mlp.fc1.weight": torch.zeros(wide, narrow)}  # the host knows the tower by it
        clip = comfy.sd.load_text_encoder_state_dicts([one])
        _fill(clip.cond_stage_model, 1)
        return clip

    @classmethod
    def vision(cls, config="clip_vision_config_vitl.json"):
        tower = comfy.clip_vision.ClipVisionModel(str(Path(comfy.clip_vision.__file__).with_name(config)))
        _fill(tower.model, 2)
        return tower


class _Towers:  # what embed_image asks of an embedder
    def __init__(self, vision):
        self.vision, self.network = vision, vision.model


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
            node_id="HSpaceTestControl", category="tests",
            inputs=[io.Conditioning.Input("conditioning"), io.Float.Input("strength", default=0.3)], outputs=[io.Conditioning.Output()],
        )  # fmt: skip

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
        return io.NodeOutput([[c, {**extra, "control": control, "control_apply_to_uncond": False}] for c, extra in conditioning])


class TestSplit(io.ComfyNode):
    """Figures of the pack's own adapter on the MODEL connected, as JSON."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestSplit", category="tests", is_output_node=True,
            inputs=[
                io.Model.Input("model"), io.Conditioning.Input("positive"), io.Conditioning.Input("negative", optional=True),
                io.Float.Input("cfg", default=1.0), io.String.Input("layer", default="middle"), io.Int.Input("batch", default=1),
                io.Int.Input("height", default=16), io.Int.Input("width", default=16), io.Boolean.Input("jacobian", default=True),
                io.Vae.Input("vae", optional=True), io.Float.Input("step", default=0.5, optional=True),
            ],
            outputs=[io.String.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, positive, cfg, layer, batch, height, width, jacobian, negative=None, vae=None, step=0.5):
        host, engine = _pack("nodes.host.denoiser"), _pack("core.discover.jacobian")
        g = torch.Generator().manual_seed(5)
        x = 3 * torch.randn(batch, 4, height, width, generator=g)
        sigma = torch.full((batch,), 2.0)
        calls = model.model_options.get("transformer_options", {}).get("patches", {})
        before = {name: len(those) for name, those in calls.items()}

        def work(denoiser):
            whole, again = denoiser(x, sigma), denoiser(x, sigma)
            part = denoiser.split(x, sigma, layer)
            scale = float(whole.abs().max())
            found = {
                "layers": list(denoiser.layers), "fingerprint": denoiser.fingerprint, "h": list(part.h.shape), "out": list(whole.shape),
                "repeats": bool(torch.equal(whole, again)),
                "split": float((part.decode(part.h) - whole).abs().max()) / scale,
                "smooth": float(((part.smooth or part.decode)(part.h) - whole).abs().max()) / scale,
            }  # fmt: skip
            if jacobian:
                one = denoiser.split(x[:1], sigma[:1], layer)
                J = engine.DecoderJacobian(one, chunk=2)
                v = torch.randn(2, J.shape[1], generator=g)
                v /= v.norm(dim=1, keepdim=True)
                shifted = [J.decode(J.h0 + s * step * v[1].view_as(J.h0)) for s in (1, -1)]
                by_difference = (shifted[0] - shifted[1]).reshape(-1) / (2 * step)
                push = J.jvp(v)[1]
                found |= {"adjoint": J.check(), "difference": float((push - by_difference).norm() / push.norm()), "products": J.products}
            return found

        found = host.with_denoiser(model, x.shape, host.Prompts(positive, negative or [], cfg), work, vae=vae)
        if vae is not None:
            blocks = [m for m in vae.first_stage_model.modules() if hasattr(m, "optimized_attention")]
            found["attention left"] = sum("hspace" in getattr(m.optimized_attention, "__module__", "").lower() for m in blocks)
        after = model.model_options.get("transformer_options", {}).get("patches", {})
        found["left behind"] = {name: len(those) for name, those in after.items()} != before or "hspace" in str(
            model.model_options.get("transformer_options", {}).get("wrappers", {})
        )
        text = json.dumps(found)
        return io.NodeOutput(text, ui={"text": (text,)})


def _pack(name: str):
    return next(module for key, module in sys.modules.items() if "HSpace" in key and key.endswith(f".{name}"))


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [TestUNet, TestVAE, TestCheckpoint, TestDiT, TestPicture, TestClip, TestFreeMemory, TestControl, TestSplit]


async def comfy_entrypoint():
    return TestExtension()
