"""What each type of socket must carry: one function a type, called with an input's name and what came in, before a node
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.discover.payload import basis_from_payload
from ...core.edit.attention.tokens import TOKENMAP, tokens_from_payload
from ...core.edit.noise.ledits import CONCEPTS, concepts_from_payload
from ...core.files.asyrp import asyrp_from_payload
from ...core.files.code_edits import code_edit_from_payload
from ...core.files.heads import heads_from_payload
from ...core.files.kinds import ASYRP, DELTAEDIT, HEADS, PADA, RECTIFIER
from ...core.files.rectifier import rectifier_from_payload
from ...core.foreign import check_conditioning, is_dense, is_finite, named, shown
from ...core.payload import BASIS, DIRECTIONS, TRAJECTORY, directions_from_payload, trajectory_from_payload
from ...core.photo.placement import PLACEMENT, placement_from_payload
from .model.clip import HostEmbedder

Check = Callable[[Any, str], None]
_SLACK = 0.25  # bicubic and Lanczos filters of stock nodes overshoot at hard edges; a picture in -1..1 goes further
_EMBEDDER = "embed_image", "embed_text"


def check_image(image: Any, name: str) -> None:
    """IMAGE `[b h w 3]` or `[b h w 4]` in 0..1.

    Raises:
        ValueError: wrong shape or type, no picture, NaN, or values outside 0..1.
    """
    if not is_dense(image, 4) or image.shape[-1] not in (3, 4):
        raise ValueError(
            f"{name} must be an IMAGE [batch height width 3] and not empty, got {shown(image)}; connect a Load Image"
            " node"
        )
    _check_values(image, name, "normalise it first")


def check_mask(mask: Any, name: str) -> None:
    """MASK `[h w]`, `[b h w]` or `[b 1 h w]` in 0..1.

    Raises:
        ValueError: wrong shape or type, no mask, NaN, or values outside 0..1.
    """
    real = mask.float() if isinstance(mask, Tensor) and mask.dtype in (torch.bool, torch.uint8) else mask
    if not is_dense(real, 2, 3, 4) or (real.dim() == 4 and real.shape[1] != 1):
        raise ValueError(
            f"{name} must be a MASK [batch height width] and not empty, got {shown(mask)}; draw one with Open in"
            " MaskEditor"
        )
    _check_values(real, name, "white (1) is the region, black (0) the rest")


def _check_values(value: Tensor, name: str, remedy: str) -> None:
    if not is_finite(value):
        raise ValueError(f"{name} holds NaN or infinite values; check the node that made it")
    low = float(value.min())
    high = float(value.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(f"{name} must have values in 0..1, got {low:.2f}..{high:.2f}; {remedy}")


def check_keypoints(keypoints: Any, name: str) -> None:
    """POSE_KEYPOINT of pose nodes: a dict a picture, or a list of such.

    Raises:
        ValueError: anything else, or an empty list.
    """
    frames = keypoints if isinstance(keypoints, (list, tuple)) else [keypoints]
    if not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(
            f"{name} must be a list of POSE_KEYPOINT frames, got {shown(keypoints)}; connect a pose node's landmarks"
        )


def check_latent(latent: Any, name: str) -> None:
    """LATENT of pictures: ``samples`` `[b c h w]`, or `[b c 1 h w]` of models that count frames.

    Raises:
        ValueError: another kind of latent, none, or NaN.
    """
    remedy = "connect VAE Encode, an Empty Latent node or a sampler of a picture model"
    samples = latent.get("samples") if isinstance(latent, dict) else latent
    if getattr(samples, "is_nested", False):
        raise ValueError(
            f"{name} holds latents of several kinds at once (models of video with sound), which have no one picture;"
            f" {remedy}"
        )
    if not isinstance(latent, dict) or not is_dense(samples, 4, 5):
        raise ValueError(
            f"{name} must be a LATENT with samples [batch channels height width] and not empty, got {shown(samples)};"
            f" {remedy}"
        )
    if samples.dim() == 5 and samples.shape[2] != 1:
        raise ValueError(f"{name} must be a LATENT of pictures, got {samples.shape[2]} frames of a video; {remedy}")
    if not is_finite(samples):
        raise ValueError(
            f"{name} holds NaN or infinite values; check the node that made it (half precision overflows: try fp32)"
        )
    _check_beside(latent, name)


def _check_beside(latent: dict, name: str) -> None:
    mask = latent.get("noise_mask")
    index = latent.get("batch_index")
    if mask is not None and not (is_dense(mask, 2, 3, 4, 5) and is_finite(mask)):
        raise ValueError(
            f"{name}: its noise_mask must be a finite mask, got {shown(mask)}; connect Set Latent Noise Mask"
        )
    if index is not None and not (
        isinstance(index, list) and len(index) == len(latent["samples"]) and all(type(i) is int for i in index)
    ):
        raise ValueError(
            f"{name}: its batch_index must be a whole number a picture, got {shown(index)}; connect the node that"
            " made it"
        )


def check_sigmas(sigmas: Any, name: str) -> None:
    """SIGMAS: one row of noise levels `[n]`, at least one.

    Raises:
        ValueError: another shape or type, no level, NaN, or levels below 0.
    """
    if isinstance(sigmas, Tensor) and sigmas.numel() == 0 and sigmas.dim() == 1:
        raise ValueError(f"{name} must hold noise levels, got none; set steps to 1 or more, and denoise above 0")
    if not is_dense(sigmas, 1):
        raise ValueError(f"{name} must be SIGMAS, one row of noise levels, got {shown(sigmas)}; connect BasicScheduler")
    if not is_finite(sigmas) or float(sigmas.min()) < 0:
        raise ValueError(f"{name} holds NaN, infinite or negative noise levels; make them again with a scheduler")


def check_lora(lora: Any, name: str) -> None:
    """LORA_MODEL: names to tensors.

    Raises:
        ValueError: anything else, nothing, or NaN.
    """
    if (
        not isinstance(lora, Mapping)
        or not lora
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in lora.items())
    ):
        raise ValueError(
            f"{name} must be a LORA_MODEL, got {shown(lora)}; connect Load Fine-Tuned Weights, or a node that"
            " trains one"
        )
    for key, value in lora.items():
        if value.is_floating_point() and not is_finite(value):
            raise ValueError(
                f"{name} holds NaN or infinite values in {shown(key)}; train it again, or get its file again"
            )


def check_embedder(embedder: Any, name: str) -> None:
    """An image-text embedder, see :class:`core.embedder.Embedder`: that of the host's towers, or a network of its own.

    Raises:
        ValueError: anything else.
    """
    members = _EMBEDDER if isinstance(embedder, HostEmbedder) else (*_EMBEDDER, "parameters", "to")
    missing = [member for member in members if not callable(getattr(embedder, member, None))]
    if not isinstance(getattr(embedder, "space", None), str):
        missing.append("space")
    if missing:
        lacks = "" if len(missing) > len(_EMBEDDER) else f" without {', '.join(missing)}"
        raise ValueError(
            f"{name} must be an embedder, got {shown(embedder)}{lacks}; connect Load Face Embedder or CLIP Embedder"
        )


def _offers(kind: str, remedy: str, *members: str) -> Check:
    """A check of an object of the host by what is asked of it: other packs bring classes of their own."""

    def check(value: Any, name: str) -> None:
        if any(getattr(value, member, None) is None for member in members):
            raise ValueError(f"{name} must be a {kind}, got {shown(value)}; connect {remedy}")

    return check


def _parsed(parse: Callable[[Any], object]) -> Check:
    """The check of a payload of ours: its own reader."""

    def check(value: Any, name: str) -> None:
        with named(name):
            parse(value)

    return check


def _anything(value: Any, name: str) -> None:
    """Of an input that waits for what is connected, and does not look at it."""


SOCKETS: dict[str, Check] = {
    "*": _anything,
    "IMAGE": check_image,
    "MASK": check_mask,
    "LATENT": check_latent,
    "SIGMAS": check_sigmas,
    "CONDITIONING": check_conditioning,
    "MODEL": _offers(
        "MODEL", "Load Checkpoint, or a Load node of this pack", "clone", "model", "model_options", "get_model_object"
    ),
    "VAE": _offers("VAE", "that of the checkpoint, or Load VAE", "encode", "decode", "first_stage_model"),
    "CLIP": _offers("CLIP", "that of the checkpoint, or Load CLIP", "tokenize", "encode_from_tokens_scheduled"),
    "CLIP_VISION": _offers("CLIP_VISION", "Load CLIP Vision", "encode_image", "model"),
    "SAMPLER": _offers("SAMPLER", "KSamplerSelect, or a node of this pack that gives one", "sample", "max_denoise"),
    "LORA_MODEL": check_lora,
    "POSE_KEYPOINT": check_keypoints,
    "HSPACE_EMBEDDER": check_embedder,
    TRAJECTORY: _parsed(trajectory_from_payload),
    DIRECTIONS: _parsed(directions_from_payload),
    BASIS: _parsed(basis_from_payload),
    PLACEMENT: _parsed(placement_from_payload),
    TOKENMAP: _parsed(tokens_from_payload),
    CONCEPTS: _parsed(concepts_from_payload),
    "HSPACE_DELTA": _parsed(asyrp_from_payload),
    "HSPACE_RECTIFIER": _parsed(rectifier_from_payload),
    "HSPACE_HEADS": _parsed(heads_from_payload),
    "HSPACE_DELTAMAPPER": _parsed(lambda payload: code_edit_from_payload(payload, DELTAEDIT)),
    "HSPACE_PADA": _parsed(lambda payload: code_edit_from_payload(payload, PADA)),
}
"""The check of every type of socket."""

FORMATS = {
    ASYRP.format: "HSPACE_DELTA",
    RECTIFIER.format: "HSPACE_RECTIFIER",
    HEADS.format: "HSPACE_HEADS",
    DELTAEDIT.format: "HSPACE_DELTAMAPPER",
    PADA.format: "HSPACE_PADA",
}
"""Type of socket by the ``format`` of what it carries, where an input takes several types."""

NOTHING = {
    TOKENMAP: (
        "Pair Conditioning made no map between words, because no CLIP is connected to it; connect CLIP and write the"
        " texts"
    )
}
"""What is said of a socket on which nothing came, if its node has a reason of its own."""
