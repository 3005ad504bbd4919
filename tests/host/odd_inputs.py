"""What can come in through a link: odd values for every plain type of input, by name."""

from __future__ import annotations

import math
from typing import Any

import torch

NAN, INF = math.nan, math.inf


BEYOND = ("below", "above", "far above", "nan", "inf", "-inf", "true", "text", "none", "list", "huge")
"""Cases of :func:`numbers` that no input takes."""


WRONG = {"None": None, "text": "x", "number": 3, "list": [], "dict": {}, "object": object()}


def numbers(declared) -> dict[str, Any]:
    """For an INT or FLOAT."""
    low, high = declared.min, declared.max
    odd = {
        "below": low - 1,
        "above": high + 1,
        "far above": (abs(high) + 1) * 1000,
        "-1": -1,
        "half": 2.5,
        "nan": NAN,
        "inf": INF,
        "-inf": -INF,
        "true": True,
        "text": "3",
        "none": None,
        "list": [1],
        "huge": 10**5000,
        "tensor": torch.tensor(1),
    }
    return odd


def texts() -> dict[str, Any]:
    """For a STRING."""
    return {
        "none": None,
        "number": 3,
        "bytes": b"x",
        "list": ["a"],
        "surrogate": "a\ud800b",
        "nul": "a\0b",
        "empty": "",
        "blank": " \n ",
        "escape": "\x1b[31m red",
        "far": "\u00e9\u4e2d\U0001f600",
        "long": "word " * 300,
        "path": "../../x",
        "commas": ",,;,",
        "nan": "nan",
    }


def choices() -> dict[str, Any]:
    """For a COMBO."""
    return {
        "other": "nope",
        "number": 3,
        "none": None,
        "empty": "",
        "list": ["a"],
        "path": "../../x.safetensors",
        "long": "x" * 5000,
    }


def booleans() -> dict[str, Any]:
    """For a BOOLEAN."""
    return {"one": 1, "text": "true", "none": None, "float": 0.0, "list": [], "tensor": torch.tensor(True)}


def images(image: torch.Tensor) -> dict[str, Any]:
    """For an IMAGE `[1 h w 3]`."""
    b, h, w, _ = image.shape
    return WRONG | {
        "no pictures": image[:0],
        "no rows": image[:, :0],
        "no columns": image[:, :, :0],
        "rank 3": image[0],
        "rank 5": image[None],
        "one channel": image[..., :1],
        "two channels": image[..., :2],
        "five channels": torch.zeros(b, h, w, 5),
        "channels first": image.movedim(-1, 1),
        "nan": spoilt(image, NAN),
        "inf": spoilt(image, INF),
        "bytes": image * 255,
        "signed": image * 2 - 1,
        "complex": image.to(torch.complex64),
        "int64": (image * 255).long(),
        "uint8": (image * 255).byte(),
        "bool": image > 0.5,
        "half": image.half(),
        "bfloat16": image.bfloat16(),
        "double": image.double(),
        "complex128": image.to(torch.complex128),
        "int8": image.to(torch.int8),
        "no size": image[:, :0, :0],
        "alpha": torch.cat([image, image[..., :1]], -1),
        "two": image.repeat(2, 1, 1, 1),
        "odd size": torch.full((b, 63, 65, 3), 0.5),
        "tiny": image[:, :8, :8],
        "pixel": image[:, :1, :1],
        "wide": torch.full((b, 64, 128, 3), 0.5),
        "meta": image.to("meta"),
        "sparse": image.to_sparse(),
        "list of images": [image],
        "dict": {"samples": image},
        "expanded": image[:, :1, :1].expand(b, h, w, 3),
        "float8": image.to(torch.float8_e4m3fn),
    }


def masks(mask: torch.Tensor) -> dict[str, Any]:
    """For a MASK `[1 h w]`."""
    return WRONG | {
        "no masks": mask[:0],
        "no rows": mask[:, :0],
        "rank 1": mask[0, 0],
        "rank 2": mask[0],
        "rank 4": mask[:, None],
        "three channels": mask[:, None].repeat(1, 3, 1, 1),
        "as image": mask[..., None].repeat(1, 1, 1, 3),
        "nan": spoilt(mask, NAN),
        "inf": spoilt(mask, INF),
        "bytes": mask * 255,
        "negative": -mask - 0.5,
        "complex": mask.to(torch.complex64),
        "int64": mask.long(),
        "bool": mask > 0.5,
        "half": mask.half(),
        "double": mask.double(),
        "bfloat16": mask.bfloat16(),
        "float8": mask.to(torch.float8_e4m3fn),
        "uint8": mask.byte(),
        "int8": mask.to(torch.int8),
        "no size": mask[:, :0, :0],
        "no columns": mask[:, :, :0],
        "list": [mask],
        "rank 5": mask[None, None],
        "zeros": torch.zeros_like(mask),
        "ones": torch.ones_like(mask),
        "two": mask.repeat(2, 1, 1),
        "other two": torch.cat([mask, 1 - mask]),
        "half size": mask[:, ::2, ::2],
        "other aspect": mask[:, ::2],
        "pixel": mask[:, :1, :1],
        "meta": mask.to("meta"),
        "sparse": mask.to_sparse(),
    }


def latents(latent: dict) -> dict[str, Any]:
    """For a LATENT `[1 c h w]`."""
    from comfy.nested_tensor import NestedTensor

    x = latent["samples"]
    tensors = {
        "no samples": None,
        "text": "x",
        "no pictures": x[:0],
        "no rows": x[:, :, :0],
        "rank 3": x[0],
        "one frame": x[:, :, None],
        "two frames": x[:, :, None].repeat(1, 1, 2, 1, 1),
        "nan": spoilt(x, NAN),
        "inf": spoilt(x, INF),
        "four channels": torch.zeros(1, 4, 8, 8),
        "sixteen channels": torch.zeros(1, 16, 8, 8),
        "half": x.half(),
        "double": x.double(),
        "int": x.long(),
        "complex": x.to(torch.complex64),
        "two": x.repeat(2, 1, 1, 1),
        "three": x.repeat(3, 1, 1, 1),
        "other size": x[:, :, ::2, ::2],
        "pixel": x[:, :, :1, :1],
        "nested": NestedTensor([x, x]),
        "torch nested": torch.nested.nested_tensor([x[0], x[0]]),
        "meta": x.to("meta"),
        "bfloat16": x.bfloat16(),
        "bool": x > 0,
        "sparse": x.to_sparse(),
        "no channels": x[:, :0],
        "no columns": x[..., :0],
        "no size": x[:, :, :0, :0],
        "rank 2": x[0, 0],
        "no frame": x[:, :, None][:, :, :0],
        "rank 6": x[None, None],
        "list": [x],
        "int8": x.to(torch.int8),
    }
    return (
        WRONG
        | {"tensor": x, **{f"samples: {k}": {"samples": v} for k, v in tensors.items()}}
        | {
            "mask nan": {**latent, "noise_mask": torch.full((1, 1, 64, 64), NAN)},
            "mask text": {**latent, "noise_mask": "x"},
            "mask": {**latent, "noise_mask": torch.ones(1, 1, 64, 64)},
            "index text": {**latent, "batch_index": "x"},
            "index": {**latent, "batch_index": [7]},
            "index of others": {**latent, "batch_index": [1, 2, 3]},
            "more": {**latent, "type": "audio"},
        }
    )


def sigmas(s: torch.Tensor) -> dict[str, Any]:
    """For SIGMAS."""
    return WRONG | {
        "none left": s[:0],
        "scalar": s[0],
        "rank 2": s[None],
        "nan": spoilt(s, NAN),
        "inf": spoilt(s, INF),
        "negative": -s,
        "ascending": s.flip(0),
        "no zero": s[:-1],
        "constant": torch.ones(3),
        "one": s[:1],
        "zero": torch.zeros(1),
        "zeros": torch.zeros(3),
        "half": s.half(),
        "double": s.double(),
        "bfloat16": s.bfloat16(),
        "bool": s > 0,
        "meta": s.to("meta"),
        "sparse": s.to_sparse(),
        "int64": torch.tensor([14, 1, 0]),
        "int": torch.tensor([3, 1, 0]),
        "complex": s.to(torch.complex64),
        "python list": s.tolist(),
        "enormous": torch.tensor([1e30, 1.0, 0.0]),
        "beyond": torch.tensor([500.0, 1.0, 0.0]),
    }


def spoilt(value: torch.Tensor, number: float) -> torch.Tensor:
    """A copy with one value replaced."""
    out = value.clone(memory_format=torch.contiguous_format)
    out.view(-1)[0] = number
    return out
