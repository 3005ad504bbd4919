"""Small checkpoints: a network, both text towers with the host's own tokenizers, and a VAE."""

from functools import partial

import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import torch
from comfy_api.latest import io

from .networks import TestVAE, fill, unet


def _tower(width: int, heads: int, **options):
    config = dict(
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=heads,
        num_hidden_layers=3,
        hidden_act="quick_gelu",
        max_position_embeddings=77,
        eos_token_id=49407,
    )
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
            node_id="HSpaceTestCheckpoint",
            category="tests",
            inputs=[
                io.Combo.Input("family", options=["sd15", "sdxl"]),
                io.Int.Input("size", default=0, optional=True, tooltip="What it says that it works at; 0: nothing."),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, family, size=0):
        if family == "sd15":
            parts = (
                comfy.sd1_clip.SD1Tokenizer,
                partial(comfy.sd1_clip.SD1ClipModel, clip_model=lambda **_: _tower(64, 4)),
            )
        else:
            parts = comfy.sdxl_clip.SDXLTokenizer, _SmallXL
        target = comfy.supported_models_base.ClipTarget(*parts)
        clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32}, disable_dynamic=True)
        fill(clip.cond_stage_model, 1)
        model = unet(family, torch.float32)
        if size:
            model.model.diffusion_model.trained_at = (size, True)
        return io.NodeOutput(model, clip, TestVAE.execute().args[0])
