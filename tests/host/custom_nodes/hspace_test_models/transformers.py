"""Small instances of the host's own diffusion transformers with random weights, each with a prompt of the right size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch
from comfy_api.latest import io

from .networks import UNTOLD, fill

_FLUX = dict(
    vec_in_dim=32,
    context_in_dim=48,
    hidden_size=64,
    mlp_ratio=4.0,
    num_heads=2,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[8, 12, 12],
    theta=10000,
    patch_size=2,
    qkv_bias=True,
    guidance_embed=True,
    txt_ids_dims=[],
    in_channels=16,
    out_channels=16,
)
_COSMOS = dict(
    max_img_h=64,
    max_img_w=64,
    max_frames=8,
    in_channels=16,
    out_channels=16,
    patch_spatial=2,
    patch_temporal=1,
    concat_padding_mask=True,
    model_channels=64,
    num_blocks=4,
    num_heads=2,
    pos_emb_cls="rope3d",
    use_adaln_lora=True,
    adaln_lora_dim=32,
)
_LUMINA = dict(
    image_model="lumina2",
    patch_size=2,
    in_channels=16,
    n_layers=4,
    n_refiner_layers=1,
    n_heads=2,
    n_kv_heads=2,
    multiple_of=32,
    norm_eps=1e-5,
    qk_norm=True,
    cap_feat_dim=48,
    axes_dims=[32, 48, 48],
    axes_lens=[64, 64, 64],
    rope_theta=256.0,
    dim=256,
)


@dataclass(frozen=True)
class Family:
    """How the host builds a network of a family, and what its prompts are.

    Attributes:
        kind: class of ``comfy.supported_models``.
        config: of the network.
        width: of a prompt's embeddings.
        pooled: width of its pooled vector; 0 for none.
        tokens: of a prompt.
        beside: what else stands in a prompt: name, and shape of a random tensor.
    """

    kind: str
    config: dict[str, Any]
    width: int = 48
    pooled: int = 0
    tokens: int = 7
    beside: dict[str, tuple[int, ...]] = field(default_factory=dict)


FAMILIES = {
    "Flux.1": Family("Flux", {"image_model": "flux", **_FLUX}, pooled=32),
    "Flux.2": Family(
        "Flux2",
        {
            **_FLUX,
            "image_model": "flux2",
            "vec_in_dim": None,
            "mlp_ratio": 3.0,
            "axes_dim": [8, 8, 8, 8],
            "theta": 2000,
            "patch_size": 1,
            "qkv_bias": False,
            "guidance_embed": False,
            "txt_ids_dims": [3],
            "global_modulation": True,
            "mlp_silu_act": True,
            "ops_bias": False,
            "ref_index_scale": 10.0,
            "in_channels": 128,
            "out_channels": 128,
        },
    ),
    "Chroma": Family(
        "Chroma",
        {
            **{name: value for name, value in _FLUX.items() if name != "guidance_embed"},
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 64,
            "hidden_dim": 64,
            "n_layers": 2,
            "vec_in_dim": None,
        },
    ),
    "SD 3": Family(
        "SD3",
        dict(
            patch_size=2,
            in_channels=16,
            depth=4,
            mlp_ratio=4.0,
            adm_in_channels=32,
            context_embedder_config={
                "target": "torch.nn.Linear",
                "params": {"in_features": 48, "out_features": 256},
            },
            pos_embed_scaling_factor=None,
            pos_embed_max_size=32,
            qk_norm="rms",
            input_size=None,
        ),
        pooled=32,
    ),
    "Lumina 2": Family("Lumina2", _LUMINA),
    "Z-Image": Family(
        "ZImage", {**_LUMINA, "z_image_modulation": True, "pad_tokens_multiple": 32, "time_scale": 1000.0}
    ),
    "Qwen-Image": Family(
        "QwenImage",
        dict(
            image_model="qwen_image",
            patch_size=2,
            in_channels=64,
            out_channels=16,
            num_layers=4,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=48,
            pooled_projection_dim=32,
            axes_dims_rope=(8, 12, 12),
        ),
    ),
    "Wan 2.1": Family(
        "WAN21_T2V",
        dict(
            image_model="wan2.1",
            model_type="t2v",
            patch_size=(1, 2, 2),
            text_len=16,
            in_dim=16,
            dim=96,
            ffn_dim=192,
            freq_dim=64,
            text_dim=48,
            out_dim=16,
            num_heads=2,
            num_layers=4,
        ),
    ),
    "Cosmos-Predict2": Family(
        "CosmosT2IPredict2", {**_COSMOS, "image_model": "cosmos_predict2", "crossattn_emb_channels": 48}
    ),
    "Anima": Family("Anima", {**_COSMOS, "image_model": "anima", "crossattn_emb_channels": 48}),
    "Ernie": Family(
        "ErnieImage",
        dict(
            image_model="ernie",
            hidden_size=64,
            num_attention_heads=2,
            num_layers=4,
            ffn_hidden_size=128,
            in_channels=128,
            out_channels=128,
            patch_size=1,
            text_in_dim=48,
            rope_axes_dim=(8, 12, 12),
        ),
    ),
    "HiDream": Family(
        "HiDream",
        dict(
            image_model="hidream",
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=2,
            caption_channels=[48, 40],
            text_emb_dim=32,
            num_routed_experts=4,
            num_activated_experts=2,
            axes_dims_rope=(8, 12, 12),
            max_resolution=(32, 32),
            llama_layers=[0, 1, 2, 2],
        ),
        pooled=32,
        beside={"conditioning_llama3": (1, 3, 6, 40)},
    ),
    "Krea 2": Family(
        "Krea2",
        dict(
            image_model="krea2",
            features=64,
            tdim=32,
            txtdim=48,
            heads=2,
            kvheads=1,
            multiplier=2,
            layers=4,
            patch=2,
            channels=16,
            txtlayers=2,
            txtheads=2,
            txtkvheads=2,
            default_ref_method="index",
        ),
        width=96,
    ),
    "Ideogram 4": Family(
        "Ideogram4",
        dict(
            image_model="ideogram4",
            in_channels=128,
            num_layers=4,
            num_attention_heads=2,
            attention_head_dim=32,
            intermediate_size=128,
            adaln_dim=32,
            llm_features_dim=96,
            rope_theta=10000,
            mrope_section=(6, 5, 5),
        ),
        width=96,
    ),
}


def transformer(family: str, seed: int = 0):
    """A network of a family as its ModelPatcher."""
    made = FAMILIES[family]
    config = getattr(comfy.supported_models, made.kind)(dict(made.config))
    config.unet_config.update(made.config)  # the host's own figures of a released model came last
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    if family == "Anima":
        # 100 million weights for prompts with the tokens of a second text encoder, which those here have not.
        del model.diffusion_model.llm_adapter
    fill(model.diffusion_model, seed)
    model.diffusion_model.trained_at = UNTOLD
    cpu = torch.device("cpu")
    return comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)


def prompt_of(family: str, seed: int) -> list:
    """A random prompt of the right size."""
    made, g = FAMILIES[family], torch.Generator().manual_seed(seed)
    facts: dict[str, Any] = {name: torch.randn(shape, generator=g) for name, shape in made.beside.items()}
    if made.pooled:
        facts["pooled_output"] = torch.randn(1, made.pooled, generator=g)
    return [[torch.randn(1, made.tokens, made.width, generator=g), facts]]


class TestTransformer(io.ComfyNode):
    """A transformer of a family, small and random, and two prompts."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestTransformer",
            category="tests",
            inputs=[io.Combo.Input("family", options=list(FAMILIES)), io.Int.Input("seed", default=0)],
            outputs=[io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, family, seed):
        return io.NodeOutput(transformer(family, seed), prompt_of(family, seed + 1), prompt_of(family, seed + 2))
