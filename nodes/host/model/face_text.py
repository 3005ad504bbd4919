"""The text-conditional face model: the host's own U-Net and CLIP classes in a small configuration, so that whatever
works on SD works on it.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any, cast

import comfy.clip_model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential, UNetModel
from torch import Tensor, nn

from ....core.files.exchange import read
from ....core.files.kinds import FACE_TEXT
from ....core.schedule import Schedule
from .pixel_model import PixelSpace

PATCH = 4
SIZE = 64
# 96 channels: two for each of a patch's 48 values, as a SiLU passes one sign only. With 64, fine noise stays in the
# picture.
UNET = {
    "image_size": 16,
    "in_channels": 3 * PATCH**2,
    "out_channels": 3 * PATCH**2,
    "model_channels": 96,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": (1, 1, 1),
    "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1] * 6,
    "transformer_depth_middle": 1,
    "use_linear_in_transformer": True,
    "context_dim": 96,
    "num_head_channels": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
TEXT = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
SCHEDULE = Schedule("linear")
_TABLE = "text_model.embeddings.token_embedding.weight"


class _Config(comfy.supported_models_base.BASE):
    unet_config = UNET
    unet_extra_config = {}  # noqa: RUF012 (the host's default would set the heads of SD's older families)
    latent_format = PixelSpace
    supported_inference_dtypes = [torch.float32]  # noqa: RUF012 (the host's own form)
    memory_usage_factor = 1.0

    def inpaint_model(self) -> bool:
        return False


class FaceClip(comfy.sd1_clip.SDClipModel):
    """The text tower; its prompts are cut by the host's own tokenizer of SD 1.x."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=TEXT,
            return_projected_pooled=False,
            model_options=model_options or {},
        )


def unet() -> UNetModel:
    """The network without weights: blocks of 4x4 pixels are gathered into channels by its first layer and spread again
    by its last.
    """
    return _patched(UNetModel(**UNET, dtype=torch.float32, device="cpu", operations=comfy.ops.manual_cast))


def _patched(net: Any) -> UNetModel:
    net.input_blocks[0] = TimestepEmbedSequential(nn.PixelUnshuffle(PATCH), *net.input_blocks[0])
    net.out = nn.Sequential(*net.out, nn.PixelShuffle(PATCH))
    net.in_channels = net.out_channels = 3
    # of a picture's sides
    net.multiple = PATCH
    net.trained_at = (UNET["image_size"] * PATCH, True)
    return net


def text_tower() -> comfy.clip_model.CLIPTextModel:
    """The text tower without weights."""
    return comfy.clip_model.CLIPTextModel(TEXT, torch.float32, "cpu", comfy.ops.manual_cast)


def all_words(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole table of the tokenizer from the rows that were trained; words that the face world has not are zero."""
    state = dict(state)
    rows = state.pop("rows").long()
    known = state[_TABLE]
    if known.shape[0] != len(rows) or not bool(((rows >= 0) & (rows < 49408)).all()):
        raise ValueError("its word table is damaged")
    state[_TABLE] = known.new_zeros(49408, known.shape[1]).index_copy(0, rows, known)
    return state


def load_face_text(path: Path):
    """MODEL, CLIP of the shipped file.

    Raises:
        ValueError: it is missing or damaged.
    """
    _, tensors = read(path, FACE_TEXT)
    parts = {
        name: {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        for name in ("unet", "text")
    }
    offload = comfy.model_management.unet_offload_device()
    config = _Config(copy.deepcopy(UNET))
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.V_PREDICTION, device=offload)
    net = _patched(model.diffusion_model)
    net.load_state_dict(parts["unet"])
    net.requires_grad_(False).eval()
    model.model_sampling.set_sigmas(SCHEDULE.sigmas)
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload
    )
    target = comfy.supported_models_base.ClipTarget(
        comfy.sd1_clip.SD1Tokenizer, partial(comfy.sd1_clip.SD1ClipModel, clip_model=cast(Any, FaceClip))
    )
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32}, disable_dynamic=True)
    clip.cond_stage_model.clip_l.transformer.load_state_dict(all_words(parts["text"]))
    return patcher, clip
