"""Stock nodes from MODEL to MODEL that the table of compatibility leaves out, and why."""

from __future__ import annotations

_OTHER = {
    "patches of other architectures, which do nothing to a U-Net or refuse it": (
        "AnimaLLLiteApply",
        "ChromaRadianceOptions",
        "FluxKVCache",
        "HiDreamO1PatchSeamSmoothing",
        "MiniMaxH3SigmaShift",
        "ModelNoiseScale",
        "QwenImageDiffsynthControlnet",
        "ScaleROPE",
        "TripoSplatSamplingPreview",
        "USOStyleReference",
        "UNetTemporalAttentionMultiply",
        "WanUni3CControlnetApply",
        "ZImageFunControlnet",
    ),
    "a model patch of SDXL that is loaded from a file of its own": ("SUPIRApply",),
    "the same context windows with other defaults": ("LTXVContextWindows", "WanContextWindowsManual"),
    "where the network is computed, not what": ("MultiGPU_WorkUnits", "SelectModelDevice"),
    "does nothing": ("wanBlockSwap",),
    "other merges of weights, as ModelMergeSimple": ("ModelMergeAdd", "ModelMergeBlocks", "ModelMergeSubtract"),
    "the same LoRA by another node": ("LoraLoader", "LoraLoaderBypass"),
}


ELSEWHERE: dict[str, str] = {node: why for why, nodes in _OTHER.items() for node in nodes}
"""Stock nodes from MODEL to MODEL that the table leaves out, and why."""
