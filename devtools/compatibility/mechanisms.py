"""What a user of the host puts into the same graph as our nodes: caches, patches of attention and guidance, samplings,
masks, hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .graph import Graph, Link

SIZE = 64  # pixels of the pictures


STEPS, CACHED_STEPS = 2, 5  # of a run; a step cache looks at a few before it skips one


LORA, HYPER = "hspace_test.safetensors", "hspace_test.pt"


WINDOW = {
    "context_length": 4,
    "context_overlap": 2,
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "dim": 2,
    "freenoise": False,
    "cond_retain_index_list": "",
    "split_conds_to_windows": False,
    "latent_retain_index_list": "",
    "causal_window_fix": False,
}


MENU = {
    "SelfAttentionGuidance": "Self-Attention Guidance",
    "NAGuidance": "Normalized Attention Guidance",
    "HypernetworkLoader": "Load Hypernetwork",
    "PatchModelAddDownscale": "PatchModelAddDownscale (Kohya Deep Shrink)",
    "CFGOverride": "CFG Override",
    "APG": "Adaptive Projected Guidance",
    "TCFG": "Tangential Damping CFG",
    "Mahiro": "Positive-Biased Guidance",
    "TemporalScoreRescaling": "TSR - Temporal Score Rescaling",
    "VideoLinearCFGGuidance": "Video Linear CFG Guidance",
    "VideoTriangleCFGGuidance": "Video Triangle CFG Guidance",
    "PerpNeg": "Perp-Neg (DEPRECATED by Perp-Neg Guider)",
    "LoraLoaderModelOnly": "Load LoRA",
    "CreateHookLora": "Create Hook LoRA",
    "LoraLoaderBypassModelOnly": "Load LoRA (Bypass, Model Only) (for debugging)",
    "LoraModelLoader": "Load LoRA Model",
    "SetLatentNoiseMask": "Set Latent Noise Mask",
    "DifferentialDiffusion": "Differential Diffusion",
    "ControlNetApplyAdvanced": "Apply ControlNet",
    "ConditioningSetMask": "Conditioning (Set Mask)",
    "ConditioningSetAreaPercentage": "Conditioning (Set Area with Percentage)",
    "ContextWindowsManual": "Context Windows (Manual)",
    "KSamplerAdvanced": "KSampler (Advanced)",
    "RepeatLatentBatch": "Repeat Latent Batch",
}
"""What the host's menu calls the nodes of the table, where that is not their id."""


Step = Callable[[Graph, Link], Link]


@dataclass(frozen=True)
class Mechanism:
    """One column of the table.

    Attributes:
        name: as the editor shows it, with the option that matters.
        group: heading under which it stands.
        node: id of the stock node.
        model, positive, latent: what it does to that socket; None: nothing.
        sampling: how the sampler is run: "whole", "halves" or "batch".
        steps: of a run.
    """

    name: str
    group: str
    node: str
    model: Step | None = None
    positive: Step | None = None
    latent: Step | None = None
    sampling: str = "whole"
    steps: int = STEPS

    @property
    def title(self) -> str:
        """What the host's menu calls it, with the option that matters, and the node's id where that is another word."""
        menu = MENU.get(self.node, self.node)
        title = menu + self.name.removeprefix(self.node) if self.name.startswith(self.node) else self.name
        return title if self.node in title else f"{title} `{self.node}`"


def _patch(name: str, group: str, node: str, **options: Any) -> Mechanism:
    steps = CACHED_STEPS if group == CACHES else STEPS
    return Mechanism(name, group, node, model=lambda g, model: g.out(node, model=model, **options), steps=steps)


def _mask(g: Graph, value: float = 1.0) -> Link:
    """1 in the left half."""
    whole, none = (g.out("SolidMask", value=v, width=SIZE, height=SIZE) for v in (value, 0.0))
    left = g.out("CropMask", mask=whole, x=0, y=0, width=SIZE // 2, height=SIZE)
    return g.out("MaskComposite", destination=none, source=left, x=0, y=0, operation="add")


def _soft_mask(g: Graph) -> Link:
    return g.out(
        "MaskComposite",
        destination=_mask(g),
        source=g.out("SolidMask", value=0.1, width=SIZE, height=SIZE),
        x=0,
        y=0,
        operation="add",
    )


def _noise_mask(g: Graph, latent: Link) -> Link:
    return g.out("SetLatentNoiseMask", samples=latent, mask=_mask(g))


def _soft(g: Graph, latent: Link) -> Link:
    return g.out("SetLatentNoiseMask", samples=latent, mask=_soft_mask(g))


def _differential(g: Graph, model: Link) -> Link:
    return g.out("DifferentialDiffusion", model=model, strength=1.0)


def _control(g: Graph, positive: Link) -> Link:
    return g.out("HSpaceTestControl", conditioning=positive, strength=0.3)


def _hook(g: Graph, positive: Link) -> Link:
    hooks = g.out("CreateHookLoraModelOnly", lora_name=LORA, strength_model=1.0)
    return g.out("ConditioningSetProperties", cond_NEW=positive, strength=1.0, set_cond_area="default", hooks=hooks)


def _scheduled(g: Graph, positive: Link) -> Link:
    parts = ((_other(g), 0.0, _MIDWAY), (positive, _MIDWAY, 1.0))
    early, late = (g.out("ConditioningSetTimestepRange", conditioning=c, start=a, end=b) for c, a, b in parts)
    return g.out("ConditioningCombine", conditioning_1=early, conditioning_2=late)


def _masked(g: Graph, positive: Link) -> Link:
    here = g.out("ConditioningSetMask", conditioning=positive, mask=_mask(g), strength=1.0, set_cond_area="default")
    return g.out("ConditioningCombine", conditioning_1=here, conditioning_2=_other(g))


def _area(g: Graph, positive: Link) -> Link:
    here = g.out(
        "ConditioningSetAreaPercentage", conditioning=positive, width=0.5, height=1.0, x=0.0, y=0.0, strength=1.0
    )
    return g.out("ConditioningCombine", conditioning_1=here, conditioning_2=_other(g))


def _other(g: Graph) -> Link:
    """A third prompt."""
    one, two = [network(g), 1], [network(g), 2]
    return g.out("ConditioningAverage", conditioning_to=one, conditioning_from=two, conditioning_to_strength=0.25)


def network(g: Graph) -> str:
    """A small U-Net of Stable Diffusion 1.5's kind: MODEL and two prompts."""
    return g.add("HSpaceTestSmallUNet", seed=0)


def _merge(g: Graph, model: Link) -> Link:
    return g.out("ModelMergeSimple", model1=model, model2=g.out("HSpaceTestSmallUNet", seed=1), ratio=0.9)


def _lora_model(bypass: bool) -> Step:
    return lambda g, model: g.out(
        "LoraModelLoader", model=model, lora=g.out("HSpaceTestLora", size=0.3), strength_model=1.0, bypass=bypass
    )


def _sharpen(g: Graph, model: Link) -> Link:
    return g.out(
        "LatentApplyOperationCFG",
        model=model,
        operation=g.out("LatentOperationSharpen", sharpen_radius=3, sigma=1.0, alpha=0.1),
    )


def _perp(g: Graph, model: Link) -> Link:
    return g.out("PerpNeg", model=model, empty_conditioning=_other(g), neg_scale=1.0)


_MIDWAY = 0.975  # share of the schedule that lies between the levels of our small inversions, and of KSampler's steps


_CACHE = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}


_CACHE_DEFAULTS = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
_KOHYA = {
    "block_number": 1,
    "downscale_factor": 2.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
    "downscale_method": "bicubic",
    "upscale_method": "bicubic",
}


_ONES = {"q": 1.2, "k": 1.0, "v": 0.9, "out": 1.1}


CACHES, ATTENTION, FEATURES, GUIDANCE = "Step caches", "Attention", "Features", "Guidance"


SAMPLING, WEIGHTS, PROMPTS, RUNS = "Model sampling", "Weights", "Prompts and latents", "Runs"


MECHANISMS: tuple[Mechanism, ...] = (
    _patch("EasyCache", CACHES, "EasyCache", **_CACHE),
    _patch("EasyCache (defaults)", CACHES, "EasyCache", **_CACHE_DEFAULTS),
    _patch("LazyCache", CACHES, "LazyCache", **_CACHE),
    _patch("LazyCache (defaults)", CACHES, "LazyCache", **_CACHE_DEFAULTS),
    _patch("HyperTile", ATTENTION, "HyperTile", tile_size=32, swap_size=2, max_depth=1, scale_depth=False),
    _patch("TomePatchModel", ATTENTION, "TomePatchModel", ratio=0.4),
    _patch("PerturbedAttentionGuidance", ATTENTION, "PerturbedAttentionGuidance", scale=3.0),
    _patch("SelfAttentionGuidance", ATTENTION, "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    _patch("NAGuidance", ATTENTION, "NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
    Mechanism(
        "HypernetworkLoader",
        ATTENTION,
        "HypernetworkLoader",
        lambda g, m: g.out("HypernetworkLoader", model=m, hypernetwork_name=HYPER, strength=1.0),
    ),
    _patch(
        "SkipLayerGuidanceDiT",
        ATTENTION,
        "SkipLayerGuidanceDiT",
        double_layers="0",
        single_layers="0",
        scale=3.0,
        start_percent=0.0,
        end_percent=1.0,
        rescaling_scale=0.0,
    ),
    _patch(
        "SkipLayerGuidanceDiTSimple",
        ATTENTION,
        "SkipLayerGuidanceDiTSimple",
        double_layers="0",
        single_layers="0",
        start_percent=0.0,
        end_percent=1.0,
    ),
    _patch(
        "SkipLayerGuidanceSD3",
        ATTENTION,
        "SkipLayerGuidanceSD3",
        layers="0",
        scale=3.0,
        start_percent=0.0,
        end_percent=1.0,
    ),
    _patch("FreeU", FEATURES, "FreeU", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    _patch("FreeU_V2", FEATURES, "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    _patch(
        "PatchModelAddDownscale (after skip)", FEATURES, "PatchModelAddDownscale", downscale_after_skip=True, **_KOHYA
    ),
    _patch(
        "PatchModelAddDownscale (before skip)", FEATURES, "PatchModelAddDownscale", downscale_after_skip=False, **_KOHYA
    ),
    _patch("RescaleCFG", GUIDANCE, "RescaleCFG", multiplier=0.7),
    _patch("RenormCFG", GUIDANCE, "RenormCFG", cfg_trunc=100.0, renorm_cfg=0.5),
    _patch("CFGZeroStar", GUIDANCE, "CFGZeroStar"),
    _patch("CFGNorm", GUIDANCE, "CFGNorm", strength=0.8, pre_cfg=False),
    _patch("CFGNorm (pre_cfg)", GUIDANCE, "CFGNorm", strength=0.8, pre_cfg=True),
    _patch("CFGOverride", GUIDANCE, "CFGOverride", cfg=1.5, start_percent=0.0, end_percent=1.0),
    _patch("APG", GUIDANCE, "APG", eta=0.5, norm_threshold=2.0, momentum=0.0),
    _patch("APG (momentum)", GUIDANCE, "APG", eta=0.5, norm_threshold=2.0, momentum=-0.5),
    _patch("TCFG", GUIDANCE, "TCFG"),
    _patch("Mahiro", GUIDANCE, "Mahiro"),
    _patch("FreSca", GUIDANCE, "FreSca", scale_low=1.0, scale_high=1.25, freq_cutoff=3),
    _patch("Epsilon Scaling", GUIDANCE, "Epsilon Scaling", scaling_factor=1.05),
    _patch("TemporalScoreRescaling", GUIDANCE, "TemporalScoreRescaling", tsr_k=0.95, tsr_sigma=1.0),
    _patch("VideoLinearCFGGuidance", GUIDANCE, "VideoLinearCFGGuidance", min_cfg=1.0),
    _patch("VideoTriangleCFGGuidance", GUIDANCE, "VideoTriangleCFGGuidance", min_cfg=1.0),
    Mechanism("LatentApplyOperationCFG", GUIDANCE, "LatentApplyOperationCFG", _sharpen),
    Mechanism("PerpNeg", GUIDANCE, "PerpNeg", _perp),
    *(
        _patch(f"ModelSamplingDiscrete ({s})", SAMPLING, "ModelSamplingDiscrete", sampling=s, zsnr=False)
        for s in ("eps", "v_prediction", "lcm", "x0", "img_to_img", "img_to_img_flow")
    ),
    _patch("ModelSamplingDiscrete (eps, zsnr)", SAMPLING, "ModelSamplingDiscrete", sampling="eps", zsnr=True),
    *(
        _patch(
            f"ModelSamplingContinuousEDM ({s})",
            SAMPLING,
            "ModelSamplingContinuousEDM",
            sampling=s,
            sigma_max=120.0,
            sigma_min=0.002,
        )
        for s in ("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")
    ),
    _patch(
        "ModelSamplingContinuousV",
        SAMPLING,
        "ModelSamplingContinuousV",
        sampling="v_prediction",
        sigma_max=500.0,
        sigma_min=0.03,
    ),
    _patch("ModelSamplingSD3", SAMPLING, "ModelSamplingSD3", shift=3.0),
    _patch("ModelSamplingAuraFlow", SAMPLING, "ModelSamplingAuraFlow", shift=1.73),
    _patch("ModelSamplingFlux", SAMPLING, "ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=SIZE, height=SIZE),
    _patch("ModelSamplingStableCascade", SAMPLING, "ModelSamplingStableCascade", shift=2.0),
    _patch("ModelSamplingLTXV", SAMPLING, "ModelSamplingLTXV", max_shift=2.05, base_shift=0.95),
    _patch("LoraLoaderModelOnly", WEIGHTS, "LoraLoaderModelOnly", lora_name=LORA, strength_model=1.0),
    _patch("LoraLoaderBypassModelOnly", WEIGHTS, "LoraLoaderBypassModelOnly", lora_name=LORA, strength_model=1.0),
    Mechanism("LoraModelLoader", WEIGHTS, "LoraModelLoader", _lora_model(False)),
    Mechanism("LoraModelLoader (bypass)", WEIGHTS, "LoraModelLoader", _lora_model(True)),
    Mechanism("ModelMergeSimple", WEIGHTS, "ModelMergeSimple", _merge),
    _patch("UNetSelfAttentionMultiply", WEIGHTS, "UNetSelfAttentionMultiply", **_ONES),
    _patch("UNetCrossAttentionMultiply", WEIGHTS, "UNetCrossAttentionMultiply", **_ONES),
    _patch("ModelComputeDtype (bf16)", WEIGHTS, "ModelComputeDtype", dtype="bf16"),
    Mechanism(
        "TorchCompileModel (eager)",
        WEIGHTS,
        "TorchCompileModel",
        lambda g, model: g.out("HSpaceTestCompile", model=model),
    ),
    Mechanism("SetLatentNoiseMask", PROMPTS, "SetLatentNoiseMask", latent=_noise_mask),
    Mechanism("DifferentialDiffusion", PROMPTS, "DifferentialDiffusion", _differential, latent=_soft),
    Mechanism("ControlNetApplyAdvanced", PROMPTS, "ControlNetApplyAdvanced", positive=_control),
    Mechanism("CreateHookLora", PROMPTS, "CreateHookLora", positive=_hook),
    Mechanism("ConditioningSetTimestepRange", PROMPTS, "ConditioningSetTimestepRange", positive=_scheduled),
    Mechanism("ConditioningSetMask", PROMPTS, "ConditioningSetMask", positive=_masked),
    Mechanism("ConditioningSetAreaPercentage", PROMPTS, "ConditioningSetAreaPercentage", positive=_area),
    _patch("ContextWindowsManual", RUNS, "ContextWindowsManual", **WINDOW),
    Mechanism("KSamplerAdvanced in two halves", RUNS, "KSamplerAdvanced", sampling="halves"),
    Mechanism("Batch of 3", RUNS, "RepeatLatentBatch", sampling="batch"),
)
